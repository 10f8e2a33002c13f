"""A part of the endurance set: commands that are stopped at random points end in the files of undisturbed ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent

TWO = """
import sys, types
from pathlib import Path
from endurance.commands import Command
from endurance.ends import KINDS
from endurance.journey import Endurance

def careless(args):
    out = Path(args[0])
    out.mkdir(exist_ok=True)
    for k in range(12):
        if not (out / str(k)).exists():
            with (out / str(k)).open("wb", buffering=0) as file:
                for _ in range(40):
                    file.write(b"x" * 4000)

def careful(args):
    try:
        from fluxlight.files import write_text
        for k in range(12):
            if not (Path(args[0]) / str(k)).exists():
                write_text(Path(args[0]) / str(k), "x" * 160_000)
        for left in Path(args[0]).glob(".*"):
            left.unlink()
    except (OSError, KeyboardInterrupt) as error:  # told in a line, as the command does
        print(repr(error), file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1

for main in (careless, careful):
    name = main.__name__
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].main = main
    endurance = Endurance(Path(sys.argv[1]) / name, 3, lambda line: None)
    found = endurance(Command(name, "{work}/out", ("out",), program=name), 40)
    assert found.points == 40 and set(found.kinds) == set(KINDS), found
    print(name, len(found.differences), found.differences)
"""


def call(*words: str, tests: str = str(TESTS)) -> str:
    paths = os.pathsep.join([tests, str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_the_harness_finds_what_a_careless_writer_leaves(tmp_path: Path) -> None:
    said = dict(line.split(" ", 1) for line in call("-c", TWO, str(tmp_path)).splitlines())
    assert int(said["careless"].split()[0]) > 5 and "out/" in said["careless"]
    assert said["careful"] == "0 []"


def test_commands_end_as_if_nothing_had_happened() -> None:
    """The full set: ``python tests/endurance``."""
    said = call(str(TESTS / "endurance"), "--quick", "--points", "1", "--seed", "5")
    assert re.search(r"^6 points, 0 differences$", said, re.M), said
