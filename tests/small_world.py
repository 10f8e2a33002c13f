"""A world in miniature for tests of stages, data and callbacks: codec, judges, store and a config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from fluxlight.codec import Codec
from fluxlight.data.writer import LatentStoreWriter
from fluxlight.encoders import TextAudioModel, TextEncoder
from fluxlight.prompts import note_cut
from fluxlight.rewards import Reward

L, D, T, E, C = 12, 4, 6, 8, 5


class SmallCodec(Codec):
    """A linear codec over one second at 8 kHz."""

    sample_rate, latent_dim, latent_len, clip_samples, identity = 8000, D, L, 8000, "small-codec"

    def decode(self, latent: Tensor) -> Tensor:
        self.check_latent(latent)
        basis = torch.randn(L * D, self.clip_samples, generator=torch.Generator().manual_seed(1))
        return torch.tanh(latent.flatten(1) @ basis / 40)

    def encode(self, audio: Tensor) -> tuple[Tensor, Tensor | None]:
        audio = self.fit_length(audio)
        basis = torch.randn(self.clip_samples, L * D, generator=torch.Generator().manual_seed(2))
        return (audio @ basis / 20).reshape(-1, L, D), None


class SmallJudge(TextAudioModel):
    """A joint model that counts how often it is asked."""

    name, dim = "small-judge", 3

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.identity, self.calls = "small-judge-1", 0

    def embed_audio(self, audio: Any, sample_rate: int) -> Tensor:
        self.calls += 1
        audio = torch.as_tensor(audio)
        stats = torch.stack([audio.std(1), audio.abs().max(1).values, (audio.diff(dim=1) ** 2).mean(1)], dim=1)
        return torch.nn.functional.normalize(stats, dim=1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        rows = [[len(t), t.count("a") + 1, t.count(" ") + 1] for t in texts]
        return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


class SmallText(TextEncoder):
    """Words as tokens."""

    dim, length, identity = E, T, "letters"

    def encode_ragged(self, texts: Sequence[str]) -> list[Tensor]:
        note_cut(texts, [len(text.split()) for text in texts], T)
        return [torch.from_numpy(features(text)[0]) for text in texts]


class Letters(TextEncoder):
    """Token features from letters."""

    dim, length, identity = 8, T, "letters"

    def encode_ragged(self, texts: list[str]) -> list[Tensor]:
        return [torch.from_numpy(features(text)[0]) for text in texts]


class SmallClap(SmallJudge):
    """The joint model of `features`."""

    name, dim = "small-clap", C

    def __init__(self) -> None:
        super().__init__()
        self.identity = "letters"

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([features(text)[1] for text in texts]))


class SmallReward(Reward):
    """Louder is better."""

    identity = "small-reward"

    def score(self, audio: Tensor, sample_rate: int, prompts: Sequence[str]) -> Tensor:
        return audio.std(1)


def features(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Token features ``(n, E)`` and global feature ``(C,)`` of a text, from its letters."""
    words = text.split() or ["-"]
    draw = [np.random.default_rng(sum(map(ord, word))).normal(size=E) for word in words[:T]]
    return np.array(draw, dtype=np.float32), np.random.default_rng(sum(map(ord, text))).normal(size=C).astype(
        np.float32
    )


