"""Post-processing: loudness, the peak rule, clips that must pass untouched, Demucs on a tiny bag, whole folders."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fluxlight.cli import main
from fluxlight.files import read_jsonl, sha256, write_jsonl
from fluxlight.postprocess import LockedLoudness, Loudness, Separate, integrated_loudness, process, process_many
from fluxlight.postprocess.folder import process_folder, recipe_of
from fluxlight.types import Clip

RATE = 44100


def tone(seconds: float = 2.0, level: float = 0.3, frequency: float = 440.0) -> torch.Tensor:
    time = torch.arange(int(seconds * RATE)) / RATE
    return level * torch.sin(2 * math.pi * frequency * time)


def test_loudness_reaches_the_target_from_either_side():
    for level in (0.01, 0.9):
        clip = Loudness()(Clip("a", tone(level=level), RATE))
        assert abs(integrated_loudness(clip.audio, RATE) + 16.5) < 0.05
        assert clip.notes == ["loudness: -16.5 LUFS"]


def test_a_1_khz_full_scale_sine_measures_minus_3_lufs():
    # the reference point of BS.1770: 997 Hz at 0 dBFS in one channel reads -3.01 LKFS
    assert abs(integrated_loudness(tone(level=1.0, frequency=997.0), RATE) + 3.01) < 0.05


def test_peak_rule_rescales_to_095_and_says_so():
    audio = tone(level=0.02)
    audio[:: RATE // 4] = 0.9  # clicks: loud peaks, little loudness
    clip = Loudness()(Clip("a", audio, RATE))
    assert float(clip.audio.abs().max()) == pytest.approx(0.95, abs=1e-5)
    assert integrated_loudness(clip.audio, RATE) < -16.6
    assert "peak-limited" in clip.notes[0]
    # locked loudness never limits
    locked = LockedLoudness()(Clip("a", audio, RATE))
    assert abs(integrated_loudness(locked.audio, RATE) + 23) < 0.05


@pytest.mark.parametrize("step", [Loudness(), LockedLoudness(), Separate(folder="/nowhere", optional=True)])
@pytest.mark.parametrize(
    ("audio", "word"),
    [
        (torch.zeros(RATE), "silent"),
        (tone(0.39), "shorter"),
        (torch.full((RATE,), float("nan")), "not finite"),
    ],
)
def test_clips_that_cannot_be_treated_pass_unchanged_with_a_note(step, audio: torch.Tensor, word: str):
    clip = Clip("a", audio, RATE)
    out = step(clip)
    assert torch.equal(out.audio, audio) or word == "not finite"
    assert out.audio.shape == audio.shape and word in out.notes[0]
    assert clip.notes == []  # the input is not touched


def test_below_the_gate_counts_as_silent():
    audio = tone(level=1e-5)
    out = Loudness()(Clip("a", audio, RATE))
    assert torch.equal(out.audio, audio) and "silent" in out.notes[0]


def test_stereo_is_one_clear_error():
    with pytest.raises(ValueError, match="mono"):
        Loudness()(Clip("a", torch.zeros(2, RATE), RATE))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Demucs bag of one tiny HDemucs with random weights, in the format that demucs reads."""
    from demucs.hdemucs import HDemucs
    from demucs.states import save_with_checksum, serialize_model
    from omegaconf import OmegaConf

    folder = tmp_path_factory.mktemp("bag")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HDemucs(["drums", "bass", "other", "vocals"], channels=4, samplerate=RATE, segment=4)
    save_with_checksum(serialize_model(model, OmegaConf.create({}), half=False), folder / "a0a0a0a0.th")
    (folder / "tiny.yaml").write_text("models: ['a0a0a0a0']\nsegment: 4\n")
    return folder


def test_separate_is_three_passes_of_the_stems_without_vocals(bag: Path):
    from demucs.apply import apply_model
    from demucs.pretrained import get_model

    assert Separate.present(bag, "tiny") and not Separate.present(bag, "mdx_extra")
    audio = tone(1.0) + 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(1))
    before = torch.random.get_rng_state()
    out = Separate(model="tiny", folder=str(bag))(Clip("a", audio, RATE))
    assert torch.equal(before, torch.random.get_rng_state())

    model = get_model("tiny", repo=bag)
    want = audio
    for _ in range(3):
        with torch.no_grad():
            stems = apply_model(model, want[None, None].repeat(1, 2, 1), shifts=0)[0]
        mix = stems[0] + stems[1] + stems[2]
        want = mix.mean(0)
        want = want * 0.95 / want.abs().max()
    assert out.audio.shape == audio.shape
    torch.testing.assert_close(out.audio, want, atol=1e-5, rtol=1e-4)
    once = Separate(passes=1, model="tiny", folder=str(bag))(Clip("a", audio, RATE))
    assert not torch.allclose(once.audio, out.audio, atol=1e-3)


