"""v2: the score joins every latent token at the input.

```
latent --> audio_input_proj --> (+) --> blocks
                        e(s) ----^   the same vector on every token
```
"""

from __future__ import annotations

from torch import Tensor

from fluxlight.heads.base import Injection, ScoreHead


class InputAdd(ScoreHead):
    """Score embedding added to every latent token after the input projection (published v2; the place is inferred)."""

    def inject(self, embedding: Tensor, keep: Tensor) -> Injection:
        """``(B, h)`` -> input ``(B, 1, h)``."""
        return Injection(input=embedding[:, None])
