"""Codec: front end, inverse, phases, whitening, training step, export, and the shipped weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fluxlight.codec.autoencoder import MelAutoencoder
from fluxlight.codec.embedded import WEIGHTS, EmbeddedCodec, export
from fluxlight.codec.mel import DB_PER_NAT, Spectrum, mel_filters
from fluxlight.codec.network import CodecNetwork

needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="codec weights are not trained yet")
SMALL = dict(width=32, encoder_depth=1, decoder_depth=1, vocoder_width=32, vocoder_depth=1, latent_dim=8)


def tone(hz: float = 440.0, seconds: float = 2.0) -> torch.Tensor:
    """A plucked tone every half second, ``(1, N)``."""
    t = torch.arange(int(44100 * seconds)) / 44100.0
    envelope = torch.exp(-6.0 * (t % 0.5))
    return (0.3 * envelope * sum(torch.sin(2 * math.pi * hz * k * t) / k for k in (1, 2, 3)))[None]


def test_mel_filters_are_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    for rate, size, bins in ((44100, 2048, 128), (16000, 1024, 80)):
        ours = mel_filters(rate, size, bins).numpy()
        np.testing.assert_allclose(ours, librosa.filters.mel(sr=rate, n_fft=size, n_mels=bins), atol=1e-6)


def test_log_mel_is_the_published_formula() -> None:
    spectrum = Spectrum()
    audio = tone(seconds=0.5)[:, : 43 * 512] * 5.0
    padded = torch.nn.functional.pad(audio.clamp(-1, 1)[None], (768, 768), mode="reflect")[0]
    stft = torch.stft(padded, 2048, 512, window=torch.hann_window(2048), center=False, return_complex=True)
    power = stft.real**2 + stft.imag**2
    want = torch.log((mel_filters(44100, 2048, 128) @ torch.sqrt(power + 1e-9)).clamp(min=1e-5))
    got = spectrum.mel(audio)
    assert got.shape == (1, 128, 43)
    torch.testing.assert_close(got, want, atol=2e-4, rtol=1e-4)


def test_overlap_add_inverts_the_transform() -> None:
    spectrum = Spectrum()
    audio = torch.randn(2, 40 * 512, generator=torch.Generator().manual_seed(0)) * 0.1
    back = spectrum.audio_of(spectrum.frames_of(audio))
    assert back.shape == audio.shape
    torch.testing.assert_close(back[:, 600:-600], audio[:, 600:-600], atol=1e-5, rtol=0)


def test_whitening_is_exact_and_invertible() -> None:
    torch.manual_seed(0)
    coder = MelAutoencoder(patch=4, latent_dim=6, width=16, encoder_depth=1, decoder_depth=1, extra=2)
    mel = torch.cumsum(torch.randn(5, 128, 64), 2)
    coder.start_from_pca(mel)
    before = coder.decode(coder.encode(mel))[0]
    raw = coder.encode_raw(mel).detach().reshape(-1, 6)
    coder.set_whitening(raw.mean(0), torch.cov(raw.T))
    latent = coder.encode(mel).detach().reshape(-1, 6)
    torch.testing.assert_close(torch.cov(latent.T), torch.eye(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(coder.decode(coder.encode(mel))[0], before, atol=1e-3, rtol=1e-3)


def test_pca_start_beats_the_mean() -> None:
    torch.manual_seed(0)
    coder = MelAutoencoder(patch=4, latent_dim=8, width=16, encoder_depth=1, decoder_depth=1, extra=2)
    basis = torch.randn(6, 128)
    mel = torch.einsum("bkt,km->bmt", torch.randn(4, 6, 40), basis)
    mel = mel.repeat_interleave(4, 2)
    coder.start_from_pca(mel)
    error = (coder.decode(coder.encode(mel))[0] - mel).abs().mean()
    assert error < 0.1 * (mel - mel.mean(dim=(0, 2))[None, :, None]).abs().mean()


def test_true_phase_vectors_give_a_better_start_than_random_phases() -> None:
    vocoder = CodecNetwork(**SMALL).vocoder
    spectrum = vocoder.spectrum
    audio = tone()[:, : 160 * 512]
    exact = spectrum.frames_of(audio)
    log_magnitude, vectors, _ = vocoder.targets(torch.cat((exact[:, :1], exact), 1))
    magnitude = log_magnitude.exp()
    random = torch.polar(torch.ones_like(magnitude), 6.283 * torch.rand(magnitude.shape))

    def error(phase: torch.Tensor) -> float:
        out = vocoder.polish(magnitude, phase)
        distance = (spectrum.frames_of(out).abs() - exact.abs()).norm() / exact.abs().norm()
        return float(distance)

    assert error(vocoder.integrate(magnitude, vectors)) < 0.5 * error(random)


def train(folder: Path, name: str, **settings: object) -> tuple[CodecNetwork, dict[str, float]]:
    """Two dozen updates of a small codec on three plucked tones at six levels; exports ``name`` to ``folder``."""
    import lightning as L

    from fluxlight.codec.data import CodecData
    from fluxlight.codec.training import CodecTraining

    clips = torch.cat([(1.0 - 0.1 * k) * tone(220.0 * 2 ** (k % 3 / 4), 10.0) for k in range(6)])
    np.save(folder / "clips.npy", (clips.numpy() * 32767).astype(np.int16))
    data = CodecData(updates=24, batch=2, clips=4, test_clips=2, frames=96, piece=16, audio=str(folder / "clips.npy"))
    torch.manual_seed(3)
    network = CodecNetwork(**SMALL)
    where = str(folder / name)
    module = CodecTraining(network, warmup=2, learning_rate=1e-3, export_to=where, **settings)  # type: ignore[arg-type]
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        num_sanity_val_steps=0, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return module.network.eval(), {key: float(value) for key, value in trainer.callback_metrics.items()}


def test_training_learns_exports_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    network, metrics = train(tmp_path, "codec.safetensors")
    mel = torch.from_numpy(np.load(next((tmp_path / "cache" / "codec").glob("*.npy"))).astype(np.float32))
    spread = float((mel - mel.mean(dim=(0, 2))[:, None]).abs().mean() * DB_PER_NAT)
    assert metrics["val/mel_db"] < 0.7 * spread, f"spread of the mels is {spread:.1f} dB"
    codec = EmbeddedCodec(tmp_path / "codec.safetensors")
    assert codec.facts["updates"] == 24
    assert (tmp_path / "codec.safetensors").stat().st_mode & 0o044, "a result is readable by others"
    audio = tone(330.0, 10.0)
    latent, deviation = codec.encode(audio)
    assert latent.shape == (1, codec.latent_len, 8) and deviation is None
    # fp16 on disk: close to the network that was trained
    want = network.encode(torch.nn.functional.pad(audio, (0, 1368)))
    torch.testing.assert_close(latent, want, atol=0.1, rtol=0.05)
    # a decoder-only run leaves the latents as they are and does change the decoder
    train(tmp_path, "decoder.safetensors", freeze_encoder=True, init_from=str(tmp_path / "codec.safetensors"))
    decoder = EmbeddedCodec(tmp_path / "decoder.safetensors")
    assert torch.equal(decoder.encode(audio)[0], latent) and decoder.identity != codec.identity
    assert not torch.allclose(decoder.decode(latent), codec.decode(latent), atol=1e-4)
    # the same seeds give the same file
    train(tmp_path, "again.safetensors")
    assert EmbeddedCodec(tmp_path / "again.safetensors").identity == codec.identity
    assert len(codec.identity) == len("codec-v1-") + 8


def small_codec(folder: Path) -> EmbeddedCodec:
    torch.manual_seed(1)
    export(CodecNetwork(**SMALL), folder / "small.safetensors", {})
    return EmbeddedCodec(folder / "small.safetensors")


def test_any_length_and_batch_size(tmp_path: Path) -> None:
    codec = small_codec(tmp_path)
    short = torch.randn(3, 50_000, generator=torch.Generator().manual_seed(0)) * 0.1
    padded = torch.nn.functional.pad(short, (0, codec.clip_samples - 50_000))
    longer = torch.nn.functional.pad(padded, (0, 1000), value=0.3)
    want = codec.encode(padded)[0]
    torch.testing.assert_close(codec.encode(short)[0], want)
    torch.testing.assert_close(codec.encode(longer)[0], want)
    assert torch.equal(codec.encode(short[1:2])[0], want[1:2])
    assert codec.encode(short[:0])[0].shape == (0, codec.latent_len, codec.latent_dim)
    audio = codec.decode(want[:2])
    assert audio.shape == (2, 441_000) and bool(torch.isfinite(audio).all())
    assert torch.equal(audio[1:], codec.decode(want[1:2]))


def test_bad_input_is_one_clear_error(tmp_path: Path) -> None:
    codec = small_codec(tmp_path)
    with pytest.raises(ValueError, match="NaN"):
        codec.encode(torch.full((1, 100), math.nan))
    with pytest.raises(ValueError, match="shape"):
        codec.encode(torch.zeros(100))
    with pytest.raises(ValueError, match="decodes"):
        codec.decode(torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="diverged"):
        codec.decode(torch.full((1, codec.latent_len, codec.latent_dim), math.inf))
    with pytest.raises(FileNotFoundError, match="fluxlight fit"):
        EmbeddedCodec(tmp_path / "absent.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="broken.safetensors"):
        EmbeddedCodec(tmp_path / "broken.safetensors")


@needs_weights
def test_shipped_weights_reproduce_a_tone() -> None:
    assert WEIGHTS.stat().st_size <= 9 * 2**20
    codec = EmbeddedCodec()
    assert codec.identity.startswith("codec-v1-") and (codec.latent_len, codec.latent_dim) == (72, 64)
    audio = tone(seconds=10.0)
    latent = codec.encode(audio)[0]
    back = codec.decode(latent)
    front = codec.network.spectrum
    strong = front.mel(audio[:, : 861 * 512]) > -4.0
    error = (front.mel(back[:, : 861 * 512]) - front.mel(audio[:, : 861 * 512])).abs()[strong].mean() * DB_PER_NAT
    assert error < 6.0
    # the strongest partial comes back at its pitch, to a quarter tone
    peak = float(torch.fft.rfft(back[0]).abs()[2000:8000].argmax() + 2000) / 10.0
    assert abs(math.log2(peak / 440.0)) < 1 / 24


@needs_weights
def test_shipped_codec_keeps_silence_quiet() -> None:
    codec = EmbeddedCodec()
    latent = codec.encode(torch.zeros(1, 441_000))[0]
    assert bool(torch.isfinite(latent).all())
    assert float(codec.decode(latent).abs().max()) < 0.02
