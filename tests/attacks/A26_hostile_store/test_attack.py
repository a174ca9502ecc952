"""A26: pages that make LMDB crash or loop: they are looked at by other code before LMDB maps them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import sys
from pathlib import Path
from support.lineage_runs import KEYRING
from aqpolicy.errors import AqpolicyError
from aqpolicy.lineage import folder, verify_log
run, guard = Path(sys.argv[1]), sys.argv[2]
if guard == "without":
    folder._with_whole_pages = lambda file, lock: lock
store = run / "lineage" / "data.mdb"
intact, refused = store.read_bytes(), 0
store.write_bytes(intact[: len(intact) // 2 // 4096 * 4096])
try:
    verify_log(run, KEYRING)
except AqpolicyError:
    refused += 1
print(refused)
"""


def verified(run: Path, guard: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n{CHILD}"]
    return subprocess.run([*command, str(run), guard], capture_output=True, text=True, check=False, timeout=60)


def test_a_store_that_was_cut_is_refused(copy: Path) -> None:
    done = verified(copy, "with")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a page behind the end of a file may read as zeros")
def test_without_the_look_at_pages_the_process_dies(copy: Path) -> None:
    assert verified(copy, "without").returncode in {-signal.SIGBUS, -signal.SIGSEGV}
