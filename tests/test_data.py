"""The store, the order of rows, prompts, mixtures and pairs, and the encode verb."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import (
    Letters,
    SmallCodec,
    SmallJudge,
    SmallReward,
    T,
    features,
    make_candidates,
    make_data,
    make_store,
)

from fluxlight.data import LatentStore, LatentStoreWriter, MixtureData, PairData
from fluxlight.data.encode import encode
from fluxlight.data.prompts import candidate_prompts, slice_prompts
from fluxlight.data.samplers import BatchStream, Stream
from fluxlight.data.sources import AudioFolder
from fluxlight.files import read_jsonl, write_jsonl


@given(n=st.integers(1, 30), batch=st.integers(1, 7), batches=st.integers(1, 5), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_a_pass_of_the_stream_holds_every_row_once(n: int, batch: int, batches: int, seed: int) -> None:
    stream = Stream(np.arange(n), seed)
    assert sorted(stream.rows(3 * n, n)) == list(range(n))
    walked = []
    for epoch in range(3):
        sampler = BatchStream(stream, batch, batches, lambda done=epoch * batches: done)
        walked += [row for rows in sampler for row in rows]
    # epochs are a way to cut the stream, not to order it, and any of them can be asked for alone
    assert walked == Stream(np.arange(n), seed).rows(0, 3 * batch * batches)


def test_processes_share_the_very_batches_of_one() -> None:
    stream = Stream(np.arange(20), 1)
    alone = list(BatchStream(stream, 4, 6, lambda: 6))
    shared = [list(BatchStream(stream, 2, 6, lambda: 6, rank, 2)) for rank in range(2)]
    assert alone == [a + b for a, b in zip(*shared, strict=True)]


def test_store_gives_back_what_was_written(tmp_path: Path) -> None:
    store = LatentStore(make_store(tmp_path / "store", n=20))
    batch = store.batch([3, 17, 3])
    tokens, text_c = features(store.captions[17])
    assert torch.allclose(batch.text[1, : len(tokens)], torch.from_numpy(tokens), atol=2e-3)  # tokens are kept in fp16
    assert not batch.text[1, len(tokens) :].any() and batch.text.shape[1] == T
    assert torch.equal(batch.text_c[1], torch.from_numpy(text_c))
    assert torch.equal(batch.mean[0], batch.mean[2]) and batch.index.tolist() == [3, 17, 3]
    mean, std = store.statistics
    everything = torch.from_numpy(np.array(store.mean)).reshape(-1, 4).double()
    assert torch.allclose(mean.double(), everything.mean(0), atol=1e-6)
    assert torch.allclose(std.double(), everything.std(0, correction=0), atol=1e-6)
    assert store.score_quantile(0.5) == pytest.approx(float(np.median(store.score)))
    assert torch.allclose(store.negative[1], torch.from_numpy(features("noise and hum")[1]))


def test_a_text_is_stored_once(tmp_path: Path) -> None:
    writer = LatentStoreWriter(tmp_path / "s", {})
    captions = ["one", "two", "one", "one"]
    parts = [features(c) for c in captions]
    writer.write(0, [t for t, _ in parts], np.stack([c for _, c in parts]))
    special = [features(""), features("bad")]
    writer.finish(
        [{"id": str(i), "caption": c} for i, c in enumerate(captions)],
        1,
        ([t for t, _ in special], np.stack([c for _, c in special])),
        T,
        {},
    )
    store = LatentStore(tmp_path / "s")
    assert len(store.text_c) == 4 and store.text_row.tolist() == [2, 3, 2, 2]
    with pytest.raises(ValueError, match="holds prompts only"):
        store.batch([0])


def test_a_damaged_store_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist: make it with 'fluxlight encode"):
        LatentStore(tmp_path / "none")
    folder = make_store(tmp_path / "store")
    (folder / "mean.npy").write_bytes((folder / "mean.npy").read_bytes()[:500])
    with pytest.raises(ValueError, match="mean.npy is missing or damaged: delete the folder"):
        LatentStore(folder)
    folder = make_store(tmp_path / "short")
    write_jsonl(folder / "rows.jsonl", read_jsonl(folder / "rows.jsonl")[:-1])
    with pytest.raises(ValueError, match=r"rows.jsonl has 23 rows, meta.json says 24"):
        LatentStore(folder)
    (tmp_path / "begun").mkdir()
    with pytest.raises(FileNotFoundError, match="is not finished"):
        LatentStore(tmp_path / "begun")
    with pytest.raises(ValueError, match="mean is not finite"):
        LatentStoreWriter(tmp_path / "nan", {}).write(
            0, [np.zeros((1, 8))], np.zeros((1, 5)), np.full((1, 12, 4), np.nan)
        )


@given(clips=st.integers(1, 7), size=st.integers(1, 8), base=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_noise_of_a_prompt_knows_nothing_of_batches(
    clips: int, size: int, base: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = _slice(tmp_path_factory)
    flat = [clip for batch in slice_prompts(store, size, base, clips) for clip in batch]
    assert flat == [(i, base + i) for i in range(clips)]


_SLICE: list[LatentStore] = []


def _slice(factory: pytest.TempPathFactory) -> LatentStore:
    if not _SLICE:
        _SLICE.append(LatentStore(make_store(factory.mktemp("slice") / "s", n=7, latents=False)))
    return _SLICE[0]


def test_candidates_are_distinct_captions_with_noise_of_their_own(tmp_path: Path) -> None:
    store = LatentStore(make_store(tmp_path / "store"))
    flat = [clip for batch in candidate_prompts(store, 10, 3, 1000, 4, 0) for clip in batch]
    assert len({seed for _, seed in flat}) == 30 and set(Counter(row for row, _ in flat).values()) == {3}
    assert flat == [clip for batch in candidate_prompts(store, 10, 3, 1000, 7, 0) for clip in batch]
    assert {row for row, _ in flat} != {
        row for batch in candidate_prompts(store, 10, 3, 1000, 4, 1) for row, _ in batch
    }
    with pytest.raises(ValueError, match="skip is -1"):
        candidate_prompts(store, 10, 3, 1000, 4, 0, skip=-1)
    with pytest.raises(ValueError, match="prompts is 25, but .* only 24 distinct captions"):
        candidate_prompts(store, 25, 3, 1000, 4, 0)


def test_a_mixture_without_experts_is_the_store_alone(tmp_path: Path) -> None:
    control, plain = make_data(tmp_path, MixtureData, oversample=0), make_data(tmp_path)
    assert control.table().tolist() == plain.table().tolist() and control.content() == plain.content()
    assert torch.equal(control.rows().batch([3, 1]).mean, plain.rows().batch([3, 1]).mean)
    with pytest.raises(ValueError, match="oversample is 0 and data.experts_only true"):
        make_data(tmp_path, MixtureData, oversample=0, experts_only=True)
    with pytest.raises(ValueError, match=r"experts is not set.*oversample to 0"):
        make_data(tmp_path, MixtureData).table()


def test_pairs_and_later_rounds_take_captions_that_nobody_had_while_there_are_any(tmp_path: Path) -> None:
    store = LatentStore(make_store(tmp_path / "store"))

    def drawn(prompts: int, skip: int) -> list[int]:
        return [row for batch in candidate_prompts(store, prompts, 1, 0, 5, 0, skip) for row, _ in batch]

    experts, pairs, later = drawn(10, 0), drawn(6, 10), drawn(12, 16)
    assert len({*experts, *pairs, *later[:8]}) == 24  # all captions of the store, none twice
    assert later[8:] == experts[:4]  # then the order begins again


def test_streams_of_one_seed_differ_by_name_alone() -> None:
    """Another name is another order, in which every row still comes once a pass."""
    orders = [Stream(np.arange(20), 1, name).rows(0, 20) for name in ("", "trunk", "sft", "sft")]
    assert orders[2] == orders[3] and len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(20)) for order in orders)


def test_a_mixture_holds_experts_five_times_under_their_own_text(tmp_path: Path) -> None:
    data = make_data(
        tmp_path,
        MixtureData,
        experts=str(make_candidates(tmp_path / "c", make_store(tmp_path / "store")) / "experts.jsonl"),
    )
    table = Counter(data.table().tolist())
    assert [table[i] for i in (0, 23, 24, 27)] == [1, 1, 5, 5] and len(table) == 28
    batch = data.rows().batch([25, 1, 24, 5])
    assert batch.index.tolist() == [25, 1, 24, 5]
    assert torch.equal(batch.mean[1], data.store.batch([1]).mean[0]) and torch.equal(batch.text[0], batch.text[1])
    assert torch.equal(batch.mean[2], torch.from_numpy(np.load(tmp_path / "c/latents/0a.npy")))
    assert batch.std is not None and not batch.std[[0, 2]].any() and bool(batch.std[[1, 3]].all())
    assert batch.score is not None and batch.score[[0, 2]].tolist() == [2.5, 1.5]
    data.experts_only = True
    assert data.table().tolist() == [24, 25, 26, 27]


def test_pairs_share_a_text_and_never_a_clip(tmp_path: Path) -> None:
    folder = make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    data = make_data(tmp_path, PairData, pairs=str(folder / "pairs.jsonl"))
    batch = data.rows().batch([2, 0])
    assert torch.equal(batch.winner.text, batch.loser.text) and not torch.equal(batch.winner.mean, batch.loser.mean)
    assert torch.equal(batch.loser.mean[1], torch.from_numpy(np.load(folder / "latents/0b.npy")))
    rows = read_jsonl(folder / "pairs.jsonl")
    rows[1]["loser"] = rows[1]["winner"]
    write_jsonl(folder / "pairs.jsonl", rows)
    with pytest.raises(ValueError, match="sets a clip against itself"):
        data.rows()


def test_a_selection_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = make_candidates(tmp_path / "c", make_store(tmp_path / "store"))
    data = make_data(tmp_path, MixtureData, experts=str(folder / "experts.jsonl"))
    rows = read_jsonl(folder / "experts.jsonl")
    (folder / "latents/0a.npy").unlink()
    with pytest.raises(FileNotFoundError, match="0a.npy is missing"):
        data.rows()
    write_jsonl(folder / "experts.jsonl", [{**rows[1], "id": "slice-000"}])
    with pytest.raises(ValueError, match="'slice-000' is not in store"):
        data.rows()
    write_jsonl(folder / "experts.jsonl", [])
    with pytest.raises(ValueError, match="is empty"):
        data.rows()
    data.experts = None
    with pytest.raises(ValueError, match="data.experts is not set"):
        data.table()


def test_encode_is_resumable_and_says_what_it_was_made_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for k in range(5):
        soundfile.write(tmp_path / f"clip{k}.wav", rng.normal(size=(9000, 2)) * 0.1, 8000)
    (tmp_path / "captions.tsv").write_text("id\tcaption\n" + "".join(f"clip{k}\ttune {k}\n" for k in range(5)))

    def go(out: str, prefix: str = "") -> LatentStore:
        source = AudioFolder(str(tmp_path / "captions.tsv"), str(tmp_path), sample_rate=8000, seconds=1.0)
        encode(
            str(tmp_path / out),
            SmallCodec(),
            Letters(),
            SmallJudge(),
            SmallReward(),
            source=source,
            shard=2,
            prefix=prefix,
        )
        return LatentStore(tmp_path / out)

    whole = go("whole")
    assert len(whole) == 5 and whole.meta["identities"] == {
        "codec": "small-codec",
        "text": "letters",
        "clap": "small-judge-1",
        "reward": "small-reward",
    }
    assert not (tmp_path / "whole" / "shards").exists()
    # a kill between two shards
    with monkeypatch.context() as patch:
        heard: list[int] = []
        patch.setattr(
            SmallReward,
            "score",
            lambda self, audio, *rest: (
                (_ for _ in ()).throw(KeyboardInterrupt) if len(heard) == 4 else heard.append(1) or audio.std(1)
            ),
        )
        with pytest.raises(KeyboardInterrupt):
            go("again")
    assert len(list((tmp_path / "again" / "shards").iterdir())) == 2
    again = go("again")
    for name in ("mean", "score", "tokens", "text_c", "text_row"):
        assert (tmp_path / "whole" / f"{name}.npy").read_bytes() == (tmp_path / "again" / f"{name}.npy").read_bytes()
    assert again.meta == whole.meta
    with pytest.raises(ValueError, match="was made with prefix = '', now it is 'high '"):
        go("again", prefix="high ")
    assert not np.allclose(go("other", prefix="high ").text_c[2], whole.text_c[2])
    shutil.rmtree(tmp_path / "whole")
    (tmp_path / "clip3.wav").write_bytes(b"no wave")
    assert [row["id"] for row in go("whole").rows] == ["clip0", "clip1", "clip2", "clip4"]
    (failed,) = read_jsonl(tmp_path / "whole" / "failed.jsonl")
    assert "clip3.wav is missing or damaged" in failed["reason"]


def test_a_score_that_is_not_finite_is_one_line_when_the_store_is_opened(tmp_path: Path) -> None:
    folder = make_store(tmp_path / "store")
    score = np.load(folder / "score.npy")
    score[[2, 5]] = np.nan, np.inf
    np.save(folder / "score.npy", score)
    with pytest.raises(ValueError, match=r"score\.npy holds 2 non-finite score") as error:
        LatentStore(folder)
    assert "\n" not in str(error.value)


def test_encode_says_in_one_line_how_many_prompts_were_cut(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,prompt\na,a calm waltz\nb," + "slow " * 100 + "\nc," + "fast " * 100)
    words = ["encode", "--source", "fluxlight.data.PromptFile", "--source.path", str(tmp_path / "p.csv")]
    words += ["--text_only", "true", "--out", str(tmp_path / "slice")]
    done = subprocess.run([sys.executable, "-m", "fluxlight", *words], capture_output=True, text=True)
    (said,) = [line for line in done.stderr.splitlines() if "cut" in line]
    assert said.startswith("fluxlight encode: 2 of 3 prompts are longer than 77 tokens") and done.returncode == 0
