"""The blind page of a session: one HTML file that works from a disk, without network and without a server."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

COLUMNS = ("a", "b", "winner", "prompt", "system_a", "system_b", "id", "kind", "listener", "trial", "session")
"""Columns of the votes: first those of `fluxlight votes`, then what `fluxlight winrate` reads besides."""


def page_of(session: Mapping[str, Any]) -> str:
    """HTML of a session; which system made a clip is in it in base64, so that a glance at the source shows no name."""
    hidden = base64.b64encode(json.dumps(session, ensure_ascii=False).encode()).decode()
    template = (files("fluxlight.listening") / "page.html").read_text(encoding="utf-8")
    values = {"SESSION": hidden, "NAME": html.escape(session["session"]), "COLUMNS": json.dumps(COLUMNS)}
    return re.sub(r"@@(\w+)@@", lambda key: values[key[1]], template)
