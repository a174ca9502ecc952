"""Finds the vectors made by others, outside this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vectors():
    """Return a function from a name below the vectors' folder to its path; skips where that is absent."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "vectors"
    root = Path(os.environ.get("AQPOLICY_VECTORS", beside))

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"the third-party vectors `{name}` are not here; AQPOLICY_VECTORS names their folder")
        return root / name

    return find
