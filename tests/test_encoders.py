"""Text encoder, CLAP-A and CLAP-B: interface, training, file format, retrieval measures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from fluxlight.encoders import ClapA, ClapB, MiniLM, TextAudioModel
from fluxlight.encoders.clap_data import Augment, ClapData, Source, prepare
from fluxlight.encoders.clap_training import ClapTraining, info_nce
from fluxlight.encoders.front_end import FrontEnd, mel_bank, pitch_bank

RATE = 44100
CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "embedded"
BOTH = pytest.mark.parametrize("kind", [ClapA, ClapB])


def tones(count: int, seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Noisy tones whose pitch class is ``index % 4``."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = np.array([110, 440, 1760, 7040])[np.arange(count) % 4] * rng.uniform(0.97, 1.03, count)
    noise = 0.01 * rng.standard_normal((count, len(time)))
    return (0.2 * np.sin(2 * np.pi * pitch[:, None] * time) + noise).astype(np.float32)


WORDS = ["a rumbling bass tone", "an everyday middle tone", "a bright whistle", "a hissing shrill squeak"]


def tone_source(split: str, clips: int, templates: str, wordings: int, seed: int) -> Source:
    audio = tones(clips, seed=len(split))

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, clips, 16):
            yield audio[start : start + 16]

    return Source(f"tones-{split}-{clips}", [[WORDS[i % 4]] * wordings for i in range(clips)], blocks)


# ---- MiniLM


def test_minilm_pads_with_zeros_and_knows_its_words() -> None:
    encoder = MiniLM()
    texts = ["a slow sad waltz for fiddle and harp", "", "drum " * 200]
    full, ragged = encoder.encode(texts), encoder.encode_ragged(texts)
    assert full.shape == (3, 77, 384)
    assert [len(row) for row in ragged] == [10, 2, 77]  # [CLS] 8 words [SEP]; empty; cut
    assert torch.equal(full[0, 10:], torch.zeros(67, 384)) and full[0, :10].abs().sum(1).min() > 1
    assert torch.equal(full[0, :10], ragged[0])
    pooled = encoder.pooled(["a happy tune", "a cheerful melody", "tax law of 1987"])
    assert torch.allclose(pooled.norm(dim=1), torch.ones(3), atol=1e-5)
    near = pooled @ pooled.T
    assert near[0, 1] > near[0, 2] + 0.3  # a tokenizer without a vocabulary would make them alike


def test_minilm_does_not_depend_on_neighbours() -> None:
    encoder = MiniLM()
    alone = encoder.encode_ragged(["a fast polka"])[0]
    beside = encoder.encode_ragged(["x " * 60, "a fast polka", "a slow polka"])[1]
    assert torch.allclose(alone, beside, atol=1e-5)
    assert encoder.encode([]).shape == (0, 77, 384)
    with pytest.raises(ValueError, match="list of strings"):
        encoder.encode("not a list")


# ---- front end


@pytest.mark.parametrize("bank", [mel_bank(2048, 64, 30.0, 16000.0), pitch_bank(4096, 96, 55.0)])
def test_banks_cover_every_band_in_order(bank: torch.Tensor) -> None:
    assert torch.allclose(bank.sum(0), torch.ones(bank.shape[1]), atol=1e-5) and bank.min() >= 0
    centres = (bank * torch.arange(len(bank))[:, None]).sum(0)
    assert bool((centres.diff() > 0).all())


def test_pitch_band_of_concert_a() -> None:
    front_end = FrontEnd(4096, 1470, pitch_bank(4096, 96, 55.0), "root")
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(RATE) / RATE)[None]
    assert int(front_end(tone).mean(-1).argmax()) == 36  # three octaves of twelve above 55 Hz


@BOTH
def test_level_is_no_cue_and_silence_is_finite(kind: type[TextAudioModel]) -> None:
    torch.manual_seed(0)
    model = kind(weights=None)
    clips = torch.from_numpy(tones(2))
    assert torch.allclose(model.embed_audio(clips, RATE), model.embed_audio(clips * 1e-3, RATE), atol=1e-4)
    assert bool(torch.isfinite(model.embed_audio(torch.zeros(1, RATE), RATE)).all())


# ---- interface


@BOTH
def test_embeddings_are_unit_whatever_the_batch(kind: type[TextAudioModel]) -> None:
    torch.manual_seed(0)
    model = kind(weights=None)
    clips = torch.from_numpy(tones(20, 1.0))
    whole = model.embed_audio(clips, RATE)
    assert whole.shape == (20, 128) and torch.allclose(whole.norm(dim=1), torch.ones(20), atol=1e-5)
    assert torch.allclose(whole[17], model.embed_audio(clips[17], RATE)[0], atol=1e-5)
    text = model.embed_text(["a slow waltz", "", "a much longer text about an accordion and a drum"])
    assert torch.allclose(text.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(text[0], model.embed_text(["a slow waltz"])[0], atol=1e-5)
    assert not whole.requires_grad and model.training  # the caller's mode is restored
    assert not any("_text" in key for key in model.state_dict())  # MiniLM is not part of the weights


def test_embed_audio_resamples_crops_the_centre_and_refuses_nonsense() -> None:
    torch.manual_seed(0)
    model = ClapA(weights=None)
    clip = torch.from_numpy(tones(1, 3.0))
    half = torch.from_numpy(tones(1, 3.0)[:, ::2].copy())  # the tone at 110 Hz survives decimation
    assert (
        torch.nn.functional.cosine_similarity(model.embed_audio(clip, RATE), model.embed_audio(half, RATE // 2)) > 0.9
    )
    long = torch.cat([torch.randn(1, RATE * 5), torch.from_numpy(tones(1, 10.0)), torch.randn(1, RATE * 5)], dim=1)
    assert torch.allclose(
        model.embed_audio(long, RATE), model.embed_audio(long[:, RATE * 5 : RATE * 15], RATE), atol=1e-6
    )
    with pytest.raises(ValueError, match="NaN"):
        model.embed_audio(torch.full((1, 100), torch.nan), RATE)
    with pytest.raises(ValueError, match="mono"):
        model.embed_audio(torch.zeros(1, 2, 100), RATE)


def test_clap_b_ignores_padding_tokens() -> None:
    torch.manual_seed(0)
    model = ClapB(weights=None).eval()
    tokens = torch.randn(1, 5, 384)
    padded = torch.cat([tokens, 9 * torch.randn(1, 4, 384)], dim=1)
    assert torch.allclose(
        model.text_tower(tokens, torch.tensor([5])), model.text_tower(padded, torch.tensor([5])), atol=1e-5
    )


# ---- weights


@BOTH
def test_save_load_round_trip_and_damage(kind: type[TextAudioModel], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = kind(weights=None)
    path = tmp_path / "weights.safetensors"
    identity = model.save(path, {"n": 3})
    assert path.stat().st_size <= 3.5 * 2**20
    other = kind(weights=str(path))
    assert other.identity == identity and identity.startswith(f"{kind.name}-v1-") and other.facts == {"n": 3}
    assert not any(parameter.requires_grad for parameter in other.parameters()) and not other.training
    clips = torch.from_numpy(tones(2))
    assert (
        torch.nn.functional.cosine_similarity(model.embed_audio(clips, RATE), other.embed_audio(clips, RATE)).min()
        > 0.999
    )
    with pytest.raises(ValueError, match="not 'clap-"):
        (ClapB if kind is ClapA else ClapA)(weights=str(path))
    raw = bytearray(path.read_bytes())
    raw[-7] ^= 4
    path.write_bytes(bytes(raw))
    with pytest.raises(ValueError, match="damaged"):
        kind(weights=str(path))
    path.write_bytes(bytes(raw[:50]))
    with pytest.raises(ValueError, match="not a readable safetensors"):
        kind(weights=str(path))
    with pytest.raises(FileNotFoundError, match=f"configs/embedded/{kind.name.replace('-', '_')}.yaml"):
        kind(weights=str(tmp_path / "absent.safetensors"))


# ---- training


@BOTH
def test_training_learns_to_match_and_exports(
    kind: type[TextAudioModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    data = ClapData("train", "a", clips=32, val_clips=8, wordings=2, batch_size=16, source=tone_source)
    stage = ClapTraining(kind(weights=None), partial(torch.optim.AdamW, lr=1e-3), warmup=2)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )
    trainer.fit(stage, data)
    judge = kind(weights=str(tmp_path / f"{kind.name.replace('-', '_')}.safetensors"))
    unseen = judge.embed_audio(tones(16, seed=99), RATE) @ judge.embed_text(WORDS).T
    assert (unseen.argmax(1) == torch.arange(16) % 4).float().mean() >= 0.75  # chance 0.25
    assert judge.facts["updates"] == 20 and judge.facts["split"] == "train"


def test_features_are_cached_and_keyed_by_what_made_them(tmp_path: Path) -> None:
    model, source = ClapA(weights=None), tone_source("x", 4, "a", 2, 0)
    rows = prepare(model, source, tmp_path)
    assert rows.audio.shape == (4, 64, 87) and len(rows.offsets) == 9
    source.audio = lambda: pytest.fail("rendered twice")  # type: ignore[assignment]
    again = prepare(model, source, tmp_path)
    text, lengths = again.texts(np.array([2, 1]), np.array([1, 0]))
    expected = model.text_features([WORDS[2], WORDS[1]])
    assert lengths.tolist() == [1, 1] and torch.allclose(text, torch.stack(expected), atol=1e-3)


def test_augment_is_a_function_of_its_generator() -> None:
    features = np.random.default_rng(0).standard_normal((3, 20, 50)).astype(np.float32)
    first, second = (Augment()(features, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (3, 20, 32) and np.array_equal(first, second)
    assert not np.array_equal(first, Augment()(features, np.random.default_rng(6)))
    plain = Augment(crop=1.0, offset=0, tilt=0, noise=0, bands=0, times=0)
    assert np.array_equal(plain(features, np.random.default_rng(5)), features)


def test_info_nce_of_known_matrices() -> None:
    assert float(info_nce(torch.zeros(8, 8))) == pytest.approx(np.log(8))
    assert float(info_nce(torch.eye(8) * 50)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["clap_a", "clap_b"])
def test_recipes_parse_and_build_the_untrained_model(name: str) -> None:
    from lightning.pytorch.cli import LightningCLI

    cli = LightningCLI(
        run=False,
        args=["--config", str(CONFIGS / f"{name}.yaml")],
        save_config_callback=None,
        auto_configure_optimizers=False,
    )
    assert cli.model.model.identity == f"{name.replace('_', '-')}-v1-untrained"
    assert cli.datamodule.split == f"judge_{name[-1]}" and cli.datamodule.templates == name[-1]


# ---- measures


@BOTH
def test_shipped_weights_are_frozen_small_and_fast(kind: type[TextAudioModel]) -> None:
    import time

    model = kind()
    assert model.identity.startswith(f"{kind.name}-v") and not model.identity.endswith("untrained")
    clips = torch.randn(16, 441000, generator=torch.Generator().manual_seed(0))
    start = time.process_time()
    model.embed_audio(clips, RATE)
    assert (
        time.process_time() - start < 4.0
    )  # 100 clips in about 5 s on one quiet thread is the aim; room for busy machines
