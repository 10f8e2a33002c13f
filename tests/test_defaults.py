"""``defaults:`` inside a YAML: the stage files resolve to the right values, and its errors are one clear line."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fluxlight.cli import main
from fluxlight.stages.optimizer import published_adamw
from fluxlight.weights.needs import read_configs

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# stage: model class, data class, updates, learning rate, decay_at, text_drop, stream of draws
TABLE: dict[str, tuple[Any, ...]] = {
    "trunk": ("ScoreCondSFT", "SFTData", 1200, 1e-3, [], 0.1, "trunk"),
    "row0_baseline": ("ScoreCondSFT", "SFTData", 150, 5e-4, [0.8, 0.9], 0.1, "sft"),
    "score_cond_sft": ("ScoreCondSFT", "SFTData", 150, 5e-4, [0.8, 0.9], 0.1, "sft"),
    "cross_load": ("ScoreCondSFT", "SFTData", 150, 5e-4, [0.8, 0.9], 0.1, "sft"),
    "expert_iter": ("ExpertIter", "MixtureData", 100, 2e-4, [], 0.1, "expert_iter"),
    "expert_polish": ("ExpertIter", "MixtureData", 20, 2e-5, [], 0.1, "expert_polish"),
    "crpo": ("CRPO", "PairData", 40, 2e-5, [], 0.0, "preference"),
    "online": ("Online", "SFTData", 40, 1e-4, [], 0.1, "online"),
}


@pytest.mark.parametrize("stage", TABLE)
def test_a_stage_file_is_short_and_resolves(stage: str):
    path = CONFIGS / "stages" / f"{stage}.yaml"
    assert len(path.read_text().splitlines()) <= 45
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["fit", "--config", str(path), "--print_config"])
    config = yaml.safe_load(out.getvalue())
    args = config["model"]["init_args"]
    optimizer = args["optimizer"]["init_args"]
    classes = [config[part]["class_path"].split(".")[-1] for part in ("model", "data")]
    rest = (config["trainer"]["max_steps"], optimizer["lr"], args["schedule"]["decay_at"], args["text_drop"])
    rest += (config["data"]["init_args"]["stream"],)
    assert (*classes, *rest) == TABLE[stage]
    assert (optimizer["betas"], optimizer["eps"], optimizer["weight_decay"]) == ([0.9, 0.95], 1e-6, 1e-6)
    assert args["seed"] == config["data"]["init_args"]["seed"] == 42
    assert args["stream"] == config["data"]["init_args"]["stream"]


def test_the_published_optimiser_is_the_default():
    """A stage of one's own that names none is trained as published."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["fit", "--model", "fluxlight.stages.ExpertIter", "--model.backbone", "FluxAudio", "--print_config"])
    found = yaml.safe_load(out.getvalue())["model"]["init_args"]["optimizer"]
    assert found == "fluxlight.stages.optimizer.published_adamw"
    made = published_adamw([torch.zeros(1, requires_grad=True)]).defaults
    assert (made["lr"], made["betas"], made["eps"], made["weight_decay"]) == (1e-4, (0.9, 0.95), 1e-6, 1e-6)


@pytest.mark.parametrize(
    "switch",
    [["--model.class_path", "fluxlight.stages.ExpertIter"], ["--model", "ExpertIter"], ["--model=ExpertIter"],
     ["--config", str(CONFIGS / "stages/expert_iter.yaml")], ["--data", "fluxlight.data.MixtureData"]],
)  # fmt: skip
def test_a_class_is_never_switched_over_a_resolved_config(switch: list[str], capsys: pytest.CaptureFixture[str]):
    """Else betas, eps, weight decay and seeds would fall to the class's defaults without a word."""
    stage = str(CONFIGS / "stages/score_cond_sft.yaml")
    assert main(["fit", "--config", stage, *switch, "--print_config"]) == 2
    said = capsys.readouterr().err
    assert "switches" in said and "start from the YAML of" in said and len(said.splitlines()) == 1
    # the same class again is no switch, nor is another head
    same = ["--model.class_path", "fluxlight.stages.ScoreCondSFT", "--model.head", "BlockAdaLN"]
    assert main(["fit", "--config", stage, *same, "--print_config"]) == 0


def test_later_files_win_deep_and_lists_are_replaced(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("x: {p: 1, q: 1}\nl: [1, 2]\n")
    (tmp_path / "b.yaml").write_text("defaults: [a.yaml]\nx: {q: 2}\n")
    (tmp_path / "c.yaml").write_text("defaults: [a.yaml, b.yaml]\nx: {r: 3}\nl: [3]\n")
    assert read_configs([tmp_path / "c.yaml"]) == {"x": {"p": 1, "q": 2, "r": 3}, "l": [3]}


@pytest.mark.parametrize(
    ("text", "other", "said"),
    [
        ("defaults: [no.yaml]", "", "no.yaml does not exist"),
        ("defaults: b.yaml", "", "give a list"),
        ("defaults: [b.yaml]", "[1]", "b.yaml is no configuration"),
        ("defaults: [b.yaml]", "defaults: [a.yaml]", "has itself among its defaults"),
        ("defaults: [b.yaml]", "a: 1\nb: 2\na: 3\n", "line 3: a stands twice"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, other: str, said: str):
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(other)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        read_configs([tmp_path / "a.yaml"])
    assert main(["fit", "--config", str(tmp_path / "a.yaml"), "--print_config"]) != 0
    assert said in (err := capsys.readouterr().err) and len(err.strip().splitlines()) == 1


def test_every_key_of_a_recipe_is_explained() -> None:
    """Every setting has a comment on its line, above it, above the group it opens, or in base.yaml."""
    base = (CONFIGS / "base.yaml").read_text()
    for path in (
        sorted(CONFIGS.glob("s*/*.yaml"))
        + sorted(CONFIGS.glob("heads/*.yaml"))
        + sorted(CONFIGS.glob("loggers/*.yaml"))
        + sorted(CONFIGS.glob("worlds/*.yaml"))
    ):
        explained: list[tuple[int, bool]] = []
        comment = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                comment = bool(text)
                continue
            indent = len(line) - len(line.lstrip())
            explained = [(i, e) for i, e in explained if i < indent]
            structural = re.fullmatch(
                r"(- )?(defaults|model|data|trainer|init_args|plan|class_path|backbone|sampler|logger|callbacks)?:?"
                "( .*)?",
                text,
            )
            # a comment covers the lines that follow it without another comment, down to its own indentation
            covered = comment or "#" in text or any(e for _, e in explained) or bool(structural)
            if path.parent.name == "stages":
                # the rest is said once, in base.yaml; a step's name of its own opens its numbers
                covered |= bool(re.search(rf"\b{text.split(':')[0]}\b", base)) or bool(re.fullmatch(r"[a-z_]+:", text))
            assert covered, f"{path.name} line {number}: {text} has no comment"
            if not structural:
                explained.append((indent - 1, True))
