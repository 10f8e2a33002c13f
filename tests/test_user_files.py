"""What lies in an output folder already: a user's files are kept, a command's own are known after any failure."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from small_world import SmallClap, SmallCodec, SmallReward, SmallText, make_stage, wake

from fluxlight.bundle import save_bundle
from fluxlight.export import export
from fluxlight.export import folder as exporting
from fluxlight.files import longest_name, read_jsonl
from fluxlight.generate import Generator
from fluxlight.generate import render as rendering
from fluxlight.generate.render import MAKING, file_names, render
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.prompts import Prompt, from_texts
from fluxlight.sample import Sampler

PROMPTS = from_texts(["a flute", "a banjo and a drum", "one more tune"])
TRUST = ["small_world"]


def small() -> Generator:
    stage = make_stage(head=GlobalAdaLN)
    wake(stage.model, 0.1)
    parts = (SmallCodec(), SmallText(), SmallClap())
    return Generator(stage.model, *parts, sampler=Sampler(steps=2), checkpoint="0123", reward=SmallReward)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- generate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["write_audio", "append_jsonl"])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_between_a_clip_and_its_row_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, error: BaseException
) -> None:
    render(small(), PROMPTS, tmp_path / "whole", batch_size=2)
    real, calls = getattr(rendering, step), []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == number:
            if step == "write_audio":
                real(*args)  # the file is there, its row is not
            raise error
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(rendering, step, failing)
        render(small(), PROMPTS, tmp_path / "parts", batch_size=2)
    assert len(list((tmp_path / "parts").glob("*.wav"))) == number
    assert len(read_jsonl(tmp_path / "parts/manifest.jsonl")) == number - 1
    render(small(), PROMPTS, tmp_path / "parts", batch_size=2)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_a_name_that_was_begun_is_no_licence_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(rendering, "append_jsonl", full)
        render(small(), PROMPTS[:1], tmp_path)
    assert (tmp_path / MAKING).exists()
    (tmp_path / "one-more-tune.wav").write_text("mine")
    with pytest.raises(ValueError, match="one-more-tune.wav exists and is not in manifest"):
        render(small(), PROMPTS, tmp_path)
    assert (tmp_path / "one-more-tune.wav").read_text() == "mine"


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_names_may_be_as_long_as_the_disk_takes(tmp_path: Path, format: str) -> None:
    room = longest_name(tmp_path) - len(f".{format}")
    ids = ["曲" * 80, "曲" * (room // 3), "é" * (room // 2), *("a" * n for n in (201, 241 - len(format) - 1, room))]
    prompts = [Prompt(id, f"tune {k}") for k, id in enumerate(ids)]
    rows = render(small(), prompts, tmp_path / "out", format=format)  # type: ignore[arg-type]
    assert [row["file"] for row in rows] == [f"{id}.{format}" for id in ids]
    assert all((tmp_path / "out" / row["file"]).is_file() for row in rows)
    assert render(small(), prompts, tmp_path / "out", format=format) == rows  # type: ignore[arg-type]
    idle = small()
    idle.takes = None  # type: ignore[assignment,method-assign]
    for long in ("曲" * (room // 3 + 1), "é" * (room // 2 + 1), "a" * (room + 1), "🎸" * 4000 + "a" * 300):
        with pytest.raises(ValueError, match=r"cannot name a file: \d+ bytes, where the disk takes \d+: shorten"):
            render(idle, [*prompts, Prompt(long, "x")], tmp_path / "out", format=format)  # type: ignore[arg-type]
    assert file_names([Prompt("a" * 139, "x")], "wav", 143), "what eCryptfs takes"


def test_the_disk_of_a_folder_that_is_yet_to_be_made_is_asked(tmp_path: Path) -> None:
    assert longest_name(tmp_path / "a/b/c") == longest_name(tmp_path) == os.pathconf(tmp_path, "PC_NAME_MAX")


# -- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    stage = make_stage(head=GlobalAdaLN)
    wake(stage.model, 0.1)
    parts = {name: {"class_path": f"small_world.Small{name.title()}"} for name in ("codec", "text", "clap")}
    return save_bundle(tmp_path / "bundle", stage.model, {"pipeline": parts})


def test_a_card_is_replaced_only_as_long_as_nobody_has_changed_it(bundle: Path, tmp_path: Path) -> None:
    out = export(bundle, tmp_path / "m", trust=TRUST)
    first = files(out)
    assert files(export(bundle, out, "Other name", trust=TRUST)) != first
    assert files(export(bundle, out, trust=TRUST)) == first
    card = out / "README.md"
    for changed in (card.read_text() + "\nMy aunt likes it.\n", card.read_text().replace("research", "fun"), "# mine"):
        card.write_text(changed)
        with pytest.raises(ValueError, match=r"README.md that is not as an export wrote it: move it away"):
            export(bundle, out, trust=TRUST)
        assert card.read_text() == changed
    card.rename(tmp_path / "kept.md")
    assert files(export(bundle, out, trust=TRUST)) == first


@pytest.mark.parametrize(
    ("name", "content"),
    [("README.md", "# my project"), ("config.json", '{"model_type": "bert"}'), ("config.json", "[1]"),
     ("weights.safetensors", "mine"), ("ema.safetensors", "mine"), ("model.yaml", "layers: 3"), ("model.yaml", "")],
)  # fmt: skip
def test_files_of_the_same_names_are_not_taken_for_its_own(
    bundle: Path, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_text(content)
    with pytest.raises(ValueError, match=rf"--out \S+ holds .*{name}"):
        export(bundle, tmp_path / "m", trust=TRUST)
    assert files(tmp_path / "m") == {name: content.encode()}


def test_the_bundle_of_another_run_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    other = save_bundle(tmp_path / "other", make_stage().model)
    before = files(other)
    with pytest.raises(ValueError, match="holds model.yaml, which no export wrote"):
        export(bundle, other, trust=TRUST)
    assert files(other) == before


@pytest.mark.parametrize("step", ["write_text", "write_json", "save_bundle"])
def test_an_export_that_was_ended_is_done_again(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    whole, real = files(export(bundle, tmp_path / "m", trust=TRUST)), getattr(exporting, step)

    def ended(*args: Any) -> None:
        real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(exporting, step, ended)
        export(bundle, tmp_path / "parts" / "m", trust=TRUST)
    assert files(export(bundle, tmp_path / "parts" / "m", trust=TRUST)) == whole
