"""Mining: candidates -> scores -> selection, file to file, each row with its provenance."""

from fluxlight.clips.candidates import (
    Key,
    key_of,
    load_audio,
    load_latents,
    open_folder,
    read_candidates,
    write_batch,
    write_failures,
)

__all__ = [
    "Key",
    "key_of",
    "load_audio",
    "load_latents",
    "open_folder",
    "read_candidates",
    "write_batch",
    "write_failures",
]
