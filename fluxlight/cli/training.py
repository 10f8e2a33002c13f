"""fit, validate, test and predict: Lightning's CLI with the settings and the quiet that this project wants."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

import fluxlight.backbone
import fluxlight.data
import fluxlight.guidance
import fluxlight.heads
import fluxlight.losses
import fluxlight.stages  # noqa: F401 (imported, so that their classes have short names)
from fluxlight.cli.configs import MODE, refuse_switches, steps_of, use_defaults
from fluxlight.files import claim
from fluxlight.recorded import names_of
from fluxlight.stages.plan import plan_with
from fluxlight.weights import use_folder

VERBS = ("fit", "validate", "test", "predict")
LAST = "last"
_claimed: list[FileLock] = []
"""The run folder that this process writes to, until its run has ended."""


class FluxCLI(LightningCLI):
    """Any LightningModule and data module by class path, a `Plan` to read numbers from, and ``--ckpt_path last``."""

    steps: tuple[str, ...] = ()
    """Steps of the plan that the given configs add."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the plan of the scale, and where published files lie."""
        parser.add_class_arguments(plan_with(self.steps), "plan")
        where = "folder of published files; null: FLUXLIGHT_WEIGHTS, else weights in the cache folder"
        parser.add_argument("--weights_folder", type=str | None, default=None, help=where)

    def before_instantiate_classes(self) -> None:
        """Say where published files lie before anything looks for one."""
        settings = self.config[self.subcommand] if self.subcommand else self.config
        use_folder(settings.get("weights_folder"))

    def before_fit(self) -> None:
        """``--ckpt_path last``: go on from the run folder's last.ckpt if there is one, else start."""
        self._claim()
        settings = self.config_init["fit"]
        if settings.get("ckpt_path") == LAST:
            path = Path(self.trainer.default_root_dir) / "last.ckpt"
            settings["ckpt_path"] = str(path) if path.is_file() else None
        elif settings.get("ckpt_path") and not Path(settings["ckpt_path"]).is_file():
            raise FileNotFoundError(
                f"ckpt_path {settings['ckpt_path']} does not exist: leave it out to start anew, or say last"
            )

    def fit(self, model: L.LightningModule, **settings: Any) -> None:
        """Train, or say that there is nothing left to train."""
        path = settings.get("ckpt_path")
        if path and 0 < self.trainer.max_steps <= (done := checkpoint_updates(path)):
            print(f"nothing to do: {path} has {done} of {self.trainer.max_steps} updates", file=sys.stderr)
            return
        self.trainer.fit(model, **settings)

    def before_predict(self) -> None:
        """Predictions go to files, not to memory."""
        self._claim()
        self.config_init["predict"]["return_predictions"] = False

    def before_validate(self) -> None:
        """Numbers are printed by the progress bar, once."""
        self._claim()
        self.config_init["validate"]["verbose"] = False

    def before_test(self) -> None:
        """Nothing but the folder is needed."""
        self._claim()

    def _claim(self) -> None:
        """Take the run folder: the parts are made, nothing has been written yet."""
        if self.trainer.is_global_zero:  # the other processes of a run share the folder
            _claimed.append(claim(self.trainer.default_root_dir))


def run(args: Sequence[str], save_config: type[SaveConfigCallback] | None) -> int:
    """Parse ``args`` (verb first) and run it.

    Args:
        args: for instance ``["fit", "--config", "configs/stages/crpo.yaml"]``.
        save_config: callback that keeps the configuration.
    """
    quiet()
    if threads := os.environ.get("FLUXLIGHT_THREADS"):
        torch.set_num_threads(int(threads))
    use_defaults()
    refuse_switches(args)
    kwargs: dict[str, Any] = {"parser_mode": MODE, "exit_on_error": False}
    try:
        FluxCLI.steps = steps_of(args)
        FluxCLI(
            L.LightningModule, L.LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
            save_config_callback=save_config, seed_everything_default=0, auto_configure_optimizers=False,
            load_from_checkpoint_support=False, args=list(args),
            parser_kwargs={**kwargs, **{verb: kwargs for verb in VERBS}},
        )  # fmt: skip
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            # Lightning has switched Ctrl-C off for its shutdown
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
        return end.code if isinstance(end.code, int) else 2
    except jsonargparse.ArgumentError as error:
        raise ValueError(reason(str(error))) from None
    except ValueError as error:
        # a constructor's complaint arrives wrapped in everything else that was tried
        if "Does not validate against any" not in str(error):
            raise
        raise ValueError(reason(str(error))) from error
    finally:
        while _claimed:
            _claimed.pop().release()
    return 0


def checkpoint_updates(path: str | Path) -> int:
    """Updates done in a Lightning checkpoint; a damaged file is one clear error."""
    try:
        # mmap: the number is wanted, not the weights
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:
        raise ValueError(
            f"checkpoint {path} cannot be read: it is damaged or no checkpoint; delete it and run again"
        ) from None


def quiet() -> None:
    """Keep what a user needs to read: errors, bars and results."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("lightning", "torch", "torchmetrics", "jsonargparse"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
    warnings.filterwarnings("ignore", message=r".*LightningCLI's args parameter.*")


_USELESS = ("Expected a <class 'NoneType'>", "Does not validate against any", "Subtypes:", "Errors:", "Given value",
            "Parser key", "Problem with given class_path", "Expected a path but", "Expected a dict",
            "Not a valid subclass of", "Subclass types expect", "a class path (str)", "a dict with", "a dict without",
            "Expected a list")  # fmt: skip


FAMILIES: dict[str, tuple[Any, tuple[type, ...]]] = {
    "head": (fluxlight.heads, (fluxlight.heads.ScoreHead,)),
    "guidance": (fluxlight.guidance, (fluxlight.guidance.Guidance,)),
    "loss": (fluxlight.losses, (fluxlight.losses.PreferenceLoss, fluxlight.losses.PolicyLoss)),
}
"""Last word of a key -> where its classes are, and what they are."""


def reason(text: str) -> str:
    """The innermost reasons of a jsonargparse message, with the keys that lead to them, as one line."""
    keys = [key for key in re.findall(r'Parser key "([^"]+)"', text) if key != "config"]
    lines = [re.sub(r'^Parser key "[^"]+": *', "", line.strip().removeprefix("- ")) for line in text.splitlines()]
    what = "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith(_USELESS))) or " ".join(
        text.split()
    )
    family = next((FAMILIES[key] for key in keys for key in key.split(".") if key in FAMILIES), None)
    hint = f", or a name among {', '.join(names_of(*family))}" if family else ""
    what = re.sub(
        r"Expected a dot import path string: (\S+)", lambda m: f"no class {m[1]}: give a class path{hint}", what
    )
    given = re.findall(r"Given value: (.+)", text)
    if given and (nested := re.fullmatch(r"NestedArg\(key='(.*)', val='?(.*?)'?\)", given[-1])):
        what += f" (given: {nested[1]} {nested[2]})"
    elif given and len(given[-1]) < 80 and given[-1] not in what:
        what += f" (given: {given[-1]})"
    return ".".join(dict.fromkeys(keys)) + (": " if keys else "") + what
