"""Bad inputs: one line that names field or file, value and remedy; 2 for input, 1 for failure; nothing half-written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from bad_inputs import BAD, Bad
from small_world import make_world, wake

from fluxlight.backbone import FluxAudio
from fluxlight.bundle import save_bundle
from fluxlight.cli import main
from fluxlight.model import FluxModel

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store, slice and overlay of the small world, and a bundle of the embedded one."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    torch.manual_seed(0)
    sizes = {"hidden_dim": 32, "depth": 2, "fused_depth": 1, "num_heads": 2, "ffn_multiple": 16}
    model = FluxModel(FluxAudio(64, 384, 128, latent_seq_len=72, text_seq_len=77, **sizes))
    wake(model, 0.05)
    save_bundle(folder / "bundle", model)
    return folder


def below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_one_line_and_nothing_written(
    bad: Bad, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "d"
    for name, content in bad.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path / "weights"))
    before, others = below(folder), below(world)
    words = shlex.split(bad.words.format(d=folder, w=world, c=CONFIGS))
    capfd.readouterr()
    code = main(words)
    said = capfd.readouterr()
    lines = [line for line in (said.err if code == 2 else said.err + said.out).splitlines() if line.strip()]
    text = "\n".join(lines)
    assert code == bad.code, text
    assert re.search(bad.says, text), text
    assert "Traceback" not in text and "FLUXLIGHT_DEBUG" not in text and "\x1b" not in text
    if code == 2:
        assert len(lines) == 1 and lines[0].startswith("fluxlight ") and len(text) < 700, text
        after = {name: value for name, value in below(folder).items() if not name.endswith(".lock")}
        assert after == before and below(world) == others, "something was written"


def test_the_table_is_long_and_every_row_its_own() -> None:
    assert len(BAD) >= 80 and len({bad.name for bad in BAD}) == len(BAD)
