"""Post-processing: loudness, the peak rule, clips that must pass untouched, Demucs on a tiny bag."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from fluxlight.postprocess import LockedLoudness, Loudness, Separate, integrated_loudness, process
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


@pytest.mark.parametrize("step", [Loudness(), LockedLoudness(), Separate(folder="/nowhere")])
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


def test_missing_demucs_weights_name_the_file_and_the_alternative(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"mdx_extra\.yaml.*leave Separate out"):
        Separate(folder=str(tmp_path))(Clip("a", tone(), RATE))


def test_optional_demucs_says_that_it_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bag: Path):
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path))
    clip = Clip("a", tone(), RATE)
    out = Separate(optional=True)(clip)
    assert torch.equal(out.audio, clip.audio) and out.notes == ["demucs left out: no weights of mdx_extra"]
    assert "demucs: tiny x 1" in Separate(1, "tiny", str(bag), optional=True)(clip).notes
