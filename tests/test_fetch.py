"""Fetching published files from a real server on this machine: whole, once, gone on with, verified."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from file_server import BODY, SUM, Server
from file_server import folder as folder
from file_server import server as server

from fluxlight.cli import main
from fluxlight.weights import locate
from fluxlight.weights.catalogue import CATALOGUE, Published, Remote
from fluxlight.weights.fetch import fetch


def entry(url: str, checksum: str | None = SUM, size: int | None = None, name: str = "a.bin") -> Published:
    return Published(name, "a thing", "https://example.org/a", "MIT", "another", (Remote("", url, size, checksum),))


def test_a_file_comes_whole_and_once(server: Server, folder: Path) -> None:
    thing = entry(server.address + "/a.bin", size=len(BODY))
    assert fetch(thing, folder).read_bytes() == BODY
    assert [p.name for p in folder.iterdir()] == ["a.bin"]
    fetch(thing, folder)
    assert len(server.seen) == 1


def test_an_interrupted_file_is_gone_on_with(server: Server, folder: Path) -> None:
    thing = entry(server.address + "/a.bin")
    server.cut = 300_000
    with pytest.raises(OSError, match="interrupted.*run the same command again"):
        fetch(thing, folder)
    assert not (folder / "a.bin").exists() and (folder / "a.bin.part").stat().st_size == 300_000
    with pytest.raises(OSError, match="interrupted"):
        fetch(thing, folder)
    server.cut = None
    assert fetch(thing, folder).read_bytes() == BODY
    assert [(given, code) for _, given, code in server.seen] == [
        (None, 200), ("bytes=300000-", 206), ("bytes=600000-", 206)
    ]  # fmt: skip
    assert [p.name for p in folder.iterdir()] == ["a.bin"]


def test_a_part_of_an_older_version_is_not_mixed_with_the_new_one(server: Server, folder: Path) -> None:
    thing = entry(server.address + "/a.bin", checksum=None)
    server.cut = 1000
    with pytest.raises(OSError):
        fetch(thing, folder)
    server.cut, server.validator, server.files["/a.bin"] = None, '"two"', BODY[::-1]
    assert fetch(thing, folder).read_bytes() == BODY[::-1]
    assert server.seen[-1][2] == 200


def test_a_part_that_is_already_whole_is_taken(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "a.bin.part").write_bytes(BODY)
    (folder / "a.bin.part.tag").write_text('"one"')
    assert fetch(entry(server.address + "/a.bin"), folder).read_bytes() == BODY
    assert server.seen[-1][2] == 416
    (folder / "a.bin").unlink()
    (folder / "a.bin.part").write_bytes(BODY + b"too long")
    (folder / "a.bin.part.tag").write_text('"one"')
    assert fetch(entry(server.address + "/a.bin"), folder).read_bytes() == BODY


def test_a_wrong_sum_or_size_leaves_nothing(server: Server, folder: Path) -> None:
    with pytest.raises(OSError, match=r"it has checksum sha256:\w+, sha256:0000 is published\), which was thrown away"):
        fetch(entry(server.address + "/a.bin", "sha256:0000"), folder)
    with pytest.raises(OSError, match="1,024,000 bytes where 7 are published"):
        fetch(entry(server.address + "/a.bin", size=7), folder)
    assert not list(folder.iterdir())
    # the start of a sum is held against the start
    assert fetch(entry(server.address + "/a.bin", SUM[:15]), folder).exists()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 2815309\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head></html>"


@pytest.mark.parametrize("body", [POINTER, PAGE, b'{"error": "gone"}', b"Entry not found", b""])
@pytest.mark.parametrize("name", ["tunejury.pt", "v1-44.pth", "mdx_extra"])
def test_what_is_published_no_more_is_neither_kept_nor_in_the_place_of_what_is_there(
    server: Server, folder: Path, name: str, body: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The published address answers with a page, and 200."""
    known, server.files = CATALOGUE[name], {}
    remotes = tuple(replace(r, url=f"{server.address}/{k}", checksum=None) for k, r in enumerate(known.files))
    monkeypatch.setitem(CATALOGUE, name, replace(known, files=remotes))
    server.files = {f"/{k}": body for k in range(len(remotes))}
    assert main(["weights", "--fetch", name]) == 1
    said = capsys.readouterr().err
    assert "gave another file than the published one (it is" in said and known.page in said and said.count("\n") == 1
    # of a YAML any text may be the right one
    assert not [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".yaml"] and not (folder / name).exists()
    with pytest.raises(FileNotFoundError):
        locate(name)


