"""What a pair builder is, and the way from scored candidates to pairs. Pure functions of rows: no audio, no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from fluxlight.mining.select import Row, prompt_of, refuse_slice, usable
from fluxlight.recorded import Recorded

SIDE = ("seed", "checkpoint", "audio", "latent", "reward", "clap")
"""What a pair says of each of its two clips."""


@dataclass(frozen=True)
class Pair:
    """Two candidates, the better one first.

    Attributes:
        winner, loser: their rows.
        key: score column by which they were chosen.
    """

    winner: Row
    loser: Row
    key: str

    @property
    def margin(self) -> float:
        """How much better."""
        return float(self.winner[self.key]) - float(self.loser[self.key])

    def row(self) -> Row:
        """As a line of pairs.jsonl; a loser of another prompt says which."""
        sides = {name: {c: row.get(c) for c in SIDE} for name, row in (("winner", self.winner), ("loser", self.loser))}
        if prompt_of(self.loser) != prompt_of(self.winner):
            sides["loser"] |= {"id": self.loser["id"], "prompt": self.loser["prompt"]}
        said = {"id": self.winner["id"], "prompt": self.winner["prompt"], "key": self.key, "margin": self.margin}
        return said | sides


class PairBuilder(Recorded, ABC):
    """A rule that makes pairs of scored candidates.

    One file of this folder: subclass, give a ``name``, take settings by name with a default each, implement `pairs`.

    Attributes:
        name: on the command line.
        lacking: what to do where no pair comes out.
    """

    name: str
    lacking = "predict several seeds per prompt"

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Score columns that it reads; a row without a finite value in one of them is passed over."""

    @abstractmethod
    def pairs(self, groups: list[list[Row]]) -> Iterator[Pair]:
        """The pairs, from the candidates of each prompt; prompts and candidates are in the order of their keys."""


def select_pairs(rows: Iterable[Row], builder: PairBuilder, slice_ids: Collection[str] = ()) -> list[Row]:
    """The pairs that ``builder`` makes, as lines of pairs.jsonl.

    Args:
        rows: scored candidates; those with an error or without a finite score are passed over.
        builder: the rule.
        slice_ids: ids that must not occur.

    Returns:
        ``{id, prompt, key, margin, by, winner: {...}, loser: {...}}``, whatever the order of the rows.

    Raises:
        ValueError: an id of the slice, nothing usable, or no pair.
    """
    refuse_slice(rows := list(rows), slice_ids)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in usable(rows, *builder.columns):
        groups.setdefault(prompt_of(row), []).append(row)
    wanted = " and ".join(builder.columns)
    if not groups:
        raise ValueError(f"none of {len(rows)} rows has a finite {wanted}: run `fluxlight score`, look at the errors")
    made = list(builder.pairs([groups[prompt] for prompt in sorted(groups)]))
    if not made:
        settings = ", ".join(f"{name} {value}" for name, value in builder.init_args.items())
        raise ValueError(
            f"no prompt of {len(groups)} has two candidates of which one is better by {wanted} "
            f"({builder.name}: {settings}): {builder.lacking}"
        )
    return [{**pair.row(), "by": builder.name} for pair in made]
