"""TuneJury: a small MLP on frozen embeddings that says how much listeners prefer a clip (FACTS section 5).

    [clap audio | second audio | clap text] -> (Linear, BatchNorm, ReLU, Dropout 0.5) x 4 -> Linear -> score

The released heads differ in width, inputs and state-dict prefix; ``TuneJury.from_state_dict`` reads all of that
off the tensors. Their code and weights are CC-BY-NC 4.0 (the CLAP-audio-only head "A1": Apache-2.0); none is here.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fluxlight.files import atomic_path
from fluxlight.weights.foreign import read_weights
from fluxlight.weights.strict import check_finite

WIDTHS = (1024, 512, 256, 128)
"""Hidden widths of the published 2048-input head [P]."""

RELEASED: dict[tuple[str, int], tuple[tuple[str, int], ...]] = {
    ("net", 2048): (("clap_audio", 512), ("mert", 1024), ("clap_text", 512)),
    ("net", 512): (("clap_audio", 512),),
    ("net", 1024): (("clap_audio", 512), ("clap_text", 512)),
    # the order inside the MuQ head is not stated by its authors: audio first is our inference [I]
    ("score", 1024): (("muq_audio", 512), ("muq_text", 512)),
}
"""Inputs of the released heads by (state-dict prefix, total width), in the order of concatenation [P]."""


class TuneJury(nn.Module):
    """The head alone: embeddings in, score out.

    Args:
        inputs: (name, width) of each embedding, in the order they are concatenated.
        widths: hidden widths.
        dropout: of every hidden layer; 0.5 published.
        prefix: name of the network in the state dict: ``net`` (published) or ``score`` (the MuQ file).
    """

    def __init__(
        self,
        inputs: Sequence[tuple[str, int]] = RELEASED[("net", 2048)],
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.5,
        prefix: str = "net",
    ) -> None:
        super().__init__()
        self.inputs = tuple((str(name), int(width)) for name, width in inputs)
        self.prefix = prefix
        layers: list[nn.Module] = []
        last = self.input_dim
        for width in widths:
            layers += [nn.Linear(last, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
            last = width
        layers.append(nn.Linear(last, 1))
        self.net = nn.Sequential(*layers)

    @property
    def input_dim(self) -> int:
        """Width of the concatenated input."""
        return sum(width for _, width in self.inputs)

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden widths."""
        return tuple(layer.out_features for layer in self.net if isinstance(layer, nn.Linear))[:-1]

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``(B,)`` of concatenated embeddings ``(B, input_dim)``."""
        if features.ndim != 2 or features.shape[1] != self.input_dim:
            order = " | ".join(f"{name} {width}" for name, width in self.inputs)
            raise ValueError(f"features have shape {tuple(features.shape)}, expected (B, {self.input_dim}) = [{order}]")
        return self.net(features).squeeze(1)

    def join(self, **embeddings: Tensor) -> Tensor:
        """Concatenate named embeddings ``(B, width)`` in the order of this head."""
        missing = [name for name, _ in self.inputs if name not in embeddings]
        if missing:
            raise ValueError(f"this head also needs {', '.join(missing)}: give {[name for name, _ in self.inputs]}")
        return torch.cat([embeddings[name] for name, _ in self.inputs], dim=1)

    def export(self) -> dict[str, Tensor]:
        """State dict under the published names (``net.0.weight`` ... or ``score.0.weight`` ...)."""
        return {f"{self.prefix}.{key.removeprefix('net.')}": value for key, value in self.state_dict().items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.safetensors`` under the published names, with its inputs in the metadata."""
        state = {key: value.detach().cpu().contiguous() for key, value in self.export().items()}
        with atomic_path(path) as temporary:
            save_file(state, temporary, {"inputs": json.dumps(self.inputs)})

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], inputs: Sequence[tuple[str, int]] | None = None) -> TuneJury:
        """Recognise the layout of a head from its state dict and load it strictly, in eval mode.

        Args:
            state: published names, prefix ``net.`` or ``score.``; a common outer prefix is not accepted.
            inputs: names and widths of the embeddings; needed only for widths that were never released.
        """
        prefix, dims = _layout(state)
        if inputs is None:
            inputs = RELEASED.get((prefix, dims[0]), (("features", dims[0]),))
        if sum(width for _, width in inputs) != dims[0]:
            raise ValueError(f"inputs add up to {sum(w for _, w in inputs)}, the head's first layer takes {dims[0]}")
        head = cls(inputs=inputs, widths=dims[1:-1], prefix=prefix)
        renamed = {f"net.{key.removeprefix(prefix + '.')}": value for key, value in state.items()}
        try:
            head.load_state_dict(renamed, strict=True)
        except RuntimeError as error:
            raise ValueError(f"not a TuneJury head: {' '.join(str(error).split())[:300]}") from None
        return head.eval()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], inputs: Sequence[tuple[str, int]] | None = None) -> TuneJury:
        """Load a released ``.pt`` (``weights_only=True``) or a ``.safetensors`` with the same names.

        A file that `save` wrote says itself what its inputs are.
        """
        inputs = inputs or _noted(path)
        remedy = "fetch one from the TuneJury release (CC-BY-NC 4.0), or use the embedded fluxlight.rewards.RewardA"
        state = read_weights(path, "TuneJury head", remedy, ("state_dict", "model_state_dict"))
        try:
            return cls.from_state_dict(state, inputs)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _noted(path: str | os.PathLike[str]) -> list[tuple[str, int]] | None:
    """Inputs that a ``.safetensors`` names in its metadata; None where it does not, or is no such file."""
    if not str(path).endswith(".safetensors") or not os.path.isfile(path):
        return None
    try:
        with safe_open(path, "pt") as file:
            said = json.loads((file.metadata() or {}).get("inputs", "null"))
        return None if said is None else [(str(name), int(width)) for name, width in said]
    except (SafetensorError, OSError, ValueError, TypeError):
        return None  # what is wrong with the file is said where its weights are read


def _layout(state: Mapping[str, Tensor]) -> tuple[str, list[int]]:
    """Prefix and widths (input, hidden..., 1) of a head, from its 2-D weights in order."""
    found: dict[str, dict[int, Tensor]] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(net|score)\.(\d+)\.weight", key)
        if match and isinstance(value, Tensor) and value.ndim == 2:
            found.setdefault(match[1], {})[int(match[2])] = value
    if len(found) != 1:
        some = ", ".join(list(state)[:3]) or "nothing"
        raise ValueError(f"not a TuneJury head: expected keys net.* or score.*, found {some}")
    prefix, layers = next(iter(found.items()))
    ordered = [layers[index] for index in sorted(layers)]
    dims = [ordered[0].shape[1], *(weight.shape[0] for weight in ordered)]
    chained = all(after.shape[1] == before.shape[0] for before, after in itertools.pairwise(ordered))
    if sorted(layers) != list(range(0, 4 * len(layers), 4)) or not chained or dims[-1] != 1:
        raise ValueError(
            f"not a TuneJury head: layers {sorted(layers)} of widths {dims} are not Linear-BN-ReLU-Dropout"
        )
    check_finite(state, "TuneJury head", "fetch the file again")
    return prefix, dims
