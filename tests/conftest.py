"""Shared fixtures: the golden vectors beside the project, and a quiet single-threaded torch."""

from __future__ import annotations

import os
from pathlib import Path

# idle threads soon sleep instead of spinning: many times faster when the cores have other work
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
if "PYTEST_XDIST_WORKER" in os.environ:
    # one thread for each of the processes that share the cores, and for what they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# a slow machine is no fault of the examples
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SHARED = Path(os.environ.get("FLUXLIGHT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data beside the project; tests that need it skip, saying why, where it is absent."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the golden vectors, and {SHARED} is absent")
        pytest.skip(f"no golden vectors: {SHARED} is absent (set FLUXLIGHT_SHARED to their folder)")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.fixture(autouse=True)
def _threads() -> None:
    # tensors of tests are small: a second thread waits more than it works, five times slower on a busy machine; for
    # each test anew, since some of what they call sets the number for the process, and bits may follow it
    torch.set_num_threads(1)
