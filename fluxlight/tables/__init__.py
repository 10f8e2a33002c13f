"""Tables as people bring them: captions, prompts, votes, ranks and scores, all read by this one room.

TSV, CSV, JSON, JSONL and plain text; UTF-8 with or without a byte order mark; any line ends; quoted or raw cells;
columns by name in any case and order. Whatever does not fit is a `BadTable`: one line with file, line and remedy.
"""

from fluxlight.tables.datasets import (
    ListedRow,
    SegmentRow,
    TaggedRow,
    read_listed_rows,
    read_segment_rows,
    read_tagged_rows,
)
from fluxlight.tables.ids import clip_name, first_double, same
from fluxlight.tables.prompts import PromptRow, name_texts, read_ids, read_prompt_rows
from fluxlight.tables.read import read_table
from fluxlight.tables.rows import BadTable, Row, Table
from fluxlight.tables.scores import read_results, read_values
from fluxlight.tables.votes import VoteRow, read_vote_rows

__all__ = [
    "BadTable",
    "ListedRow",
    "PromptRow",
    "Row",
    "SegmentRow",
    "Table",
    "TaggedRow",
    "VoteRow",
    "clip_name",
    "first_double",
    "name_texts",
    "read_ids",
    "read_listed_rows",
    "read_prompt_rows",
    "read_results",
    "read_segment_rows",
    "read_table",
    "read_tagged_rows",
    "read_values",
    "read_vote_rows",
    "same",
]
