"""LAION-CLAP: the published format with random weights, two backends that agree, and loud errors."""

from __future__ import annotations

import json
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from small_published import TEXTS, laion_file, laion_state, music, roberta_folder

from fluxlight.encoders import LaionClap
from fluxlight.encoders.clap_keys import to_transformers
from fluxlight.encoders.laion_clap import SPEECH
from fluxlight.encoders.pretrained import Tokenizer
from fluxlight.prompts import PromptsCut

needs_package = pytest.mark.skipif(not find_spec("laion_clap"), reason="laion-clap is not for this Python")


@pytest.fixture(scope="module")
def laion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small checkpoint and its tokenizer."""
    folder = tmp_path_factory.mktemp("laion")
    laion_file(folder / "small.pt", laion_state())
    roberta_folder(folder / "words", 300)
    return folder


@pytest.fixture(scope="module")
def clap(laion: Path) -> LaionClap:
    return LaionClap(path=str(laion / "small.pt"), tokenizer=str(laion / "words"), backend="transformers")


@needs_package
def test_both_backends_agree_on_the_published_audio_geometry(tmp_path: Path):
    path = laion_file(tmp_path / "base.pt", laion_state(width=128, layers=2))
    words = roberta_folder(tmp_path / "words", 300)
    seen, state, modules = list(sys.path), torch.get_rng_state(), set(sys.modules)
    said = []
    for backend in ("laion_clap", "transformers"):
        model = LaionClap(path=str(path), tokenizer=str(words), backend=backend)
        said.append((model.identity, model.embed_audio(music(4.0), 44100), model.embed_text(TEXTS)))
    (first, audio_a, text_a), (second, audio_b, text_b) = said
    assert first == second and first.startswith("laion-clap-music_audioset_epoch_15_esc_90.14-")
    # 3e-6 and 1e-7 were measured
    assert torch.allclose(audio_a, audio_b, atol=1e-5) and torch.allclose(text_a, text_b, atol=1e-5)
    assert audio_a.shape == (2, 512) and text_a.shape == (3, 512)
    assert torch.allclose(audio_a.norm(dim=1), torch.ones(2)) and torch.allclose(text_a.norm(dim=1), torch.ones(3))
    # and they agree on something: inputs are told apart
    assert (audio_a[0] - audio_a[1]).norm() > 1e-2 and (text_a[0] - text_a[2]).norm() > 1e-2
    # neither the package's import habits nor a random crop or initialisation leave a trace
    assert sys.path == seen and torch.equal(torch.get_rng_state(), state)
    assert not {"torchvision", "training", "hook", "clap_module", "laion_clap.hook"} & (set(sys.modules) - modules)


def test_only_the_centre_counts_and_short_audio_is_repeated(clap: LaionClap):
    long = music(12.0, 48000, clips=1)
    whole = clap.embed_audio(long, 48000)
    assert torch.equal(whole, clap.embed_audio(long[:, 48000:-48000], 48000))
    short = long[:, :150000]
    by_hand = torch.nn.functional.pad(short.repeat(1, 3), (0, 30000))
    # one clip (N,) of numpy is a batch of one
    assert torch.equal(clap.embed_audio(short[0].numpy(), 48000), clap.embed_audio(by_hand, 48000))
    # another rate is resampled: near the same music at 48 kHz, far from other music
    other, same = clap.embed_audio(music(), 44100), clap.embed_audio(music(rate=48000, clips=1), 48000)
    assert (other[0] * same[0]).sum() > 0.99 > (other[1] * same[0]).sum()
    assert clap.embed_audio(torch.zeros(0, 480000), 48000).shape == (0, 512) and clap.embed_text([]).shape == (0, 512)


def test_audio_passes_sixteen_bits_unless_told_not_to(clap: LaionClap, laion: Path):
    plain = LaionClap(
        SPEECH, path=str(laion / "small.pt"), tokenizer=str(laion / "words"), backend="transformers", int16=False
    )
    assert plain.identity != clap.identity and "music_speech" in plain.identity
    quiet = 0.01 * music(1.0, 48000, clips=1)
    # numpy's way, as the published features were made
    bits = (np.clip(quiet.numpy(), -1, 1) * 32767.0).astype(np.int16)
    rounded = torch.from_numpy((bits / 32767.0).astype(np.float32))
    said = clap.embed_audio(quiet, 48000)
    assert torch.allclose(said, plain.embed_audio(rounded, 48000), atol=1e-6)
    assert not torch.allclose(said, plain.embed_audio(quiet, 48000), atol=1e-4)


def test_windows_start_every_second_and_pad_the_tail(clap: LaionClap):
    audio = music(2.5, 48000, clips=1)[0]
    windows = clap.embed_windows(audio, 48000)
    assert windows.shape == (3, 512)
    tail = torch.nn.functional.pad(audio[96000:], (0, 480000 - 24000))
    assert torch.allclose(windows[2:], clap.embed_audio(tail, 48000), atol=1e-6)
    with pytest.raises(ValueError, match="one clip"):
        clap.embed_windows(music(1.0), 44100)


def test_a_text_does_not_depend_on_its_neighbours_and_long_ones_are_counted(clap: LaionClap):
    together = clap.embed_text(TEXTS)
    assert torch.allclose(together[2:], clap.embed_text(TEXTS[2:]), atol=1e-6)
    with pytest.warns(PromptsCut, match="2 of 3") as caught:
        cut = clap.embed_text(["x" * 100, "x" * 200, "short"])
    assert len(caught) == 1 and torch.allclose(cut[0], cut[1], atol=1e-6)
    with pytest.raises(ValueError, match="one string"):
        clap.embed_text("a calm piano")


def test_another_process_makes_its_own(clap: LaionClap):
    # judging in several processes pickles the judges; laion-clap's classes cannot be found by name
    assert len(pickle.dumps(clap)) < 2000
    again = pickle.loads(pickle.dumps(clap))
    assert again.identity == clap.identity and torch.equal(again.embed_text(TEXTS), clap.embed_text(TEXTS))


def test_the_key_map_leaves_no_weight_behind():
    state = laion_state()
    renamed = to_transformers(state)
    unused = ("tscam_conv", "audio_branch.head", "_extractor", "attn_mask", "_transform")
    kept = {key: value for key, value in state.items() if not any(name in key for name in unused)}
    assert sum(value.numel() for value in renamed.values()) == sum(value.numel() for value in kept.values())
    qkv = state["audio_branch.layers.0.blocks.0.attn.qkv.weight"]
    block = "audio_model.audio_encoder.layers.0.blocks.0.attention.self"
    parts = [renamed[f"{block}.{name}.weight"] for name in ("query", "key", "value")]
    assert torch.equal(torch.cat(parts), qkv)


@pytest.mark.parametrize("backend", [pytest.param("laion_clap", marks=needs_package), "transformers"])
@pytest.mark.parametrize("damage", ["missing", "nan", "fusion", "extra"])
def test_a_wrong_checkpoint_is_one_line(laion: Path, tmp_path: Path, backend: str, damage: str):
    state = dict(laion_state())
    if damage == "missing":
        del state["text_projection.2.bias"]
    elif damage == "nan":
        state["text_projection.2.bias"] = state["text_projection.2.bias"] * torch.nan
    elif damage == "fusion":
        state["audio_branch.patch_embed.mel_conv2d.weight"] = torch.zeros(1)
    else:
        state["text_projection.4.bias"] = torch.zeros(3)
    expected = {"missing": "lacks", "nan": "non-finite", "fusion": "fusion model", "extra": "unknown"}[damage]
    with pytest.raises(ValueError, match=expected) as caught:
        LaionClap(path=str(laion_file(tmp_path / "bad.pt", state)), tokenizer=str(laion / "words"), backend=backend)
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self):
        return print, ("code of a stranger",)


def test_a_file_that_is_no_checkpoint_is_one_line(laion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    whole = (laion / "small.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, tmp_path / "foreign.pt")
    torch.save({"state_dict": {"weight": torch.zeros(3)}, "x": Evil()}, tmp_path / "evil.pt")
    for name, expected in {
        "cut": "it was cut short",
        "text": "it is plain text",
        "foreign": "no LAION-CLAP",
        "evil": "cannot be read",
    }.items():
        with pytest.raises(ValueError, match=expected):
            LaionClap(path=str(tmp_path / f"{name}.pt"), tokenizer=str(laion / "words"))
    assert "stranger" not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="music_audioset"):
        LaionClap(path=str(tmp_path / "none.pt"), tokenizer=str(laion / "words"))


def test_position_ids_may_come_or_stay_away(laion: Path, tmp_path: Path, clap: LaionClap):
    ids = {"module.text_branch.embeddings.position_ids": torch.arange(514)[None]}
    path = laion_file(tmp_path / "ids.pt", laion_state(), **ids)
    again = LaionClap(path=str(path), tokenizer=str(laion / "words"), backend="transformers")
    assert again.identity == clap.identity


@pytest.mark.parametrize(
    ("audio", "rate", "expected"),
    [
        (torch.zeros(1, 8000), 8000, "sample_rate is 8000"),
        (torch.zeros(1, 8000), 0, "sample_rate is 0"),
        (torch.zeros(1, 8000), 44100.5, "sample_rate is 44100.5"),
        (torch.zeros(1, 0), 48000, "N > 0"),
        (torch.zeros(1, 2, 48000), 48000, "mono"),
        (torch.full((2, 48000), torch.nan), 48000, "row 0 holds NaN"),
    ],
)
def test_bad_audio_is_one_line(clap: LaionClap, audio: torch.Tensor, rate: float, expected: str):
    with pytest.raises(ValueError, match=expected):
        clap.embed_audio(audio, rate)  # type: ignore[arg-type]


def test_an_empty_or_foreign_tokenizer_is_an_error(laion: Path, tmp_path: Path):
    path = str(laion / "small.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="tokenizer in"):
        LaionClap(path=path, tokenizer=str(tmp_path / "empty"), backend="transformers")
    with pytest.raises(ValueError, match="has 299 tokens, the weights 300"):
        LaionClap(path=path, tokenizer=str(roberta_folder(tmp_path / "short", 299)), backend="transformers")
    swapped = roberta_folder(tmp_path / "swapped", 300)
    vocab = json.loads((swapped / "vocab.json").read_text(encoding="utf-8"))
    vocab["<s>"], vocab["</s>"] = vocab["</s>"], vocab["<s>"]
    (swapped / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(ValueError, match="special tokens"):
        LaionClap(path=path, tokenizer=str(swapped), backend="transformers")


def test_a_vocabulary_of_the_published_size_is_taken(tmp_path: Path):
    special = {"<s>": 0, "<pad>": 1, "</s>": 2}
    words = Tokenizer(roberta_folder(tmp_path / "roberta-base", 50265), "RobertaTokenizer", 50265, special)
    ids = words(["a piano"])[0]
    assert ids[0] == 0 and ids[-1] == 2 and len(ids) == 2 + len("a piano")


def test_where_the_package_is_absent_transformers_is_the_network(laion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluxlight.encoders.laion_clap.find_spec", lambda name: None)
    made = LaionClap(path=str(laion / "small.pt"), tokenizer=str(laion / "words"))
    named = LaionClap(path=str(laion / "small.pt"), tokenizer=str(laion / "words"), backend="transformers")
    assert type(made.network) is type(named.network) and made.identity == named.identity
    assert torch.equal(made.embed_text(["a calm piano"]), named.embed_text(["a calm piano"]))
