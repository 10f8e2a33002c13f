"""``fluxlight encode``: audio and captions to a latent store, or prompts to a slice."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from fluxlight.data import encode as encoding
from fluxlight.data.encode import encode


def main(args: list[str]) -> int:
    """The verb: flags and ``--config`` files of `encode`; the models default to the embedded ones."""
    import jsonargparse

    from fluxlight.cli.training import quiet, reason
    from fluxlight.weights import use_folder

    quiet()
    parser = jsonargparse.ArgumentParser(prog="fluxlight encode", description=encoding.__doc__, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML with the settings below")
    parser.add_argument("--weights_folder", type=str | None, help="folder of published files (FLUXLIGHT_WEIGHTS)")
    parser.add_function_arguments(encode)
    parser.set_defaults({
        "codec": {"class_path": "fluxlight.codec.EmbeddedCodec"}, "text": {"class_path": "fluxlight.encoders.MiniLM"},
        "clap": {"class_path": "fluxlight.encoders.ClapA"}, "reward": {"class_path": "fluxlight.rewards.RewardA"},
    })  # fmt: skip
    try:
        given = parser.parse_args(args)
        if given.text_only:
            # no audio is touched, so nothing that hears it need be there
            given.codec = given.reward = None
        use_folder(given.weights_folder)
        made = parser.instantiate_classes(given)
    except jsonargparse.ArgumentError as error:
        raise ValueError(reason(str(error))) from None
    except ValueError as error:
        raise ValueError(reason(str(error)) if "Does not validate" in str(error) else str(error)) from None
    settings = made.as_dict()
    for name in ("config", "weights_folder"):
        settings.pop(name, None)
    # one line of ours in place of Python's two, which quote the source
    before, warnings.formatwarning = warnings.formatwarning, lambda said, *_, **__: f"fluxlight encode: {said}\n"
    try:
        with ended_by_sigterm():
            failed = encode(**settings)
    finally:
        warnings.formatwarning = before
    return 1 if failed else 0


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within this block SIGTERM (of a batch system whose time is up) ends the work as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> NoReturn:
        print("fluxlight: stopped by SIGTERM; what was finished is kept, the same command goes on", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
