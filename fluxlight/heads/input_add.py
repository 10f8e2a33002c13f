"""v2: the score joins every latent token at the input.

```
latent --> audio_input_proj --> (+) --> blocks
                        e(s) ----^   the same vector on every token
```
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from fluxlight.heads.base import Injection, Ports, ScoreHead


class InputAdd(ScoreHead):
    """Score embedding added to every latent token after the input projection (published v2; the place is inferred).

    An embedding that v1 has learned, added as it is, is hardly heard: tokens are hundreds of times as large (norm .45
    on 213, measured at `tiny`), so cross-loaded weights answer to every score as to none.

    Args:
        ports: sizes of the backbone.
        scale: "published" adds the embedding as it is; "tokens" makes it as large beside the tokens as v1's is beside
            the global condition (our choice).
    """

    def __init__(self, ports: Ports, scale: Literal["published", "tokens"] = "published") -> None:
        super().__init__(ports)
        self.scale = scale

    def inject(self, embedding: Tensor, keep: Tensor) -> Injection:
        """``(B, h)`` -> input, or relative, ``(B, 1, h)``."""
        if self.scale == "tokens":
            return Injection(relative=embedding[:, None])
        return Injection(input=embedding[:, None])
