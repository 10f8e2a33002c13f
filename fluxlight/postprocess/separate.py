"""Demucs as a cleaner of decoded clips."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fluxlight.device import chosen
from fluxlight.postprocess.base import noted, why_not
from fluxlight.types import Clip
from fluxlight.weights import locate, weights_folder
from fluxlight.weights.foreign import nothing_run, reason_of

HUB = "hub"
"""A `folder` that is none: the demucs package finds or fetches the model (in torch's own hub cache)."""


class Separate:
    """Demucs as a cleaner (FACTS section 4): keep drums + bass + other, ``passes`` times.

    One pass: mono duplicated to stereo, the stems summed, mean of the channels, peak to 0.95. ``shifts`` is 0 because
    Demucs' default of 1 is a random shift. The input is not normalised first: `apply_model` does not, and the HDemucs
    models of ``mdx_extra`` do it inside.

    Args:
        passes: how often; the published system uses 3.
        model: name of a Demucs bag.
        folder: holds ``<model>.yaml`` and its ``.th`` files (pickles: only from a source you trust); None is
            ``<model>`` in the weights folder; "hub" leaves it to the demucs package to find or fetch the model.
        optional: where the weights are absent, pass clips unchanged with a note; else their absence is an error now,
            not after the training that ends in a rendering.
        peak: peak of each pass' output.
        stems: what is kept.
        device: where Demucs runs: cpu, cuda, mps, or auto for the GPU where there is one.
        batch: clips of equal length that are separated at once.
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
        batch: int = 4,
    ) -> None:
        for name, value, remedy in (("passes", passes, ", leave it out for none"), ("batch", batch, "")):
            if value < 1:
                raise ValueError(f"{name} is {value}: Separate needs at least 1{remedy}")
        self.passes, self.model, self.folder, self.peak = passes, model, folder, peak
        self.stems, self.device, self.optional, self.batch = tuple(stems), device, optional, batch
        self._bag: Any = None  # loaded at the first clip: mdx_extra is 334.6 M parameters
        if not optional and folder != HUB:
            self._refuse_absence()

    @staticmethod
    def present(folder: str | Path, model: str = "mdx_extra") -> bool:
        """Whether ``folder`` holds the bag ``model`` and every file it names."""
        import yaml

        bag = Path(folder) / f"{model}.yaml"
        if not bag.is_file():
            return False
        signatures = yaml.safe_load(bag.read_text(encoding="utf-8")).get("models", [])
        return bool(signatures) and all(any(Path(folder).glob(f"{signature}*.th")) for signature in signatures)

    @property
    def _place(self) -> Path:
        return Path(self.folder).expanduser() if self.folder is not None else weights_folder() / self.model

    def _refuse_absence(self) -> None:
        if self.folder is None:
            locate(self.model)
        if not self.present(self._place, self.model):
            raise FileNotFoundError(
                f"{self._place} does not hold {self.model}.yaml and the .th files it names: get them with the demucs "
                "package (github.com/facebookresearch/demucs, MIT), or leave Separate out of postprocess"
            )

    def _load(self) -> Any:
        from fractions import Fraction

        from demucs.demucs import Demucs
        from demucs.hdemucs import HDemucs
        from demucs.htdemucs import HTDemucs
        from demucs.pretrained import ModelLoadingError, get_model

        try:
            # a published file names its network, which the package would import and call, whatever it is
            with nothing_run([Demucs, HDemucs, HTDemucs, Fraction]), torch.random.fork_rng(devices=[]):
                # building the modules draws initial weights from the global stream
                bag = get_model(self.model, repo=None if self.folder == HUB else self._place)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"Demucs model {self.model} in {self._place} is not loaded: {reason_of(error)}; get it again"
            ) from None
        except (ModelLoadingError, OSError) as error:
            raise FileNotFoundError(
                f"Demucs model {self.model} could not be loaded ({' '.join(str(error).split())}): put its .yaml and "
                ".th files (github.com/facebookresearch/demucs, MIT) in `folder`, or leave Separate out of postprocess"
            ) from None
        missing = set(self.stems) - set(bag.sources)
        if missing:
            raise ValueError(f"stems {sorted(missing)} are not among those of {self.model}: {list(bag.sources)}")
        return bag.eval().to(chosen(self.device))

    def __call__(self, clip: Clip) -> Clip:
        """A clip ``(N,)`` of the same length and rate without what Demucs takes for vocals."""
        return self.many([clip])[0]

    def many(self, clips: Sequence[Clip]) -> list[Clip]:
        """Clips ``(N_i,)``, those of equal length and rate together; the order is kept."""
        done: dict[int, Clip] = {}
        groups: dict[tuple[int, int], list[int]] = {}
        for row, clip in enumerate(clips):
            if reason := why_not(clip):
                done[row] = noted(clip, clip.audio, f"demucs unchanged: {reason}")
            elif self.optional and self._bag is None and not self.present(self._place, self.model):
                done[row] = noted(clip, clip.audio, f"demucs left out: no weights of {self.model}")
            else:
                groups.setdefault((clip.audio.numel(), clip.sample_rate), []).append(row)
        for rows in groups.values():
            for start in range(0, len(rows), self.batch):
                some = rows[start : start + self.batch]
                done |= zip(some, self._clean([clips[row] for row in some]), strict=True)
        return [done[row] for row in range(len(clips))]

    @torch.no_grad()
    def _clean(self, clips: Sequence[Clip]) -> list[Clip]:
        """Clips of one length and rate."""
        from demucs.apply import apply_model

        if self._bag is None:
            self._bag = self._load()
        bag, rate, length = self._bag, clips[0].sample_rate, clips[0].audio.numel()
        keep = [bag.sources.index(stem) for stem in self.stems]
        audio = _resample(torch.stack([clip.audio.detach().float().cpu() for clip in clips]), rate, bag.samplerate)
        silenced = [0] * len(clips)
        for number in range(1, self.passes + 1):
            stereo = audio[:, None].expand(-1, 2, -1).to(chosen(self.device))
            stems = apply_model(bag, stereo, shifts=0, split=True, overlap=0.25, progress=False)
            audio = stems[:, keep].sum(dim=1).mean(dim=1).cpu()
            top = audio.abs().amax(dim=1)
            for row in (~(top > 0)).nonzero().flatten().tolist():
                silenced[row] = silenced[row] or number
            audio = audio * (self.peak / top.clamp_min(torch.finfo(top.dtype).tiny))[:, None]
        audio = _resample(audio, bag.samplerate, rate)
        audio = torch.nn.functional.pad(audio[:, :length], (0, max(0, length - audio.shape[1])))
        return [
            noted(clip, clip.audio, f"demucs unchanged: pass {quiet} left silence")
            if quiet
            else noted(clip, wave.to(clip.audio), f"demucs: {self.model} x {self.passes}")
            for clip, wave, quiet in zip(clips, audio, silenced, strict=True)
        ]


def _resample(audio: Tensor, source: int, target: int) -> Tensor:
    """Mono clips ``(B, N)`` at another rate; nothing happens at equal rates."""
    if source == target:
        return audio
    import numpy as np
    import soxr

    return torch.from_numpy(np.ascontiguousarray(soxr.resample(audio.numpy().T, source, target).T))
