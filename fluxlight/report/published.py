"""The published table, for orientation beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fluxlight.report.table import grid, markdown

# FACTS section 1, "Measured on 100 Song Describer prompts against SDD-706 with LAION-CLAP-Music"
PUBLISHED = (
    ("FluxAudio-S baseline (Row 0)", "0.5998", "0.230", "-0.392"),
    ("Sub. 1, seed 42 (whole chain)", "0.4238", "0.285", "+0.533"),
    ("Sub. 2, seed 55 (whole chain)", "0.4370", "0.300", "+0.550"),
)
# FACTS section 1, "Stage effects"
PUBLISHED_EFFECTS = (
    ("score-conditioned SFT against baseline", "FAD -0.025 to -0.040 (at SFT settings)"),
    ("expert iteration", "FAD -0.0362 (v1 chain); CLAP and reward significant in a paired t test"),
    ("cross-load v1 into v2", "within 0.02 FAD of native"),
    ("CRPO", "FAD -0.003, CLAP +0.002, reward -0.002: inside paired-t noise"),
    ("another noise seed, same checkpoint", "FAD 0.0132"),
)


def published_table() -> str:
    """The published numbers, for orientation, with why they cannot be compared with ours."""
    return "\n".join([
        "## The published table (another judge, other data, another scale)", "",
        "FluxAudio-S, 120 M parameters, 535 k training clips, 100 Song Describer prompts against SDD-706, LAION-CLAP-",
        "Music and TuneJury. No number here can be compared with one above; only signs and significance can.", "",
        grid(["system", "FAD-CLAP ↓", "CLAP ↑", "TuneJury reward ↑"], PUBLISHED), "",
        grid(["published stage effect", "size"], PUBLISHED_EFFECTS, numeric=2), "",
    ])  # fmt: skip


def decomposition_table(result: Mapping[str, Any], title: str = "Decomposition of the chain") -> str:
    """Our rows 0-4 and, clearly apart, the published ones."""
    return markdown(result, title) + "\n---\n\n" + published_table()
