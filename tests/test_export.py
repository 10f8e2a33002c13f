"""Export: a folder that is a bundle, a card that the hub can read, and the way to a hub and back."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_world import SmallCodec, SmallReward, make_data, make_stage, make_trainer, wake

from callbacks import BundleWriter, RenderSlice
from fluxlight import cli
from fluxlight.bundle import bundle_hash, init_from, load_bundle, read_recipe, save_bundle
from fluxlight.clips.candidates import read_candidates
from fluxlight.export import export
from fluxlight.export.facts import read_training
from fluxlight.files import write_json
from fluxlight.generate import Generator, read_pipeline
from fluxlight.heads import GlobalAdaLN  # type: ignore[attr-defined]

TRUST = ["small_world"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run``, a run that rendered its slice, and ``pipeline.yaml``, the parts of the small world."""
    folder = tmp_path_factory.mktemp("export")
    stage = make_stage(head=GlobalAdaLN)
    wake(stage.model, 0.1)
    make_trainer(folder / "run", [RenderSlice(SmallCodec()), BundleWriter()]).validate(
        stage, datamodule=make_data(folder), verbose=False
    )
    parts: dict[str, Any] = {
        name: {"class_path": f"small_world.Small{name.title()}"} for name in ("codec", "text", "clap", "reward")
    }
    loud = {"class_path": "fluxlight.postprocess.Loudness", "init_args": {"target": -20.0}}
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(parts | {"postprocess": [loud], "prefix": "fine "}))
    return folder


@pytest.fixture
def made(world: Path, tmp_path: Path) -> Path:
    return export(world / "run", tmp_path / "model", pipeline=world / "pipeline.yaml", trust=TRUST)


def test_the_last_of_several_configs_says_how_it_was_trained(tmp_path: Path) -> None:
    for name, steps in (("config", 1), ("config-2", 2), ("config-10", 10), ("config-validate", 99)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"trainer": {"max_steps": steps}, "seed_everything": 3}))
    found = read_training(tmp_path / "bundle")
    assert found["max_steps"] == 10 and found["seeds"] == {"seed_everything": 3}
    for name in ("config", "config-2", "config-10"):
        (tmp_path / f"{name}.yaml").unlink()
    assert "max_steps" not in read_training(tmp_path / "bundle"), "a model that was only rendered was not trained"


def table(path: Path, rows: dict[str, str]) -> Path:
    """A table.json of ``fluxlight evaluate`` in little: row name -> hash of its weights."""
    value = {"mean": 0.4, "low": 0.35, "high": 0.45}
    system = {
        "distances": {"fad": {"value": 0.49, "low": 0.44, "high": 0.54}},
        "scores": {"clap_b": value, "reward_a": value},
    }
    systems = {name: {**system, "info": {"checkpoint": hash} if hash else {}} for name, hash in rows.items()}
    frame = {"n": 100, "prompts": "08576145", "judges": {"clap_b": "clap-b-v1"}, "optimised": ["reward_a"]}
    floor, reference = {"fad": {"mean": 0.07, "low": 0.05, "high": 0.08}}, {"identity": "reference-700"}
    locked = {"loudness": "-23 LUFS", "systems": systems, "floor": floor, "reference": reference}
    write_json(path, {"version": 1, "frame": frame, "tables": {"locked": locked}})
    return path


def test_the_folder_is_a_bundle_with_the_same_weights(world: Path, made: Path) -> None:
    source = world / "run/bundle"
    files = ["README.md", "config.json", "model.yaml", "samples", "weights.safetensors"]
    assert sorted(p.name for p in made.iterdir()) == files
    assert bundle_hash(made) == bundle_hash(source)
    model = make_stage(head=GlobalAdaLN).model
    init_from(model, made)
    for name, value in load_bundle(source).state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    said = read_recipe(made)["info"]
    assert said["stage"] == "ScoreCondSFT" and said["pipeline"]["codec"]["identity"] == "small-codec"
    assert json.loads((made / "config.json").read_text())["checkpoint"] == bundle_hash(made)


def test_a_folder_remembers_how_its_run_rendered(world: Path, made: Path, tmp_path: Path) -> None:
    pipeline = read_pipeline(made)
    assert (
        pipeline.sampler.steps == 2
        and pipeline.prefix == "fine "
        and pipeline.postprocess[0].init_args == {"target": -20.0}
    )
    again = export(made, tmp_path / "again", trust=TRUST)
    assert read_recipe(again)["info"]["pipeline"] == read_recipe(made)["info"]["pipeline"]
    clip = Generator.from_folder(again, trust=TRUST)("a flute")[0]
    assert any("-20.0" in note for note in clip.notes)
    assert isinstance(Generator.from_folder(again, trust=TRUST).reward(), SmallReward)


