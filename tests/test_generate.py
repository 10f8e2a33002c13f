"""Generate: the same clips as a validation renders, resumable, best of N, from prompts in any usual file."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_world import SmallClap, SmallCodec, SmallReward, SmallText, make_data, make_stage, make_trainer, wake

from callbacks import BundleWriter, RenderSlice
from fluxlight.bundle import load_bundle, save_bundle
from fluxlight.files import read_jsonl
from fluxlight.generate import Generator, find_bundle, read_pipeline
from fluxlight.generate.prompts import from_file, from_texts
from fluxlight.generate.render import render
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]
from fluxlight.prompts import PromptsCut
from fluxlight.sample import Sampler


def small(**settings: Any) -> Generator:
    stage = make_stage(head=GlobalAdaLN)
    wake(stage.model, 0.1)
    given: dict[str, Any] = {"sampler": Sampler(steps=2), "checkpoint": "0123", "reward": SmallReward} | settings
    return Generator(stage.model, SmallCodec(), SmallText(), SmallClap(), **given)


PROMPTS = from_texts(["a flute", "a banjo and a drum", "", "one more tune"])


def test_guidance_may_lead_away_from_any_text() -> None:
    """A negative text of one's own, as it stands and without the prefix; "" is the stored empty features."""
    prompts, other = ["a flute", "a banjo"], "hum and hiss"
    made = {}
    for text in (None, other, "", " "):
        generator = small(prefix="loud ")
        generator.model.set_empty(torch.full((6, 8), 0.3), torch.full((5,), 0.3))
        if text is not None:
            generator.set_negative(text)
        made[text] = torch.stack([clip.audio for clip in generator(prompts)])
        assert generator.settings.get("negative") == ((text or "").strip() or None)
    by_hand = small(prefix="loud ")
    by_hand.model.set_empty(torch.full((6, 8), 0.3), torch.full((5,), 0.3))
    by_hand.model.set_negative(SmallText().encode([other])[0].half().float(), SmallClap().embed_text([other])[0])
    torch.testing.assert_close(torch.stack([clip.audio for clip in by_hand(prompts)]), made[other])
    # no text was stored in this model, so its default is the empty one
    torch.testing.assert_close(made[None], made[""])
    torch.testing.assert_close(made[" "], made[""])
    assert (made[other] - made[""]).abs().max() > 1e-4


def test_it_makes_the_very_clips_that_a_validation_renders(tmp_path: Path) -> None:
    stage = make_stage(head=GlobalAdaLN)
    wake(stage.model, 0.1)
    data = make_data(tmp_path)
    make_trainer(tmp_path / "run", [RenderSlice(SmallCodec()), BundleWriter()]).validate(
        stage, datamodule=data, verbose=False
    )
    parts = {name: {"class_path": f"small_world.Small{name.title()}"} for name in ("codec", "text", "clap")}
    pipeline = read_pipeline(tmp_path / "run", parts)
    assert pipeline.sampler == stage.sampler and pipeline.codec.identity == "small-codec"
    bundle = find_bundle(tmp_path / "run")
    save_bundle(tmp_path / "folder", load_bundle(bundle), {"pipeline": pipeline.plain()})
    generator = Generator.from_folder(tmp_path / "folder", trust=["small_world"])
    rows = read_jsonl(tmp_path / "run/slice/candidates.jsonl")
    clips = generator([row["prompt"] for row in rows], seed=42, batch_size=2)
    assert len(clips) == 7 and generator.checkpoint == rows[0]["checkpoint"]
    for clip, row in zip(clips, rows, strict=True):
        rendered, _ = soundfile.read(tmp_path / "run/slice" / row["audio"], dtype="float32")
        assert clip.audio.std() > 0.01
        np.testing.assert_allclose(clip.audio.clamp(-1, 1).numpy(), rendered, atol=1e-4)


