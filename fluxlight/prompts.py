"""Prompts: ids and texts of a slice, and what becomes of a text before an encoder reads it."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from fluxlight.tables import first_double, name_texts, read_prompt_rows


class PromptsCut(UserWarning):
    """Prompts were longer than the text encoder reads, and were cut."""


def is_empty(prompt: str) -> bool:
    """True for a prompt without a word: it is rendered with the stored features of the empty text."""
    return not prompt.strip()


def worded(prompts: Sequence[str], prefix: str = "", suffix: str = "") -> list[str]:
    """What the encoders read: prefix + prompt + suffix; an empty prompt stays empty.

    The published prefix is "high quality instrumental music, " (FACTS section 4). That an empty prompt gets none is
    our choice: it asks for the empty text, not for the prefix.
    """
    return ["" if is_empty(prompt) else f"{prefix}{prompt}{suffix}" for prompt in prompts]


_collecting: ContextVar[set[str] | None] = ContextVar("collecting", default=None)


def note_cut(texts: Sequence[str], lengths: Sequence[int], limit: int) -> None:
    """What an encoder says of the texts it cuts: one `PromptsCut` warning with their number, if there are any.

    Args:
        texts: the texts of one call.
        lengths: tokens of each, special ones included, before the cut.
        limit: tokens the encoder keeps.
    """
    cut = {text for text, length in zip(texts, lengths, strict=True) if length > limit}
    collected = _collecting.get()
    if collected is not None:
        collected |= cut
    elif cut:
        _warn(len(cut), len(set(texts)), limit, 3)


@contextmanager
def one_warning(prompts: int, limit: int) -> Iterator[None]:
    """Within this block nothing is said of cut prompts; at its end one `PromptsCut` warning counts them all.

    A text that several calls or several encoders cut counts once. A block within a block leaves it to the outer one.

    Args:
        prompts: how many the block encodes in all.
        limit: tokens the encoder keeps, for the message.
    """
    if _collecting.get() is not None:
        yield
        return
    collected: set[str] = set()
    token = _collecting.set(collected)
    try:
        yield
    finally:
        _collecting.reset(token)
    if collected:
        _warn(len(collected), prompts, limit, 4)


@contextmanager
def collected() -> Iterator[set[str]]:
    """Within this block cut prompts are put into the set that it gives, and nothing is said of them."""
    found: set[str] = set()
    token = _collecting.set(found)
    try:
        yield found
    finally:
        _collecting.reset(token)


def count_cut(texts: set[str]) -> None:
    """Count prompts that another process cut, in the block of `one_warning` that this is called in."""
    if (within := _collecting.get()) is not None:
        within |= texts


def _warn(cut: int, of: int, limit: int, stacklevel: int) -> None:
    warnings.warn(
        f"{cut} of {of} prompts are longer than {limit} tokens and were cut there: shorten them, or their prefix",
        PromptsCut,
        stacklevel=stacklevel,
    )


@dataclass(frozen=True)
class Prompt:
    """A prompt of the slice."""

    id: str
    prompt: str


def as_prompts(rows: Sequence[Prompt | Mapping[str, Any]]) -> list[Prompt]:
    """Prompts from ``{id, prompt}`` rows; ids become text and must be unique."""
    prompts = [row if isinstance(row, Prompt) else Prompt(str(row["id"]), str(row["prompt"])) for row in rows]
    if double := first_double(prompt.id for prompt in prompts):
        raise ValueError(f"prompts: id {prompts[double[1]].id!r} is given twice: rename one, or take it out")
    if not prompts:
        raise ValueError("prompts: the list is empty")
    return prompts


HALVES = ("choose", "report")


def half_of(id: str) -> str:
    """The half of the slice a prompt belongs to: what chooses a setting hears one, what reports hears the other.

    By the SHA-256 of its id, so that it is the same for every run, order and subset (our choice).
    """
    return HALVES[hashlib.sha256(id.encode()).digest()[0] % 2]


def take_half(prompts: Sequence[Prompt], half: str | None) -> list[Prompt]:
    """The prompts of a half; all of them for None."""
    if half is not None and half not in HALVES:
        raise ValueError(f"half {half!r}: choose one of {', '.join(HALVES)}")
    return [prompt for prompt in prompts if half is None or half_of(prompt.id) == half]


def read_prompts(path: str | os.PathLike[str]) -> list[Prompt]:
    """Prompts of a table, a text, a prompt store or standard input (``-``), in their order.

    Which files, and what is wrong with one: `fluxlight.tables.read_prompt_rows`.
    """
    return [Prompt(row.id, row.prompt) for row in read_prompt_rows(path)]


def from_texts(texts: Sequence[str]) -> list[Prompt]:
    """Prompts named by their own words; a name met before gets -2, -3 and so on."""
    return [Prompt(id, text) for id, text in name_texts(texts)]
