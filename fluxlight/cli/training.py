"""fit, validate, test and predict: Lightning's CLI with the settings and the quiet that this project wants."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import lightning as L
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import SIGTERMException

import fluxlight.backbone
import fluxlight.data
import fluxlight.guidance
import fluxlight.heads
import fluxlight.losses
import fluxlight.stages
from fluxlight.cli import run_folder
from fluxlight.cli.configs import MODE, refuse_switches, steps_of, use_defaults
from fluxlight.cli.output import quiet, steady
from fluxlight.data import course
from fluxlight.files import claim
from fluxlight.recorded import names_of
from fluxlight.stages.plan import plan_with
from fluxlight.weights import use_folder

VERBS = ("fit", "validate", "test", "predict")
FAST = "fast_dev_run"
"""Folder below the run folder for what a `fast_dev_run` makes."""
_claimed: list[FileLock] = []
"""The run folder that this process writes to, until its run has ended."""


class FluxCLI(LightningCLI):
    """Any LightningModule and data module by class path, a `Plan` to read numbers from, and ``--ckpt_path last``."""

    steps: tuple[str, ...] = ()
    """Steps of the plan that the given configs add."""
    verb = ""
    """The verb that runs: a parser of each of the others would cost seconds; empty has them all."""

    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:  # type: ignore[override]
        """Verbs and the arguments of the trainer's methods that are not on the command line."""
        found = LightningCLI.subcommands()
        return {cls.verb: found[cls.verb]} if cls.verb in found else found
    done: int = 0
    """Updates of the checkpoint that a fit goes on from."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the plan of the scale, and where published files lie."""
        parser.add_class_arguments(plan_with(self.steps), "plan")
        where = "folder of published files; null: FLUXLIGHT_WEIGHTS, else weights in the cache folder"
        parser.add_argument("--weights_folder", type=str | None, default=None, help=where)

    def _parse_ckpt_path(self) -> None:
        """A checkpoint says nothing of settings: Lightning would read it, and lay what it holds over the flags."""

    def before_instantiate_classes(self) -> None:
        """Say where published files lie before anything looks for one."""
        settings = self.config[self.subcommand] if self.subcommand else self.config
        use_folder(settings.get("weights_folder"))
        trainer = settings["trainer"]
        if trainer.get("fast_dev_run"):
            # one batch of everything, to see whether it runs: not in the place of a run
            trainer["default_root_dir"] = str(Path(trainer.get("default_root_dir") or ".") / FAST)
            print(f"fast_dev_run: what it makes lies in {trainer['default_root_dir']}", file=sys.stderr)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer, without the callbacks that it is told to do without."""
        settings = self.config_init[self.subcommand]["trainer"]
        run_folder.refuse_precision(settings.get("precision"))
        bare, unwanted = settings.get("barebones"), []
        for name, kind in (("enable_progress_bar", ProgressBar), ("enable_checkpointing", Checkpoint)):
            if bare or settings.get(name) is False:
                unwanted.append(kind)
        if bare:
            off = {"logger": False, "log_every_n_steps": 0, "enable_progress_bar": False, "enable_checkpointing": False}
            kwargs = {**off, **kwargs}
        kept = [c for c in settings.get("callbacks") or [] if not isinstance(c, tuple(unwanted))]
        trainer = super().instantiate_trainer(**{**kwargs, "callbacks": kept})
        run_folder.refuse_precision(settings.get("precision"), trainer.precision)
        return trainer

    def before_fit(self) -> None:
        """``--ckpt_path last``: go on from the run folder's last.ckpt if there is one, else start."""
        self._claim()
        settings, trainer = self.config_init["fit"], self.trainer
        settings["ckpt_path"], self.done = run_folder.begin(
            trainer.default_root_dir, settings.get("ckpt_path"), trainer.is_global_zero
        )

    def fit(self, model: L.LightningModule, **settings: Any) -> None:
        """Train, or say that there is nothing left to train, or that the run is not at its end."""
        trainer, path, done = self.trainer, settings.get("ckpt_path"), self.done
        if path and 0 < trainer.max_steps <= done and not self._lacks(done):
            print(f"nothing to do: {path} has {done} of {trainer.max_steps} updates", file=sys.stderr)
            return
        trainer.fit(model, **settings)
        if trainer.is_global_zero and not course.is_last(trainer):
            print(self._stopped(isinstance(model, fluxlight.stages.Stage)), file=sys.stderr)

    def _stopped(self, stage: bool) -> str:
        """What to say of a run that is not at its end."""
        trainer, updates = self.trainer, self.trainer.global_step
        total = f" of {trainer.max_steps}" if trainer.max_steps > 0 else ""
        said = f"stopped after {updates}{total} updates" + (", without a bundle" if stage else "")
        kept = Path(trainer.default_root_dir) / run_folder.CHECKPOINT
        if not kept.is_file():
            return f"{said}: nothing was kept to go on from"
        ends = f"--trainer.max_steps {updates} --data.batches_per_epoch {course.batches_done(trainer)}"
        end = f"; with {ends} it ends here" if stage else ""
        return f"{said}: {kept} goes on with --ckpt_path last{end}"

    def _lacks(self, updates: int) -> bool:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        return any(c.lacks(self.trainer.default_root_dir, updates) for c in callbacks if hasattr(c, "lacks"))

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
        FluxCLI.steps, FluxCLI.verb = steps_of(args), args[0] if args else ""
        with steady():
            FluxCLI(
                L.LightningModule, L.LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
                save_config_callback=save_config, seed_everything_default=0, auto_configure_optimizers=False,
                load_from_checkpoint_support=False, args=list(args),
                parser_kwargs={**kwargs, **{verb: kwargs for verb in FluxCLI.subcommands()}},
            )  # fmt: skip
    except SIGTERMException:
        print("fluxlight: stopped by SIGTERM; what was finished is kept, the same command goes on", file=sys.stderr)
        return 128 + signal.SIGTERM
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
    what = re.sub(
        r"Type .* expects a .*: module '(\S+)' has no attribute '(\w+)'.*",
        lambda m: f"{m[1]} has no class {m[2]}{hint.replace(', or', ': give', 1)}", what,
    )  # fmt: skip
    what = re.sub(r"File does not exist: '?([^']+)'?", r"\1 does not exist: give a YAML file", what)
    given = re.findall(r"Given value: (.+)", text)
    if given and (nested := re.fullmatch(r"NestedArg\(key='(.*)', val='?(.*?)'?\)", given[-1])):
        what += f" (given: {nested[1]} {nested[2]})"
    elif given and len(given[-1]) < 80 and given[-1] not in what:
        what += f" (given: {given[-1]})"
    return ".".join(dict.fromkeys(keys)) + (": " if keys else "") + what
