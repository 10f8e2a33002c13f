"""Demucs fetched by its own package, from a server on this machine; and the progress of a folder."""

from __future__ import annotations

import io
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile
import torch
from small_published import music

from fluxlight.postprocess import Loudness, Separate
from fluxlight.postprocess.folder import process_folder
from fluxlight.types import Clip


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """The package's remote: a list of files, a bag, and one tiny model named by its sum."""
    from small_published import demucs_bag

    folder = tmp_path / "remote"
    demucs_bag(folder)
    (model,) = folder.glob("e51eebcc-*.th")
    (folder / "files.txt").write_text(f"root: \n{model.name}\n")
    return folder


def test_the_package_fetches_what_is_not_here(remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import demucs.hf
    import demucs.pretrained

    def absent(name: str) -> None:
        raise OSError("no network")

    # the package asks the Hugging Face hub first, which is beyond this machine, then its own server, which is here
    monkeypatch.setattr(demucs.hf, "get_hf_model", absent)
    monkeypatch.setattr(demucs.pretrained, "REMOTE_ROOT", remote)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    clip = Clip("a", music(1.0, clips=1)[0], 44100)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(remote))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        monkeypatch.setattr(demucs.pretrained, "ROOT_URL", f"http://127.0.0.1:{server.server_port}/")
        fetched = Separate(1, folder="hub")(clip)
        server.shutdown()
    assert fetched.notes == ["demucs: mdx_extra x 1"] and len(list((tmp_path / "torch").rglob("e51eebcc-*.th"))) == 1
    # what the package keeps is used without the server, and is the model of the folder
    assert torch.equal(Separate(1, folder="hub")(clip).audio, fetched.audio)
    torch.testing.assert_close(Separate(1, folder=str(remote))(clip).audio, fetched.audio)


def test_without_server_or_copy_it_is_one_line(remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import demucs.hf
    import demucs.pretrained

    def absent(name: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(demucs.hf, "get_hf_model", absent)
    monkeypatch.setattr(demucs.pretrained, "REMOTE_ROOT", remote)
    monkeypatch.setattr(demucs.pretrained, "ROOT_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(FileNotFoundError, match="mdx_extra could not be loaded.*leave Separate out") as caught:
        Separate(1, folder="hub")(Clip("a", music(1.0, clips=1)[0], 44100))
    assert "\n" not in str(caught.value)


class Terminal(io.StringIO):
    """A terminal that is read afterwards."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_a_folder_shows_its_progress_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for k, wave in enumerate(music(1.0, clips=4)):
        soundfile.write(tmp_path / "in" / f"{k}.wav", wave.numpy(), 44100)
    monkeypatch.setattr(sys, "stderr", Terminal())
    process_folder(tmp_path / "in", tmp_path / "out", [Loudness()], batch=2)
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "post-processing" in said and "4/4" in said
    (tmp_path / "out" / "3.wav").unlink()
    monkeypatch.setattr(sys, "stderr", Terminal())
    process_folder(tmp_path / "in", tmp_path / "out", [Loudness()], batch=2)
    # the bar begins where the last run ended
    assert " 3/4" in sys.stderr.getvalue()  # type: ignore[attr-defined]
