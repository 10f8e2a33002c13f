"""Guard: looks after every few updates whether a run still gets better by judges it does not train on, or stops it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch

from callbacks.render_slice import RenderSlice, check_codec, refuse_averaging_before
from callbacks.weights_kept import WeightsKept
from fluxlight.clips.spread import Spread, pooled
from fluxlight.codec import Codec
from fluxlight.data import course
from fluxlight.data.prompts import candidate_prompts, slice_prompts
from fluxlight.evaluation.judges import load_judges
from fluxlight.evaluation.judging import Judges
from fluxlight.files import hash_of, read_jsonl, write_jsonl
from fluxlight.measures import MEASURES
from fluxlight.metrics.reference import Reference
from fluxlight.postprocess import PostProcess
from fluxlight.progress import note
from fluxlight.prompts import half_of
from fluxlight.render import Renderer
from fluxlight.stages import Stage
from fluxlight.stages.drift import Drift
from fluxlight.types import PromptBatch
from fluxlight.validity.held_out import PROTOCOL, Heard, hear, load, save
from fluxlight.validity.over_optimisation import curve, write_curve
from fluxlight.validity.stop_rule import Change, StopRule, score_change, set_change

Row = dict[str, Any]


class Guard(L.Callback):
    """Renders the same prompts with the same noise every ``every`` updates and compares them with the starting weights.

    A run ends when a judge that does not drive it, the diversity or KAD of the clips says by an always-valid rule that
    they have got worse (`fluxlight.validity.stop_rule`), when the spread of the latents leaves its limits, or when a
    clip is not finite. Its weights are then those of the best look so far (or the last sound one), and the run ends as
    if that had been its plan: rendered, with its bundle, whose ``info`` says ``kept``. The rule sees one half of the
    slice alone, so that the other may report (`fluxlight.prompts.half_of`).

    Every look is a line of ``<run>/guard/guard.jsonl`` and of the log (``guard/...``), and
    ``<run>/guard/over_optimisation.svg`` (.png, .json) shows what driving and other judges have gained over the
    distance from the start. A run that goes on looks where it was.

    Args:
        codec: latents -> audio.
        postprocess: callables on a `Clip`, applied in order.
        judges: world whose judges listen, or the path of its YAML.
        driving: judges that drive this run, which are shown and never tested; null: those the world says are optimised.
        every: updates between two looks; the last update is always looked at.
        prompts: how many, at most.
        source: the choosing half of the "slice", or training "captions".
        reference: statistics file of the first CLAP that kept its embeddings, for KAD; null: KAD is not watched.
        alpha: chance that a run in which nothing gets worse is ever stopped, at most.
        tolerance: decline of a score that is allowed, in standard deviations of the start's scores.
        spread: limits of the rms of the normalised latents, 1 for the training data (our choice); outside, and further
            from 1 than the start, the run is stopped.
        keep: which weights a stopped run has: of the "best" look by the judges that do not drive, or of the "last"
            sound one.
        draws: clips on which the distance to the start is measured.
        batch_size: clips sampled and judged at a time.
        folder: below the run folder.
        device: where the codec runs.
    """

    def __init__(
        self,
        codec: Codec,
        postprocess: list[PostProcess] | None = None,
        judges: str = "embedded",
        driving: list[str] | None = None,
        every: int = 50,
        prompts: int = 32,
        source: Literal["slice", "captions"] = "slice",
        reference: str | None = None,
        alpha: float = 0.05,
        tolerance: float = 0.0,
        spread: tuple[float, float] = (0.6, 1.4),
        keep: Literal["best", "last"] = "best",
        draws: int = 32,
        batch_size: int = 8,
        folder: str = "guard",
        device: str = "cpu",
    ) -> None:
        if every < 1 or prompts < 2 or draws < 1 or batch_size < 1:
            raise ValueError(f"every {every}, prompts {prompts}, draws {draws}, batch_size {batch_size}: at least 1, "
                             "and 2 prompts")  # fmt: skip
        if not 0 <= spread[0] < 1 < spread[1]:
            raise ValueError(f"spread is {list(spread)}: give limits below and above 1, the training data's")
        self.renderer, self.rule = Renderer(codec, postprocess, device), StopRule(alpha, tolerance)
        self.world, self.driving, self.path = judges, driving, reference
        self.every, self.prompts, self.source, self.n_draws = every, prompts, source, draws
        self.limits, self.keep, self.batch_size, self.folder = spread, keep, batch_size, folder
        self.rows: list[Row] = []

    # -- start ---------------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load judges and reference now: a missing one must not end a long run."""
        if stage != "fit":
            return
        if not isinstance(pl_module, Stage):
            raise ValueError(f"Guard watches stages, {type(pl_module).__name__} is none: take it out of the callbacks")
        refuse_averaging_before(trainer, self)
        check_codec(trainer, self.renderer.codec)
        self.judges: Judges = load_judges(self.world)
        names, first = list(self.judges.identities()), next(iter(self.judges.claps))
        drives = self.judges.optimised if self.driving is None else frozenset(self.driving)
        if unknown := sorted(drives - set(names)):
            raise ValueError(f"Guard.driving: {', '.join(unknown)} is no judge of {self.world} ({', '.join(names)})")
        if first in drives or not set(names) - drives:
            raise ValueError(f"Guard: {first} drives, or every judge does: a guard needs judges that do not; give a "
                             "world whose first CLAP only judges")  # fmt: skip
        self.drives, self.reference = drives, None
        if self.path is not None:
            self.reference = Reference.load(self.path)
            self.reference.check(self.judges.claps[first].identity, PROTOCOL)
            if lacks := MEASURES["kad"].lacks(self.reference):
                raise ValueError(f"Guard.reference {self.path}: KAD {lacks}")
        self.batch = self._prompts(trainer.datamodule)  # type: ignore[attr-defined]

    def _prompts(self, data: Any) -> PromptBatch:
        """The prompts with their noise, the same at every look."""
        if self.source == "captions":
            n = min(self.prompts, len(set(data.store.captions)))
            [planned] = candidate_prompts(data.store, n, 1, data.slice_seed, n, data.seed + 1)
            return data.store.prompts(*zip(*planned, strict=True))
        if data.slice is None:
            raise ValueError("Guard.source is slice and data.slice is null: give a slice, or source: captions")
        planned = [one for part in slice_prompts(data.slice, 1, data.slice_seed, data.slice_clips) for one in part]
        chosen = [one for one in planned if half_of(data.slice.rows[one[0]]["id"]) == "choose"][: self.prompts]
        if len(chosen) < 2:
            raise ValueError(f"Guard: {len(chosen)} of {len(planned)} prompts of the slice are in the choosing half, "
                             "at least 2 are needed: give a larger slice, or source: captions")  # fmt: skip
        return data.slice.prompts(*zip(*chosen, strict=True))

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Measure the starting weights, or find what was measured of them and at the looks since."""
        folder, data = Path(trainer.default_root_dir) / self.folder, trainer.datamodule  # type: ignore[attr-defined]
        self.drift, self.kept = Drift(data.store, self.n_draws, pl_module.seed), WeightsKept(folder)
        pl_module.kept = None
        about = {"guard": hash_of([self.batch.id, self.batch.seed.tolist(), self.judges.identities(),
                                   pl_module.sampling, self.renderer.facts, self.n_draws])}  # fmt: skip
        done = int(trainer.global_step)
        if done:
            if not (folder / "start.safetensors").is_file():
                raise ValueError(f"{folder} lacks start.safetensors, what the guard measured before the first update: "
                                 "take callbacks.Guard out, or start anew")  # fmt: skip
            self.start, more, said = load(folder / "start.safetensors")
            if said != about:
                raise ValueError(f"{folder} was measured with other prompts, judges or sampler: set the guard back, "
                                 "or start anew in another trainer.default_root_dir")  # fmt: skip
            self.origin, self.wide = torch.from_numpy(more["velocity"]), float(more["rms"])
            self.rows = [row for row in read_jsonl(folder / "guard.jsonl") if row["update"] <= done]
            self.kept.load()
            if self.rows and self.rows[-1]["stopped"]:
                self._end(trainer, pl_module, self.rows[-1]["kept"])
            return
        self.rows, self.start, self.origin, self.wide = [], Heard(), torch.empty(0), 1.0
        if trainer.is_global_zero:
            self.start, spread, self.origin = self._measure(pl_module)
            if int(self.start.fine.sum()) < 2:
                raise ValueError(f"Guard: {int(self.start.fine.sum())} clips of the starting weights are finite, at "
                                 "least 2 are needed: the model or its sampler has diverged")  # fmt: skip
            self.wide = spread.rms if spread else 1.0
            more = {"velocity": self.origin.numpy(), "rms": np.array(self.wide)}
            save(folder / "start.safetensors", self.start, more, about)
            write_jsonl(folder / "guard.jsonl", [])
        self.kept.take(trainer, pl_module, 0)

    # -- looks ---------------------------------------------------------------------------------------------------

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look, if this batch ended an update at which a look is due."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or pl_module.kept is not None:
            return
        update, last = int(trainer.global_step), self.rows[-1]["update"] if self.rows else 0
        if update > last and (update % self.every == 0 or course.is_last(trainer)):
            self._look(trainer, pl_module, update)

    def _look(self, trainer: L.Trainer, stage: Any, update: int) -> None:
        row = self._row(stage, update) if trainer.is_global_zero else {}
        row = trainer.strategy.broadcast(row)
        self.rows.append(row)
        if not row["stopped"] and row["kept"] == update:
            self.kept.take(trainer, stage, update)
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / self.folder
            write_jsonl(folder / "guard.jsonl", self.rows)
            write_curve(curve(self.rows), folder, pictures=row["stopped"] or course.is_last(trainer))
            show(row)
        logged = {f"guard/{name}": said["change"] for name, said in {**row["judges"], **row["sets"]}.items()}
        stage.log_dict({**logged, "guard/distance": row["distance"], "guard/spread": row["rms"]}, batch_size=1)
        if row["stopped"]:
            self.kept.give(trainer, stage)
            self._end(trainer, stage, row["kept"])

    def _end(self, trainer: L.Trainer, stage: Any, kept: int) -> None:
        """End the run as if this had been its last update."""
        stage.kept, trainer.should_stop = kept, True
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RenderSlice):
                # it has looked before the run was known to end here
                callback.on_train_batch_end(trainer, stage, None, None, trainer.accumulate_grad_batches - 1)

    @torch.no_grad()
    def _measure(self, stage: Any) -> tuple[Heard, Spread | None, torch.Tensor]:
        training = stage.training
        stage.eval()
        latents = stage.sampler.generate(stage.model, self.batch, self.batch_size)
        rows = []
        for start in range(0, len(latents), self.batch_size):
            part = slice(start, start + self.batch_size)
            rows += self.renderer.render(
                self.batch.id[part], self.batch.prompt[part], latents[part], stage.model.normalize
            )
        velocity = self.drift.velocities(stage)
        stage.train(training)
        wide = pooled([row.spread.plain() for row in rows if row.spread])
        return hear(rows, self.judges, self.renderer.codec.sample_rate, self.batch_size), wide, velocity

    def _row(self, stage: Any, update: int) -> Row:
        now, wide, velocity = self._measure(stage)
        lost = [self.batch.id[k] for k in np.flatnonzero(self.start.fine & ~now.fine)]
        both = self.start.fine & now.fine
        row: Row = {"update": update, "look": len(self.rows) + 1, "judges": {}, "sets": {}, "lost": lost}
        tested: dict[str, Change] = {}
        if both.sum() >= 2:
            for name, scores in now.scores.items():
                start, tolerance = self.start.scores[name][both], self.rule.tolerance
                change = score_change(scores[both], start, tolerance)
                drives = name in self.drives
                row["judges"][name] = {**asdict(change), "driving": drives, "scale": float(start.std(ddof=1))}
                tested |= {} if drives else {name: change}
            for name in ("diversity", "kad"):
                if name == "diversity" or self.reference is not None:
                    make = MEASURES[name](int(both.sum()), self.reference).gram
                    pair = (now.embeddings[both], self.start.embeddings[both])
                    tested[name] = set_change(make, *pair, lower_is_better=name == "kad")
                    row["sets"][name] = asdict(tested[name])
        verdict = self.rule.judge(row["look"], tested)
        rms = wide.rms if wide else 0.0
        low, high = self.limits
        why = [f"{name} {c.change:+.4f}, p {c.p:.2g} at level {verdict.level:.2g}" for name, c in verdict.worse.items()]
        if not low <= rms <= high and not abs(rms - 1) <= abs(self.wide - 1):
            why.append(f"spread {rms:.2f} outside {low:g} to {high:g}")
        why += [f"{len(lost)} clips are not finite"] if lost else []
        row |= {"level": verdict.level, "rms": rms, "spread": wide.plain() if wide else None,
                "distance": Drift.distance(velocity, self.origin), "gain": gain(row), "why": why,
                "stopped": bool(why)}  # fmt: skip
        return row | {"kept": self._best([*self.rows, row])}

    def _best(self, rows: list[Row]) -> int:
        """The update whose weights are kept: of the best sound look, the start being one, or of the last."""
        sound = [(0.0, 0), *((row["gain"], row["update"]) for row in rows if not row["stopped"])]
        return sound[-1][1] if self.keep == "last" else max(sound, key=lambda one: one[0])[1]


def gain(row: Mapping[str, Any]) -> float:
    """Mean gain by the judges that do not drive, in standard deviations of their scores at the start."""
    gains = [said["change"] / (said["scale"] or 1.0) for said in row["judges"].values() if not said["driving"]]
    return float(np.mean(gains)) if gains else 0.0


def show(row: Mapping[str, Any]) -> None:
    """One line of a look, above the progress bar."""
    said = [f"{name} {one['change']:+.3f}{'*' if one.get('driving') else ''}" for name, one in
            {**row["judges"], **row["sets"]}.items()]  # fmt: skip
    end = f"; stopped ({'; '.join(row['why'])}), weights of update {row['kept']} kept" if row["stopped"] else ""
    moved = f"spread {row['rms']:.2f}  moved {row['distance']:.4f}"
    note(f"guard, update {row['update']}: {'  '.join(said)}  {moved}{end}")
