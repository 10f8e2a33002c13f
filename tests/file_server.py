"""A server of published files on this machine, and the empty weights folder that they go to."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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
