"""What is done to a clip after decoding: callables `Clip -> Clip`. Separate (Demucs passes), Loudness, LockedLoudness.

Nothing here raises for a clip that cannot be treated (silent, too short, not finite): the clip passes unchanged and
carries a note. Upstream writes NaN audio for a silent clip (FACTS section 4); we do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fluxlight.files import cache_folder
from fluxlight.types import Clip

SHORTEST_SECONDS = 0.4
"""BS.1770 measures blocks of 400 ms; a shorter clip has no loudness (FACTS section 4)."""


class PostProcess(Protocol):
    """A step of post-processing: takes a clip, returns a new one with a note."""

    def __call__(self, clip: Clip) -> Clip: ...


def process(clip: Clip, steps: Sequence[PostProcess]) -> Clip:
    """Run ``steps`` in order on a clip."""
    for step in steps:
        clip = step(clip)
    return clip


def integrated_loudness(audio: Tensor, sample_rate: int) -> float:
    """Loudness of mono ``audio`` ``(N,)`` in LUFS (ITU-R BS.1770 by pyloudnorm); -inf below its gate of -70."""
    import numpy as np
    import pyloudnorm

    with np.errstate(divide="ignore", invalid="ignore"):
        return float(pyloudnorm.Meter(sample_rate).integrated_loudness(audio.detach().double().cpu().numpy()))


def _why_not(clip: Clip) -> str:
    """Why a clip cannot be treated, or an empty string."""
    if clip.audio.ndim != 1:
        raise ValueError(f"clip {clip.id} has audio of shape {tuple(clip.audio.shape)}: give mono audio (N,)")
    if clip.audio.numel() < SHORTEST_SECONDS * clip.sample_rate:
        return f"shorter than {SHORTEST_SECONDS} s"
    if not bool(torch.isfinite(clip.audio).all()):
        return "not finite"
    if not bool(clip.audio.abs().max() > 0):
        return "silent"
    return ""


def _noted(clip: Clip, audio: Tensor, note: str) -> Clip:
    return replace(clip, audio=audio, notes=[*clip.notes, note])


class Loudness:
    """The published delivery rule (FACTS section 4): to -16.5 LUFS; if the peak then exceeds 0.99, rescale to 0.95.

    Args:
        target: LUFS.
        ceiling: peak above which the clip is rescaled.
        peak: the peak it is rescaled to.
    """

    def __init__(self, target: float = -16.5, ceiling: float = 0.99, peak: float = 0.95) -> None:
        if not peak <= ceiling:
            raise ValueError(f"peak is {peak} and ceiling {ceiling}: peak must not exceed ceiling")
        self.target, self.ceiling, self.peak = target, ceiling, peak

    def __call__(self, clip: Clip) -> Clip:
        """A clip ``(N,)`` at the target loudness, or at the peak limit below it."""
        reason = _why_not(clip)
        loudness = float("-inf") if reason else integrated_loudness(clip.audio, clip.sample_rate)
        if not math.isfinite(loudness):
            return _noted(clip, clip.audio, f"loudness unchanged: {reason or 'silent'}")
        audio = clip.audio * 10 ** ((self.target - loudness) / 20)
        top = float(audio.abs().max())
        if top > self.ceiling:
            note = f"loudness: peak-limited to {self.peak} below {self.target} LUFS"
            return _noted(clip, audio * (self.peak / top), note)
        return _noted(clip, audio, f"loudness: {self.target} LUFS")


class LockedLoudness:
    """The comparison rule: exactly ``target`` LUFS, no limiting, so samples may exceed 1.

    Args:
        target: LUFS; -23 leaves room for the peaks of music (EBU R 128).
    """

    def __init__(self, target: float = -23.0) -> None:
        self.target = target

    def __call__(self, clip: Clip) -> Clip:
        """A clip ``(N,)`` at exactly the target loudness."""
        reason = _why_not(clip)
        loudness = float("-inf") if reason else integrated_loudness(clip.audio, clip.sample_rate)
        if not math.isfinite(loudness):
            return _noted(clip, clip.audio, f"locked loudness unchanged: {reason or 'silent'}")
        return _noted(clip, clip.audio * 10 ** ((self.target - loudness) / 20), f"locked: {self.target} LUFS")


class Separate:
    """Demucs as a cleaner (FACTS section 4): keep drums + bass + other, ``passes`` times.

    One pass: mono duplicated to stereo, the stems summed, mean of the channels, peak to 0.95. ``shifts`` is 0 because
    Demucs' default of 1 is a random shift. The input is not normalised first: `apply_model` does not, and the HDemucs
    models of ``mdx_extra`` do it inside.

    Args:
        passes: how often; the published system uses 3.
        model: name of a Demucs bag.
        folder: holds ``<model>.yaml`` and its ``.th`` files (pickles: only from a source you trust); None lets the
            demucs package find or fetch them.
        optional: where the weights are absent, pass clips unchanged with a note. Looks in ``folder``, or in ``demucs``
            of the cache folder when that is None, and fetches nothing.
        peak: peak of each pass' output.
        stems: what is kept.
        device: where Demucs runs.
    """

    def __init__(
        self,
        passes: int = 3,
        model: str = "mdx_extra",
        folder: str | None = None,
        optional: bool = False,
        peak: float = 0.95,
        stems: Sequence[str] = ("drums", "bass", "other"),
        device: str = "cpu",
    ) -> None:
        if passes < 1:
            raise ValueError(f"passes is {passes}: Separate needs at least 1, leave it out for none")
        self.passes, self.model, self.folder, self.peak = passes, model, folder, peak
        self.stems, self.device, self.optional = tuple(stems), device, optional
        if optional and folder is None:
            self.folder = str(cache_folder() / "demucs")
        self._bag: Any = None  # loaded at the first clip: mdx_extra is 334.6 M parameters

    @staticmethod
    def present(folder: str | Path, model: str = "mdx_extra") -> bool:
        """Whether ``folder`` holds the bag ``model`` and every file it names."""
        import yaml

        bag = Path(folder) / f"{model}.yaml"
        if not bag.is_file():
            return False
        signatures = yaml.safe_load(bag.read_text(encoding="utf-8")).get("models", [])
        return bool(signatures) and all(any(Path(folder).glob(f"{signature}*.th")) for signature in signatures)

    def _load(self) -> Any:
        if self.folder is not None and not self.present(self.folder, self.model):
            raise FileNotFoundError(
                f"{self.folder} does not hold {self.model}.yaml and the .th files it names: get them with the demucs "
                "package (github.com/facebookresearch/demucs, MIT), or leave Separate out of postprocess"
            )
        from demucs.pretrained import ModelLoadingError, get_model

        try:
            with torch.random.fork_rng(devices=[]):  # building the modules draws initial weights from the global stream
                bag = get_model(self.model, repo=None if self.folder is None else Path(self.folder))
        except (ModelLoadingError, OSError) as error:
            raise FileNotFoundError(
                f"Demucs model {self.model} could not be loaded ({' '.join(str(error).split())}): put its .yaml and "
                ".th files (github.com/facebookresearch/demucs, MIT) in `folder`, or leave Separate out of postprocess"
            ) from None
        missing = set(self.stems) - set(bag.sources)
        if missing:
            raise ValueError(f"stems {sorted(missing)} are not among those of {self.model}: {list(bag.sources)}")
        return bag.eval().to(self.device)

    @torch.no_grad()
    def __call__(self, clip: Clip) -> Clip:
        """A clip ``(N,)`` of the same length and rate without what Demucs takes for vocals."""
        reason = _why_not(clip)
        if reason:
            return _noted(clip, clip.audio, f"demucs unchanged: {reason}")
        if self.optional and self._bag is None and not self.present(str(self.folder), self.model):
            return _noted(clip, clip.audio, f"demucs left out: no weights of {self.model}")
        from demucs.apply import apply_model

        if self._bag is None:
            self._bag = self._load()
        bag = self._bag
        keep = [bag.sources.index(stem) for stem in self.stems]
        audio = _resample(clip.audio.detach().float().cpu(), clip.sample_rate, bag.samplerate)
        for done in range(self.passes):
            stereo = audio.expand(1, 2, -1).to(self.device)
            stems = apply_model(bag, stereo, shifts=0, split=True, overlap=0.25, progress=False)[0]
            audio = stems[keep].sum(dim=0).mean(dim=0).cpu()
            top = float(audio.abs().max())
            if not top > 0:
                return _noted(clip, clip.audio, f"demucs unchanged: pass {done + 1} left silence")
            audio = audio * (self.peak / top)
        audio = _resample(audio, bag.samplerate, clip.sample_rate)
        length = clip.audio.numel()
        audio = torch.nn.functional.pad(audio[:length], (0, max(0, length - audio.numel())))
        return _noted(clip, audio.to(clip.audio), f"demucs: {self.model} x {self.passes}")


def _resample(audio: Tensor, source: int, target: int) -> Tensor:
    """Mono ``(N,)`` at another rate; nothing happens at equal rates."""
    if source == target:
        return audio
    import soxr

    return torch.from_numpy(soxr.resample(audio.numpy(), source, target))
