"""Generate: prompts to audio with a model folder or a bundle, without Lightning."""

from fluxlight.generate.generator import Generator, Take
from fluxlight.generate.pipeline import Notice, Part, Pipeline, find_bundle, read_pipeline

__all__ = ["Generator", "Notice", "Part", "Pipeline", "Take", "find_bundle", "read_pipeline"]
