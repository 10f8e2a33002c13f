"""Post-processing: loudness, the peak rule, clips that must pass untouched, Demucs on a tiny bag, published clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from small_postprocess import RATE, tone
from small_postprocess import bag as bag

from fluxlight.postprocess import LockedLoudness, Loudness, Separate, integrated_loudness, process, process_many
from fluxlight.types import Clip


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