def test_a_pointer_in_its_place_is_replaced_and_another_file_is_not(server: Server, folder: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(100)}, buffer)
    server.files["/a.pt"] = buffer.getvalue()
    thing = Published("a.pt", "a thing", "https://example.org/a", "MIT", "another", (
        Remote("", server.address + "/a.pt", len(buffer.getvalue())),))  # fmt: skip
    folder.mkdir()
    for worthless in (POINTER, PAGE, b""):
        (folder / "a.pt").write_bytes(worthless)
        assert fetch(thing, folder).read_bytes() == buffer.getvalue()
    torch.save({"b": torch.ones(9)}, folder / "a.pt")
    kept = (folder / "a.pt").read_bytes()
    with pytest.raises(ValueError, match="bytes, .* are published: move it away, and it is fetched"):
        fetch(thing, folder)
    assert (folder / "a.pt").read_bytes() == kept


@pytest.mark.parametrize(("code", "says"), [(404, "answered 404"), (401, "HF_TOKEN"), (500, "answered 500")])
def test_a_refusal_is_one_line(server: Server, folder: Path, code: int, says: str) -> None:
    server.codes["/a.bin"] = code
    with pytest.raises(OSError, match=says) as caught:
        fetch(entry(server.address + "/a.bin"), folder)
    assert "https://example.org/a" in str(caught.value) and "\n" not in str(caught.value)


def test_without_a_network_there_is_one_line(server: Server, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.server_close()
    with pytest.raises(OSError, match="no answer from 127.0.0.1.*another machine.*https://example.org/a"):
        fetch(entry(server.address + "/a.bin"), folder)
    assert main(["weights", "--fetch", "nothing.pt"]) == 2
    assert re.search("no published file is called 'nothing.pt': choose one of .*v1-44.pth", capsys.readouterr().err)


def test_only_https_and_this_machine(server: Server, folder: Path) -> None:
    with pytest.raises(ValueError, match="not https"):
        fetch(entry("http://example.org/a.bin"), folder)
    server.redirects["/r"] = "http://example.org/a.bin"
    with pytest.raises(ValueError, match="not https"):
        fetch(entry(server.address + "/r"), folder)
    server.redirects["/r"] = server.address + "/a.bin"
    assert fetch(entry(server.address + "/r"), folder).read_bytes() == BODY


def test_a_token_goes_to_its_host_alone(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(entry(server.address + "/a.bin"), folder)
    assert server.tokens == [None]


def test_a_folder_appears_when_all_of_it_is_there(server: Server, folder: Path) -> None:
    server.files = {"/config.json": b"{}", "/weights.bin": BODY}
    remotes = tuple(Remote(name[1:], server.address + name) for name in server.files)
    thing = Published("net", "a net", "https://example.org", "MIT", "another", remotes, ("config.json", "weights.bin"))
    server.codes["/weights.bin"] = 404
    with pytest.raises(OSError):
        fetch(thing, folder)
    assert not (folder / "net").exists()
    server.codes.clear()
    fetch(thing, folder)
    assert sorted(p.name for p in (folder / "net").iterdir()) == ["config.json", "weights.bin"]
    assert sum(path == "/config.json" for path, _, _ in server.seen) == 1 and not (folder / "net.part").exists()
    # of a folder that lacks something only that is fetched
    (folder / "net" / "weights.bin").unlink()
    fetch(thing, folder)
    assert (folder / "net" / "weights.bin").read_bytes() == BODY
    assert sum(path == "/config.json" for path, _, _ in server.seen) == 1


def test_the_verb_fetches_prompts_and_audio_list(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("sdd100_prompts.json", "song_describer.csv"):
        assert CATALOGUE[name].files
        server.files[f"/{name}"] = b'{"a": "b"}' if name.endswith("json") else b"a,b\n"
        monkeypatch.setitem(CATALOGUE, name, entry(f"{server.address}/{name}", None, name=name))
    assert main(["weights", "--fetch", "sdd100_prompts.json", "--fetch", "song_describer.csv"]) == 0
    assert "licence: MIT" in capsys.readouterr().out
    assert {p.name for p in folder.iterdir()} == {"sdd100_prompts.json", "song_describer.csv"}
