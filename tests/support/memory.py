"""A folder where a flush takes no time: for tests that flush often, and are not about the disk."""

from __future__ import annotations

import os
from pathlib import Path


def in_memory() -> Path | None:
    """Return a folder that lies in memory; None where the system has none, for the usual place."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None
