"""Security: nothing of a foreign file is run, written elsewhere, shown as markup or sent to the terminal or network."""

from __future__ import annotations

import ast
import io
import json
import os
import socket
import stat
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_evaluation import render as render_clips
from small_listening import PROMPTS, listen_words
from small_world import make_world

from experiments.reports.blocks import Table, Text
from experiments.reports.page import as_html
from fluxlight.challenge.submission import check_zip
from fluxlight.cli import main
from fluxlight.cli.output import Plain
from fluxlight.files.printable import printable
from fluxlight.postprocess import Separate
from fluxlight.report.listening import listening_page
from fluxlight.tables import clip_name
from fluxlight.types import Clip

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for top in ("fluxlight", "callbacks", "experiments") for path in (ROOT / top).rglob("*.py")]
ESCAPE = "\x1b[31m\x1b]0;title\x07\x9b2J"


@cache
def every_call() -> list[tuple[Path, str, ast.Call]]:
    """File, dotted name and node of every call of the project."""
    found = []
    for path in SOURCES:
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        named = [node for node in calls if isinstance(node.func, ast.Name | ast.Attribute)]
        found += [(path.relative_to(ROOT), f".{ast.unparse(node.func)}", node) for node in named]
    return found


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    """Every call of a function whose dotted name ends so."""
    return [(path, node) for path, called, node in every_call() if called.endswith(f".{name}")]


def keyword(call: ast.Call, name: str) -> str:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), "")


# -- pickles and code ------------------------------------------------------------------------------------------------


def test_every_load_of_a_pickle_is_of_tensors_alone() -> None:
    for path, call in calls("torch.load"):
        restricted = keyword(call, "pickle_module") == "pickles"  # torch's restricted reader, any protocol
        assert keyword(call, "weights_only") == "True" or restricted, (path, call.lineno)
    for path, call in [*calls("np.load"), *calls("numpy.load")]:
        assert keyword(call, "allow_pickle") in ("", "False"), (path, call.lineno)
    for name in ("pickle.load", "pickle.loads", "dill.load", "joblib.load", "jit.load", "marshal.loads", "shelve.open"):
        assert not calls(name), name


def test_no_text_becomes_code_or_a_command() -> None:
    for name in ("eval", "exec", "os.system", "os.popen", "subprocess.getoutput"):
        assert not [(p, c.lineno) for p, c in calls(name) if ast.unparse(c.func) == name], name
    for name in ("subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.call"):
        for path, call in calls(name):
            one_string = isinstance(call.args[0], ast.Constant | ast.JoinedStr)
            assert keyword(call, "shell") in ("", "False") and not one_string, (path, call.lineno)
    for path, call in calls("yaml.load"):
        assert keyword(call, "Loader") == "_Yaml", path
    with pytest.raises(ValueError, match="could not determine a constructor"):
        from fluxlight.files import parse_yaml

        parse_yaml("a: !!python/object/apply:os.system ['true']", ".", "x")


class Shout:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_the_package_of_demucs_runs_no_pickle_of_a_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "mdx_extra.yaml").write_text("models: ['e51eebcc']\n")
    torch.save({"klass": Shout(tmp_path / "heard"), "args": (), "kwargs": {}, "state": {}}, tmp_path / "e51eebcc.th")
    with pytest.raises(ValueError, match="mdx_extra in .* is not loaded: it holds a .*mkdir"):
        Separate(1, folder=str(tmp_path))(Clip("a", 0.1 * torch.randn(44100), 44100))
    assert not (tmp_path / "heard").exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


# -- paths and archives ----------------------------------------------------------------------------------------------


def test_no_archive_is_unpacked() -> None:
    for name in ("extractall", "extract", "unpack_archive"):
        assert not calls(name), name


