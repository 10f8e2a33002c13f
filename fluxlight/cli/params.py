"""``fluxlight params``: how many numbers a stage's network has, by part, and whether the track allows them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fluxlight.cli.arguments import Arguments

LIMIT = 500_000_000
"""Parameters that the challenge's efficiency track allows."""


def parser() -> argparse.ArgumentParser:
    """The arguments of the verb."""
    p = Arguments(
        prog="fluxlight params",
        description="Count the trainable and frozen parameters of the model of a config, and hold the total against "
        "the 500 M of the track. No weights are loaded: sizes alone are looked at.",
        epilog="Other options are settings of the config, for instance --model.head BlockAdaLN.",
    )
    p.add_argument("--config", action="append", required=True, metavar="FILE", help="stage YAML and overlays, in order")
    p.add_argument("--json", action="store_true", help="print JSON")
    return p


def main(args: list[str]) -> int:
    """Run the verb; 1 when the model is over the limit."""
    given, settings = parser().parse_known_args(args)
    counts = count(model_of([*(x for config in given.config for x in ("--config", config)), *settings]))
    if given.json:
        print(json.dumps(counts, indent=1))
    else:
        print(text(counts))
    return 0 if counts["total"] <= LIMIT else 1


def model_of(args: list[str]) -> Any:
    """The LightningModule of a command line's config: on the meta device, so shapes without memory or values."""
    import jsonargparse
    import lightning as L
    import torch

    from fluxlight.cli.configs import MODE, refuse_switches, use_defaults
    from fluxlight.cli.training import FluxCLI, quiet, reason

    class ModelOnly(FluxCLI):
        """Parses the whole config and makes the model alone."""

        def instantiate_classes(self) -> None:
            model = self.config["model"]
            if model is None:
                raise ValueError("the config has no model: give a stage's YAML first, then overlays")
            if "init_from" in model.get("init_args", {}):
                model["init_args"]["init_from"] = None  # counting needs no weights
            alone = jsonargparse.Namespace(model=model)
            try:
                with torch.device("meta"):
                    self.model = self.parser.instantiate_classes(alone)["model"]
            except (ValueError, RuntimeError):
                # a module that looks at its own values while it is made (the embedded codec's) has none on meta
                self.model = self.parser.instantiate_classes(alone)["model"]

    quiet()
    use_defaults()
    refuse_switches(args)
    try:
        return ModelOnly(
            L.LightningModule, L.LightningDataModule, subclass_mode_model=True, subclass_mode_data=True, run=False,
            save_config_callback=None, seed_everything_default=0, auto_configure_optimizers=False,
            load_from_checkpoint_support=False, args=args,
            parser_kwargs={"parser_mode": MODE, "exit_on_error": False},
        ).model  # fmt: skip
    except jsonargparse.ArgumentError as error:
        raise ValueError(reason(str(error))) from None
    except ValueError as error:
        raise ValueError(reason(str(error)) if "Does not validate" in str(error) else str(error)) from None


def count(module: Any) -> dict[str, Any]:
    """Trainable and frozen numbers of a module, in all and by part.

    Frozen are the parameters without gradient and the buffers of the state dict (latent statistics, the features of
    the empty text). The codec, the text encoders and the judges are no part of a stage and are not counted.
    """
    trainable = {name: p.numel() for name, p in module.named_parameters() if p.requires_grad}
    frozen = {name: value.numel() for name, value in module.state_dict().items() if name not in trainable}
    parts: dict[str, dict[str, int]] = {}
    for kind, numbers in (("trainable", trainable), ("frozen", frozen)):
        for name, size in numbers.items():
            part = parts.setdefault(_part(name), {"trainable": 0, "frozen": 0})
            part[kind] += size
    total = sum(trainable.values()) + sum(frozen.values())
    return {
        "model": type(module).__name__, "trainable": sum(trainable.values()), "frozen": sum(frozen.values()),
        "total": total, "limit": LIMIT, "allowed": total <= LIMIT, "parts": parts,
    }  # fmt: skip


def _part(name: str) -> str:
    """``backbone`` or ``head`` of ``model.backbone....``; elsewhere the first piece of the name."""
    pieces = name.split(".")
    if pieces[0] != "model":
        return pieces[0]
    return pieces[1] if len(pieces) > 2 else "stored texts"


def text(counts: dict[str, Any]) -> str:
    """The counts as a small table."""
    rows = [(name, part["trainable"], part["frozen"]) for name, part in counts["parts"].items()]
    rows.append((counts["model"], counts["trainable"], counts["frozen"]))
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{'':<{width}}  {'trainable':>13}  {'frozen':>11}  {'total':>13}"]
    lines += [f"{name:<{width}}  {t:>13,}  {f:>11,}  {t + f:>13,}" for name, t, f in rows]
    share = counts["total"] / counts["limit"]
    verdict = "under" if counts["allowed"] else "OVER"
    lines.append(f"{verdict} the track's limit of {counts['limit']:,} ({share:.0%}); codec, text encoders and judges "
                 "are not counted")  # fmt: skip
    return "\n".join(lines)
