"""The parser of every command: what is wrong with its words is one line."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Arguments(argparse.ArgumentParser):
    """argparse without the usage in front of a complaint, which can be longer than a screen."""

    def error(self, message: str) -> NoReturn:
        """One line on standard error, exit code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} ({self.prog} --help lists the options)\n")
