"""CLAP score: cosine between a prompt's embedding and its clip's (FACTS section 9), and a shuffled prompt's."""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxlight.metrics.arrays import Array, embeddings64, unit_rows


def clap_scores(audio: Any, text: Any) -> Array:
    """Cosine of each clip ``(n, d)`` with its own prompt ``(n, d)``, as ``(n,)``; the CLAP score is its mean."""
    audio, text = unit_rows(audio), unit_rows(text)
    if audio.shape != text.shape:
        raise ValueError(f"CLAP score: audio {audio.shape} and text {text.shape} embeddings must match row by row")
    return np.einsum("nd,nd->n", audio, text)


def shuffled_scores(audio: Any, text: Any) -> Array:
    """Mean cosine of each clip ``(n, d)`` with the prompts of all the other clips, as ``(n,)``.

    The mean over every wrong prompt is the expectation over all shuffles, so no seed enters the own-vs-shuffled test.
    """
    audio, text = embeddings64(audio), embeddings64(text)
    cosine = unit_rows(audio) @ unit_rows(text).T
    return (cosine.sum(axis=1) - np.diag(cosine)) / (cosine.shape[1] - 1)


def retrieval(audio: Any, text: Any, k: int = 10) -> float:
    """Share of clips ``(n, d)`` whose own prompt is among the k nearest of all n prompts (chance k / n)."""
    cosine = unit_rows(audio) @ unit_rows(text).T
    rank = (cosine > np.diag(cosine)[:, None]).sum(axis=1)
    return float((rank < k).mean())