@pytest.mark.parametrize("name", ["../a.wav", "/etc/a.wav", "b/../../a.wav", "..\\a.wav", "C:\\a.wav", "a.wav/../../x"])
def test_a_zip_that_leaves_its_folder_is_no_submission(tmp_path: Path, name: str, capsys: Any) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, 0.1 * torch.randn(441_000).numpy(), 44_100, format="WAV", subtype="PCM_16")
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr(name, sound.getvalue())
    assert check_zip(tmp_path / "s.zip", ["a"])
    assert main(["submit", "--check", str(tmp_path / "s.zip")]) == 1
    link = zipfile.ZipInfo("a.wav")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert check_zip(tmp_path / "t.zip", ["a"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zip", "t.zip"]


@given(st.text(max_size=40))
def test_no_id_leads_out_of_a_folder(id: str) -> None:
    place = Path("/folder") / f"{clip_name(id)}.wav"
    assert os.path.normpath(place) == str(place) and place.parent == Path("/folder")


# -- markup ----------------------------------------------------------------------------------------------------------

MARKUP = '<img src=x onerror="alert(1)">&amp;"\'</script><script>alert(2)</script>'


def plain_page(html: str) -> None:
    assert "<img src=x" not in html and "<script>alert" not in html and 'onerror="alert' not in html


def test_foreign_text_is_no_markup_on_any_page(tmp_path: Path) -> None:
    folder = render_clips(tmp_path / "clips", 1, 0.1, ["a", "b", "c"])
    prompts = [{"id": id, "prompt": MARKUP} for id in ("a", "b", "c")]
    page = listening_page(tmp_path / "page/index.html", prompts, {MARKUP[:40]: folder}, {})
    plain_page(page.read_text(encoding="utf-8"))
    words = listen_words(tmp_path)
    (tmp_path / "prompts.json").write_text(json.dumps([{"id": id, "prompt": MARKUP} for id in PROMPTS]))
    assert main(words) == 0
    plain_page((tmp_path / "listening/index.html").read_text(encoding="utf-8"))


def test_foreign_text_is_no_markup_in_a_report(tmp_path: Path) -> None:
    cells = [MARKUP, f"0.1 [{MARKUP.replace(' ', '')}]"]
    table = Table(MARKUP, [MARKUP, "value"], [cells], 1, audio=[f"a/{MARKUP.replace('/', '')}.wav"])
    sound = tmp_path / table.audio[0]
    sound.parent.mkdir()
    sound.touch()
    html = as_html([Text(MARKUP), Text(MARKUP, note=True), table], tmp_path)
    plain_page(html)
    assert "<audio" in html and "<img" not in html and "alert(2)&lt;/script&gt;" in html


def test_a_prompt_that_names_a_place_of_the_template_stays_a_prompt(tmp_path: Path) -> None:
    folder = render_clips(tmp_path / "clips", 1, 0.1, ["a"])
    said = "calm @@NAMES@@ and @@CARDS@@ @@NOTHING@@"
    page = listening_page(tmp_path / "page/index.html", [{"id": "a", "prompt": said}], {"row": folder}, {})
    assert said in page.read_text(encoding="utf-8")


# -- terminal --------------------------------------------------------------------------------------------------------


@given(st.text())
def test_what_is_printed_commands_no_terminal(text: str) -> None:
    shown = printable(text)
    assert not {c for c in shown if c < " " and c not in "\t\n\r"}
    assert not {c for c in shown if "\x7f" <= c <= "\x9f" or "\u202a" <= c <= "\u202e"}
    assert len(shown) == len(text)
    stream = io.StringIO()
    assert Plain(stream).write(text) == len(text)  # type: ignore[arg-type]


FOREIGN = {
    "a file name": (["rank", "{d}/" + ESCAPE.replace("/", "") + ".csv"], {}),
    "a cell": (["rank", "{d}/r.csv"], {"r.csv": f"system,fad\n{ESCAPE},x\n"}),
    "a system": (["rank", "{d}/r.json"], {"r.json": json.dumps({ESCAPE: {"fad": 1}, "b": {"fad": 2}})}),
    "a key of a config": (["weights", "--config", "{d}/c.yaml"], {"c.yaml": f'"{chr(92)}e[31mx": 1\n{ESCAPE}: ['}),
    "an id": (["generate", "--prompts", "{d}/p.json", "--model", "x"], {"p.json": json.dumps({ESCAPE: " "})}),
    "a word": (["generate", "--model", ESCAPE, "tune"], {}),
    "an argument": (["generate", "--steps", ESCAPE, "--model", "x", "tune"], {}),
    "a verb": ([ESCAPE], {}),
    "a class": (["generate", "tune", "--model", "{d}"],
                {"model.yaml": yaml.safe_dump({"backbone": {"class_path": ESCAPE}, "head": None, "hash": {}})}),
    "a clip": (["postprocess", "{d}/in", "{d}/out", "--passes", "0"], {f"in/a{ESCAPE.replace('/', '')}.wav": "no"}),
    "a config of fit": (["fit", "--config", "{d}/c.yaml"], {"c.yaml": yaml.safe_dump({ESCAPE: 1})}),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_escape_sequences_of_foreign_text_never_reach_the_terminal(tmp_path: Path, what: str, capfd: Any) -> None:
    words, files = FOREIGN[what]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    main([word.replace("{d}", str(tmp_path)) for word in words])
    said = capfd.readouterr()
    text = said.out + said.err
    assert text.strip() and not {"\x1b", "\x07", "\x9b"} & set(text), text


# -- network and secrets ---------------------------------------------------------------------------------------------


def test_nothing_asks_the_network_unless_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a connection to {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path))
    assert main(["weights", "--verify"]) == 0
    for words in (["generate", "tune", "--model", "user/name"], ["export", "user/name", "--out", str(tmp_path / "m")],
                  ["evaluate", "user/name", "--prompts", "x", "--out", str(tmp_path / "t")]):  # fmt: skip
        assert main(words) == 2
    assert "connection" not in capsys.readouterr().err


def test_only_these_files_can_ask_the_network() -> None:
    words = ("urlopen", "urllib.request", "http.client", "import requests", "snapshot_download", "httpx")
    asking = {path for path in SOURCES if any(word in path.read_text(encoding="utf-8") for word in words)}
    asking = {str(path.relative_to(ROOT)) for path in asking}
    assert asking == {"fluxlight/weights/fetch.py", "fluxlight/generate/hub.py"}


def test_no_secret_is_kept_in_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run in an environment of secrets: none of its files holds one."""
    secret = "s3cr3t-value"
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "FLUXLIGHT_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, secret)
    small, run = make_world(tmp_path), tmp_path / "run"
    words = ["--config", str(ROOT / "configs/stages/row0_baseline.yaml"), "--config", str(small)]
    assert main(["fit", *words, "--trainer.default_root_dir", str(run)]) == 0
    written = [path for path in run.rglob("*") if path.is_file()]
    assert {"run.json", "config.yaml", "last.ckpt"} <= {path.name for path in written}
    assert not [path for path in written if secret.encode() in path.read_bytes()]