def test_separate_keeps_length_at_another_rate_and_joins_with_loudness(bag: Path):
    audio = tone(1.0)[: RATE // 2 * 2 : 2].contiguous()
    clip = process(Clip("a", audio, RATE // 2), [Separate(1, "tiny", str(bag)), Loudness()])
    assert clip.audio.shape == audio.shape and len(clip.notes) == 2


def test_clips_together_are_the_clips_alone(bag: Path):
    draw = torch.Generator().manual_seed(2)
    clips = [Clip(str(k), tone(1.0, frequency=200.0 + 90 * k) + 0.1 * torch.randn(RATE, generator=draw), RATE)
             for k in range(3)]  # fmt: skip
    clips[1:1] = [
        Clip("silent", torch.zeros(RATE), RATE),
        Clip("long", tone(1.3), RATE),
        Clip("short", tone(0.3), RATE),
    ]
    steps = [Separate(2, "tiny", str(bag), batch=2), Loudness()]
    together, alone = process_many(clips, steps), [process(clip, steps) for clip in clips]
    for one, other, clip in zip(together, alone, clips, strict=True):
        assert one.id == clip.id and one.notes == other.notes and one.audio.shape == clip.audio.shape
        torch.testing.assert_close(one.audio, other.audio, atol=1e-5, rtol=1e-4)
    assert together[1].notes[0].endswith("silent") and "shorter" in together[3].notes[0]


def test_missing_demucs_weights_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(FileNotFoundError, match=r"mdx_extra\.yaml.*leave Separate out"):
        Separate(folder=str(tmp_path))
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"mdx_extra is not at .*--fetch mdx_extra.*leave .*Separate out"):
        Separate()


def test_the_bag_is_found_in_the_weights_folder(bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path))
    (tmp_path / "tiny").symlink_to(bag)
    assert Separate(1, "tiny")(Clip("a", tone(), RATE)).notes == ["demucs: tiny x 1"]


def test_optional_demucs_says_that_it_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bag: Path):
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path))
    clip = Clip("a", tone(), RATE)
    out = Separate(optional=True)(clip)
    assert torch.equal(out.audio, clip.audio) and out.notes == ["demucs left out: no weights of mdx_extra"]
    assert "demucs: tiny x 1" in Separate(1, "tiny", str(bag), optional=True)(clip).notes


# -- the published clips ---------------------------------------------------------------------------------------------


def published(shared: Path, system: str) -> list[Clip]:
    folder = shared / "sdd100" / "wavs" / system
    if not folder.is_dir():
        pytest.skip(f"no published clips: {folder} is absent")
    clips = []
    for path in sorted(folder.glob("*.wav")):
        wave, rate = soundfile.read(path, dtype="float32")
        clips.append(Clip(path.stem, torch.from_numpy(wave), rate))
    assert len(clips) == 8
    return clips


@pytest.mark.parametrize("system", ["sub1", "sub2"])
def test_loudness_leaves_the_delivered_clips_as_they_are(shared: Path, system: str):
    limited = 0
    for clip in published(shared, system):
        before, out = integrated_loudness(clip.audio, clip.sample_rate), Loudness()(clip)
        after, peak = integrated_loudness(out.audio, clip.sample_rate), float(out.audio.abs().max())
        assert abs(after - before) < 0.1, f"{system}/{clip.id}: {before:.2f} -> {after:.2f} LUFS"
        assert abs(after + 16.5) < 0.1 or abs(peak - 0.95) < 1e-3
        limited += "peak-limited" in out.notes[0]
    assert 0 < limited < 8  # both branches of the rule are among them


def test_loudness_moves_the_undelivered_clips_once(shared: Path):
    moved = 0.0
    for clip in published(shared, "baseline"):
        once = Loudness()(clip)
        twice = Loudness()(once)
        moved = max(moved, abs(integrated_loudness(once.audio, RATE) - integrated_loudness(clip.audio, RATE)))
        torch.testing.assert_close(twice.audio, once.audio, atol=1e-4, rtol=0)
    assert moved > 1.0


# -- folders ---------------------------------------------------------------------------------------------------------


