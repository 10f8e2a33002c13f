"""Export: a bundle as a model folder that others can load, with a card that says what it is."""

from fluxlight.export.folder import export

__all__ = ["export"]
