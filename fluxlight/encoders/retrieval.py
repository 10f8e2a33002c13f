"""How well a CLAP finds the right clip: recall among 100 by caption, tag and free prompt; agreement of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from fluxlight.encoders.base import TextAudioModel

# tag -> the text that asks for one of its values (our wording, in no caption template)
QUESTIONS = {
    "genre": "{} music",
    "mood": "{} music",
    "mode": "music in a {} key",
    "tempo_word": "a {} piece of music",
    "lead": "{} playing the melody",
    "instruments": "the sound of {}",
}


def recall(similarity: Tensor, k: int) -> float:
    """Share of queries whose own clip is among the ``k`` best.

    Args:
        similarity: ``(Q, Q)``, query by clip; the diagonal is right. Ties count against the query.
    """
    better = (similarity >= similarity.diagonal()[:, None]).sum(dim=1) - 1
    return float((better < k).float().mean())


def grouped_recall(text: Tensor, audio: Tensor, size: int = 100) -> dict[str, float]:
    """Recall at 1 and 10, both directions, in consecutive groups of ``size`` clips; rows ``(n, D)`` are pairs."""
    groups = [(text[i : i + size], audio[i : i + size]) for i in range(0, len(text) - size + 1, size)]
    if not groups:
        raise ValueError(f"{len(text)} clips are fewer than one group of {size}: pass more clips")
    out = {}
    for name, left, right in (("text_to_audio", 0, 1), ("audio_to_text", 1, 0)):
        for k in (1, 10):
            out[f"{name}_r{k}"] = float(np.mean([recall(pair[left] @ pair[right].T, k) for pair in groups]))
    return out


def tag_accuracy(model: TextAudioModel, audio: Tensor, tags: Sequence[dict[str, Any]], tag: str) -> dict[str, float]:
    """Zero-shot reading of one tag from clip embeddings ``(n, D)``: ask for every value, keep the best answers.

    A tag with one value per clip gives ``top1`` beside the share of the commonest value; a list (instruments) gives
    ``top1`` (the best answer sounds in the clip) and the mean ``jaccard`` of its k values and the k best answers.
    """
    truth = [set(clip[tag]) if isinstance(clip[tag], list) else {clip[tag]} for clip in tags]
    values = sorted(set().union(*truth))
    order = (audio @ model.embed_text([QUESTIONS[tag].format(value) for value in values]).T).argsort(
        dim=1, descending=True
    )
    top1 = [values[int(row[0])] in own for row, own in zip(order, truth, strict=True)]
    common = max(sum(value in own for own in truth) for value in values) / len(truth)
    out = {"top1": float(np.mean(top1)), "commonest": common, "values": len(values), "n": len(truth)}
    if any(isinstance(clip[tag], list) for clip in tags):
        best = [{values[int(k)] for k in row[: len(own)]} for row, own in zip(order, truth, strict=True)]
        out["jaccard"] = float(np.mean([len(own & got) / len(own | got) for own, got in zip(truth, best, strict=True)]))
    return out


@dataclass
class FreePrompt:
    """A prompt written by hand and the tags that a fitting clip has.

    Attributes:
        prompt: the text.
        tags: tag -> value, or a list of values of which one is enough; ``instruments`` lists must all sound.
    """

    prompt: str
    tags: dict[str, Any]

    def fits(self, clip: dict[str, Any]) -> bool:
        """Does a clip with these tags answer the prompt?"""
        for tag, wanted in self.tags.items():
            own = clip.get(tag)
            if isinstance(own, list):
                if not set([wanted] if isinstance(wanted, str) else wanted) <= set(own):
                    return False
            elif own not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True


def free_prompt_recall(
    model: TextAudioModel,
    prompts: Sequence[FreePrompt],
    answers: Sequence[tuple[int, Tensor]],
    pool: Tensor,
    tags: Sequence[dict[str, Any]],
    size: int = 100,
) -> dict[str, Any]:
    """Recall of free prompts among ``size`` clips: one that fits against clips of the pool that do not.

    Args:
        prompts: the prompts.
        answers: pairs of a prompt's number and the embedding ``(D,)`` of a clip whose tags fit it; a prompt counts
            once, however many answers it has.
        pool: embeddings ``(P, D)`` of the other clips, with their ``tags``.

    Returns:
        ``r1``, ``r10``, how many prompts and answers, and for each tag kind the share of a prompt's 10 best pool clips
        that have the wanted value (``p10``) beside the share in the whole pool (``base``).
    """
    text = model.embed_text([prompt.prompt for prompt in prompts])
    ranks: dict[int, list[int]] = {}
    for number, answer in answers:
        others = [row for row, clip in enumerate(tags) if not prompts[number].fits(clip)][: size - 1]
        if len(others) < size - 1:
            raise ValueError(
                f"free prompt {number}: {len(others)} clips of the pool do not fit it, {size - 1} are needed"
            )
        ranks.setdefault(number, []).append(int((pool[others] @ text[number] >= answer @ text[number]).sum()))
    out: dict[str, Any] = {"prompts": len(ranks), "answers": len(answers)}
    for k in (1, 10):
        out[f"r{k}"] = float(np.mean([np.mean([rank < k for rank in own]) for own in ranks.values()]))
    best = (text @ pool.T).argsort(dim=1, descending=True)[:, :10]
    for tag in sorted({tag for prompt in prompts for tag in prompt.tags}):
        pairs = []
        for row, prompt in enumerate(prompts):
            if tag in prompt.tags:
                has = np.array([FreePrompt("", {tag: prompt.tags[tag]}).fits(clip) for clip in tags])
                pairs.append((has[best[row].numpy()].mean(), has.mean()))
        out[tag] = {"p10": float(np.mean([a for a, _ in pairs])), "base": float(np.mean([b for _, b in pairs]))}
    return out


def rank_agreement(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two judges' scores ``(n,)`` of the same clips."""
    if first.shape != second.shape or first.ndim != 1 or len(first) < 3:
        raise ValueError(f"scores have shapes {tuple(first.shape)} and {tuple(second.shape)}: pass two (n,), n >= 3")
    return float(spearmanr(first.cpu().numpy(), second.cpu().numpy()).statistic)