def test_an_interrupted_folder_ends_with_the_same_files(tmp_path: Path) -> None:
    render(small(), PROMPTS, tmp_path / "whole", batch_size=2)
    stopped, steps = small(), []

    def stop(*args: Any) -> Any:
        steps.append(1)
        if len(steps) > 2:
            raise KeyboardInterrupt
        return SmallCodec().decode(*args)

    stopped.codec.decode = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        render(stopped, PROMPTS, tmp_path / "parts", batch_size=2)
    assert len(read_jsonl(tmp_path / "parts/manifest.jsonl")) == 2
    with (tmp_path / "parts/manifest.jsonl").open("a") as file:
        file.write('{"id": "cut sho')
    render(small(), PROMPTS, tmp_path / "parts", batch_size=2)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert whole == {p.name: p.read_bytes() for p in (tmp_path / "parts").iterdir()} and len(whole) == 5


def test_what_is_there_is_kept_and_other_settings_make_it_anew(tmp_path: Path) -> None:
    first = render(small(), PROMPTS, tmp_path)
    idle = small()
    idle.takes = None  # type: ignore[assignment,method-assign]
    assert render(idle, PROMPTS, tmp_path) == first
    (tmp_path / "a-flute.wav").unlink()
    before = (tmp_path / "empty.wav").stat().st_mtime_ns
    render(small(), PROMPTS, tmp_path)
    assert (tmp_path / "a-flute.wav").exists() and (tmp_path / "empty.wav").stat().st_mtime_ns == before
    other = small()
    other.set_sampler(score=-3.0)
    with pytest.warns(UserWarning, match="4 clips .* made anew"):
        second = render(other, PROMPTS, tmp_path, format="flac")
    assert [row["settings"]["sampler"]["score"] for row in second] == [-3.0] * 4
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".flac"] * 4 + [".jsonl"]
    assert len(read_jsonl(tmp_path / "manifest.jsonl")) == 4


def test_a_strangers_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a-flute.wav").write_text("mine")
    with pytest.raises(ValueError, match="a-flute.wav exists and is not in manifest"):
        render(small(), PROMPTS, tmp_path)
    assert (tmp_path / "a-flute.wav").read_text() == "mine"


def test_noise_is_seed_plus_place_and_a_batch_changes_nothing() -> None:
    whole = small()(["a", "b", "c"], seed=7, batch_size=3)
    for batch in (1, 2):
        parts = small()(["a", "b", "c"], seed=7, batch_size=batch)
        assert all(torch.allclose(x.audio, y.audio, atol=1e-5) for x, y in zip(whole, parts, strict=True))
    assert torch.allclose(small()("b", seed=8)[0].audio, whole[1].audio, atol=1e-5)
    assert not torch.allclose(small()("b", seed=7)[0].audio, whole[1].audio, atol=1e-2)


def test_best_of_keeps_the_candidate_with_the_highest_reward(tmp_path: Path) -> None:
    class Peaky(SmallReward):
        def score(self, audio: torch.Tensor, sample_rate: int, prompts: Any) -> torch.Tensor:
            return audio.abs().max(1).values

    rows = render(small(), PROMPTS, tmp_path, best_of=5, batch_size=10, reward=Peaky())
    chosen = [row["seeds"].index(row["seed"]) for row in rows]
    assert [max(row["scores"]) for row in rows] == [row["scores"][k] for row, k in zip(rows, chosen, strict=True)]
    assert [row["seeds"][0] for row in rows] == [42, 43, 44, 45] and len({s for r in rows for s in r["seeds"]}) == 20
    assert len(set(chosen)) > 1, "a choice that never differs is no choice"
    alone = small()([p.prompt for p in PROMPTS], seed=rows[1]["seed"] - 1)[1]
    written, _ = soundfile.read(tmp_path / rows[1]["file"], dtype="float32")
    np.testing.assert_allclose(written, alone.audio.numpy(), atol=1e-4)


def test_a_clip_that_diverges_is_a_row_with_its_error(tmp_path: Path) -> None:
    broken, seen = small(), []

    def decode(latent: torch.Tensor) -> torch.Tensor:
        seen.append(latent)
        return SmallCodec().decode(latent) * (float("nan") if len(seen) == 1 else 1)

    broken.codec.decode = decode  # type: ignore[method-assign]
    rows = render(broken, PROMPTS[:2], tmp_path)
    assert rows[0]["error"].startswith("clip is not finite") and not rows[1]["error"]
    assert not (tmp_path / "a-flute.wav").exists()
    assert not render(small(), PROMPTS[:2], tmp_path)[0]["error"], "a failed one is tried again"


