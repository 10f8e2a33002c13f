"""A real Chromium without a window, driven over a pipe by its own protocol: no driver, no server, no package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-extensions", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


def found() -> str | None:
    """Path of a Chromium on this machine, or of the one FLUXLIGHT_CHROMIUM names."""
    return os.environ.get("FLUXLIGHT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, write: Any, read: Any, downloads: Path) -> None:
        self.write, self.read, self.last, self.session = write, read, 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def call(self, method: str, **params: Any) -> Any:
        self.last += 1
        order = {"id": self.last, "method": method, "params": params}
        if self.session and not method.startswith(("Target.", "Browser.")):
            order["sessionId"] = self.session
        self.write.write(json.dumps(order).encode() + b"\0")
        self.write.flush()
        while (answer := self._next()).get("id") != self.last:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self.read.read(1)) != b"\0":
            assert byte, "the browser has ended"
            text += byte
        return json.loads(text)

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = 30) -> None:
        """Wait within the page until an expression is true."""
        self.run(
            "new Promise((done, failed) => { const start = performance.now(); const look = () => { "
            f"if ({condition}) done(true); else if (performance.now() - start > {1000 * seconds}) "
            f"failed(new Error({json.dumps(condition)})); else setTimeout(look, 10); }}; look(); }})"
        )

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def chromium(profile: Path, downloads: Path) -> Iterator[Page]:
    """A browser that keeps its things in ``profile``; the same folder again is the same person coming back."""
    program = found()
    assert program
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()
    os.set_inheritable(to_browser, True)
    os.set_inheritable(from_browser, True)
    # the protocol speaks on descriptors 3 and 4; dup first, for one may be in the other's place
    shell = f'exec 8<&{to_browser} 9>&{from_browser}; exec 3<&8 4>&9; exec "$@" 8<&- 9>&-'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )  # fmt: skip
    os.close(to_browser)
    os.close(from_browser)
    try:
        with os.fdopen(ours_out, "wb") as write, os.fdopen(ours_in, "rb") as read:
            page = Page(write, read, downloads)
            yield page
            page.call("Browser.close")
        process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
