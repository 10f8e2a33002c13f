"""The embedded corpus: real folk melodies, arranged by genre templates, rendered by a SoundFont, captioned truly."""

from fluxlight.embedded.corpus.build import AudioShards, Corpus, build, make_clip
from fluxlight.embedded.corpus.captions import (
    TEMPLATES_A,
    TEMPLATES_ALL,
    TEMPLATES_B,
    TEMPLATES_HELD_OUT,
    write_caption,
)
from fluxlight.embedded.corpus.prompts import FreePrompt, free_prompts
from fluxlight.embedded.corpus.render import render_row, render_variant
from fluxlight.embedded.corpus.spec import FAULTS, LEVELS, ClipRow, CorpusSpec
from fluxlight.embedded.corpus.tunes import SPLITS

__all__ = ["FAULTS", "LEVELS", "SPLITS", "TEMPLATES_A", "TEMPLATES_ALL", "TEMPLATES_B", "TEMPLATES_HELD_OUT",
           "AudioShards", "ClipRow", "Corpus", "CorpusSpec", "FreePrompt", "build", "free_prompts", "make_clip",
           "render_row", "render_variant", "write_caption"]
