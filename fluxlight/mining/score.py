"""Scoring: candidates.jsonl + audio -> scores.jsonl, one row per candidate with the reward and the CLAP similarity.

These scores select training data, so the models that give them are the driving ones (reward A, CLAP-A), never the
judges of the table.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fluxlight.clips.candidates import Key, key_of, load_audio, read_candidates
from fluxlight.device import chosen
from fluxlight.encoders.base import TextAudioModel
from fluxlight.files import append_jsonl, mend_jsonl
from fluxlight.postprocess import LockedLoudness
from fluxlight.progress import track
from fluxlight.rewards.base import Reward, check_audio
from fluxlight.types import Candidate, Clip

ROWS = "scores.jsonl"
Row = dict[str, Any]


def score_folder(
    candidates: Path,
    reward: Reward,
    clap: TextAudioModel,
    batch_size: int = 16,
    lufs: float | None = -23.0,
    retry: bool = False,
    device: str = "cpu",
) -> list[Row]:
    """Score what has no score yet and append it to ``<candidates>/scores.jsonl``.

    A candidate that failed, or whose clip cannot be read or judged, becomes a row with its error.

    Args:
        candidates: the candidates folder.
        reward: the reward that drives.
        clap: the CLAP that drives.
        batch_size: clips per forward pass. Batches are cut from the full list, so an interrupted run repeats whole
            batches and its scores stay bit-identical.
        lufs: loudness every clip is brought to first (locked, no limiting), None for as rendered. Embedded judges do
            not hear level; published ones do (FACTS section 9).
        retry: judge rows again that ended with an error. (A candidate that failed and was made later always is.)
        device: where the judges run: cpu, cuda, mps, or auto for the GPU where there is one.

    Returns:
        One row per candidate: its columns and ``reward``, ``clap``, ``judges`` (identities and level).
    """
    path = candidates / ROWS
    judges = {"reward": reward.identity, "clap": clap.identity, "lufs": lufs}
    known: dict[Key, Row] = {}
    for row in mend_jsonl(path):
        if row.get("judges") != judges:
            raise ValueError(f"{path} holds scores of {row.get('judges')}, now {judges}: move that file away first")
        known[key_of(row)] = row
    everything = read_candidates(candidates)
    for judge in (reward, clap):
        judge.to(chosen(device))
    starts = range(0, len(everything), batch_size)
    for start in track(starts, f"scoring {len(everything)} candidates", unit="batch"):
        batch = everything[start : start + batch_size]
        missing = {key_of(c) for c in batch if not _done(c, known.get(key_of(c)), retry)}
        if not missing:
            continue
        scored = [{**row, "judges": judges} for row in _score_batch(candidates, batch, reward, clap, lufs)]
        new = {key_of(row): row for row in scored if key_of(row) in missing}
        append_jsonl(path, new.values())
        known.update(new)
    return [known[key_of(candidate)] for candidate in everything]


def _done(candidate: Candidate, row: Row | None, retry: bool) -> bool:
    """Whether ``row`` is the score of this very candidate; its ``audio`` is empty if it had failed back then."""
    return row is not None and row["audio"] == candidate.audio and not (retry and row["error"])


def _score_batch(
    folder: Path, batch: list[Candidate], reward: Reward, clap: TextAudioModel, lufs: float | None
) -> list[Row]:
    rows = [{**asdict(candidate), "reward": None, "clap": None} for candidate in batch]
    clips: list[tuple[Row, torch.Tensor, int]] = []
    for row in rows:
        if row["error"]:
            continue
        try:
            samples, sample_rate = load_audio(folder, row)
            audio = torch.from_numpy(samples)
            if lufs is not None:
                audio = LockedLoudness(lufs)(Clip(row["id"], audio, sample_rate)).audio
            clips.append((row, audio, sample_rate))
        except (OSError, RuntimeError, ValueError) as error:  # soundfile raises RuntimeError for a broken file
            row["error"] = _one_line(error)
    for shape in sorted({(len(audio), sample_rate) for _, audio, sample_rate in clips}):
        group = [(row, audio) for row, audio, sample_rate in clips if (len(audio), sample_rate) == shape]
        _judge([row for row, _ in group], torch.stack([audio for _, audio in group]), shape[1], reward, clap)
    return rows


def _judge(rows: list[Row], audio: torch.Tensor, sample_rate: int, reward: Reward, clap: TextAudioModel) -> None:
    """Fill ``reward`` and ``clap`` of rows whose clips ``(B, N)`` have one length."""
    prompts = [row["prompt"] for row in rows]
    try:
        audio = check_audio(audio, sample_rate)
        heard = clap.embed_audio(audio, sample_rate)
        # where the reward stands on this very CLAP: listen once for both
        shared = reward.clap_identity == clap.identity
        rewards = (
            reward.score_heard(audio, sample_rate, prompts, heard)
            if shared
            else reward.score(audio, sample_rate, prompts)
        )
        # unit vectors: their product is the cosine
        similarity = (heard * clap.embed_text(prompts)).sum(dim=-1)
    except (RuntimeError, ValueError) as error:
        if len(rows) > 1:  # one bad clip must not cost its neighbours: judge them one by one
            for i, row in enumerate(rows):
                _judge([row], audio[i : i + 1], sample_rate, reward, clap)
            return
        rows[0]["error"] = _one_line(error)
        return
    for row, r, c in zip(rows, rewards.tolist(), similarity.tolist(), strict=True):
        row["reward"], row["clap"] = r, c


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
