"""What the head has learned of the listener, and how far the model has moved. ``experiments.listener.report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.listener.percussion import percussive_share
from experiments.listener.votes import area_under_curve
from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments
from fluxlight.clips.folders import find_clips
from fluxlight.clips.read import read_clip
from fluxlight.encoders import ClapA
from fluxlight.evaluation.judging import Judges
from fluxlight.evaluation.measure import measure_all
from fluxlight.files import read_json, write_json, write_text
from fluxlight.metrics.statistics import paired
from fluxlight.progress import track
from fluxlight.prompts import read_prompts
from fluxlight.rewards import TuneJury, TuneJuryReward
from fluxlight.rewards.calibration import expected_calibration_error, pair_accuracy
from fluxlight.rewards.preferences import Preferences


def main(args: Sequence[str] | None = None) -> int:
    """Write ``listener.json`` and ``README.md``."""
    parser = Arguments(prog="experiments.listener.report", description=__doc__)
    parser.add_argument("--votes", type=Path, required=True, help="folder of experiments.listener.votes")
    parser.add_argument("--head", type=Path, required=True, help="tunejury.safetensors of the trained head")
    parser.add_argument("--before", type=Path, required=True, help="clips of the slice before")
    parser.add_argument("--after", type=Path, required=True, help="clips of the slice after")
    parser.add_argument("--prompts", required=True, help="the slice")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    given = parser.parse_args(args)
    found = {**of_votes(given.votes, given.head), **of_model(given)}
    write_json(given.out / "listener.json", found)
    write_text(given.out / "README.md", page(found))
    print(page(found))
    return 0


def of_votes(votes: Path, head: Path) -> dict[str, Any]:
    """The head on votes on clips it has never met, and the measure of percussion on clips whose drums are known."""
    unseen, judge = Preferences.load(votes / "test.safetensors").pairs, TuneJury.from_file(head)
    with torch.no_grad():
        margin = judge(unseen.a) - judge(unseen.b)
    accuracy, count = pair_accuracy(margin, unseen.target)
    drums = read_json(votes / "drums.json")
    bar = track(drums, "percussion of real clips", unit="clip")
    shares = np.array([percussive_share(read_clip(votes / "clips" / f"{i}.flac")[0]) for i in bar])
    return {
        "accuracy": accuracy,
        "votes": count,
        "ece": expected_calibration_error(margin, unseen.target),
        "percussion_auc": area_under_curve(shares, np.array(list(drums.values()), dtype=bool)),
    }


def of_model(given: Any) -> dict[str, Any]:
    """Before and after on the same prompts and noise: percussion, which nothing was optimised on, and the head."""
    prompts = read_prompts(given.prompts)
    ids = [p.id for p in prompts]
    folders = {"before": given.before, "after": given.after}
    share = {
        name: np.array([percussive_share(read_clip(path)[0]) for path in track(find_clips(folder, ids), name)])
        for name, folder in folders.items()
    }
    judges = Judges(rewards={"listener": TuneJuryReward(str(given.head), ClapA())})
    said = {row.system: row.scores["listener"] for row in measure_all(folders, prompts, judges, progress=True)}
    less, same = share["after"] < share["before"], share["after"] == share["before"]
    preferred = float(less.mean() + 0.5 * same.mean())
    return {"prompts": len(ids), "percussion": _moved(share), "head": _moved(said), "preferred": preferred}


def _moved(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    test = paired(values["after"], values["before"])
    means = {name: float(of_row.mean()) for name, of_row in values.items()}
    return {**means, "difference": test.difference, "low": test.low, "high": test.high, "p": test.p_wilcoxon}


def page(found: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    rows = []
    for key, name in (("percussion", "percussive share of the energy (judges only)"), ("head", "the head's score †")):
        m = found[key]
        rows.append(
            f"| {name} | {m['before']:.3f} | {m['after']:.3f} | {m['difference']:+.3f} [{m['low']:+.3f}, "
            f"{m['high']:+.3f}] | {m['p']:.3g} |"
        )
    return "\n".join([
        "# A listener who dislikes drums", "",
        f"On {found['votes']} votes on clips that the head never met it names the winner of {found['accuracy']:.0%} "
        f"(the listener errs in 5 %); ECE {found['ece']:.3f}. The percussive share of a clip, computed from its "
        f"spectrogram, tells clips with drums from those without with an AUC of {found['percussion_auc']:.2f}.", "",
        f"The model before and after, {found['prompts']} prompts, the same noise:", "",
        "| measure | before | after | difference [95 %] | Wilcoxon p |", "| --- | ---: | ---: | ---: | ---: |",
        *rows, "",
        f"A listener who always takes the clip with less percussion prefers the later model on "
        f"{found['preferred']:.0%} of the prompts.", "",
        "† chose the experts, so a rise there proves nothing by itself. The blind page of both is in `listen`.", "",
    ])  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.listener.report"))
