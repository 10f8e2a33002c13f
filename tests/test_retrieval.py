"""Retrieval measures of a CLAP: recall, tags, free prompts, agreement of two judges."""

from __future__ import annotations

import pytest
import torch

from fluxlight.encoders import TextAudioModel
from fluxlight.encoders.retrieval import (
    FreePrompt,
    free_prompt_recall,
    grouped_recall,
    rank_agreement,
    recall,
    tag_accuracy,
)

RATE = 44100


def test_recall_of_known_rankings() -> None:
    similarity = torch.tensor([[3.0, 1, 2], [2, 1, 3], [1, 3, 2]])  # own clip is 1st, 3rd, 2nd
    assert [recall(similarity, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert recall(torch.zeros(3, 3), 1) == 0.0  # a model that says the same of everything finds nothing
    same = torch.nn.functional.normalize(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    assert grouped_recall(same, same)["text_to_audio_r1"] == 1.0
    with pytest.raises(ValueError, match="fewer than one group"):
        grouped_recall(same[:50], same[:50])


class _Oracle:
    """Embeds a text as the sum of the axes of the words it holds."""

    axes = ["waltz", "polka", "harp", "flute"]

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float(word in text) for word in self.axes] for text in texts])


def test_tags_and_free_prompts_of_an_oracle() -> None:
    tags = [{"genre": "waltz", "instruments": ["harp"]}, {"genre": "polka", "instruments": ["harp", "flute"]}] * 10
    audio = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 1]] * 10)
    model: TextAudioModel = _Oracle()  # type: ignore[assignment]
    assert tag_accuracy(model, audio, tags, "genre") == {"top1": 1.0, "commonest": 0.5, "values": 2, "n": 20}
    assert tag_accuracy(model, audio, tags, "instruments")["jaccard"] == 1.0
    prompts = [FreePrompt("polka", {"genre": ["polka", "mazurka"]}), FreePrompt("flute", {"instruments": ["flute"]})]
    answers = [(0, audio[1]), (1, audio[1])]
    found = free_prompt_recall(model, prompts, answers, audio, tags, size=10)
    assert found["prompts"] == 2 and found["r1"] == 1.0 and found["genre"] == {"p10": 1.0, "base": 0.5}
    wrong = free_prompt_recall(model, [FreePrompt("waltz", {"genre": "polka"})], [(0, audio[1])], audio, tags, size=10)
    assert wrong["r1"] == 0.0 and wrong["genre"]["p10"] == 0.0
    with pytest.raises(ValueError, match="are needed"):
        free_prompt_recall(model, prompts, answers, audio, tags, size=100)


def test_rank_agreement_bounds() -> None:
    scores = torch.tensor([0.1, 0.5, 0.3, 0.9])
    assert rank_agreement(scores, scores.exp()) == pytest.approx(1.0)
    assert rank_agreement(scores, -scores) == pytest.approx(-1.0)
    with pytest.raises(ValueError, match="shapes"):
        rank_agreement(scores, scores[:2])


# ---- the shipped judges
