"""Change one byte in a copy of a run's log, where it hurts: inside a recorded row."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from aqpolicy.errors import InternalError, LineageError, TrustError
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.trust import Keyring

_ROW: Final = 7
_BYTE: Final = 53
"""In a row, a byte of the first recorded gradient norm."""


def flip_one_byte(run: Path, copy: Path, keyring: Keyring) -> str:
    """Copy a run, change one byte of the copy, and return what verification says of it.

    Raises:
        InternalError: Verification did not notice.
    """
    shutil.copytree(run, copy)
    data = copy / "lineage" / "data.mdb"
    content = bytearray(data.read_bytes())
    place = content.index(_a_row(run, keyring)) + _BYTE
    content[place] ^= 1
    data.write_bytes(content)
    try:
        verify_log(copy, keyring)
    except (LineageError, TrustError) as error:
        return f"bit 0 of byte {place} of lineage/data.mdb was flipped; found: {error}"
    raise InternalError("a changed log was verified")


def _a_row(run: Path, keyring: Keyring) -> bytes:
    with LineageReader(run, keyring) as reader:
        entries = [entry for _, entry in reader.step_entries()]
        return reader.raw_block(entries[len(entries) // 2]).leaves[_ROW]
