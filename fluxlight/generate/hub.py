"""Hub: model folders of the Hugging Face hub, fetched into the cache folder by huggingface_hub."""

from __future__ import annotations

import os
from pathlib import Path

from fluxlight.bundle import RECIPE, WEIGHTS
from fluxlight.files import cache_folder


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder of ``user/name``, fetched if it is not in the cache: recipe, weights and card, nothing else."""
    try:
        from httpx import HTTPError
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise ImportError("fetching a model needs huggingface_hub: pip install huggingface_hub") from None
    wanted = [RECIPE, *WEIGHTS.values(), "config.json", "README.md"]
    try:
        found = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_folder() / "hub",
            allow_patterns=wanted,
            # huggingface_hub itself looks at it only when it is first imported
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    except (HFValidationError, HfHubHTTPError, HTTPError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"{name} is no folder here and could not be fetched from the hub ({reason[:200]}): check the name"
        ) from None
    return Path(found)
