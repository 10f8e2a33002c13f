"""Writing a clip: 16 bit where that changes nothing, float beyond full scale, and the same bytes at any time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import soundfile
import torch

from fluxlight.clips.write import as_written, write_audio


@pytest.mark.parametrize("gain", [0.5, 3.0, 1e-5])
def test_a_file_holds_the_clip_and_its_bytes_know_no_time(tmp_path: Path, gain: float) -> None:
    wave = gain * (2 * torch.rand(44_100, generator=torch.Generator().manual_seed(0)) - 1)
    subtype, note = write_audio(tmp_path / "a.wav", as_written(wave), 44_100)
    assert (subtype, bool(note)) == (("PCM_16", False) if gain == 0.5 else ("FLOAT", True))
    time.sleep(1.1)
    write_audio(tmp_path / "b.wav", as_written(wave), 44_100)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    read, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert rate == 44_100 and torch.equal(torch.from_numpy(read), as_written(wave))
    assert float((torch.from_numpy(read) - wave).abs().max()) < 1e-4


def test_a_flac_says_what_it_clipped(tmp_path: Path) -> None:
    wave = torch.tensor([0.0, 2.0, -3.0, 0.5] * 1000)
    assert write_audio(tmp_path / "a.flac", wave, 44_100) == ("PCM_16", "2000 samples clipped")