def make_store(
    folder: Path, n: int = 24, latents: bool = True, std: bool = True, prefix: str = "train", score: bool = True
) -> Path:
    """A store of ``n`` clips in shards of 8."""
    writer = LatentStoreWriter(folder, {"n": n})
    rng = np.random.default_rng(n)
    captions = [f"{prefix} tune number {i} with a {'banjo' if i % 2 else 'flute'}" for i in range(n)]
    for number, start in enumerate(range(0, n, 8)):
        part = [features(c) for c in captions[start : start + 8]]
        size = len(part)
        mean = rng.normal(size=(size, L, D)) * 2 + 1
        writer.write(
            number,
            [tokens for tokens, _ in part],
            np.stack([c for _, c in part]),
            mean if latents else None,
            np.full((size, L, D), 0.1) if latents and std else None,
            rng.normal(size=size) if latents and score else None,
        )
    special = [features(""), features("noise and hum")]
    rows = [{"id": f"{prefix}-{i:03d}", "caption": c} for i, c in enumerate(captions)]
    writer.finish(
        rows,
        -(-n // 8),
        ([t for t, _ in special], np.stack([c for _, c in special])),
        T,
        {"codec": "small-codec", "text": "letters", "clap": "letters"}
        if latents
        else {"text": "letters", "clap": "letters"},
    )
    return folder


def overlay(folder: Path) -> Path:
    """A config overlay that puts any shipped stage config into this world."""

    def small(name: str) -> dict[str, str]:
        return {"class_path": f"small_world.Small{name}"}

    config: dict[str, Any] = {
        "plan": {name: {"updates": 8, "batch": 4, "accumulate": 1, "warmup": 2, "epoch": 2, "lr": 1e-2}
                 for name in ("trunk", "sft", "expert_iter", "expert_polish", "crpo", "online")},
        "model": {"init_args": {
            "backbone": {"init_args": {
                "latent_dim": D, "latent_seq_len": L, "text_dim": E, "text_seq_len": T, "text_c_dim": C,
                "hidden_dim": 16, "num_heads": 2, "depth": 2, "fused_depth": 1, "ffn_multiple": 8}},
            "sampler": {"steps": 2}}},
        "data": {"init_args": {"store": str(folder / "store"), "slice": str(folder / "slice"), "slice_batch_size": 3,
                               "candidates": {"prompts": 4, "per_prompt": 3, "batch_size": 5}}},
        "trainer": {
            "accelerator": "cpu", "log_every_n_steps": 1,
            "callbacks": [
                {"class_path": "callbacks.RenderSlice", "init_args": {"codec": small("Codec")}},
                {"class_path": "callbacks.CLAPCallback", "init_args": {"embedder": small("Judge")}},
                {"class_path": "callbacks.RewardCallback", "init_args": {"reward": small("Reward")}},
                {"class_path": "callbacks.CandidateWriter", "init_args": {"codec": small("Codec")}},
                {"class_path": "callbacks.BundleWriter"}, {"class_path": "callbacks.LastCheckpoint"},
                {"class_path": "callbacks.UpdatesBar"},
            ],
        },
    }  # fmt: skip
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def make_world(folder: Path) -> Path:
    """Store, slice and overlay; returns the overlay's path."""
    make_store(folder / "store")
    make_store(folder / "slice", n=7, latents=False, prefix="slice")
    return overlay(folder)


def make_stage(kind: Any = None, head: Any = None, **settings: Any) -> Any:
    """A stage of this world, made in Python."""
    from fluxlight.backbone import FluxAudio
    from fluxlight.sample import Sampler
    from fluxlight.stages import ScoreCondSFT
    from fluxlight.stages.schedule import Schedule

    torch.manual_seed(0)
    backbone = FluxAudio(
        D, E, C, hidden_dim=16, depth=2, fused_depth=1, num_heads=2, latent_seq_len=L, text_seq_len=T, ffn_multiple=8
    )
    given = {
        "optimizer": lambda p: torch.optim.AdamW(p, lr=1e-2),
        "schedule": Schedule(warmup=2),
        "sampler": Sampler(steps=2),
    } | settings
    return (kind or ScoreCondSFT)(backbone=backbone, head=head, **given)


def wake(model: torch.nn.Module, scale: float = 0.3) -> None:
    """Perturb all weights: the zero initialisation would make every output 0 and tests pass for the wrong reason."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=draw))


def make_trainer(run: Path, callbacks: Sequence[Any] = (), max_steps: int = 8, **settings: Any) -> Any:
    """A quiet CPU trainer whose run folder is ``run``."""
    import lightning

    from fluxlight.cli.training import quiet

    quiet()
    return lightning.Trainer(
        accelerator="cpu", devices=settings.pop("devices", 1), max_steps=max_steps, default_root_dir=run,
        logger=False, num_sanity_val_steps=0, enable_model_summary=False, enable_progress_bar=False,
        use_distributed_sampler=False, gradient_clip_val=1.0,
        callbacks=list(callbacks), enable_checkpointing=any("Checkpoint" in type(c).__name__ for c in callbacks),
        **settings,
    )  # fmt: skip


def fitted(
    folder: Path, run: str, stage: Any, data: Any, max_steps: int = 8, ckpt: str | None = None, callbacks: Any = ()
) -> Any:
    """The trainer of a run to its end, with its bundle and last checkpoint in ``folder / run``."""
    from callbacks import BundleWriter, LastCheckpoint

    trainer = make_trainer(folder / run, [*callbacks, BundleWriter(), LastCheckpoint()], max_steps)
    trainer.fit(stage, datamodule=data, ckpt_path=ckpt)
    return trainer


def make_data(folder: Path, kind: Any = None, **settings: Any) -> Any:
    """A data module over the store and slice of ``folder``, both made when absent."""
    from fluxlight.data import SFTData

    if not (folder / "store").exists():
        make_store(folder / "store")
    if not (folder / "slice").exists():
        make_store(folder / "slice", n=7, latents=False, prefix="slice")
    given = {"slice": str(folder / "slice"), "batch_size": 4, "batches_per_epoch": 2, "slice_batch_size": 3} | settings
    return (kind or SFTData)(store=str(folder / "store"), **given)


def make_candidates(folder: Path, store: Path, n: int = 4) -> Path:
    """A candidates folder with experts.jsonl and pairs.jsonl of random latents for the first ``n`` training clips."""
    from fluxlight.files import read_jsonl, write_jsonl

    rows, rng = read_jsonl(store / "rows.jsonl")[:n], np.random.default_rng(0)
    (folder / "latents").mkdir(parents=True)
    experts, pairs = [], []
    for k, row in enumerate(rows):
        for side in "ab":
            np.save(folder / "latents" / f"{k}{side}.npy", rng.normal(size=(L, D)).astype(np.float32))
        a, b = (
            {"latent": f"latents/{k}{side}.npy", "reward": reward} for side, reward in (("a", 1.5 + k), ("b", -0.5))
        )
        experts.append({"id": row["id"], "prompt": row["caption"], "seed": k, "checkpoint": "x", **a})
        pairs.append({"id": row["id"], "prompt": row["caption"], "winner": a, "loser": b})
    write_jsonl(folder / "experts.jsonl", experts)
    write_jsonl(folder / "pairs.jsonl", pairs)
    return folder
