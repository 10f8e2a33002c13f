"""The ``fluxlight`` command: a table of verbs, one file each, and what they share. Nothing heavy is imported here."""

from fluxlight.cli.verbs import main, one_line, told

__all__ = ["main", "one_line", "told"]
