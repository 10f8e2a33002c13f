"""The runner of chain and experiments: a failure stays alone, in one process or several."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.chain.decomposition import Decomposition
from experiments.chain.numbers import ROOT, read_numbers
from experiments.chain.run_folder import RunFolder
from experiments.chain.steps import Command, Step, StepFailed, run_steps


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failure_stays_alone(tmp_path: Path, processes: int):
    """What needs a failed step is blocked, everything else is made, by one process or two."""
    (tmp_path / "p.csv").write_text("id,prompt\na,a tune\n")

    def noise(name: str, prompts: str, needs: tuple[str, ...] = ()) -> Step:
        words = ("--prompts", str(tmp_path / prompts), "--out", str(tmp_path / name))
        return Step(name, "", (Command("experiments.white_noise", words),), (f"{name}/*",), needs)

    steps = [noise("bad", "absent.csv"), noise("after", "p.csv", ("bad",)), noise("fine", "p.csv")]
    lines: list[str] = []
    with pytest.raises(StepFailed, match=r"^step bad: .*absent.csv.* \(1 steps need it\)$"):
        run_steps(RunFolder(tmp_path), steps, lines.append, processes)
    assert RunFolder(tmp_path).read("fine")["state"] == "done" and not (tmp_path / "after").exists()
    assert any("after blocked: it needs bad, which failed" in line for line in lines)
    lines.clear()
    with pytest.raises(StepFailed):
        run_steps(RunFolder(tmp_path), steps, lines.append, processes)
    assert any("fine: " in line and "done before" in line for line in lines)


def test_steps_need_whatever_their_commands_read():
    """Several processes may only begin what has everything it reads."""
    plan = Decomposition(Path("/chain"), read_numbers("tiny"), ROOT / "configs/scales/tiny.yaml")
    steps = plan.steps()
    for step in steps:
        needed, waiting = set(), list(step.needs)
        while waiting:
            name = waiting.pop()
            needed.add(name)
            waiting += next(other for other in steps if other.name == name).needs
        read = " ".join(word for command in step.commands for word in command.args)
        for other in steps:
            mine = other.name == step.name or step.name.startswith(f"{other.name}/")
            assert mine or f"/chain/{other.name}/" not in read or other.name in needed, (step.name, other.name)
