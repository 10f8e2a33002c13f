"""Results as other programs read them: strict JSON, held against the schema of its kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = {path.stem: path for folder in ("fluxlight/report/schemas", "experiments/reports/schemas")
           for path in (ROOT / folder).glob("*.json")}  # fmt: skip


def strict(path: Path) -> Any:
    """A file's JSON; NaN and Infinity, which Python's reader takes, are none."""

    def refuse(word: str) -> None:
        raise ValueError(f"{path} holds {word}, which is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def kind_of(value: Any) -> str:
    """The name of a result's schema."""
    if "kind" in value:
        return str(value["kind"]).replace(" ", "_")
    return "error_rates" if "false_alarms" in value else "ladders" if "broken" in value else "evaluation"


def hold(value: Any) -> str:
    """Hold a result against its schema, and the evaluation within it against that of a table; its kind."""
    import pytest

    jsonschema = pytest.importorskip("jsonschema")
    kind = kind_of(value)
    jsonschema.validate(value, strict(SCHEMAS[kind]))
    if value.get("evaluation"):
        hold(value["evaluation"])
    if value.get("report_card"):
        hold(value["report_card"])
    return kind
