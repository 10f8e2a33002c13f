"""v3: the score is a token before the latent tokens.

```
e(s) | latent 0 | latent 1 | ... --> blocks --> (cut off) | velocity 0 | velocity 1 | ...
```
"""

from __future__ import annotations

from torch import Tensor, nn

from fluxlight.heads.base import Injection, Ports, ScoreHead


class AudioPrepend(ScoreHead):
    """Score token(s) before the latent tokens (published v3: one token).

    Args:
        ports: sizes of the backbone.
        tokens: number of score tokens; more than one adds a bias-free Linear(h, n h).
        mask_null: hide the token of a null score from attention and convolutions instead of zeroing it.
    """

    def __init__(self, ports: Ports, tokens: int = 1, mask_null: bool = False) -> None:
        super().__init__(ports)
        self.tokens, self.mask_null = tokens, mask_null
        self.spread = nn.Linear(ports.width, tokens * ports.width, bias=False) if tokens > 1 else nn.Identity()

    def inject(self, embedding: Tensor, keep: Tensor) -> Injection:
        """``(B, h)`` -> latent tokens ``(B, n, h)``."""
        tokens = self.spread(embedding).unflatten(-1, (self.tokens, -1))
        return Injection(
            latent_tokens=tokens, latent_keep=keep[:, None].expand(-1, self.tokens) if self.mask_null else None
        )
