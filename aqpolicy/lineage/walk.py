"""Walk a store from end to end, as a process of its own: `python -m aqpolicy.lineage.walk FOLDER`.

A damaged LMDB file can crash whoever reads it; then only this process is lost.
Exit status 0 where every value could be read.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aqpolicy.errors import AqpolicyError
from aqpolicy.lineage.store import TABLES, Store


def main(folder: str) -> int:
    """Read every value of every table."""
    try:
        store = Store(Path(folder))
        for table in TABLES:
            for key, value in store.items(table):
                hash((key, value))
        store.close()
    except AqpolicyError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
