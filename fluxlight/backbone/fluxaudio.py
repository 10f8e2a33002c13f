"""FluxAudio: the published velocity network (FACTS section 6), 120 M in size S, 478 M in size L.

```
latent -> audio_input_proj (+ input) -> [latent_tokens ++] -+-> joint blocks -> fused blocks -> final -> velocity
text   -> text_input_proj  ----------> [text_tokens ++] ----+      |              |
t, text_c -> c = t_embed + text_cond_proj (+ condition) -----------+--------------+   (each may get `blocks`)
```
The words in brackets are the ports that `Injection` fills; no head is named here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fluxlight.backbone.base import Backbone, Injection, Ports, Prepared
from fluxlight.backbone.blocks import FinalLayer, FusedBlock, GatedMLP, JointBlock, Table, TimeConv
from fluxlight.backbone.embeddings import TimeEmbedding, rotation


class FluxAudio(Backbone):
    """The published backbone under the published parameter names.

    Args:
        latent_dim: channels of a latent, D (published 44.1 kHz: 40).
        text_dim: features of a text token, E (published: 1024).
        text_c_dim: features of the global text embedding, C (published: 512).
        hidden_dim: width h (S: 448, L: 896).
        depth: number of blocks, joint and fused together (published: 12).
        fused_depth: how many of them are latent-only (published: 8).
        num_heads: attention heads (S: 7, L: 14).
        latent_seq_len: latents of a clip, L (published 44.1 kHz: 430).
        text_seq_len: tokens of a text, T (published: 77).
        use_rope: rotary positions on latent and text, each from position 0.
        mlp_ratio: nominal feed-forward width over h; the gated feed-forward has two thirds of it.
        ffn_multiple: the inner width is rounded up to a multiple of this (published: 256).
        latent_mean: per-channel mean of the training latents, length D; zeros when None.
        latent_std: per-channel standard deviation, length D; ones when None.
    """

    def __init__(
        self,
        latent_dim: int,
        text_dim: int,
        text_c_dim: int,
        hidden_dim: int,
        depth: int,
        fused_depth: int,
        num_heads: int,
        latent_seq_len: int,
        text_seq_len: int,
        use_rope: bool = True,
        mlp_ratio: float = 4.0,
        ffn_multiple: int = 256,
        latent_mean: list[float] | None = None,
        latent_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if hidden_dim % num_heads or (hidden_dim // num_heads) % 2:
            raise ValueError(f"hidden_dim {hidden_dim} over num_heads {num_heads} must be an even whole number")
        if not 0 <= fused_depth < depth:
            raise ValueError(f"fused_depth {fused_depth} must be from 0 to depth - 1 = {depth - 1}")
        self.latent_dim, self.latent_seq_len = latent_dim, latent_seq_len
        self.text_dim, self.text_seq_len, self.text_c_dim = text_dim, text_seq_len, text_c_dim
        self.hidden_dim, self.depth, self.num_heads, self.use_rope = hidden_dim, depth, num_heads, use_rope

        for name, value, default in (("latent_mean", latent_mean, 0.0), ("latent_std", latent_std, 1.0)):
            row = torch.full((latent_dim,), default) if value is None else torch.as_tensor(value, dtype=torch.float32)
            if row.numel() != latent_dim:
                raise ValueError(f"{name} has {row.numel()} values, latent_dim is {latent_dim}")
            self.register_buffer(name, row.reshape(1, 1, latent_dim).clone())
        self.register_buffer("empty_string_feat", torch.zeros(text_seq_len, text_dim))
        self.register_buffer("empty_string_feat_c", torch.zeros(text_c_dim))

        h, hidden = hidden_dim, int(hidden_dim * mlp_ratio)
        self.audio_input_proj = nn.Sequential(
            TimeConv(latent_dim, h, 7), nn.SELU(), GatedMLP(h, hidden, ffn_multiple, kernel=7)
        )
        self.text_input_proj = nn.Sequential(nn.Linear(text_dim, h), GatedMLP(h, hidden, ffn_multiple))
        self.text_cond_proj = nn.Sequential(nn.Linear(text_c_dim, h), GatedMLP(h, hidden, ffn_multiple))
        self.final_layer = FinalLayer(h, latent_dim)
        self.t_embed = TimeEmbedding(h)
        joint = depth - fused_depth
        self.joint_blocks = nn.ModuleList(
            JointBlock(h, num_heads, hidden, pre_only=i == joint - 1, multiple=ffn_multiple) for i in range(joint)
        )
        self.fused_blocks = nn.ModuleList(
            FusedBlock(h, num_heads, hidden, kernel=3, multiple=ffn_multiple) for _ in range(fused_depth)
        )
        self._initialise()

    def _initialise(self) -> None:
        """Published initialisation: an untrained network outputs exactly 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name.startswith("t_embed") and name.endswith("weight"):
                nn.init.normal_(parameter, std=0.02)
            if "adaLN_modulation" in name or name.startswith("final_layer.conv"):
                nn.init.zeros_(parameter)

    @property
    def ports(self) -> Ports:
        """Width and number of blocks."""
        return Ports(width=self.hidden_dim, depth=self.depth)

    @property
    def heavy(self) -> list[nn.Module]:
        """Input projection, blocks and final layer."""
        return [self.audio_input_proj, *self.joint_blocks, *self.fused_blocks, self.final_layer]

    def embed_latent(self, latent: Tensor) -> Tensor:
        """``(B, L, D)`` -> ``(B, L, h)``; 13 % of a forward, shared by the branches of guidance."""
        return self.audio_input_proj(latent)

    def project_text(self, text_f: Tensor, text_f_c: Tensor) -> Prepared:
        """``(B, T, E)`` and ``(B, C)`` -> ``(B, T, h)`` and ``(B, 1, h)``."""
        return Prepared(self.text_input_proj(text_f), self.text_cond_proj(text_f_c)[:, None])

    def flow(self, tokens: Tensor, t: Tensor, prepared: Prepared) -> Tensor:
        """Blocks and final layer; see `Backbone.flow`."""
        port = prepared.injection or Injection()
        latent, text = tokens, prepared.text
        c = self.t_embed(t)[:, None] + prepared.text_c
        if port.input is not None:
            latent = latent + port.input
        if port.relative is not None:
            latent = latent + port.relative * (_size(latent) / _size(c))
        if port.condition is not None:
            c = c + port.condition
        latent, latent_table, latent_keep, extra = self._prepend(latent, port.latent_tokens, port.latent_keep)
        text, text_table, text_keep, _ = self._prepend(text, port.text_tokens, port.text_keep)
        keep = None
        if latent_keep is not None or text_keep is not None:
            keep = torch.cat([_whole(latent_keep, latent), _whole(text_keep, text)], dim=1)

        for i, joint in enumerate(self.joint_blocks):
            latent = _film(latent, port.blocks, i)
            latent, text = joint(latent, text, c, latent_table, text_table, latent_keep, keep)
        for i, fused in enumerate(self.fused_blocks, start=len(self.joint_blocks)):
            latent = fused(_film(latent, port.blocks, i), c, latent_table, latent_keep)
        return self.final_layer(latent[:, extra:], c)

    def _prepend(
        self, x: Tensor, tokens: Tensor | None, keep: Tensor | None
    ) -> tuple[Tensor, Table, Tensor | None, int]:
        """``x`` with ``tokens`` before it, its rotary table, the mask of all its rows, and how many came in.

        The old rows keep their positions from 0 on and the new ones take -n .. -1 (our choice): what is prepended
        does not move the others apart from each other or from the other stream.
        """
        extra = 0 if tokens is None else tokens.shape[1]
        dim = self.hidden_dim // self.num_heads
        table = rotation(-extra, x.shape[1], dim, x.device) if self.use_rope else None
        if tokens is None:
            return x, table, None, 0
        if keep is not None:
            keep = torch.cat([keep, keep.new_ones(x.shape[:2])], dim=1)
        return torch.cat([tokens.to(x.dtype), x], dim=1), table, keep, extra


def _whole(keep: Tensor | None, x: Tensor) -> Tensor:
    return keep if keep is not None else torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)


def _size(x: Tensor) -> Tensor:
    """Root mean square of each sample ``(B, 1, 1)``, without gradient."""
    return x.detach().float().square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6).to(x.dtype)


def _film(x: Tensor, blocks: Tensor | None, i: int) -> Tensor:
    return x if blocks is None else x * (1 + blocks[:, i, None, 0]) + blocks[:, i, None, 1]
