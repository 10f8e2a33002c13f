"""The chain: a step is done once, goes on after a kill, is made again when its inputs change; the plan is sound."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from experiments import chain
from experiments.chain.decomposition import Decomposition
from experiments.chain.numbers import ROOT, read_numbers
from experiments.chain.run_folder import RunFolder
from experiments.chain.steps import Command, Step, StepFailed, run_steps
from fluxlight.progress import clock

SCALES = ("debug", "tiny", "tiny_published", "laptop", "small", "full")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A program whose main copies its second argument into the file of the first and counts its calls."""
    module = ModuleType("test_program")
    module.calls = []  # type: ignore[attr-defined]

    def main(args: list[str]) -> int:
        module.calls.append(args)  # type: ignore[attr-defined]
        if args[1] == "fail":
            return 3
        if args[1] == "stop":
            raise KeyboardInterrupt
        path = Path(args[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(args[1])
        return 0

    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "test_program", module)
    return module


def two_steps(out: Path, first: str = "a", second: str = "b") -> list[Step]:
    def step(name: str, word: str, needs: tuple[str, ...] = ()) -> Step:
        return Step(
            name,
            "writes a word",
            (Command("test_program", (str(out / name / "x.txt"), word)),),
            (f"{name}/*.txt",),
            needs,
        )

    return [step("one", first), step("two", second, ("one",))]


def test_a_second_call_does_nothing_and_a_changed_input_only_what_follows(tmp_path: Path, program: ModuleType):
    run, lines = RunFolder(tmp_path), []
    assert run_steps(run, two_steps(tmp_path), lines.append) == {"one": "fresh", "two": "fresh"}
    assert [line for line in lines if "python -m test_program" in line]  # what a user would type is printed
    assert run_steps(run, two_steps(tmp_path), lines.append) == {"one": "done", "two": "done"}
    assert len(program.calls) == 2
    # another second step: the first stays
    (tmp_path / "two" / "left.log").write_text("of the old settings")
    assert run_steps(run, two_steps(tmp_path, second="c"), lines.append) == {"one": "done", "two": "changed"}
    assert not (tmp_path / "two" / "left.log").exists()
    # another first step: the second is made from its result, so it follows
    assert run_steps(run, two_steps(tmp_path, "z", "c"), lines.append) == {"one": "changed", "two": "changed"}
    # a file that was touched afterwards is made again
    (tmp_path / "two" / "x.txt").write_text("edited")
    assert run_steps(run, two_steps(tmp_path, "z", "c"), lines.append) == {"one": "done", "two": "damaged"}
    assert (tmp_path / "two" / "x.txt").read_text() == "c"


def test_a_step_that_was_begun_keeps_its_files(tmp_path: Path, program: ModuleType):
    run, steps = RunFolder(tmp_path), two_steps(tmp_path)
    run_steps(run, steps[:1], print)
    run.start("two", steps[1].inputs(run), ["two"], wipe=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "last.ckpt").write_text("half way")
    assert run_steps(run, steps, print) == {"one": "done", "two": "resume"}
    assert (tmp_path / "two" / "last.ckpt").exists()


def test_a_folder_may_be_moved(tmp_path: Path, program: ModuleType):
    run_steps(RunFolder(tmp_path / "a"), two_steps(tmp_path / "a"), print)
    (tmp_path / "a").rename(tmp_path / "b")
    assert set(run_steps(RunFolder(tmp_path / "b"), two_steps(tmp_path / "b"), print).values()) == {"done"}


def test_the_same_files_named_from_elsewhere_are_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan = Decomposition(tmp_path, read_numbers("tiny"), ROOT / "configs/scales/tiny.yaml")

    def made_from() -> dict[str, object]:
        step = next(step for step in plan.steps() if step.name == "untrained")
        return Step(step.name, "", step.commands, step.outputs).inputs(RunFolder(tmp_path))

    monkeypatch.chdir(ROOT)
    here = made_from()
    monkeypatch.chdir(tmp_path)
    assert made_from() == here and set(here["files"]) == {"row0_baseline.yaml", "tiny.yaml"}  # type: ignore[call-overload]


def test_failures_and_missing_outputs_are_not_done(tmp_path: Path, program: ModuleType):
    run = RunFolder(tmp_path)
    with pytest.raises(StepFailed, match="test_program .* ended with 3"):
        run_steps(run, two_steps(tmp_path, "fail"), print)
    steps = [Step("one", "", (), ("one/nothing",))]
    with pytest.raises(StepFailed, match="one ended without"):
        run_steps(run, steps, print)
    assert run.read("one")["state"] == "started"


@pytest.mark.parametrize(("word", "code", "said"), [("stop", 130, "interrupted"), ("fail", 2, "ended with 3")])
def test_an_end_before_the_end_is_one_line_that_tells_how_to_go_on(
    tmp_path: Path,
    program: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    code: int,
    said: str,
):
    monkeypatch.setattr(Decomposition, "steps", lambda self: two_steps(self.out, word))
    assert chain.main(["--scale", "debug", "--out", str(tmp_path)]) == code
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert said in last and f"go on with: python -m experiments.chain --scale debug --out {tmp_path}" in last


def test_bad_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert chain.main(["--scale", "huge"]) == 2
    assert "choose one of debug, full, laptop, small, tiny, tiny_published" in capsys.readouterr().out
    (tmp_path / "mine.yaml").write_text("overlay: x\n")
    assert chain.main(["--scale", str(tmp_path / "mine.yaml")]) == 2
    assert "lacks corpus" in capsys.readouterr().out
    for wrong, said in (
        ("trunk: shiped", "trunk is 'shiped': give true, false or shipped"),
        ("corpus: {train: shipped}", "corpus.train is 'shipped': give a number of clips"),
        ("corpus: {reference: 0}", "corpus.reference is 0: give a number of clips, or shipped"),
    ):
        (tmp_path / "mine.yaml").write_text(f"defaults: [{ROOT}/configs/chain/tiny.yaml]\n{wrong}\n")
        assert chain.main(["--scale", str(tmp_path / "mine.yaml")]) == 2
        assert said in capsys.readouterr().out
    # a folder with somebody's files in it is left alone
    assert chain.main(["--scale", "debug", "--out", str(tmp_path)]) == 2
    assert "choose another folder" in capsys.readouterr().out and (tmp_path / "mine.yaml").exists()


def test_clock():
    assert (clock(59.9), clock(61), clock(3661)) == ("00:59", "01:01", "1:01:01")


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_has_a_plan_whose_needs_come_first(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = read_numbers(scale)
    assert (ROOT / numbers["overlay"]).is_file()
    plan = Decomposition(tmp_path, numbers, ROOT / numbers["overlay"])
    monkeypatch.chdir(tmp_path)
    if not numbers["corpus"]:  # stands on stores of the user's
        with pytest.raises(ValueError, match="fluxlight encode.*another scale"):
            plan.steps()
        for path in ("data/store/meta.json", "data/slice/meta.json", "data/reference.safetensors"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("{}")
    seen: set[str] = set()
    for step in plan.steps():
        assert set(step.needs) <= seen, f"{step.name} needs {set(step.needs) - seen} before it is there"
        assert step.name not in seen
        seen.add(step.name)
    assert {"row2c", *(f"row{k}" for k in range(5))} <= seen and ("trunk" in seen) == bool(numbers["trunk"])


def test_further_trainings_share_the_data_and_nothing_else(tmp_path: Path):
    numbers = read_numbers("debug")
    plan = Decomposition(tmp_path, numbers, ROOT / numbers["overlay"], trainings=3)
    steps = {step.name: step for step in plan.steps()}
    alone = {step.name: step for step in Decomposition(tmp_path, numbers, ROOT / numbers["overlay"]).steps()}
    # the first training is the one of a chain without further ones: what is made stays made
    assert all(steps[name] == step for name, step in alone.items() if name != "evaluate")
    assert {name.split("/")[0] for name in set(steps) - set(alone)} == {"seed43", "seed44"}
    for name in set(steps) - set(alone):
        seed = name.split("/")[0]
        assert {need.split("/")[0] for need in steps[name].needs} <= {seed, "stores"}
        lines = " ".join(command.line for command in steps[name].commands)
        own = "fit" in lines.split() or "validate" in lines.split() or "predict" in lines.split()
        assert own and f"--seed_everything {seed.removeprefix('seed')}" in lines and "--data.slice_seed 42" in lines
        assert str(tmp_path / "row") not in lines and str(tmp_path / "experts") not in lines
        assert all(output.startswith(f"{seed}/") for output in steps[name].outputs)
    words = steps["evaluate"].commands[0].args
    assert words.count("--seed-of") == 12 and set(steps) >= {*steps["evaluate"].needs}


def test_what_is_shipped_is_neither_made_nor_made_twice(tmp_path: Path):
    """The trunk is one for all trainings, and no clip is rendered for the reference."""
    plan = Decomposition(tmp_path, read_numbers("tiny"), ROOT / "configs/scales/tiny.yaml", trainings=2)
    steps = {step.name: step for step in plan.steps()}
    lines = {name: [command.line for command in step.commands] for name, step in steps.items()}
    assert "trunk" in steps and "seed43/trunk" not in steps
    assert [line.split()[1] for line in lines["trunk"]] == ["-m", "validate"]
    for row in ("row0", "seed43/row0"):
        assert f"--model.init_from {tmp_path}/trunk/bundle" in lines[row][0] and "trunk" in steps[row].needs
    assert "--reference" not in lines["corpus"][0] and "--shipped" in lines["stores"][-1]
    made = Decomposition(tmp_path, {**plan.numbers, "trunk": True, "corpus": {"train": 8, "reference": 8, "slice": 8}},
                         ROOT / "configs/scales/tiny.yaml", trainings=2)  # fmt: skip
    assert {"trunk", "seed43/trunk"} <= {step.name for step in made.steps()}


def test_the_full_scale_is_of_the_published_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for path in ("data/store/meta.json", "data/slice/meta.json", "data/reference.safetensors"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    numbers = read_numbers("full")
    for path in (numbers["world"]["stages"], numbers["world"]["scores"]):
        assert (ROOT / path).is_file()
    plan = Decomposition(tmp_path, numbers, ROOT / numbers["overlay"])
    lines = {step.name: [command.line for command in step.commands] for step in plan.steps()}
    for line in (line for found in lines.values() for line in found):
        verb = line.split()[1]
        if verb in ("fit", "validate", "predict"):
            # behind the scale's overlay, whose sizes are those of any world
            assert line.index("scales/full.yaml") < line.index("worlds/published.yaml")
        assert ("published_score.yaml" in line) == (verb == "score")
    for name in ("slope", "evaluate"):
        # one reward drives and judges, and is marked; the CLAP that judges selects nothing
        assert "--judges published --optimised reward" in lines[name][-1]
    embedded = Decomposition(tmp_path, read_numbers("tiny"), ROOT / "configs/scales/tiny.yaml")
    assert not any("published" in command.line for step in embedded.steps() for command in step.commands)


def test_the_chain_file_has_a_comment_on_every_key():
    for scale in SCALES:
        lines = (ROOT / "configs" / "chain" / f"{scale}.yaml").read_text().splitlines()
        keys = [(before.strip(), line.split(":")[0].strip()) for before, line in zip(lines, lines[1:], strict=False)
                if line.strip() and not line.strip().startswith("#")]  # fmt: skip
        splits = {"train", "reference", "slice", "score"}  # one comment for all of them
        bare = [key for before, key in keys if not before.startswith("#") and key not in splits]
        assert not bare, f"{scale}: {bare}"


def test_rows_differ_in_nothing_but_what_they_are_about(tmp_path: Path):
    plan = Decomposition(tmp_path, read_numbers("tiny"), ROOT / "configs/scales/tiny.yaml")
    steps = {step.name: step for step in plan.steps()}
    words = {name: set(steps[name].commands[-1].args) for name in ("row0", "row1")}
    own = {"row0", "row1", "row0_baseline.yaml", "score_cond_sft.yaml"}
    assert {Path(word).name for word in words["row0"] ^ words["row1"]} == own
    # candidates for training never come from the slice, and the selection is told which ids those are
    for kind in ("experts", "pairs"):
        select = steps[kind].commands[-1].args
        assert select[select.index("--slice") + 1] == str(tmp_path / "slice")
    # the control of Row 2 has its recipes and none of its experts
    for mine, control in (("mixture", "further"), ("row2", "row2c")):
        own = set(steps[mine].commands[0].args) ^ set(steps[control].commands[0].args)
        assert "--data.oversample" in own and "experts" not in steps[control].needs
        assert not any(word.startswith("--plan") or word.endswith(".yaml") for word in own)
    # nor do pairs come from the captions of the experts
    skips = [words[words.index("--data.candidates.skip") + 1] for words in
             (steps[kind].commands[0].args for kind in ("experts", "pairs"))]  # fmt: skip
    assert skips == ["0", str(plan.numbers["experts"]["prompts"])]


def test_a_chain_file_may_choose_another_preference_loss(tmp_path: Path):
    numbers = read_numbers("tiny")
    published = {step.name: step for step in Decomposition(tmp_path, numbers, ROOT / numbers["overlay"]).steps()}
    assert "configs/stages/crpo.yaml" in published["row4"].commands[0].line
    numbers["pairs"] |= {"loss": {"class": "SDPOLoss", "beta": "auto"}, "by": "everywhere", "cap": 3}
    other = {step.name: step for step in Decomposition(tmp_path, numbers, ROOT / numbers["overlay"]).steps()}
    assert "preference.yaml" in (line := other["row4"].commands[0].line)
    assert "--model.loss SDPOLoss --model.loss.beta auto" in line
    assert "--cap 3 --by everywhere" in other["pairs"].commands[-1].line
