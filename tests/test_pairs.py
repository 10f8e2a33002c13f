"""Pair builders: each rule against a count by hand, and the command that runs them."""

from __future__ import annotations

import random
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fluxlight.cli.select import main
from fluxlight.files import read_jsonl, write_json, write_jsonl
from fluxlight.mining.pairs import BUILDERS, PairBuilder, select_pairs


def scored(prompts: int = 12, per: int = 5) -> list[dict[str, Any]]:
    draw = random.Random(3)
    return [
        {"id": f"train-{p:06d}", "prompt": f"p{p}", "seed": k, "checkpoint": "c", "audio": f"{p}-{k}.wav",
         "latent": f"{p}-{k}.npy", "error": "", "reward": draw.gauss(0.5 + p, 1.2), "clap": draw.gauss(0.3, 0.1)}
        for p in range(prompts) for k in range(per)
    ]  # fmt: skip


def test_a_new_builder_is_found_by_its_file_and_all_have_a_word() -> None:
    assert set(BUILDERS) == {"extremes", "best_random", "everywhere", "votes"}
    assert all(issubclass(kind, PairBuilder) and kind().name == name for name, kind in BUILDERS.items())


def test_extremes_go_by_the_score_that_is_asked_for() -> None:
    rows = scored()
    for key in ("clap", "reward"):
        for pair in select_pairs(rows, BUILDERS["extremes"](key=key)):  # type: ignore[call-arg]
            values = [row[key] for row in rows if row["id"] == pair["id"]]
            assert pair["winner"][key] == max(values) and pair["loser"][key] == min(values) and pair["key"] == key


def test_everywhere_keeps_the_pairs_that_lead_by_the_percentiles_on_every_score() -> None:
    rows = scored()
    gaps = {key: [abs(a[key] - b[key]) for a, b in permutations(rows, 2) if a["id"] == b["id"]]
            for key in ("reward", "clap")}  # fmt: skip
    least = {key: (np.percentile(found, 60), np.percentile(found, 20)) for key, found in gaps.items()}

    def leads(a: dict[str, Any], b: dict[str, Any]) -> bool:
        ahead = {key: a[key] - b[key] for key in gaps}
        return any(
            ahead[first] >= least[first][0] and ahead[second] >= least[second][1]
            for first, second in (("reward", "clap"), ("clap", "reward"))
        )

    want = {(a["audio"], b["audio"]) for a, b in permutations(rows, 2) if a["id"] == b["id"] and leads(a, b)}
    made = select_pairs(rows, BUILDERS["everywhere"](primary=60.0, secondary=20.0, cap=99))  # type: ignore[call-arg]
    assert {(p["winner"]["audio"], p["loser"]["audio"]) for p in made} == want and len(made) == len(want) > 5
    capped = select_pairs(rows, BUILDERS["everywhere"](primary=60.0, secondary=20.0, cap=1))  # type: ignore[call-arg]
    assert len(capped) == len({p["id"] for p in made}) == len({p["id"] for p in capped})
    # scores that contradict each other leave nothing
    with pytest.raises(ValueError, match=r"everywhere: .*lower primary and secondary"):
        select_pairs([{**row, "clap": -row["reward"]} for row in rows], BUILDERS["everywhere"]())


def test_the_best_meets_any_other_and_not_always_the_worst() -> None:
    rows = scored()
    made = select_pairs(rows, BUILDERS["best_random"]())
    places = []
    for pair in made:
        order = sorted(row["reward"] for row in rows if row["id"] == pair["id"])
        assert pair["winner"]["reward"] == order[-1]
        places.append(order.index(pair["loser"]["reward"]))
    assert len(set(places)) > 2 and max(places) < 4 and len(made) == 12


def test_votes_take_what_is_good_for_its_prompt_and_say_whose_each_clip_is() -> None:
    rows = scored()
    means = {id: np.mean([row["reward"] for row in rows if row["id"] == id]) for id in {row["id"] for row in rows}}
    made = select_pairs(rows, BUILDERS["votes"](share=0.2))  # type: ignore[call-arg]
    assert len(made) == 12 and any(pair["loser"].get("id") for pair in made)
    ahead = sorted(row["reward"] - means[row["id"]] for row in rows)
    for pair in made:
        assert pair["winner"]["reward"] - means[pair["id"]] >= ahead[-12] > 0
        assert pair["loser"]["reward"] - means[pair["loser"].get("id", pair["id"])] <= ahead[11] < 0
    # prompts that the reward finds easy do not win as a whole
    assert len({pair["id"] for pair in made}) > 4


def test_the_command_knows_every_rule_and_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "scores.jsonl", scored())
    write_json(tmp_path / "slice.json", [{"id": "held", "prompt": "b"}])
    words = ["pairs", "--candidates", str(tmp_path), "--slice", str(tmp_path / "slice.json")]
    assert main(words) == 0
    assert {row["by"] for row in read_jsonl(tmp_path / "pairs.jsonl")} == {"extremes"}
    for by in BUILDERS:
        assert main([*words, "--by", by, "--name", f"{by}.jsonl"]) == 0
        assert f"pairs of 60 scored candidates (0 failed) -> {tmp_path / by}.jsonl" in capsys.readouterr().out
    assert main([*words, "--by", "everywhere", "--cap", "3", "--primary", "30"]) == 0
    with pytest.raises(ValueError, match=r"--cap is no setting of --by extremes: it has --key, --margin"):
        main([*words, "--cap", "3"])
    with pytest.raises(ValueError, match="primary is 130.0: it is a percentile"):
        main([*words, "--by", "everywhere", "--primary", "130"])
