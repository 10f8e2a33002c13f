"""The file of a sweep, as `wandb sweep` takes it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any


def read_sweep(path: Path) -> dict[str, Any]:
    """A sweep YAML that wandb's own schema finds nothing wrong with."""
    import yaml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own packages
        try:
            import sweeps
        except ImportError:
            raise ValueError(
                "the package sweeps is not installed: pip install -e '.[sweep]' (Python below 3.13: it pins numpy<2)"
            ) from None
    if not path.is_file():
        raise FileNotFoundError(f"sweep {path} does not exist: experiments/sweeps holds two")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if wrong := sweeps.schema_violations_from_proposed_config(config):
        raise ValueError(f"sweep {path}: {'; '.join(' '.join(line.split()) for line in wrong)}")
    return dict(config)
