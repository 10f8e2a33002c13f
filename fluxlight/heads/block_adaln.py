"""v4: the score scales and shifts the latents before every block.

```
latent --> x (1 + a_1) + b_1 --> block 1 --> x (1 + a_2) + b_2 --> block 2 --> ...
           (a_i, b_i) = W_i e(s), one W per block
```
"""

from __future__ import annotations

from torch import Tensor, nn

from fluxlight.heads.base import Injection, Ports, ScoreHead


class BlockAdaLN(ScoreHead):
    """Per-block scale and shift from the score embedding.

    What the published v4 is has not been published; this head is our choice for its place. The maps have no bias,
    so a null score leaves the latents as they are; two vectors a block keep size L under 500 M parameters.

    Args:
        ports: sizes of the backbone.
    """

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports)
        self.maps = nn.Linear(ports.width, ports.depth * 2 * ports.width, bias=False)
        self.depth = ports.depth

    def inject(self, embedding: Tensor, keep: Tensor) -> Injection:
        """``(B, h)`` -> blocks ``(B, depth, 2, h)``."""
        return Injection(blocks=self.maps(embedding).unflatten(-1, (self.depth, 2, -1)))
