"""What becomes of a prompt before an encoder reads it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from fluxlight.encoders import ClapA, MiniLM
from fluxlight.encoders.minilm import _load
from fluxlight.prompts import PromptsCut, is_empty, note_cut, one_warning, worded

PREFIX = "high quality instrumental music, "
LONG = "slow " * 100 + "waltz"


def test_prefix_and_suffix_stand_around_every_prompt_but_an_empty_one() -> None:
    assert worded(["a waltz", "", "  \n"], PREFIX, ", 44 kHz") == [f"{PREFIX}a waltz, 44 kHz", "", ""]
    assert worded(["a waltz", ""]) == ["a waltz", ""]
    assert is_empty(" \t") and not is_empty(".")


def cut_warnings(found: list[warnings.WarningMessage]) -> list[str]:
    return [str(w.message) for w in found if issubclass(w.category, PromptsCut)]


def test_long_prompts_are_cut_with_one_warning_that_counts_them() -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        features = MiniLM().encode_ragged(["a waltz", LONG, LONG + " again", "a march"])
    (message,) = cut_warnings(found)
    assert message.startswith("2 of 4 prompts are longer than 77 tokens")
    assert [len(f) for f in features][1:3] == [77, 77] and len(features[0]) == 4
    # cut as the tokenizer itself would: 76 tokens, then [SEP]
    tokenizer, model = _load()
    ids = tokenizer([LONG], truncation=True, max_length=77)["input_ids"]
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(ids)).last_hidden_state[0]
    torch.testing.assert_close(features[1], expected, atol=1e-5, rtol=0)


def test_several_encoders_and_calls_give_one_warning_too() -> None:
    text, clap, prompts = MiniLM(), ClapA(), ["a waltz", LONG, "a march", LONG + " again"]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with one_warning(len(prompts), text.length):
            for start in (0, 2):
                part = prompts[start : start + 2]
                with one_warning(len(part), text.length):
                    text.encode_ragged(part)
                clap.embed_text(part)
        text.encode_ragged(["a waltz"])
    assert [m[:6] for m in cut_warnings(found)] == ["2 of 4"]


def test_a_broken_block_warns_of_nothing_and_leaves_nothing_behind() -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError), one_warning(1, 77):
            note_cut(["x"], [90], 77)
            raise RuntimeError
        assert not cut_warnings(found)
        note_cut(["x", "y"], [90, 77], 77)
    assert [m[:6] for m in cut_warnings(found)] == ["1 of 2"]


def test_the_published_prefix_pushes_published_prompts_over(shared: Path) -> None:
    prompts = [row["prompt"] for row in json.loads((shared / "sdd100/prompts.json").read_text())]
    tokenizer, _ = _load()

    def over(texts: list[str]) -> int:
        return sum(len(ids) > 77 for ids in tokenizer(texts)["input_ids"])

    assert len(prompts) == 100 and over(worded(prompts, PREFIX)) > over(prompts)
