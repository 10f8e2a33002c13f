"""Blocks of FluxAudio: gated feed-forward, adaLN block of one stream, joint and fused block (FACTS section 6).

Everything is laid out ``(B, N, h)``: time before features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fluxlight.backbone.embeddings import rotate

Table = tuple[Tensor, Tensor] | None  # rotary cosines and sines, None without RoPE


def hide(x: Tensor, keep: Tensor | None) -> Tensor:
    """Zero the rows of ``x`` ``(B, N, h)`` where ``keep`` ``(B, N)`` is False: to a convolution they are padding."""
    return x if keep is None else x * keep[..., None]


def gated_width(width: int, multiple: int) -> int:
    """Inner features of a gated feed-forward: floor(2/3 of ``width``), rounded up to a multiple."""
    return multiple * -(-int(2 * width / 3) // multiple)


class TimeConv(nn.Conv1d):
    """Convolution over time of ``(B, N, C)``, same length, with the parameters of ``nn.Conv1d``.

    It runs as a two-dimensional convolution of height 1, for which features-last is a native layout, and the weight
    lies in memory as that wants it: laid out otherwise, all of it would be brought into that order in every call.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        # same shape and values; copies, optimiser states and gradients take the layout over
        self.weight = nn.Parameter(self.weight.detach().transpose(1, 2).contiguous().transpose(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, inputs)`` -> ``(B, N, outputs)``."""
        image = x.transpose(1, 2)[:, :, None].contiguous(memory_format=torch.channels_last)
        out = F.conv2d(image, self.weight[:, :, None], self.bias, padding=(0, self.kernel_size[0] // 2))
        return out[:, :, 0].transpose(1, 2)


class GatedMLP(nn.Module):
    """w2(silu(w1 x) * w3 x) without bias; ``kernel`` > 1 makes the three maps convolutions over time."""

    def __init__(self, width: int, hidden: int, multiple: int = 256, kernel: int = 1) -> None:
        super().__init__()
        inner = gated_width(hidden, multiple)

        def layer(inputs: int, outputs: int) -> nn.Module:
            if kernel == 1:
                return nn.Linear(inputs, outputs, bias=False)
            return TimeConv(inputs, outputs, kernel, bias=False)

        self.w1, self.w2, self.w3 = layer(width, inner), layer(inner, width), layer(width, inner)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """``(B, N, h)`` -> ``(B, N, h)``; rows where ``keep`` is False do not reach their neighbours."""
        x = hide(x, keep)
        return self.w2(hide(F.silu(self.w1(x)) * self.w3(x), keep))


class Attention(nn.Module):
    """Queries, keys and values of one stream: joint projection, RMSNorm of q and k per head, rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads)
        self.k_norm = nn.RMSNorm(width // heads)

    def forward(self, x: Tensor, table: Table) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, N, h)`` -> q, k, v, each ``(B, H, N, h / H)``."""
        # published order of the outputs: (head, feature, which), 'which' fastest. Every third row of the weight makes
        # the queries, and so on: three products with dense results instead of one whose parts lie scattered
        weights, biases = self.qkv.weight.unflatten(0, (-1, 3)).unbind(1), self.qkv.bias.unflatten(0, (-1, 3)).unbind(1)
        q, k, v = (F.linear(x, w, b).unflatten(-1, (self.heads, -1)) for w, b in zip(weights, biases, strict=True))
        q, k = self.q_norm(q), self.k_norm(k)
        if table is not None:
            q, k = rotate(q, table), rotate(k, table)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
    """Attention of ``(B, H, N, d)``, merged to ``(B, N, H d)``; keys where ``keep`` ``(B, N)`` is False are unseen."""
    mask = None if keep is None else keep[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class StreamBlock(nn.Module):
    """One stream of a block: adaLN, attention inputs, gated residuals.

    Args:
        width: h.
        heads: attention heads.
        hidden: nominal width of the feed-forward (before the 2/3 rule).
        kernel: 3 for the latent stream (convolutions), 1 for text (linear maps).
        pre_only: the stream gives keys and values but gets nothing back (2 modulation vectors, no output).
        multiple: rounding of the feed-forward width.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, kernel: int, pre_only: bool = False, multiple: int = 256
    ) -> None:
        super().__init__()
        self.pre_only = pre_only
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attn = Attention(width, heads)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, (2 if pre_only else 6) * width))
        if not pre_only:
            self.linear1 = TimeConv(width, width, kernel) if kernel > 1 else nn.Linear(width, width)
            self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
            self.ffn = GatedMLP(width, hidden, multiple, kernel)

    def before(self, x: Tensor, c: Tensor, table: Table) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
        """Queries, keys, values of ``x`` ``(B, N, h)`` under ``c`` ``(B, 1, h)``, and the modulation for ``after``."""
        shift, scale, *rest = self.adaLN_modulation(c).chunk(2 if self.pre_only else 6, dim=-1)
        return self.attn(torch.addcmul(shift, self.norm1(x), 1 + scale), table), tuple(rest)

    def after(self, x: Tensor, attended: Tensor, modulation: tuple[Tensor, ...], keep: Tensor | None = None) -> Tensor:
        """Residual updates of ``x`` ``(B, N, h)`` with the attention's output ``(B, N, h)``."""
        if self.pre_only:
            return x
        gate1, shift, scale, gate2 = modulation
        x = torch.addcmul(x, self.linear1(hide(attended, keep)), gate1)
        return torch.addcmul(x, self.ffn(torch.addcmul(shift, self.norm2(x), 1 + scale), keep), gate2)


class FusedBlock(StreamBlock):
    """A block of the latent stream alone."""

    def forward(self, x: Tensor, c: Tensor, table: Table, keep: Tensor | None = None) -> Tensor:
        """``(B, N, h)`` -> ``(B, N, h)``."""
        qkv, modulation = self.before(x, c, table)
        return self.after(x, attend(*qkv, keep), modulation, keep)


class JointBlock(nn.Module):
    """Latent and text stream with weights of their own and one attention over latent ++ text."""

    def __init__(self, width: int, heads: int, hidden: int, pre_only: bool = False, multiple: int = 256) -> None:
        super().__init__()
        self.latent_block = StreamBlock(width, heads, hidden, kernel=3, multiple=multiple)
        self.text_block = StreamBlock(width, heads, hidden, kernel=1, pre_only=pre_only, multiple=multiple)

    def forward(
        self,
        latent: Tensor,
        text: Tensor,
        c: Tensor,
        latent_table: Table,
        text_table: Table,
        latent_keep: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Latent ``(B, N, h)`` and text ``(B, T, h)`` -> the same, ``keep`` ``(B, N + T)`` hides keys."""
        n = latent.shape[1]
        latent_qkv, latent_modulation = self.latent_block.before(latent, c, latent_table)
        text_qkv, text_modulation = self.text_block.before(text, c, text_table)
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(latent_qkv, text_qkv, strict=True))
        if self.text_block.pre_only and not torch.is_grad_enabled():
            # nobody reads the text's answer; training computes it all the same, so that every parameter has a
            # gradient (the published one, 0), which distributed training insists on
            q = latent_qkv[0]
        attended = attend(q, k, v, keep)
        latent = self.latent_block.after(latent, attended[:, :n], latent_modulation, latent_keep)
        return latent, self.text_block.after(text, attended[:, n:], text_modulation)


class FinalLayer(nn.Module):
    """LayerNorm, shift and scale, convolution to the latent's channels."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.conv = TimeConv(width, outputs, 7)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """``(B, N, h)`` -> ``(B, N, outputs)``."""
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        return self.conv(torch.addcmul(shift, self.norm(x), 1 + scale))
