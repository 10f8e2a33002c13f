"""Audio as users have it: stereo, low rates, empty, corrupt, not finite. One clear line each, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_published import music
from small_world import SmallClap, SmallCodec, SmallReward, SmallText

from fluxlight.cli import main
from fluxlight.clips.faults import find_faults
from fluxlight.clips.read import read_clip
from fluxlight.data import LatentStore
from fluxlight.data.encode import encode
from fluxlight.data.sources import AudioFolder
from fluxlight.evaluation.judging import Judges, judge_clip
from fluxlight.files import write_json, write_jsonl
from fluxlight.mining.score import score_folder

WAVE = music(2.0, clips=1)[0].numpy()
LEVEL = 0.2 * WAVE / np.abs(WAVE).max()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of each kind, and a table of captions for each."""
    soundfile.write(tmp_path / "mono.wav", LEVEL, 44100)
    soundfile.write(tmp_path / "stereo.wav", np.stack([LEVEL, 0.5 * LEVEL], axis=1), 44100)
    soundfile.write(tmp_path / "low.wav", LEVEL[:16000], 8000)
    soundfile.write(tmp_path / "empty.wav", LEVEL[:0], 44100)
    soundfile.write(tmp_path / "hole.wav", np.full(44100, np.nan, dtype=np.float32), 44100, subtype="FLOAT")
    (tmp_path / "nothing.wav").write_bytes(b"")
    (tmp_path / "corrupt.wav").write_bytes((tmp_path / "mono.wav").read_bytes()[20:4000])
    for path in tmp_path.glob("*.wav"):
        (tmp_path / f"{path.stem}.tsv").write_text(f"id\tcaption\n{path.stem}\ta calm piano\n")
    return tmp_path


def source(folder: Path, name: str) -> AudioFolder:
    return AudioFolder(str(folder / f"{name}.tsv"), str(folder), seconds=2.0)


def test_stereo_is_heard_as_the_mean_of_its_channels(folder: Path) -> None:
    # both are brought to one peak, so half the level on one side changes nothing
    one, two = (source(folder, name).audio(0, 1) for name in ("mono", "stereo"))
    assert one.shape == (1, 88200) and torch.allclose(one, two, atol=1e-3)


BAD = {
    "low": "is at 8000 Hz.*16000 Hz or more",
    "empty": "holds no samples",
    "hole": "silent or not finite",
    "nothing": "missing or damaged",
    "corrupt": "missing or damaged",
}


@pytest.mark.parametrize("name", BAD)
def test_encode_ends_with_one_line_and_no_store(folder: Path, name: str) -> None:
    out = folder / "store"
    with pytest.raises((ValueError, FileNotFoundError), match=BAD[name]) as caught:
        encode(str(out), SmallCodec(), SmallText(), SmallClap(), SmallReward(), source=source(folder, name))
    assert "\n" not in str(caught.value) and f"{name}.wav" in str(caught.value)
    assert not (out / "meta.json").exists() and not list(out.rglob("*.safetensors"))
    # the line out of the table, as it says: the same command makes the store
    (folder / f"{name}.tsv").write_text("id\tcaption\nmono\ta calm piano\n")
    encode(str(folder / "again"), SmallCodec(), SmallText(), SmallClap(), SmallReward(), source=source(folder, name))
    assert len(LatentStore(folder / "again")) == 1


class Deaf(SmallReward):
    """A reward that goes wrong."""

    def score(self, audio, sample_rate, prompts):
        return torch.full((len(audio),), torch.nan)


def test_a_score_that_is_not_finite_is_one_line_and_no_store(folder: Path) -> None:
    out = folder / "store"
    with pytest.raises(ValueError, match="score is not finite") as caught:
        encode(str(out), SmallCodec(), SmallText(), SmallClap(), Deaf(), source=source(folder, "mono"))
    assert "\n" not in str(caught.value) and not list(out.rglob("*.safetensors"))


def test_the_command_line_says_it_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # models are only made where they are needed: text_only touches none that hears
    words = ["--source", "fluxlight.data.sources.AudioFolder", "--source.captions", str(folder / "low.tsv"),
             "--source.folder", str(folder), "--reward", "null", "--out", str(folder / "store")]  # fmt: skip
    assert main(["encode", *words]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fluxlight")]
    assert len(said) == 1 and said[0].startswith("fluxlight encode: none of 1 rows") and "8000 Hz" in said[0]


def test_the_table_names_a_low_rate_and_a_judge_that_refuses_names_the_file(folder: Path) -> None:
    assert find_faults(*read_clip(folder / "low.wav"), 2.0) == ["low sample rate (8000 Hz)"]
    assert find_faults(*read_clip(folder / "stereo.wav"), 2.0) == []

    class Strict(SmallReward):
        def score(self, audio, sample_rate, prompts):
            raise ValueError(f"sample_rate is {sample_rate} Hz")

    with pytest.raises(ValueError, match=r"audio file .*low\.wav cannot be judged \(sample_rate is 44100 Hz\)"):
        judge_clip(folder / "low.wav", "a", "delivered", Judges(rewards={"strict": Strict()}), None)


def test_evaluate_over_a_corrupt_clip_is_one_line_and_no_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "row").mkdir()
    (folder / "row" / "1.wav").write_bytes((folder / "corrupt.wav").read_bytes())
    for k in (2, 3):
        (folder / "row" / f"{k}.wav").write_bytes((folder / "mono.wav").read_bytes())
    write_json(folder / "prompts.json", [{"id": str(k), "prompt": "a calm piano"} for k in (1, 2, 3)])
    words = ["evaluate", str(folder / "row"), "--prompts", str(folder / "prompts.json"), "--out", str(folder / "t")]
    assert main(words) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fluxlight")]
    assert len(said) == 1 and "1.wav cannot be read" in said[0] and not (folder / "t").exists()


def test_a_bad_candidate_is_a_row_with_its_error_and_costs_no_neighbour(folder: Path) -> None:
    names = ("mono", "corrupt", "empty", "hole", "stereo")
    rows = [{"id": name, "prompt": "a b", "seed": 1, "checkpoint": "x", "audio": f"{name}.wav", "latent": "",
             "error": "", "extra": {}} for name in names]  # fmt: skip
    write_jsonl(folder / "candidates.jsonl", rows)

    found = {row["id"]: row for row in score_folder(folder, SmallReward(), SmallClapOfAll())}
    assert [name for name in names if found[name]["error"]] == ["corrupt", "empty", "hole"]
    assert all(found[name]["reward"] is None for name in ("corrupt", "empty", "hole"))
    assert found["mono"]["reward"] == pytest.approx(found["stereo"]["reward"], rel=1e-3)


class SmallClapOfAll(SmallClap):
    """Texts and audio of one width; refuses what real judges refuse."""

    def embed_audio(self, audio, sample_rate):
        if not bool(torch.isfinite(audio).all()) or not audio.shape[1]:
            raise ValueError("audio is empty or not finite")
        return torch.nn.functional.pad(super().embed_audio(audio, sample_rate), (0, self.dim - 3))
