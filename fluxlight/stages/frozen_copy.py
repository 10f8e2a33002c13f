"""FrozenCopy: a copy of the model that no gradient moves: a reference, or the policy that drew the clips."""

from __future__ import annotations

import copy
from typing import Any

import torch

from fluxlight.model import FluxModel


class FrozenCopy:
    """The model as it is when the copy is taken, in eval mode, without gradients.

    It is no module, so the stage that holds it neither trains nor moves nor saves it by itself; `to` and `state` do.
    """

    _model: FluxModel

    def take(self, model: FluxModel) -> None:
        """Copy ``model`` as it is now."""
        self._model = copy.deepcopy(model).requires_grad_(False).eval()

    @property
    def model(self) -> FluxModel:
        """The copy."""
        return self._model

    @torch.no_grad()
    def follow(self, model: FluxModel, keep: float) -> None:
        """Become ``keep`` times the copy plus ``1 - keep`` times ``model``; buffers are taken as they are."""
        for mine, new in zip(self._model.parameters(), model.parameters(), strict=True):
            mine.lerp_(new, 1 - keep)
        for buffer, other in zip(self._model.buffers(), model.buffers(), strict=True):
            buffer.copy_(other)

    def to(self, device: torch.device) -> None:
        """Bring the copy to ``device``."""
        self._model.to(device)

    def state(self) -> dict[str, Any]:
        """Its weights and buffers by name, for a checkpoint."""
        return {name: value.detach().cpu().clone() for name, value in self._model.state_dict().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self._model.load_state_dict(state)
