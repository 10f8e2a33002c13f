"""Channels that cancel: refused by whatever learns from the clip or plays it, by one mechanism."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from fluxlight.clips.read import heard, read_channels

RATE = 16000


def stereo(path: Path, right: float) -> Path:
    """A tone whose right channel is the left one times ``right``."""
    left = 0.3 * np.sin(2 * np.pi * 220 * np.arange(2 * RATE) / RATE)
    soundfile.write(path, np.stack([left, right * left], 1), RATE, subtype="PCM_16")
    return path


@pytest.mark.parametrize("right", [-1.0, -0.98])
def test_a_clip_of_channels_that_cancel_is_named(right: float, tmp_path: Path) -> None:
    channels, _ = read_channels(stereo(tmp_path / "x.wav", right))
    with pytest.raises(ValueError, match=r"x\.wav: channels cancel .*turn one of them round, or leave the file out"):
        heard(channels, tmp_path / "x.wav")


@pytest.mark.parametrize("right", [1.0, 0.0, -0.3])
def test_other_channels_are_heard_as_their_mean(right: float, tmp_path: Path) -> None:
    channels, _ = read_channels(stereo(tmp_path / "x.wav", right))
    assert heard(channels, "x.wav") == pytest.approx(channels.mean(axis=1))


def test_training_data_and_votes_refuse_them(tmp_path: Path) -> None:
    from fluxlight.data.sources import AudioFolder
    from fluxlight.rewards.votes import _embed

    stereo(tmp_path / "x.wav", -1.0)
    (tmp_path / "captions.tsv").write_text("id\tcaption\nx\ta tone\n")
    source = AudioFolder(str(tmp_path / "captions.tsv"), str(tmp_path), sample_rate=RATE, seconds=1.0)
    with pytest.raises(ValueError, match="channels cancel"):
        source.audio(0, 1)
    with pytest.raises(ValueError, match="channels cancel"):
        _embed(tmp_path / "x.wav", [])