def test_exporting_twice_gives_the_same_bytes(world: Path, made: Path) -> None:
    before = {p.name: p.read_bytes() for p in made.rglob("*.*")}
    export(world / "run", made, pipeline=world / "pipeline.yaml", trust=TRUST)
    assert before == {p.name: p.read_bytes() for p in made.rglob("*.*")}


def test_the_card_plays_the_first_clips_of_the_slice(world: Path, made: Path, tmp_path: Path) -> None:
    import soundfile
    from huggingface_hub import ModelCard

    rows = sorted(read_candidates(world / "run" / "slice"), key=lambda row: row.seed)
    widget = ModelCard.load(made / "README.md").data.widget
    assert [sample["text"] for sample in widget] == [row.prompt for row in rows[:3]] and len(widget) == 3
    for sample, row in zip(widget, rows, strict=False):
        heard, rate = soundfile.read(made / sample["output"]["url"])
        expected, wanted = soundfile.read(world / "run" / "slice" / row.audio)
        assert rate == wanted and abs(heard - expected).max() < 1e-4
    # clips of other weights are not its own
    other = load_bundle(world / "run/bundle")
    wake(other, 0.1)
    save_bundle(tmp_path / "run" / "bundle", other)
    shutil.copytree(world / "run" / "slice", tmp_path / "run" / "slice")
    export(tmp_path / "run", made, pipeline=world / "pipeline.yaml", trust=TRUST)
    assert not list((made / "samples").iterdir()) and "widget" not in (made / "README.md").read_text()


def test_half_the_size_sounds_the_same(world: Path, made: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"pipeline": world / "pipeline.yaml", "trust": TRUST}
    out = export(world / "run", tmp_path / "half", half=True, samples=0, **settings)
    whole, half = (p / "weights.safetensors" for p in (made, out))
    assert half.stat().st_size < 0.7 * whole.stat().st_size and not (out / "samples").exists()
    said = read_recipe(out)["info"]
    assert said["rounded_from"] == bundle_hash(made) != bundle_hash(out)
    assert f"rounded to half precision from `{bundle_hash(made)}`" in (out / "README.md").read_text()
    a, b = (Generator.from_folder(p, trust=TRUST)("a flute", seed=3)[0].audio for p in (made, out))
    assert (a - b).abs().max() < 0.02 * a.abs().max()


def test_averaged_weights_can_be_exported(world: Path, tmp_path: Path) -> None:
    model = load_bundle(world / "run/bundle")
    ema = {name: value + 1 for name, value in model.state_dict().items() if value.is_floating_point()}
    save_bundle(tmp_path / "bundle", model, {}, ema)
    settings: dict[str, Any] = {"pipeline": world / "pipeline.yaml", "trust": TRUST}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = export(tmp_path / "bundle", tmp_path / "model", weights="ema", **settings)
    assert bundle_hash(out) == bundle_hash(tmp_path / "bundle", "ema") != bundle_hash(tmp_path / "bundle")
    assert "(averaged)" in (out / "README.md").read_text()


