"""What a corpus is: its splits, its size, its faults, and the row that describes one clip."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fluxlight.embedded.corpus.tunes import SPLITS
from fluxlight.files import hash_of

# Raised whenever a change alters rendered audio or captions: the cache of another version is never reused.
VERSION = "1"
FAULTS = ("detuned", "mistimed", "wrong_harmony", "dropped_tracks", "clipped", "muffled", "noisy")
SCORE_FAULTS = FAULTS[:4]
LEVELS = (1, 2, 3, 4)
# Splits whose quality varies: clean renders all score alike; reference and slice stay clean.
FAULTY_SPLITS = ("train", "val", "judge_a", "judge_b", "judge_val")


def generator(*key: object) -> np.random.Generator:
    """A random generator that depends on nothing but its key."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


@dataclass(frozen=True)
class CorpusSpec:
    """A corpus by its seed and the number of clips of each split.

    Clip ``k`` of a split depends on ``(seed, split, k, fault_share)`` only, so a smaller split is a prefix of a larger
    one and specs share their cache.

    Attributes:
        seed: seed of everything random.
        sizes: clips per split; splits left out are empty.
        fault_share: share of faulty clips in the splits whose quality varies.
        version: version of the composing and rendering code.
    """

    seed: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    fault_share: float = 0.4
    version: str = VERSION

    def __post_init__(self) -> None:
        for split, size in self.sizes.items():
            if split not in SPLITS:
                raise ValueError(f"corpus split {split!r} is unknown: choose from {', '.join(SPLITS)}")
            if size < 0:
                raise ValueError(f"corpus size of {split} is {size}: give 0 or more")
        if not 0.0 <= self.fault_share <= 1.0:
            raise ValueError(f"corpus fault_share is {self.fault_share}: give a share between 0 and 1")
        if self.version != VERSION:
            raise ValueError(f"corpus version {self.version!r} cannot be made by this code, which makes {VERSION!r}")

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that name this corpus."""
        return hash_of(asdict(self))

    @property
    def family(self) -> str:
        """Folder name shared by all specs whose clips agree."""
        return f"v{self.version}-seed{self.seed}-faults{self.fault_share:g}"

    @classmethod
    def debug(cls) -> CorpusSpec:
        """A few clips, for the debug scale and tests."""
        return cls(sizes={"train": 48, "val": 8, "reference": 24, "slice": 8})

    @classmethod
    def tiny(cls) -> CorpusSpec:
        """The default corpus: 2,400 training clips, 700 clean reference clips, the 100-prompt slice."""
        return cls(sizes={"train": 2400, "val": 200, "reference": 700, "slice": 100})

    @classmethod
    def judges(cls) -> CorpusSpec:
        """What the shipped judges were trained on: tunes that no other split uses."""
        return cls(sizes={"judge_a": 2000, "judge_b": 2000, "judge_val": 300})


@dataclass(frozen=True)
class ClipRow:
    """One clip: where it comes from, what it holds and what is wrong with it.

    Attributes:
        id: ``split-000012``.
        split: split name.
        index: its number in the split.
        seed: seed of the corpus.
        attempt: how often its composition was re-rolled because the render was rejected (0 almost always).
        tune: id of the tune whose melody it uses.
        genre: genre name.
        caption: text made from the tags; never mentions a fault.
        tags: the truth as composed: genre, mood, key, mode, tempo_bpm, tempo_word, meter, instruments, lead, ...
        fault: one of ``FAULTS`` or None.
        fault_level: 0 (clean), 1 (mild) to 4 (strong).
        template: number of the caption template.
    """

    id: str
    split: str
    index: int
    seed: int
    attempt: int
    tune: str
    genre: str
    caption: str
    tags: dict[str, Any]
    fault: str | None
    fault_level: int
    template: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> ClipRow:
        """From JSON; keys that this class does not have are ignored."""
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})

    def with_fault(self, fault: str | None, level: int) -> ClipRow:
        """The same clip with another fault; None is the clean one."""
        if fault is not None and (fault not in FAULTS or level not in LEVELS):
            raise ValueError(f"fault {fault!r} level {level}: choose one of {', '.join(FAULTS)} and a level 1 to 4")
        return replace(self, fault=fault, fault_level=0 if fault is None else level)
