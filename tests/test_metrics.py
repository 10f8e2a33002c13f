"""Metrics over batches and shards, references of clips and windows, and the published rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_evaluation import sample

from fluxlight.metrics import (
    ClapScore,
    Diversity,
    FrechetAudioDistance,
    KernelAudioDistance,
    MauveAudioDivergence,
    Reference,
    ReferenceMoments,
    RewardMean,
    borda_rank,
    clap_scores,
    fad_to,
    kad,
)
from fluxlight.metrics.windows import cut, window_embeddings


class FakeClap:
    """A deterministic embedder: the mean and spread of eight slices of the clip."""

    identity = "fake-1"

    def embed_audio(self, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
        parts = audio.reshape(audio.shape[0], 4, -1)
        return torch.cat([parts.mean(-1), parts.std(-1)], 1)

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return torch.stack([torch.full((8,), float(len(text))) for text in texts])

    def score(self, audio: torch.Tensor, sample_rate: int, prompts: list[str]) -> torch.Tensor:
        return audio.mean(1)


def test_metrics_equal_the_functions_for_any_batching() -> None:
    fake = FakeClap()
    audio = torch.from_numpy(sample(50, 64, 10).astype(np.float32))
    prompts = ["a" * (1 + i % 5) for i in range(50)]
    reference = Reference.from_embeddings(sample(90, 8, 11, 0.1), "fake-1", 44100)
    x = fake.embed_audio(audio, 44100)
    for size in (1, 7, 50):
        metrics = [
            FrechetAudioDistance(reference, fake),
            KernelAudioDistance(reference, fake),
            ClapScore(fake),
            RewardMean(fake),
        ]
        for i in range(0, 50, size):
            metrics[0].update(audio[i : i + size], 44100)
            metrics[1].update(audio[i : i + size], 44100)
            metrics[2].update(audio[i : i + size], 44100, prompts[i : i + size])
            metrics[3].update(audio[i : i + size], 44100, prompts[i : i + size])
        expected = [fad_to(x, reference.mean, reference.cov), kad(x, reference.embeddings),
                    clap_scores(x, fake.embed_text(prompts)).mean(), float(audio.double().mean())]  # fmt: skip
        assert [float(m.compute()) for m in metrics] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_order_and_shards_do_not_matter() -> None:
    """What two processes hold, merged as torchmetrics does, is what one would hold, in any order."""
    fake, reference = FakeClap(), Reference.from_embeddings(sample(90, 8, 12), "fake-1", 44100)
    x, text = torch.from_numpy(sample(31, 8, 13)), torch.from_numpy(sample(31, 8, 23))
    order = torch.from_numpy(np.random.default_rng(24).permutation(31))
    makes = [
        lambda: FrechetAudioDistance(reference), lambda: KernelAudioDistance(reference),
        lambda: MauveAudioDivergence(reference), Diversity, ClapScore, RewardMean, lambda: ReferenceMoments(fake, 8),
    ]  # fmt: skip
    for make in makes:

        def given(rows: torch.Tensor, make=make) -> torch.Tensor:
            metric = make()
            for part in rows.split(7):
                more = {"text": text[part]} if isinstance(metric, ClapScore) else {}
                key = "scores" if isinstance(metric, RewardMean) else "embeddings"
                metric.update(**{key: x[part][:, 0] if key == "scores" else x[part]}, **more)
            return metric

        whole, turned = given(torch.arange(31)), given(order)
        shard, other = given(order[::2]), given(order[1::2])
        shard.merge_state(other)
        for found in (turned, shard):
            assert torch.allclose(found.compute(), whole.compute(), rtol=1e-9, atol=1e-12), type(whole).__name__


def test_reference_of_any_size_from_sums(tmp_path) -> None:
    fake = FakeClap()
    audio = torch.from_numpy(sample(50, 64, 30).astype(np.float32))
    metric = ReferenceMoments(fake, 8)
    for part in audio.split(9):
        metric.update(part, 44100)
    made = metric.reference(44100, "streamed", "locked")
    whole = Reference.from_embeddings(fake.embed_audio(audio, 44100), "fake-1", 44100, "streamed", loudness="locked")
    assert made.n == 50 and np.allclose(made.mean, whole.mean) and np.allclose(made.cov, whole.cov)
    made.save(tmp_path / "r.safetensors")
    assert Reference.load(tmp_path / "r.safetensors").frame() == whole.frame()
    with pytest.raises(ValueError, match="n = 1"):
        (one := ReferenceMoments(fake, 8)).update(audio[:1], 44100)
        one.compute()


def test_metrics_refuse_too_few_clips_and_keep_the_judge_off_the_tree() -> None:
    reference = Reference.from_embeddings(sample(9, 8, 14), "fake-1", 44100)
    metric = FrechetAudioDistance(reference, FakeClap())
    metric.update(embeddings=torch.zeros(1, 8))
    with pytest.raises(ValueError, match="n = 1"):
        metric.compute()
    holder = RewardMean(torch.nn.Linear(2, 2))
    assert list(holder.parameters()) == [] and holder.state_dict() == {}
    with pytest.raises(ValueError, match="embedded by fake-1"):
        FrechetAudioDistance(reference, type("Other", (FakeClap,), {"identity": "fake-2"})())


def test_reference_round_trip(tmp_path) -> None:
    reference = Reference.from_embeddings(
        sample(40, 6, 15).astype(np.float32), "fake-1", 48000, "birds", loudness="locked"
    )
    reference.save(tmp_path / "reference.safetensors")
    again = Reference.load(tmp_path / "reference.safetensors")
    assert again.frame() == reference.frame() and again.identity == reference.identity
    assert again.checkpoint == "1" and again.windows == "clip" and again.clips == 40
    assert np.array_equal(again.cov, reference.cov) and np.array_equal(again.embeddings, reference.embeddings)
    floor = again.floor(10, repeats=5)
    assert floor.rest == 30 and floor.low <= floor.mean <= floor.high
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a statistics file"):
        Reference.load(tmp_path / "broken.safetensors")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Reference.load(tmp_path / "absent.safetensors")
    bare = Reference.from_embeddings(sample(40, 6, 15), "fake-1", 48000, keep=False)
    with pytest.raises(ValueError, match="keep=True"):
        bare.floor(10)


# FACTS section 9: id -> FAD, CLAP, CCS, published rank
CHALLENGE = {
    "e00": (0.556, 0.310, 0.796, 5), "e01": (0.577, 0.338, 0.863, 2), "e02": (0.498, 0.270, 0.763, 6),
    "e03": (0.518, 0.251, 0.763, 10), "e04": (0.574, 0.195, 0.833, 7), "e05": (0.487, 0.305, 0.800, 2),
    "e06": (0.667, 0.268, 0.808, 7), "e07": (0.417, 0.261, 0.867, 1), "e08": (0.495, 0.295, 0.804, 4),
    "e09": (0.646, 0.263, 0.767, 10), "e10": (0.482, 0.163, 0.738, 9), "e11": (0.892, 0.097, 0.675, 12),
}  # fmt: skip


def test_challenge_rank_is_reproduced() -> None:
    results = {name: {"fad": f, "clap": c, "ccs": s} for name, (f, c, s, _) in CHALLENGE.items()}
    assert borda_rank(results, {"fad"}) == {name: row[3] for name, row in CHALLENGE.items()}
    with pytest.raises(ValueError, match="e00 has no ccs"):
        borda_rank({**results, "e00": {"fad": 1, "clap": 1}}, {"fad"})


def test_rank_verb(tmp_path, capsys) -> None:
    from fluxlight.cli import main

    file = tmp_path / "results.csv"
    rows = [f"{name},{f},{c},{s}" for name, (f, c, s, _) in CHALLENGE.items()]
    file.write_text("\n".join(["system,FAD,CLAP,CCS", *rows]) + "\n")
    assert main(["rank", str(file)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {line[3]: int(line[0]) for line in lines} == {name: row[3] for name, row in CHALLENGE.items()}
    file.write_text("system,FAD\ne00,good\n")
    assert main(["rank", str(file)]) == 2 and "needs a number" in capsys.readouterr().err


def test_windows_follow_the_rule() -> None:
    clip = np.arange(45, dtype=np.float32)  # 4.5 s at 10 Hz
    windows = cut(clip, 10, seconds=2, hop=1)
    assert windows.shape == (5, 20)
    assert windows[1].tolist() == list(range(10, 30)) and windows[4].tolist() == [*range(40, 45), *[0] * 15]
    assert cut(np.zeros(100, np.float32), 10).shape == (10, 100), "a clip of 10 s gives ten windows"


def test_reference_of_windows_holds_out_whole_clips(tmp_path) -> None:
    clips = [sample(w, 6, 50 + w) + w for w in (10, 10, 7, 10, 9)]
    reference = Reference.from_windows(clips, "fake-1", 48000)
    assert (reference.n, reference.clips, reference.windows) == (46, 5, "10s/1s")
    reference.save(tmp_path / "w.safetensors")
    again = Reference.load(tmp_path / "w.safetensors")
    seen = []

    def note(held, rest) -> float:
        seen.append(sorted(round(float(part.mean())) for part in [*held, *rest]))
        return float(len(held))

    assert again.floor(2, note, repeats=3).mean == 2 and again.floor(2, note, repeats=1).rest == 3
    assert all(len(found) == 5 for found in seen), "clips stay whole"


def test_window_embeddings_are_those_of_the_cuts() -> None:
    clip = np.random.default_rng(37).normal(size=2100).astype(np.float32)  # 21 s at 100 Hz
    found = window_embeddings(clip, 100, FakeClap())
    assert found.shape == (21, 8) and found.dtype == np.float64
    alone = FakeClap().embed_audio(torch.from_numpy(clip[300:1300][None]), 100)
    assert found[3] == pytest.approx(alone[0].numpy(), rel=1e-5)
