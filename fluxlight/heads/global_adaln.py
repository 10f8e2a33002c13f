"""v1: the score joins the global condition.

```
t_embed(t) + text_c + e(s) = c --> adaLN of every block
```
"""

from __future__ import annotations

from torch import Tensor

from fluxlight.heads.base import Injection, ScoreHead


class GlobalAdaLN(ScoreHead):
    """Score embedding added to the global condition that feeds every adaLN (published v1; the sum is inferred)."""

    def inject(self, embedding: Tensor, keep: Tensor) -> Injection:
        """``(B, h)`` -> condition ``(B, 1, h)``."""
        return Injection(condition=embedding[:, None])
