"""The published world end to end: small random weights in the published files, the shipped configs, the real verbs."""

from __future__ import annotations

import csv
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_codec import publish
from small_published import demucs_bag, head, laion_file, laion_state, mert_folder, music, roberta_folder, t5_folder
from small_world import SmallCodec, SmallJudge, SmallReward

from fluxlight.cli import main
from fluxlight.codec.mmaudio import LATENT_MEAN, LATENT_STD
from fluxlight.data import LatentStore
from fluxlight.data.encode import NEGATIVE, encode
from fluxlight.data.sources import Source
from fluxlight.encoders import T5, LaionClap, TextEncoder
from fluxlight.encoders.laion_clap import MUSIC, SPEECH
from fluxlight.files import read_json, read_jsonl
from fluxlight.prompts import PromptsCut, note_cut

WORLDS = Path(__file__).resolve().parents[1] / "configs" / "worlds"
STAGES = WORLDS.parent / "stages"
PREFIX = "high quality instrumental music, "
PROMPTS = ["a calm piano", "a harp", "drums, " * 90]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with every file of the published world in small."""
    folder = tmp_path_factory.mktemp("weights")
    publish(folder)
    t5_folder(folder / "flan-t5-large", width=1024)
    state = laion_state()
    for number, name in enumerate((MUSIC, SPEECH)):
        laion_file(
            folder / name,
            {key: value + number * 0.01 if "projection" in key else value for key, value in state.items()},
        )
    roberta_folder(folder / "roberta-base", 300)
    mert_folder(folder / "MERT-v1-330M", hidden=1024, num_hidden_layers=1)
    head(folder / "tunejury.pt", ("net", 2048))
    demucs_bag(folder / "mdx_extra")
    rows = [{"id": k, "prompt": prompt} for k, prompt in enumerate(PROMPTS)]
    (folder / "sdd100_prompts.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(autouse=True)
def here(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(weights))


@pytest.fixture(scope="module")
def stores(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training store and slice, made by the verb with the shipped YAMLs."""
    folder = tmp_path_factory.mktemp("stores")
    for k, wave in enumerate(music(clips=2)):
        soundfile.write(folder / f"track{k}.wav", wave.numpy(), 44100)
    (folder / "captions.tsv").write_text("id\tcaption\ntrack0\ta slow waltz\ntrack1\tloud drums, a banjo\n")
    source = ["--source", "fluxlight.data.sources.AudioFolder", "--source.captions", str(folder / "captions.tsv"),
              "--source.folder", str(folder)]  # fmt: skip
    # the config's key finds the weights here, the environment elsewhere
    place = ["--device", "cpu", "--weights_folder", str(weights)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", PromptsCut)
        for name, more in (("train", source), ("slice", [])):
            config = ["--config", str(WORLDS / f"published_{name}.yaml"), "--out", str(folder / name)]
            assert main(["encode", *config, *place, *more], standalone=False) == 0
    (folder / "warnings.json").write_text(json.dumps([str(w.message) for w in said if w.category is PromptsCut]))
    return folder


def test_every_file_of_the_shipped_configs_is_there(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file is missing; those of the world in small have not the sizes of the published ones, and are said to."""
    for world in sorted(set(WORLDS.glob("*.yaml")) - {WORLDS / "published_16k.yaml"}):  # other files
        main(["weights", "--config", str(world)])
        said = capsys.readouterr().out
        assert "looked for" in said and "MISSING" not in said and "lacks" not in said, said


def test_the_stores_hold_what_the_published_encoders_say(stores: Path) -> None:
    train, prompts = LatentStore(stores / "train"), LatentStore(stores / "slice")
    made = train.meta["identities"]
    assert [made[k].split("-")[0] for k in ("codec", "text", "clap", "reward")] == [
        "mmaudio",
        "flan",
        "laion",
        "tunejury",
    ]
    assert "speech" in made["clap"] and made["clap"] == prompts.meta["identities"]["clap"]
    assert (train.meta["latent_len"], train.meta["latent_dim"], train.meta["has_std"]) == (430, 40, True)
    assert (train.meta["text_len"], train.meta["text_c_dim"], train.meta["has_score"]) == (77, 512, True)
    text, clap = T5(), LaionClap(SPEECH)
    # latents are normalised as the published networks are, not by a store of two clips
    mean, std = train.statistics
    assert torch.equal(mean, torch.tensor(LATENT_MEAN)) and torch.equal(std, torch.tensor(LATENT_STD))
    # the prefix stands before the slice's prompts and not before training captions
    for store, row, words in ((prompts, 0, PREFIX + PROMPTS[0]), (train, 1, "loud drums, a banjo")):
        batch = store.prompts([row], [0])
        torch.testing.assert_close(batch.text[0], text.encode([words])[0], atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(batch.text_c[0], clap.embed_text([words])[0], atol=2e-3, rtol=1e-3)
    assert batch.prompt == ["loud drums, a banjo"] and prompts.prompts([0], [0]).prompt == [PROMPTS[0]]


def test_empty_and_negative_text_are_stored_and_long_prompts_counted(stores: Path) -> None:
    store, text = LatentStore(stores / "slice"), T5()
    for (tokens, _), words in ((store.empty, ""), (store.negative, NEGATIVE)):
        torch.testing.assert_close(tokens, text.encode([words])[0], atol=2e-3, rtol=1e-3)
    # the tokenizers here know letters only, so the training captions are short and the third prompt and the negative
    # text are long; each run of the verb says so once
    said = json.loads((stores / "warnings.json").read_text())
    assert [words.split(" prompts")[0] for words in said] == ["1 of 2", "2 of 3"], said


def test_from_store_to_table_with_published_parts(stores: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--config", str(STAGES / "score_cond_sft.yaml"), "--config", str(WORLDS.parent / "scales" / "debug.yaml"),
             "--config", str(WORLDS / "published.yaml"), "--data.store", str(stores / "train"),
             "--data.slice", str(stores / "slice"), "--data.slice_clips", "1",
             "--data.candidates.prompts", "2", "--data.candidates.per_prompt", "1", "--plan.sft.updates", "2",
             "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1"]  # fmt: skip
    assert main(["fit", *words, "--trainer.default_root_dir", str(run)], standalone=False) == 0
    with (run / "logs" / "version_0" / "metrics.csv").open() as file:
        logged = {key: value for row in csv.DictReader(file) for key, value in row.items() if value}
    assert all(math.isfinite(float(logged[key])) for key in ("train/loss", "val/clap", "val/reward"))
    rows = read_jsonl(run / "slice" / "candidates.jsonl")
    assert [row["prompt"] for row in rows] == PROMPTS[:1] and all(not row["error"] for row in rows)
    assert all(row["extra"]["codec"].startswith("mmaudio-44k") for row in rows)
    for row in rows:
        wave, rate = soundfile.read(run / "slice" / row["audio"])
        assert (wave.shape, rate) == ((441000,), 44100) and np.isfinite(wave).all()
        assert "demucs: mdx_extra x 3" in row["extra"]["notes"] and "loudness" in row["extra"]["notes"][-1]

    drawn = tmp_path / "drawn"
    init = ["--model.init_from", str(run / "bundle"), "--trainer.default_root_dir", str(drawn)]
    # drawing needs no judges: without them the CLAP need not be loaded three times
    writer = {"class_path": "callbacks.CandidateWriter", "init_args": {"codec": "fluxlight.codec.MMAudioCodec"}}
    assert main(["predict", *words, *init, "--trainer.callbacks", json.dumps([writer])], standalone=False) == 0
    score = ["--config", str(WORLDS / "published_score.yaml"), "--candidates", str(drawn), "--device", "cpu"]
    assert main(["score", *score], standalone=False) == 0
    scores = read_jsonl(drawn / "scores.jsonl")
    assert len(scores) == 2 and all(not row["error"] and math.isfinite(row["reward"]) for row in scores)
    assert all(abs(row["clap"]) <= 1 and row["judges"]["reward"].startswith("tunejury-net-2048") for row in scores)
    select = ["select", "experts", "--candidates", str(drawn), "--slice", str(stores / "slice"), "--top", "0.5"]
    assert main(select, standalone=False) == 0 and len(read_jsonl(drawn / "experts.jsonl")) == 1


def test_a_store_of_the_other_world_is_refused(
    stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(STAGES / "score_cond_sft.yaml"), "--config", str(WORLDS.parent / "scales" / "debug.yaml"),
             "--config", str(WORLDS / "published.yaml"), "--data.store", str(stores / "train"), "--data.slice", "null",
             "--trainer.accelerator", "cpu"]  # fmt: skip
    embedded = ["--trainer.callbacks", '[{"class_path": "callbacks.RenderSlice", "init_args": {"codec": '
                '{"class_path": "fluxlight.codec.EmbeddedCodec"}}}]']  # fmt: skip
    assert main(["fit", *words, *embedded, "--trainer.default_root_dir", str(tmp_path)]) == 2
    assert "was encoded by mmaudio-44k" in capsys.readouterr().err


# -- encode, apart from any world ------------------------------------------------------------------------------------


class Words(TextEncoder):
    """One feature a word; keeps what it was given."""

    dim, length, identity = 2, 5, "words"

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def encode_ragged(self, texts):
        self.read += texts
        note_cut(texts, [len(text.split()) for text in texts], self.length)
        return [torch.ones(max(1, min(len(text.split()), self.length)), 2) for text in texts]


class Two(Source):
    """Four captions, one of them empty, one too long."""

    sample_rate, recipe = 8000, {"two": 2}
    rows = [{"id": str(k), "caption": c} for k, c in enumerate(["a b", "", "a b c d e f", "c"])]

    def audio(self, start, stop):
        return 0.1 * torch.randn(stop - start, 8000, generator=torch.Generator().manual_seed(start))


def test_encode_puts_words_around_prompts_and_warns_once(tmp_path: Path) -> None:
    text, out = Words(), tmp_path / "store"
    given = (str(out), SmallCodec(), text, SmallJudge(), SmallReward())
    with pytest.warns(PromptsCut, match="1 of 4 prompts are longer than 5") as said:
        encode(*given, source=Two(), prefix="fine ", suffix=" loud", negative="hum", shard=1)
    assert len(said) == 1
    assert text.read == ["fine a b loud", "", "fine a b c d e f loud", "fine c loud", "", "hum"]
    assert read_json(out / "recipe.json")["suffix"] == " loud"
    with pytest.raises(ValueError, match="suffix"):
        encode(*given, source=Two(), prefix="fine ", negative="hum", shard=1)


def test_stores_begun_before_there_was_a_suffix_are_whole(tmp_path: Path) -> None:
    given = (str(tmp_path / "store"), SmallCodec(), Words(), SmallJudge(), SmallReward())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptsCut)
        encode(*given, source=Two())
    assert "suffix" not in read_json(tmp_path / "store" / "recipe.json")
