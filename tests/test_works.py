"""Works: made once, kept through failures and interruptions, in one process or in several."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from paper_chain import make_chain

from experiments import run
from experiments.cells.experiment import read_experiment
from experiments.cells.plan import Planner, Work
from experiments.cells.source import Source
from experiments.cells.work import make_all
from experiments.chain.steps import Command
from experiments.choose import first_clips
from fluxlight.files import read_jsonl


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chain(tmp_path_factory.mktemp("chain") / "small")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A program that writes a file, or fails, and counts its calls."""
    module = ModuleType("test_cell_program")
    module.calls = []  # type: ignore[attr-defined]

    def main(args: list[str]) -> int:
        module.calls.append(args[0])  # type: ignore[attr-defined]
        if args[1] == "fail":
            raise ValueError("bundle x has unknown head.gain (1 of 9 names)")
        if args[1] == "stop":
            raise KeyboardInterrupt
        Path(args[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(args[0]).write_text(args[1])
        return 0

    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "test_cell_program", module)
    return module


def work(out: Path, name: str, word: str, *needs: str) -> Work:
    command = Command("test_cell_program", (str(out / "work" / name / "x.txt"), word))
    return Work(name, {"word": word}, (command,), {"a": 1}, (f"work/{name}/x.txt",), needs)


def test_works_are_made_once_and_failures_are_kept(tmp_path: Path, program: ModuleType):
    works = [work(tmp_path, "a", "one"), work(tmp_path, "b", "fail"), work(tmp_path, "c", "two", "b"),
             work(tmp_path, "d", "three", "a")]  # fmt: skip
    found = make_all(tmp_path, works, report=lambda line: None)
    assert {name: o.state for name, o in found.items()} == {"a": "done", "b": "failed", "c": "blocked", "d": "done"}
    assert "unknown head.gain" in found["b"].why and "needs b" in found["c"].why
    assert yaml.safe_load((tmp_path / "work/a/cell.yaml").read_text()) == {"a": 1}
    calls = len(program.calls)
    again = make_all(tmp_path, works, report=lambda line: None)
    assert len(program.calls) == calls and again["b"].why == found["b"].why  # a failure is not tried again by itself
    make_all(tmp_path, works, retry=True, report=lambda line: None)
    assert len(program.calls) == calls + 1
    # a damaged file is made again
    (tmp_path / "work/a/x.txt").write_text("edited")
    make_all(tmp_path, works, report=lambda line: None)
    assert (tmp_path / "work/a/x.txt").read_text() == "one" and len(program.calls) == calls + 2


def test_an_interruption_keeps_what_is_done(tmp_path: Path, program: ModuleType):
    works = [work(tmp_path, "a", "one"), work(tmp_path, "b", "stop")]
    with pytest.raises(KeyboardInterrupt):
        make_all(tmp_path, works, report=lambda line: None)
    (tmp_path / "work/b/last.ckpt").write_text("half way")
    found = make_all(tmp_path, [works[0], Work("b", works[1].inputs, works[0].commands)], report=lambda line: None)
    assert found["b"].state == "done" and found["a"].before
    assert (tmp_path / "work/b/last.ckpt").exists()  # it was not begun anew


def test_selections_in_two_processes_are_those_of_one(chain: Path, tmp_path: Path):
    """Real works, real processes: the selections of the CRPO and expert ablations."""
    found = {}
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        planner = Planner(Source(chain), out)
        for name in ("crpo", "expert_iteration"):
            run.plan(planner, read_experiment(name))
        selections = [w for w in planner.works.values() if w.inputs["do"] == "select" and not w.needs]
        assert len(selections) >= 8
        made = make_all(out, selections, jobs, report=lambda line: None)
        assert {o.state for n, o in made.items()} <= {"done", "failed"}
        found[jobs] = {
            p.relative_to(out / "work").as_posix(): p.read_text()
            for p in (out / "work").glob("*/*.jsonl") if p.stem != "scores"
        }  # fmt: skip
    assert found[1] == found[2] and len(found[1]) >= 6
    # what a stage is told to train on lies beside its latents
    (folder,) = {Path(name).parent for name in found[1] if name.startswith("select") and "experts" in name and
                 len(found[1][name].splitlines()) == 12}  # fmt: skip
    rows = read_jsonl(tmp_path / "1" / "work" / folder / "experts.jsonl")
    assert all((tmp_path / "1" / "work" / folder / row["latent"]).is_file() for row in rows)


def test_processes_take_the_devices_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "which_device.py").write_text(
        "import os, pathlib, time\n"
        "def main(args):\n"
        "    pathlib.Path(args[0]).write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "    time.sleep(1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    works = [
        Work(n, {"n": n}, (Command("which_device", (str(tmp_path / "work" / n / "x.txt"),)),), None,
             (f"work/{n}/x.txt",)) for n in "ab"
    ]  # fmt: skip
    found = make_all(tmp_path, works, 2, ["3", "5"], report=lambda line: None)
    assert [o.state for o in found.values()] == ["done", "done"]
    assert {(tmp_path / "work" / n / "x.txt").read_text() for n in "ab"} <= {"3", "5"}


def test_fewer_candidates_are_the_first_of_each_prompt():
    rows = [{"id": id, "seed": seed} for seed in (5, 1, 3) for id in "ab"]
    assert [(r["id"], r["seed"]) for r in first_clips(rows, 2)] == [("a", 1), ("b", 1), ("a", 3), ("b", 3)]
    with pytest.raises(ValueError, match="per_prompt is 4"):
        first_clips(rows, 4)


def test_the_same_latents_are_delivered_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from experiments import deliver
    from fluxlight.clips.candidates import read_candidates, write_batch
    from fluxlight.clips.read import read_clip
    from fluxlight.postprocess import integrated_loudness

    torch = pytest.importorskip("torch")
    latents = torch.randn(2, 72, 64, generator=torch.Generator().manual_seed(0))
    write_batch(tmp_path / "slice", ["p", "q"], ["a", "b"], [42, 43], "w", torch.zeros(2, 441000), latents, 44100)
    levels = {}
    for steps in ((), ("loudness",)):
        out = tmp_path / ("-".join(steps) or "raw")
        words = [word for step in steps for word in ("--step", step)]
        assert deliver.main(["--rendered", str(tmp_path / "slice"), "--out", str(out), "--clips", "1", *words]) == 0
        (row,) = read_candidates(out)
        audio, rate = read_clip(out / row.audio)
        levels[steps] = integrated_loudness(torch.from_numpy(audio), rate)
        assert row.extra["postprocess"] == list(steps) and row.id == "p"
        assert np.abs(audio).max() > 0.01
    assert levels["loudness",] == pytest.approx(-16.5, abs=0.2) or levels["loudness",] < -16.5
    assert abs(levels["loudness",] - levels[()]) > 0.5
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="mdx_extra.yaml"):
        deliver.steps_of(["demucs"])
