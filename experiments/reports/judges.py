"""Judges: the report card that a folder's tables were made with, as blocks of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reports.blocks import Block, Table, Text
from fluxlight.report.judges import NO_CARD, card_notes, card_table


def card_blocks(evaluations: Sequence[Mapping[str, Any] | None]) -> list[Block]:
    """The card of each set of judges that is met, once; nothing where nothing was judged."""
    made: list[Block] = []
    seen: list[Mapping[str, str]] = []
    for evaluation in evaluations:
        judges = evaluation["frame"]["judges"] if evaluation else {}
        if not evaluation or not judges or judges in seen:
            continue
        seen.append(judges)
        card = evaluation.get("report_card")
        if card is None:
            made.append(Text(NO_CARD, note=True))
            continue
        head, rows = card_table(card)
        made.append(Table("What the judges are worth", head, rows, wrap=(len(head) - 1,)))
        made.append(Text(" ".join(card_notes(card, judges)), note=True))
    return made
