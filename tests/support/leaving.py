"""How a process of several ends once its work is written."""

from __future__ import annotations

import os
import sys

from torch import distributed as dist


def leave_together() -> None:
    """Wait for the others, then end at once with exit code 0.

    Gloo's threads let go of the last tensors that they carried, and each of those asks for Python's lock. A thread
    that asks while Python takes itself apart is unwound, and C++ answers `terminate called without an active
    exception`. What ends without being taken apart cannot run into that.
    """
    dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