def write(path: Path, audio: torch.Tensor, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.T.numpy(), RATE, subtype=subtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    for k in range(4):
        write(source / "some" / f"{k}.wav", tone(1.0, level=0.05 + 0.1 * k))
    write(source / "both.flac", torch.stack([tone(1.0), torch.zeros(RATE)]))
    write(source / "silent.wav", torch.zeros(RATE))
    write(source / "short.wav", tone(0.2))
    (source / "bad.wav").write_bytes(b"RIFF, but no wave")
    (source / "notes.txt").write_text("no audio")
    return source


def test_a_folder_goes_through_and_the_bad_file_is_named(folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    args = ["postprocess", str(folder), str(out), "--passes", "0", "--batch", "3"]
    assert main(args) == 1
    said = capsys.readouterr()
    assert "7 of 8 clips" in said.out and "unchanged: silent.wav: loudness unchanged: silent" in said.out
    assert "unchanged: short.wav" in said.out and "failed: bad.wav" in said.err
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.wav")) == [
        "both.wav", "short.wav", "silent.wav", *(f"some/{k}.wav" for k in range(4))
    ]  # fmt: skip
    for name in ("silent.wav", "short.wav"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    wave, rate = soundfile.read(out / "some" / "0.wav", dtype="float32")
    assert wave.ndim == 1 and abs(integrated_loudness(torch.from_numpy(wave), rate) + 16.5) < 0.1
    # again: only what failed is tried
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.wav")}
    assert main(args) == 1
    assert "7 of them before" in capsys.readouterr().out
    assert stamps == {p: p.stat().st_mtime_ns for p in out.rglob("*.wav")}


def test_what_has_changed_is_done_again(folder: Path, tmp_path: Path):
    (folder / "bad.wav").unlink()
    out = tmp_path / "out"

    def again(*steps) -> list[str]:
        return [row["file"] for row in process_folder(folder, out, steps or [Loudness()]) if not row["done"]]

    assert len(again()) == 7 and again() == []
    write(folder / "some" / "1.wav", tone(1.0, level=0.4))
    (out / "some" / "2.wav").unlink()
    assert again() == ["some/1.wav", "some/2.wav"]
    before = sha256(out / "some" / "0.wav")
    assert len(again(Loudness(-20.0))) == 7 and sha256(out / "some" / "0.wav") != before
    # a kill in the middle of a row costs that row
    with (out / "postprocess.jsonl").open("a") as file:
        file.write('{"file": "some/0.wa')
    assert again(Loudness(-20.0)) == []
    assert len(read_jsonl(out / "postprocess.jsonl")) == 7 + 2 + 7


def test_processes_give_the_same_files(folder: Path, tmp_path: Path, bag: Path):
    (folder / "bad.wav").unlink()
    steps = [Separate(1, "tiny", str(bag)), Loudness()]
    one = process_folder(folder / "some", tmp_path / "one", steps, batch=2)
    two = process_folder(folder / "some", tmp_path / "two", steps, jobs=2, batch=2)
    assert [row["file"] for row in one] == [row["file"] for row in two]
    for row in one:
        waves = [soundfile.read(tmp_path / name / row["output"])[0] for name in ("one", "two")]
        assert np.abs(waves[0] - waves[1]).max() < 2e-4, row["file"]


def test_the_recipe_is_what_is_done_not_where(bag: Path):
    near = recipe_of([Separate(3, "tiny", str(bag)), Loudness()])
    far = recipe_of([Separate(3, "tiny", "/elsewhere", optional=True, device="cuda", batch=9), Loudness()])
    assert near == far != recipe_of([Separate(2, "tiny", str(bag)), Loudness()])
    assert recipe_of([Loudness()]) != recipe_of([LockedLoudness(-16.5)])


def test_a_rendered_folder_keeps_its_rows(tmp_path: Path):
    source, out = tmp_path / "slice", tmp_path / "out"
    write(source / "audio" / "a_1_x.wav", tone())
    row = {"id": "a", "prompt": "p", "seed": 1, "checkpoint": "x", "audio": "audio/a_1_x.wav", "latent": "a.npy",
           "error": "", "extra": {"step": 3}}  # fmt: skip
    write_jsonl(source / "candidates.jsonl", [row])
    process_folder(source, out, [Loudness()])
    from fluxlight.metrics.clips import find_clips, rendering_of

    assert find_clips(out, ["a"]) == [out / "audio" / "a_1_x.wav"]
    assert rendering_of(out)["postprocess"] == "loudness: -16.5 LUFS" and rendering_of(out)["step"] == 3


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["/nowhere", "out"], "/nowhere is no folder"),
        (["in", "in/out"], "lies in"),
        (["empty", "out"], "holds no audio"),
        (["in", "out", "--no-loudness"], "nothing to do"),
        (["twins", "out"], "would both become a.wav"),
        (["in", "out", "--jobs", "0"], "jobs is 0"),
    ],
)
def test_a_senseless_call_is_one_line(args, says, folder: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for suffix in ("wav", "flac"):
        write(tmp_path / "twins" / f"a.{suffix}", tone(0.5))
    assert main(["postprocess", *args, "--passes", "0"]) == 2
    err = capsys.readouterr().err.strip()
    assert says in err and "\n" not in err and not (tmp_path / "out").exists()
