"""The words of every command: what is wrong with them is one line."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn


class Arguments(argparse.ArgumentParser):
    """argparse without the usage in front of a complaint, which can be longer than a screen."""

    def error(self, message: str) -> NoReturn:
        """One line on standard error, exit code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} ({self.prog} --help lists the options)\n")


def within(least: float, most: float = math.inf, kind: type = int) -> Callable[[str], Any]:
    """The type of an argument: a number of ``kind`` from ``least`` to ``most``; anything else is one line."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' if kind is int else ''}number") from None
        if not least <= value <= most or not math.isfinite(value):
            wanted = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
            wanted = "a finite number" if least == -math.inf else wanted
            raise argparse.ArgumentTypeError(f"{text} is not possible: give {wanted}")
        return value

    return read


@contextmanager
def plain_warnings(prog: str, kind: type[Warning]) -> Iterator[None]:
    """Within this block a warning of ``kind`` is one line under the command's name, without a place in the code."""
    before = warnings.formatwarning

    def line(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> str:
        return f"{prog}: {message}\n" if issubclass(category, kind) else before(message, category, *args, **kwargs)

    warnings.formatwarning = line
    try:
        yield
    finally:
        warnings.formatwarning = before


def settings_of(
    function: Callable[..., Any], prog: str, description: str, defaults: Mapping[str, Any], args: Sequence[str] | None
) -> dict[str, Any]:
    """The arguments of ``function`` from a command line and its ``--config`` files, models made.

    Args:
        function: whose arguments are the flags; what a class path names is made.
        prog, description: of the command.
        defaults: of the flags, class paths among them.
        args: the words.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    from fluxlight.cli.training import reason
    from fluxlight.weights import use_folder

    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML with these settings")
    parser.add_argument("--weights_folder", type=str | None, help="folder of published files (FLUXLIGHT_WEIGHTS)")
    parser.add_function_arguments(function)
    parser.set_defaults(dict(defaults))
    try:
        parsed = parser.parse_args(args)
        use_folder(parsed.weights_folder)
        made = parser.instantiate_classes(parsed)
    except ArgumentError as error:
        raise ValueError(reason(str(error))) from None
    return {name: made[name] for name in vars(made) if name not in ("config", "weights_folder")}


def named(what: str, kind: Callable[[str], Any] = str) -> Callable[[str], tuple[str, Any]]:
    """A type of argument: ``NAME=VALUE`` as a pair, the value of ``kind``; ``what`` is how an error calls the shape."""

    def read(text: str) -> tuple[str, Any]:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return name, kind(value)

    return read