def test_an_empty_prompt_is_the_stored_empty_text() -> None:
    generator, same = small(), small(prefix="high quality ")
    # a model without a negative text guides away from the empty one
    for one in (generator, same):
        one.model.set_negative(torch.ones(6, 8), torch.ones(5))
    empty, other = generator(["", "tune"])
    assert torch.allclose(same("  ")[0].audio, empty.audio, atol=1e-5)
    generator.model.set_empty(torch.full((6, 8), 2.0), torch.full((5,), 2.0))
    moved, still = generator(["", "tune"])
    assert not torch.allclose(moved.audio, empty.audio, atol=1e-3)
    assert torch.allclose(still.audio, other.audio, atol=1e-5)


def test_long_prompts_are_cut_with_one_warning(tmp_path: Path) -> None:
    long = from_texts([f"{i} " + "tune " * 9 for i in range(5)])
    with pytest.warns(PromptsCut, match="5 of 6 prompts are longer") as caught:
        render(small(), [*long, PROMPTS[0]], tmp_path, batch_size=2)
    assert len([w for w in caught if issubclass(w.category, PromptsCut)]) == 1


def test_a_score_for_a_model_without_a_head_is_refused() -> None:
    stage = make_stage()
    plain = Generator(stage.model, SmallCodec(), SmallText(), SmallClap())
    assert plain.sampler.score is None
    with pytest.raises(ValueError, match="no score head"):
        plain.set_sampler(score=3.0)


def test_parts_of_other_sizes_are_refused() -> None:
    text = SmallText()
    text.dim = 9
    with pytest.raises(ValueError, match="SmallText has dim 9, the model wants 8"):
        Generator(make_stage().model, SmallCodec(), text, SmallClap())


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.txt", "a flute\n\n  a drum \n", [("a-flute", "a flute"), ("a-drum", "a drum")]),
        ("p.json", '[{"id": 7, "prompt": "x"}]', [("7", "x")]),
        ("p.json", '{"k": "x", "l": "y"}', [("k", "x"), ("l", "y")]),
        ("p.json", '["x", "x"]', [("x", "x"), ("x-2", "x")]),
        ("p.jsonl", '{"id": "k", "caption": "x"}\n', [("k", "x")]),
        ("p.csv", '\ufeffid,prompt\n1,"x, y"\n', [("1", "x, y")]),
        ("p.csv", "prompt\nx\n", [("x", "x")]),
        ("p.tsv", "1\tx\n2\ty\n", [("1", "x"), ("2", "y")]),
    ],
)
def test_prompts_are_read_from(tmp_path: Path, name: str, content: str, expected: list[tuple[str, str]]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert [(p.id, p.prompt) for p in from_file(str(tmp_path / name))] == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "[{", "not valid JSON"),
        ("p.json", "[3]", "row 1: is 3 and has no text"),
        ("p.json", '[{"id": 1, "prompt": "x"}, {"id": 1, "prompt": "y"}]', "given twice"),
        ("p.json", '[{"id": 1, "prompt": "x"}, {"prompt": "y"}]', "row 2: has no id"),
        ("p.csv", "id,text\n1,x\n", "name a column prompt"),
        ("p.csv", "id,prompt\n1,x, y\n", "line 2: 3 cells where the first line names 2"),
        ("p.txt", "\n", "holds no prompts"),
    ],
)
def test_faulty_prompts_are_one_clear_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        from_file(str(tmp_path / name))


def test_ids_that_name_one_file_or_leave_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"../../up": "x", "a/b": "y"}'))
    rows = render(small(), from_file("-"), tmp_path / "out")
    assert [row["file"] for row in rows] == ["-..-up.wav", "a-b.wav"] and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "p.json").write_text('{"A": "x", "a": "y"}')
    with pytest.raises(ValueError, match="'A' and 'a' name one file"):
        render(small(), from_file(str(tmp_path / "p.json")), tmp_path / "out")


def test_the_manifest_can_be_read_by_anyone(tmp_path: Path) -> None:
    render(small(), PROMPTS, tmp_path, best_of=2)
    for line in (tmp_path / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert {"id", "prompt", "file", "seed", "seeds", "scores", "checkpoint", "settings", "notes", "error"} <= set(
            row
        )
