"""Where tests find the large data and fixtures that are not part of the repository."""

import os
from pathlib import Path

import pytest


def _find() -> Path | None:
    beside = Path(__file__).resolve().parent.parent.parent / "shared"
    place = Path(os.environ.get("CBENCH_SHARED") or beside)
    return place if place.is_dir() else None


SHARED: Path | None = _find()

needs_shared = pytest.mark.skipif(
    SHARED is None, reason="no shared data: set CBENCH_SHARED, or put a folder `shared` beside the repository"
)
