"""Every command answers senseless words with one line."""

from __future__ import annotations

import importlib

import pytest

from fluxlight.cli.verbs import VERBS, main

MODULES = (
    "experiments.chain", "experiments.choose", "experiments.claims", "experiments.deliver", "experiments.reference",
    "experiments.report", "experiments.run", "experiments.score_sweep", "experiments.smoke", "experiments.sweep",
    "experiments.sweep_table", "experiments.white_noise", "fluxlight.bench.__main__",
)  # fmt: skip


def code_of(run) -> int:
    try:
        return run()
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("command", [*VERBS, *MODULES])
def test_a_wrong_word_is_one_line(command: str, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["--nonsense", "1"]
    if command in VERBS:
        code = code_of(lambda: main([command, *words]))
    else:
        code = code_of(lambda: importlib.import_module(command).main(words))
    said = capsys.readouterr()
    assert code == 2 and not said.out
    assert len(said.err.splitlines()) == 1, said.err
    assert not list(tmp_path.iterdir())
