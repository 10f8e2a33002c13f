"""Does the reward rise with the score a model is asked for? Its slope over renderings of the same prompts and noise.

``python -m experiments.score_sweep --prompts SLICE --out sweep.json --plots plots FOLDER FOLDER ...``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fluxlight.cli import told
from fluxlight.cli.arguments import Arguments
from fluxlight.clips.candidates import read_candidates
from fluxlight.clips.folders import rendering_of
from fluxlight.evaluation.judges import load_judges
from fluxlight.evaluation.measure import Judges, measure
from fluxlight.files import write_json
from fluxlight.metrics.statistics import slope, t_interval
from fluxlight.prompts import Prompt, read_prompts


def summarise(settings: Sequence[float], values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Means per setting and the slope of every reward.

    Args:
        settings: scores asked for, ``(k,)``.
        values: reward name -> ``(k, n)``, columns are prompts.
    """
    return {
        "settings": [float(s) for s in settings],
        "n": int(next(iter(values.values())).shape[1]),
        "interval": 0.95,
        "means": {name: [asdict(t_interval(row)) for row in table] for name, table in values.items()},
        # one slope per prompt, so the interval is over prompts (reward per unit of score asked for)
        "slopes": {name: asdict(slope(settings, table)) for name, table in values.items()},
        "values": {name: table.tolist() for name, table in values.items()},
    }


def main(args: Sequence[str] | None = None) -> int:
    """Judge the folders with the rewards of a world, write and draw the slopes."""
    from fluxlight.report.plots import plot_score_sweep

    parser = Arguments(prog="experiments.score_sweep", description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", help="rendered folders, one per score asked for")
    parser.add_argument("--prompts", required=True, help="prompts file or prompt store")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--judges", default="embedded", metavar="WORLD", help="whose rewards judge")
    parser.add_argument("--optimised", action="append", default=[], metavar="NAME", help="a judge that also selected")
    parser.add_argument("--out", required=True, help="JSON to write")
    parser.add_argument("--plots", type=Path, required=True, help="folder of score_sweep_<reward>.png")
    given = parser.parse_args(args)
    texts = {prompt.id: prompt for prompt in read_prompts(given.prompts)}
    ids = [row.id for row in read_candidates(given.folders[0])]
    if unknown := [id for id in ids if id not in texts]:
        raise ValueError(f"{given.folders[0]} holds clips of no prompt in {given.prompts}: {', '.join(unknown[:5])}")
    prompts: list[Prompt] = [texts[id] for id in ids]
    everyone = load_judges(given.judges)
    optimised = (everyone.optimised | set(given.optimised)) & set(everyone.rewards)
    judges = Judges(rewards=everyone.rewards, optimised=frozenset(optimised))
    settings, tables = [], []
    for folder in given.folders:
        score = rendering_of(folder).get("score")
        if score is None:
            raise ValueError(f"{folder} was rendered without a score: a sweep needs a model with a head")
        settings.append(float(score))
        tables.append(measure(f"s = {score:.2f}", folder, prompts, judges, jobs=given.jobs).scores)
    result = summarise(settings, {name: np.stack([table[name] for table in tables]) for name in judges.rewards})
    write_json(given.out, {**result, "judges": judges.identities(), "optimised": sorted(judges.optimised)})
    for name, line in result["slopes"].items():
        plot_score_sweep(settings, result["values"][name], given.plots / f"score_sweep_{name}.png", name)
        interval = f"[{line['low']:+.3f}, {line['high']:+.3f}]"
        print(f"{name}: {line['mean']:+.3f} {interval} per unit of score, n = {line['n']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(told(main, "experiments.score_sweep"))
