"""Which prompts are rendered, with which noise seeds, in which batches: fixed lists, made before any model exists."""

from __future__ import annotations

from torch.utils.data import Dataset

from fluxlight.data.store import LatentStore
from fluxlight.random import permutation, words
from fluxlight.types import PromptBatch

Planned = list[tuple[int, int]]
"""One batch: (row of the store, noise seed) of each clip."""


def slice_prompts(store: LatentStore, batch_size: int, seed: int, clips: int | None = None) -> list[Planned]:
    """The first ``clips`` prompts of a slice (None: all); prompt i has noise seed ``seed + i`` (FACTS section 4)."""
    n = len(store) if clips is None else min(clips, len(store))
    return _cut([(i, seed + i) for i in range(n)], batch_size)


def candidate_prompts(
    store: LatentStore, prompts: int, per_prompt: int, seed: int, batch_size: int, order_seed: int, skip: int = 0
) -> list[Planned]:
    """``per_prompt`` clips of each of ``prompts`` distinct captions, drawn from a store without replacement.

    All draws with one ``order_seed`` take from one order of the captions: those that skip what earlier ones took share
    no caption with them until every caption was drawn; then the order begins again.

    Args:
        store: the training store.
        prompts: number of captions; an error when the store has fewer distinct ones.
        per_prompt: clips of each.
        seed: noise seed of the first; clip j of prompt i has ``seed + j * prompts + i``.
        batch_size: clips of a batch.
        order_seed: of the draw of captions.
        skip: captions of the order that other draws have taken.
    """
    first: dict[int, int] = {}  # text -> the first row that has it
    for row in permutation(len(store), order_seed, *words("candidates")):
        first.setdefault(int(store.text_row[row]), int(row))
    order = list(first.values())
    if len(order) < prompts:
        raise ValueError(
            f"data.candidates.prompts is {prompts}, but store {store.folder} has only {len(order)} distinct captions"
        )
    if skip < 0:
        raise ValueError(f"data.candidates.skip is {skip}: it counts captions, 0 or more")
    rows = [order[(skip + i) % len(order)] for i in range(prompts)]
    # prompt by prompt: a run that is cut short leaves whole groups to select from
    return _cut([(row, seed + j * prompts + i) for i, row in enumerate(rows) for j in range(per_prompt)], batch_size)


def _cut(clips: Planned, size: int) -> list[Planned]:
    return [clips[start : start + size] for start in range(0, len(clips), size)]


class PromptBatches(Dataset[PromptBatch]):
    """Planned batches as a map-style dataset of `PromptBatch`.

    Args:
        store: where the texts are.
        batches: what to render.
    """

    def __init__(self, store: LatentStore, batches: list[Planned]) -> None:
        self.store, self.batches = store, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> PromptBatch:
        if not 0 <= number < len(self.batches):
            raise IndexError(number)
        return self.store.prompts([row for row, _ in self.batches[number]], [seed for _, seed in self.batches[number]])