def clap_score(model: TextAudioModel, audio: Tensor | np.ndarray, sample_rate: int, prompts: Sequence[str]) -> Tensor:
    """Cosine of each clip ``(B, N)`` and its prompt, ``(B,)``: what two judges rank by."""
    return torch.einsum("bd,bd->b", model.embed_audio(audio, sample_rate), model.embed_text(prompts))


def held_out_captions(rows: Sequence[Any]) -> list[str]:
    """A caption of each corpus row in the templates that no judge was trained on."""
    return _captions(rows, "held_out")


def _captions(rows: Sequence[Any], group: str) -> list[str]:
    from fluxlight.embedded import corpus

    groups = {"clap-a": corpus.TEMPLATES_A, "clap-b": corpus.TEMPLATES_B, "held_out": corpus.TEMPLATES_HELD_OUT}
    keys = [(row, np.random.default_rng([7, row.seed, row.index])) for row in rows]
    return [corpus.write_caption(row.tags, rng, groups[group])[0] for row, rng in keys]


def measure(model: TextAudioModel, audio: Tensor, rows: Sequence[Any]) -> dict[str, Any]:
    """Recall and tag accuracy of one CLAP, from clip embeddings ``(n, D)`` and their corpus rows."""
    tags = [row.tags for row in rows]
    out: dict[str, Any] = {"identity": model.identity, "training": model.facts, "n": len(rows)}
    for name, group in (("own_templates", model.name), ("held_out_templates", "held_out")):
        text = model.embed_text(_captions(rows, group))
        out[name] = grouped_recall(text, audio) | {
            "cosine_matched": float((text * audio).sum(1).mean()),
            "cosine_mismatched": float((text * audio.roll(1, 0)).sum(1).mean()),
        }
    out["tags"] = {tag: tag_accuracy(model, audio, tags, tag) for tag in QUESTIONS}
    return out


if __name__ == "__main__":
    raise SystemExit("python -m fluxlight.encoders.retrieval is now: fluxlight retrieval")
