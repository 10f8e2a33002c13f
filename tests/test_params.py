"""`fluxlight params`: the published counts, what is frozen, and the limit of the track."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fluxlight.cli import main

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def counted(capsys: pytest.CaptureFixture[str], name: str, *more: str, code: int = 0) -> dict[str, Any]:
    words = ["--config", str(CONFIGS / "stages" / f"{name}.yaml"), "--config", str(CONFIGS / "scales" / "full.yaml")]
    assert main(["params", *words, "--json", *more]) == code
    return json.loads(capsys.readouterr().out)


def test_size_s_has_the_published_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """FACTS section 6: 120,231,848 trainable at 44.1 kHz, 120,311,288 with the frozen floats."""
    found = counted(capsys, "row0_baseline")
    assert found["trainable"] == 120_231_848 and found["allowed"] and found["limit"] == 500_000_000
    assert found["parts"]["backbone"] == {"trainable": 120_231_848, "frozen": 120_311_288 - 120_231_848}
    scored = counted(capsys, "score_cond_sft", "--model.init_from", "/not/looked/at")
    assert scored["trainable"] - found["trainable"] == scored["parts"]["head"]["trainable"] > 0
    assert scored["total"] == scored["trainable"] + scored["frozen"]


def test_a_model_over_the_limit_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    large = ("--model.backbone.hidden_dim", "896", "--model.backbone.num_heads", "14")
    assert counted(capsys, "row0_baseline", *large)["allowed"]
    # FACTS section 6 gives size L its number with the 20 channels of 16 kHz
    narrow = ("--model.backbone.latent_dim", "20", "--model.backbone.latent_seq_len", "312")
    assert counted(capsys, "row0_baseline", *large, *narrow)["trainable"] == 478_417_684
    larger = ("--model.backbone.hidden_dim", "960", "--model.backbone.num_heads", "15")
    assert not counted(capsys, "row0_baseline", *larger, code=1)["allowed"]


def test_the_table_and_one_line_errors(capsys: pytest.CaptureFixture[str]) -> None:
    stage = str(CONFIGS / "stages" / "crpo.yaml")
    assert main(["params", "--config", stage]) == 0
    said = capsys.readouterr().out
    assert "CRPO" in said and "under the track's limit of 500,000,000" in said and "not counted" in said
    for words, says in ((["--model.backbone.dept", "4"], "dept"), (["--model.backbone.num_heads", "5"], "num_heads 5")):
        assert main(["params", "--config", stage, *words]) == 2
        err = capsys.readouterr().err.strip()
        assert says in err and "\n" not in err
