"""Published files: what they are, where they lie on this machine, how they are fetched. Nothing heavy is imported."""

from fluxlight.weights.locate import locate, use_folder, weights_folder

__all__ = ["locate", "use_folder", "weights_folder"]
