"""A03: the whole folder of a run is put back to what it was earlier, its published head with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.attacking import accepted, denied, grown, take_away
from support.lineage_runs import KEYRING

from aqpolicy.errors import ForkedLogError
from aqpolicy.lineage import verify_log
from aqpolicy.lineage.verify_heads import RememberedHead


def test_only_who_remembers_a_head_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer = grown(tmp_path)
    seen = tmp_path / "seen.note"
    verify_log(newer, KEYRING, remembered=seen)
    remembered = seen.read_bytes()
    shutil.rmtree(newer)
    older.rename(newer)

    assert accepted(newer).entries == 5  # nothing in the folder tells
    denied(
        lambda: verify_log(newer, KEYRING, remembered=seen),
        ForkedLogError,
        "ROLLBACK: the log has 5 entries, the remembered head 9; entries were taken away since then",
    )
    assert seen.read_bytes() == remembered
    take_away(monkeypatch, RememberedHead.refuse_rollback, "ROLLBACK")
    assert verify_log(newer, KEYRING, remembered=seen).entries == 5
    assert seen.read_bytes() != remembered  # and what was known is forgotten
