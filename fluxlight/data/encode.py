"""Encoding: captioned audio -> a latent store; or prompts alone -> a slice. Resumable shard by shard."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from fluxlight.codec import Codec
from fluxlight.data.sources import CorpusSplit, Source
from fluxlight.data.store import require_keys
from fluxlight.data.writer import LatentStoreWriter
from fluxlight.device import chosen
from fluxlight.encoders import TextAudioModel, TextEncoder
from fluxlight.progress import track
from fluxlight.prompts import one_warning, worded
from fluxlight.rewards import Reward

NEGATIVE = "noise, distortion, low quality, static, hum, hiss, clipping, muffled, amateur recording"
"""The published negative text of guidance (FACTS section 4)."""


def encode(
    out: str,
    codec: Codec | None,
    text: TextEncoder,
    clap: TextAudioModel,
    reward: Reward | None,
    split: str = "train",
    preset: Literal["debug", "tiny", "judges"] = "tiny",
    clips: int | None = None,
    source: Source | None = None,
    text_only: bool = False,
    prefix: str = "",
    suffix: str = "",
    negative: str = NEGATIVE,
    shard: int = 32,
    device: str = "cpu",
) -> None:
    """Encode a source into a latent store; a second call does what is missing, a finished store is left alone.

    Args:
        out: folder of the store.
        codec: audio -> latents; not needed with ``text_only``.
        text: texts -> tokens.
        clap: texts -> global embedding; the model that conditions, never the judge.
        reward: audio and caption -> score column; null: none.
        split: of the embedded corpus.
        preset: sizes of the embedded corpus.
        clips: number of clips in place of the preset's.
        source: another source of captioned audio, in place of split, preset and clips.
        text_only: prompts without latents, for a slice.
        prefix: put before every caption that is not empty; the reward hears the caption alone. The published prompts
            start with "high quality instrumental music, "; the embedded models have never seen these words, so here
            it is empty.
        suffix: put behind them.
        negative: text of the negative branch of guidance; the published one.
        shard: clips of a shard: what a killed run loses at most.
        device: where the models run: cpu, cuda, mps, or auto for the GPU where there is one. Latents differ between
            devices to float tolerance, so a store is best made on one.
    """
    source = source or CorpusSplit(split, preset, clips)
    identities = {"text": text.identity, "clap": clap.identity}
    if not text_only:
        if codec is None:
            raise ValueError("codec is null: give one, or encode with --text_only true")
        identities |= {"codec": codec.identity} | ({"reward": reward.identity} if reward is not None else {})
    recipe = {
        **source.recipe,
        **identities,
        "text_only": text_only,
        "prefix": prefix,
        "negative": negative,
        "shard": shard,
        # only where there is one: stores from before it are whole
        **({"suffix": suffix} if suffix else {}),
    }
    writer = LatentStoreWriter(out, recipe)
    if writer.finished:
        print(f"nothing to do: {out} is finished", file=sys.stderr)
        return
    rows = source.rows
    # before the first clip is encoded
    require_keys(rows, f"store {out}")
    place = chosen(device)
    for model in (codec, text, clap, reward):
        if model is not None:
            model.to(place)
    # every text is read by the token encoder and by CLAP; whoever cuts one, it is counted once
    with one_warning(len(rows), text.length):
        shards = _write_shards(writer, source, codec, text, clap, reward, (prefix, suffix), shard, text_only, place)
        published = None if codec is None else codec.statistics
        known = None if published is None else (_array(published[0]), _array(published[1]))
        writer.finish(rows, shards, texts(["", negative], text, clap), text.length, identities, known)
    print(f"{len(rows)} {'prompts' if text_only else 'clips'} -> {out}", file=sys.stderr)


def _write_shards(
    writer: LatentStoreWriter,
    source: Source,
    codec: Codec | None,
    text: TextEncoder,
    clap: TextAudioModel,
    reward: Reward | None,
    around: tuple[str, str],
    shard: int,
    text_only: bool,
    place: str,
) -> int:
    """Write the shards that are missing; how many there are in all."""
    rows = source.rows
    starts = range(0, len(rows), shard)
    what = f"encoding {len(rows)} {'prompts' if text_only else 'clips'}"
    for number, start in enumerate(track(starts, what, unit="shard")):
        if writer.has(number):
            continue
        captions = [row["caption"] for row in rows[start : start + shard]]
        tokens, text_c = texts(worded(captions, *around), text, clap)
        if text_only or codec is None:
            writer.write(number, tokens, text_c)
            continue
        audio = source.audio(start, start + len(captions))
        with torch.no_grad():
            wave = audio if source.sample_rate == codec.sample_rate else _resampled(audio, source, codec)
            mean, std = codec.encode(wave.to(place))
            scores = None if reward is None else reward.score(audio, source.sample_rate, captions)
        writer.write(number, tokens, text_c, _array(mean), _array(std), _array(scores))
    return len(starts)


def texts(captions: Sequence[str], text: TextEncoder, clap: TextAudioModel) -> tuple[list[np.ndarray], np.ndarray]:
    """Token features ``[(n_i, E)]`` and global embeddings ``(B, C)`` of captions."""
    with torch.no_grad():
        return [_array(tokens) for tokens in text.encode_ragged(captions)], _array(clap.embed_text(captions))


def _resampled(audio: torch.Tensor, source: Source, codec: Codec) -> torch.Tensor:
    import soxr

    wave = soxr.resample(audio.numpy().T, source.sample_rate, codec.sample_rate).T
    return torch.from_numpy(np.ascontiguousarray(wave))


def _array(value: torch.Tensor | None) -> Any:
    return None if value is None else value.detach().cpu().numpy()