def test_the_hub_reads_the_card_and_its_metrics(world: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    own = bundle_hash(world / "run/bundle")
    found = table(tmp_path / "table.json", {"0 baseline": "aaaa", "4 CRPO": own})
    out = export(world / "run", tmp_path / "m", "Tune: maker", pipeline=world / "pipeline.yaml", table=found,
                 trust=TRUST, data="Tunes of my aunt.", licence="cc0-1.0")  # fmt: skip
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "cc0-1.0" and card.data.pipeline_tag == "text-to-audio"
    assert card.data.model_name == "Tune: maker" and card.data.library_name == "fluxlight"
    results = {r.metric_type: r.metric_value for r in card.data.eval_results or []}
    assert results == {"fad": 0.49, "clap_b": 0.4}, "what was optimised on is no result"
    for words in ("4 CRPO", "0.4900 [0.4400, 0.5400] | 0.0700", "reward A †", "n = 100", "Tunes of my aunt.",
                  "Intended use", "seeds: draws 0", "small-codec", own):  # fmt: skip
        assert words in card.text or words in card.content, words
    assert str(tmp_path) not in card.content and str(world) not in card.content


@pytest.mark.parametrize(
    ("rows", "row", "message"),
    [
        ({"a": "1", "b": "2"}, None, "no row made by weights"),
        ({"a": "own", "b": "own"}, None, "rows a, b made by weights"),
        ({"a": "own"}, "c", "has no row 'c'"),
        ({"a": "1"}, "a", "was made by weights 1"),
    ],
)
def test_metrics_of_other_weights_are_refused(
    world: Path, tmp_path: Path, rows: dict[str, str], row: str | None, message: str
) -> None:
    own = bundle_hash(world / "run/bundle")
    found = table(tmp_path / "t.json", {k: own if v == "own" else v for k, v in rows.items()})
    with pytest.raises(ValueError, match=message):
        export(world / "run", tmp_path / "m", pipeline=world / "pipeline.yaml", table=found, row=row, trust=TRUST)
    assert not (tmp_path / "m").exists()


def test_a_folder_of_something_else_is_left_alone(world: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    for out, message in ((tmp_path, "thesis.tex"), (world / "run/bundle", "is the bundle itself")):
        with pytest.raises(ValueError, match=message):
            export(world / "run", out, pipeline=world / "pipeline.yaml", trust=TRUST)
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_lines_for_what_does_not_fit(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "m")]
    whole = yaml.safe_load((world / "pipeline.yaml").read_text())
    (tmp_path / "typo.yaml").write_text(yaml.safe_dump(whole | {"codec": "fluxlight.codec.Embeded"}))
    placed = {"class_path": "fluxlight.codec.EmbeddedCodec", "init_args": {"weights": "/x"}}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(whole | {"codec": placed}))
    for words, message in (
        ([str(tmp_path / "none")], "does not exist"),
        ([str(world / "run")], "to no encoders and codec known here"),
        ([str(world / "run"), "--pipeline", str(world / "pipeline.yaml")], "add --trust small_world"),
        ([str(world / "run"), "--pipeline", str(tmp_path / "p.yaml")], "may name no place"),
        ([str(world / "run"), "--pipeline", str(tmp_path / "none.yaml")], "does not exist"),
        ([str(world / "run"), "--pipeline", str(tmp_path / "typo.yaml")], "fluxlight.codec.Embeded cannot be imported"),
        ([str(world / "run"), "--table", str(world / "pipeline.yaml")], "to no encoders and codec"),
    ):
        assert cli.main(["export", *words, *out]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1, said
    assert not (tmp_path / "m").exists()


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as an upload and a download of small files need, over real HTTP."""

    files: dict[str, bytes] = {}
    sha = "0" * 40

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def answer(self, content: Any, code: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": self.sha, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/preupload/" in self.path:
            names = [entry["path"] for entry in json.loads(body)["files"]]
            self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/me/tunes"
            self.answer({"commitUrl": f"{url}/commit/{self.sha}", "commitOid": self.sha, "success": True})
        else:
            self.answer({"name": "me/tunes", "url": f"http://{self.headers['Host']}/me/tunes"})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "/resolve/" in path and (name := path.rpartition("/")[2]) in self.files:
            self.answer(self.files[name], ETag=f'"{abs(hash(self.files[name])):040x}"')
        elif "/tree/" in path:
            self.answer([{"type": "file", "path": n, "size": len(c), "oid": f"{abs(hash(c)):040x}"}
                         for n, c in self.files.items()])  # fmt: skip
        elif path.startswith("/api/models/me/tunes"):
            self.answer({"id": "me/tunes", "sha": self.sha, "siblings": [{"rfilename": n} for n in self.files],
                         "private": False, "tags": [], "downloads": 0, "likes": 0})  # fmt: skip
        else:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(Hub, "files", {})
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield url
    server.shutdown()


def test_up_to_a_hub_and_down_again(made: Path, hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    api = HfApi(endpoint=hub, token="hf_test")
    api.create_repo("me/tunes")
    api.upload_folder(repo_id="me/tunes", folder_path=made)
    assert Hub.files == {p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*.*")}
    Hub.files["evil.py"] = b"raise SystemExit"
    there = Generator.from_pretrained("me/tunes", trust=TRUST)
    here = Generator.from_pretrained(made, trust=TRUST)
    assert torch.equal(there("a flute")[0].audio, here("a flute")[0].audio)
    assert not list((tmp_path / "cache").rglob("evil.py")), "only what a model folder holds is fetched"
    with pytest.raises(FileNotFoundError, match="hf://nobody/none|nobody/none is no folder here"):
        Generator.from_pretrained("hf://nobody/none")
