"""T5 and MERT: published formats with random weights give what transformers gives, and wrong folders loud errors."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from small_published import TEXTS, mert_folder, music, t5_folder

from fluxlight.encoders import T5, Mert
from fluxlight.prompts import PromptsCut


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return t5_folder(tmp_path_factory.mktemp("t5") / "flan-t5-large")


def test_t5_gives_the_published_features_with_their_padding(t5: Path):
    from transformers import AutoTokenizer, T5EncoderModel

    model = T5(str(t5))
    tokens = AutoTokenizer.from_pretrained(t5)(
        TEXTS, max_length=77, padding="max_length", truncation=True, return_tensors="pt"
    )
    expected = T5EncoderModel.from_pretrained(t5)(tokens.input_ids, tokens.attention_mask).last_hidden_state
    features, mask = model.encode_masked(TEXTS)
    assert torch.allclose(features, expected, atol=1e-6) and torch.equal(mask, tokens.attention_mask.bool())
    assert torch.equal(model.encode(TEXTS), features) and features.shape == (3, 77, 8)
    # padding is not zero and not masked: what the published backbone was trained on
    assert float(features[0, -1].abs().min()) > 0
    zero = T5(str(t5), padding="zero")
    ragged = zero.encode_ragged(TEXTS)
    assert [len(row) for row in ragged] == mask.sum(1).tolist() and len(ragged[1]) == 1
    padded = zero.encode(TEXTS)
    assert torch.equal(padded[mask], features[mask]) and not padded[~mask].any()
    assert zero.identity != model.identity and zero.encode([]).shape == (0, 77, 8)


def test_t5_cuts_long_prompts_with_one_warning(t5: Path):
    model = T5(str(t5))
    with pytest.warns(PromptsCut, match="2 of 40") as caught:
        features = model.encode(["a" * 90, "a" * 80, *[f"{'b' * i}" for i in range(38)]])
    assert len(caught) == 1 and features.shape == (40, 77, 8)
    assert torch.allclose(features[0], features[1], atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PromptsCut)
        model.encode(["a" * 75])
    with pytest.raises(ValueError, match="one string"):
        model.encode("a calm piano")


def test_wrong_t5_folders_are_one_line(t5: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    with pytest.raises(FileNotFoundError, match="flan-t5-large"):
        T5(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="padding"):
        T5(str(t5), padding="none")  # type: ignore[arg-type]
    state = load_file(t5 / "model.safetensors")
    layer = "encoder.block.1.layer.0.SelfAttention.q.weight"
    for name, change, expected in (
        ("nan", {layer: state[layer] * torch.nan}, "non-finite"),
        ("shape", {layer: torch.zeros(3, 3)}, "holds no readable T5|lack"),
        ("missing", {layer: None}, "lack encoder.block.1"),
    ):
        folder = Path(shutil.copytree(t5, tmp_path / name))
        changed = {key: value for key, value in (state | change).items() if value is not None}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=expected) as caught:
            T5(str(folder))
        assert "\n" not in str(caught.value)
    folder = Path(shutil.copytree(t5, tmp_path / "mute"))
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(ValueError, match="tokenizer in"):
        T5(str(folder))


@pytest.mark.parametrize("stable", [True, False])
def test_mert_is_hubert_over_normalised_audio(tmp_path: Path, stable: bool):
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    norm = "layer" if stable else "group"
    folder = mert_folder(tmp_path / "mert", do_stable_layer_norm=stable, feat_extract_norm=norm)
    mert = Mert(str(folder))
    audio = music(1.0, 24000, clips=5)
    said = mert.embed_audio(audio, 24000)
    assert said.shape == (5, 32) and mert.dim == 32
    # transformers' own loader maps the old names of weight normalisation too
    config = json.loads((folder / "config.json").read_text())
    for key in ("model_type", "architectures", "auto_map"):
        config.pop(key)
    hubert = HubertModel.from_pretrained(folder, config=HubertConfig(**config)).eval()
    heard = Wav2Vec2FeatureExtractor(sampling_rate=24000, do_normalize=True)(
        list(audio.numpy()), sampling_rate=24000, return_tensors="pt"
    ).input_values
    with torch.no_grad():
        expected = hubert(heard).last_hidden_state.mean(1)
    assert torch.allclose(said, expected, atol=1e-5) and (said[0] - said[1]).norm() > 1e-3
    # loudness is divided out; other rates are resampled; the centre of a long clip counts
    assert torch.allclose(mert.embed_audio(0.1 * audio, 24000), said, atol=1e-3)
    long = music(12.0, 24000, clips=1)
    assert torch.equal(mert.embed_audio(long, 24000), mert.embed_audio(long[:, 24000:-24000], 24000))
    near = torch.nn.functional.cosine_similarity(mert.embed_audio(music(2.0, 44100), 44100), said[:2])
    assert near.min() > 0.9
    with pytest.raises(ValueError, match="sample_rate is 8000"):
        mert.embed_audio(audio, 8000)
    with pytest.raises(ValueError, match="0.1 s"):
        mert.embed_audio(audio[:, :100], 24000)


def test_wrong_mert_folders_are_one_line(tmp_path: Path):
    good = mert_folder(tmp_path / "good")

    def changed(name: str, **config: object) -> str:
        folder = Path(shutil.copytree(good, tmp_path / name))
        said = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(said))
        return str(folder)

    with pytest.raises(FileNotFoundError, match="MERT-v1-330M"):
        Mert(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="feature_extractor_cqt is true"):
        Mert(changed("cqt", feature_extractor_cqt=True))
    with pytest.raises(ValueError, match="deepnorm is true"):
        Mert(changed("deep", deepnorm=True))
    with pytest.raises(ValueError, match="not a mert_model"):
        Mert(changed("hubert", model_type="hubert"))
    with pytest.raises(ValueError, match="lacks|has other shapes"):
        Mert(changed("layers", num_hidden_layers=3))
    rate = Path(changed("rate"))
    (rate / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000, "do_normalize": True}))
    with pytest.raises(ValueError, match="sampling_rate is 16000"):
        Mert(str(rate))
    broken = Path(changed("broken"))
    state = torch.load(broken / "pytorch_model.bin", weights_only=True)
    state["encoder.pos_conv_embed.conv.weight_v"] *= torch.nan
    torch.save(state, broken / "pytorch_model.bin")
    with pytest.raises(ValueError, match="non-finite"):
        Mert(str(broken))
    (broken / "pytorch_model.bin").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="it is plain text"):
        Mert(str(broken))
