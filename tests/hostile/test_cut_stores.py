"""A store that lost its last pages is refused: LMDB itself would follow its page numbers off the file, and crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from aqpolicy.lineage.store import BODY, Store, entry_key

PAGE = 4096
LARGE = 5 * PAGE
"""Bytes of a value that takes pages of its own."""
GROUPS = 6

CHILD = """
import sys
from pathlib import Path
from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.store import BODY, Store

folder, length = Path(sys.argv[1]), int(sys.argv[2])
with (folder / "data.mdb").open("r+b") as file:
    file.truncate(length)
try:
    store = Store.open_to_read(folder)
    print(sum(len(value) for _, value in store.items(BODY)))
except CorruptLogError as error:
    print("refused")
"""


def test_a_store_cut_within_a_value_of_several_pages_is_refused_before_lmdb_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "lineage"
    store = Store.create(folder)
    for number in range(GROUPS):  # later groups take small pages that are free, and put the large ones at the end
        store.put_group({BODY: [(entry_key(number), bytes([number]) * LARGE)]})
    store.settle(folder)
    store.close()
    size, told = (folder / "data.mdb").stat().st_size, []
    for length in (size, size - 1, *range(size - PAGE, size - LARGE, -PAGE)):
        command = [sys.executable, "-c", CHILD, str(folder), str(length)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (length, done.returncode, done.stderr)
        told.append(done.stdout.strip())
    assert told[0] == str(GROUPS * LARGE)
    assert set(told[1:]) == {"refused"}
