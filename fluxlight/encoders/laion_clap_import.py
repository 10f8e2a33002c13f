"""The network of the package laion-clap, without what the package does when it is imported.

``import laion_clap`` loads three tokenizers from the hub, puts its folder on ``sys.path`` and needs torchvision, which
it does not declare. Only the files that define the network are imported here, as a package of another name; of
torchvision they name one class and never use it.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fluxlight.encoders.clap_keys import AUDIO, Sizes
from fluxlight.weights.strict import load_strict

PACKAGE = "fluxlight_laion_clap"


class LaionNetwork(nn.Module):
    """laion-clap's own network: windows of 10 s at 48 kHz, or token ids, to embeddings ``(B, 512)``.

    Args:
        state: of the checkpoint, its own names.
        sizes: of the checkpoint.
        source: what an error calls the checkpoint.
        remedy: what an error tells the reader to do.
    """

    def __init__(self, state: Mapping[str, Tensor], sizes: Sizes, source: str, remedy: str) -> None:
        super().__init__()
        self.clap = _build(sizes)
        load_strict(self.clap, state, source, remedy)

    def audio(self, wave: Tensor) -> Tensor:
        """Windows ``(B, 480000)`` -> ``(B, 512)``, not normalised."""
        heard = self.clap.audio_branch({"waveform": wave}, device=wave.device)["embedding"]
        return self.clap.audio_projection(heard)

    def text(self, ids: Tensor) -> Tensor:
        """Token ids ``(B, T)`` without padding -> ``(B, 512)``, not normalised."""
        return self.clap.encode_text({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, device=ids.device)


def _build(sizes: Sizes) -> Any:
    from transformers import RobertaConfig, RobertaModel

    module, folder = _module()
    # the package asks the hub for roberta-base; its weights are in the checkpoint
    module.RobertaModel = _Made(RobertaModel, RobertaConfig(**sizes.text()))  # type: ignore[attr-defined]
    config = json.loads((folder / "model_configs" / f"HTSAT-{AUDIO[sizes.width][0]}.json").read_text("utf-8"))
    config["text_cfg"]["model_type"] = "roberta"
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # the package calls torch.meshgrid without its new argument
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        return module.CLAP(**config, enable_fusion=False, fusion_type="None")


class _Made:
    """Stands where the package calls ``RobertaModel.from_pretrained``."""

    def __init__(self, kind: Any, config: Any) -> None:
        self.kind, self.config = kind, config

    def from_pretrained(self, name: str) -> Any:
        return self.kind(self.config)


@lru_cache(maxsize=1)
def _module() -> tuple[ModuleType, Path]:
    """The package's file ``clap_module/model.py`` as a module, and its folder."""
    spec = find_spec("laion_clap")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "package laion-clap is not installed: pip install laion-clap==1.1.7, or set backend transformers"
        )
    folder = Path(spec.submodule_search_locations[0]) / "clap_module"
    # loaded before the stand-ins are there, which would make them look for the real torchvision
    from transformers import BartModel, BertModel, RobertaModel  # noqa: F401

    package = ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[PACKAGE] = package
    with _stand_ins():
        return importlib.import_module(f"{PACKAGE}.model"), folder


@contextmanager
def _stand_ins() -> Iterator[None]:
    """For this block, torchvision is three empty modules with one class, and timm is not installed."""
    misc = ModuleType("torchvision.ops.misc")
    misc.FrozenBatchNorm2d = type("FrozenBatchNorm2d", (nn.Module,), {})  # type: ignore[attr-defined]
    made: dict[str, Any] = {
        "torchvision": ModuleType("torchvision"), "torchvision.ops": ModuleType("torchvision.ops"),
        "torchvision.ops.misc": misc, "timm": None,
    }  # fmt: skip
    before = {name: sys.modules[name] for name in made if name in sys.modules}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
        sys.modules.update(before)
