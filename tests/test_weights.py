"""Published files: where they are looked for, what a config needs, fetching over a real server on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from fluxlight.cli import main
from fluxlight.weights import locate, use_folder, weights_folder
from fluxlight.weights.catalogue import CATALOGUE, Published, Remote
from fluxlight.weights.fetch import fetch, verify
from fluxlight.weights.needs import needs, read_configs

ROOT = Path(__file__).resolve().parents[1]
BODY = bytes(range(256)) * 4000
SUM = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files`` with ranges and an ETag; ``cut`` ends the next answers after so many bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/a.bin": BODY}
        self.redirects: dict[str, str] = {}
        self.cut: int | None = None
        self.validator = '"one"'
        self.codes: dict[str, int] = {}
        self.seen: list[tuple[str, str | None, int]] = []
        self.tokens: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        server, given = self.server, self.headers.get("Range")
        server.tokens.append(self.headers.get("Authorization"))
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.end_headers()
            return
        body = server.files.get(self.path)
        if self.path in server.codes or body is None:
            server.seen.append((self.path, given, server.codes.get(self.path, 404)))
            self.send_error(server.codes.get(self.path, 404))
            return
        start = 0
        if given and self.headers.get("If-Range") == server.validator:
            start = int(re.fullmatch(r"bytes=(\d+)-", given).group(1))  # type: ignore[union-attr]
        code = 416 if given and start >= len(body) else 206 if start else 200
        server.seen.append((self.path, given, code))
        self.send_response(code)
        self.send_header("ETag", server.validator)
        if code == 416:
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:] if server.cut is None else body[start : start + server.cut])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLUXLIGHT_WEIGHTS", str(tmp_path / "w"))
    return tmp_path / "w"


def entry(url: str, checksum: str | None = SUM, size: int | None = None, name: str = "a.bin") -> Published:
    return Published(name, "a thing", "https://example.org/a", "MIT", "another", (Remote("", url, size, checksum),))


# -- where -----------------------------------------------------------------------------------------------------------


def test_an_explicit_path_wins_over_the_folder_and_the_config_over_the_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    for path in (folder / "v1-44.pth", tmp_path / "mine.pth"):
        path.touch()
    assert locate("v1-44.pth") == folder / "v1-44.pth"
    assert locate("v1-44.pth", tmp_path / "mine.pth") == tmp_path / "mine.pth"
    use_folder(None)
    assert weights_folder() == folder
    use_folder(str(tmp_path / "other"))
    assert weights_folder() == tmp_path / "other"
    monkeypatch.delenv("FLUXLIGHT_WEIGHTS")
    monkeypatch.setenv("FLUXLIGHT_CACHE", str(tmp_path / "cache"))
    assert weights_folder() == tmp_path / "cache" / "weights"


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_missing_file_is_one_line_with_everything(name: str, folder: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        locate(name)
    text, known = str(caught.value), CATALOGUE[name]
    assert "\n" not in text
    for said in (str(folder / name), known.page, known.licence, known.alternative, f"--fetch {name}"):
        assert said in text


def test_half_a_folder_is_missing_and_says_what_it_lacks(folder: Path) -> None:
    (folder / "flan-t5-large").mkdir(parents=True)
    (folder / "flan-t5-large" / "config.json").touch()
    with pytest.raises(FileNotFoundError, match=r"lacks model\*\.safetensors\|pytorch_model"):
        locate("flan-t5-large")
    for name in ("pytorch_model.bin", "spiece.model"):
        (folder / "flan-t5-large" / name).touch()
    assert locate("flan-t5-large/") == folder / "flan-t5-large"


def test_the_catalogue_is_sound() -> None:
    for known in CATALOGUE.values():
        assert known.page.startswith("https://") and known.licence and known.alternative
        for remote in known.files:
            assert remote.url.startswith("https://")
            if remote.checksum:
                algorithm, digits = remote.checksum.split(":")
                assert re.fullmatch("[0-9a-f]+", digits) and len(digits) <= hashlib.new(algorithm).digest_size * 2


def test_sums_are_those_of_the_files_at_hand(shared: Path) -> None:
    for name, path in (
        ("sdd100_prompts.json", shared / "sdd100" / "prompts.json"),
        ("tunejury_muq_leave_MA.pt", shared / "tunejury" / "tunejury_muq_leave_MA.pt"),
    ):
        assert path.stat().st_size == CATALOGUE[name].files[0].size
        assert verify(CATALOGUE[name], path) == []
        assert len(verify(CATALOGUE["sdd100_prompts.json"], path)) == (name != "sdd100_prompts.json")


# -- what a config needs ---------------------------------------------------------------------------------------------


def names(*configs: str) -> dict[str, bool]:
    return {need.name: need.optional for need in needs(read_configs([ROOT / "configs" / c for c in configs]))}


def test_the_embedded_world_needs_nothing_and_the_published_one_its_files() -> None:
    assert names("stages/score_cond_sft.yaml") == {"mdx_extra": True}
    assert names("stages/score_cond_sft.yaml", "worlds/published.yaml") == dict.fromkeys(
        ["v1-44.pth", "bigvgan_v2_44khz_128band_512x", "mdx_extra", "music_audioset_epoch_15_esc_90.14.pt",
         "roberta-base", "tunejury.pt", "MERT-v1-330M"], False)  # fmt: skip
    train = names("worlds/published_train.yaml")
    assert {"flan-t5-large", "music_speech_audioset_epoch_15_esc_89.98.pt", "v1-44.pth", "tunejury.pt"} <= train.keys()
    assert set(names("worlds/published_slice.yaml")) == {
        "sdd100_prompts.json", "flan-t5-large", "music_speech_audioset_epoch_15_esc_89.98.pt", "roberta-base"
    }  # fmt: skip
    assert set(train) | set(names("worlds/published_score.yaml")) <= set(CATALOGUE)


def test_settings_and_lists_are_read_as_the_command_line_reads_them(tmp_path: Path) -> None:
    one = {"codec": {"class_path": "fluxlight.codec.MMAudioCodec", "init_args": {"vae": "here.pth"}},
           "callbacks": [{"class_path": "x.Separate"}], "text": "T5"}  # fmt: skip
    two = {"codec": {"init_args": {"mode": "16k"}}, "callbacks+": [{"class_path": "LaionClap"}]}
    for name, config in (("1.yaml", one), ("2.yaml", two)):
        (tmp_path / name).write_text(yaml.safe_dump(config, sort_keys=False))
    both = [(n.name, n.path) for n in needs(read_configs([tmp_path / "1.yaml", tmp_path / "2.yaml"]))]
    assert both[:2] == [("v1-16.pth", "here.pth"), ("best_netG.pt", None)]
    assert {n for n, _ in both[2:]} == {
        "mdx_extra", "music_audioset_epoch_15_esc_90.14.pt", "roberta-base", "flan-t5-large"
    }  # fmt: skip
    (tmp_path / "2.yaml").write_text("callbacks: []")
    assert "mdx_extra" not in {n.name for n in needs(read_configs([tmp_path / "1.yaml", tmp_path / "2.yaml"]))}


def test_a_published_checkpoint_that_a_stage_starts_from_is_listed(tmp_path: Path) -> None:
    start = tmp_path / "start.yaml"
    for given in ("/data/fluxaudio_s_full.pth", "runs/trunk/bundle", None):
        start.write_text(yaml.safe_dump({"model": {"init_args": {"init_from": given}}}))
        listed = [(n.name, n.path, n.asked_by) for n in needs(read_configs([start]))]
        checkpoint = ("fluxaudio_s_full.pth", given, "init_from")
        assert listed == ([checkpoint] if given and given.endswith(".pth") else [])


def test_the_verb_lists_what_is_there_and_what_is_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["weights", "--config", str(ROOT / "configs" / "worlds" / "published_score.yaml")]
    assert main(config) == 1
    said = capsys.readouterr().out
    assert "tunejury.pt: MISSING" in said and "fluxlight.rewards.RewardB" in said and "CC-BY-NC 4.0" in said
    assert "2,352,471,003 bytes" in said and "0 of 5" in said
    folder.mkdir()
    (folder / "tunejury.pt").write_bytes(b"x")
    assert main([*config, "--json"]) == 1
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["tunejury.pt"]["present"] and not rows["MERT-v1-330M"]["present"]
    assert rows["tunejury.pt"]["looked_for"] == str(folder / "tunejury.pt")
    assert main(["weights"]) == 0
    assert f"1 of {len(CATALOGUE)} published files" in capsys.readouterr().out


def test_a_foreign_file_fails_the_verification(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    (folder / "v1-44.pth").write_bytes(b"another")
    assert main(["weights", "--verify"]) == 1
    assert "WRONG" in capsys.readouterr().out


# -- fetching --------------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"checksum sha256:\w+ where sha256:0000 is published: it was thrown away"):
        fetch(entry(server.address + "/a.bin", "sha256:0000"), folder)
    with pytest.raises(ValueError, match="1,024,000 bytes where 7 are published"):
        fetch(entry(server.address + "/a.bin", size=7), folder)
    assert not list(folder.iterdir())
    # the start of a sum is held against the start
    assert fetch(entry(server.address + "/a.bin", SUM[:15]), folder).exists()


@pytest.mark.parametrize(("code", "says"), [(404, "answered 404"), (401, "HF_TOKEN"), (500, "answered 500")])
def test_a_refusal_is_one_line(server: Server, folder: Path, code: int, says: str) -> None:
    server.codes["/a.bin"] = code
    with pytest.raises(ValueError, match=says) as caught:
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
    with pytest.raises(ValueError):
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
        server.files[f"/{name}"] = name.encode()
        monkeypatch.setitem(CATALOGUE, name, entry(f"{server.address}/{name}", None, name=name))
    assert main(["weights", "--fetch", "sdd100_prompts.json", "--fetch", "song_describer.csv"]) == 0
    assert "licence: MIT" in capsys.readouterr().out
    assert {p.name for p in folder.iterdir()} == {"sdd100_prompts.json", "song_describer.csv"}
