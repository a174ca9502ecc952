"""A02: the end of a log is taken away, its published head is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.attacking import accepted, content, denied, grown, refused, take_away, unnoticed, with_store_of
from support.lineage_runs import KEY, KEYRING, edit

from aqpolicy.errors import CorruptLogError, ForkedLogError
from aqpolicy.lineage import LineageWriter, verify_log
from aqpolicy.lineage.store import entry_key
from aqpolicy.lineage.tail import _refuse_other_head
from aqpolicy.lineage.verify_heads import signed_heads


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    older, newer = grown(tmp_path)
    accepted(newer)
    return with_store_of(older, newer)


def test_an_older_store_under_a_newer_head_is_a_rollback(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(cut, ForkedLogError, "ROLLBACK: the log holds 5 entries, its signed head 9: it was cut or rolled back")
    with monkeypatch.context() as first:
        take_away(first, signed_heads, "its signed head {published.size}: it was cut")
        refused(cut, ForkedLogError, "FORK: the signed head of size 9 and the log contradict each other")
    take_away(monkeypatch, signed_heads, "its signed head {published.size}: it was cut", "FORK: the signed head")
    assert unnoticed(cut).steps == 2


def test_nothing_is_written_behind_a_cut(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def revoke() -> None:
        writer = LineageWriter.open_for_status(cut, KEY, KEYRING)
        writer.append_status({"credential": "reader-07", "event": "revoked"})
        writer.close()

    before = content(cut)
    denied(revoke, ForkedLogError, "the log holds 5 entries, its signed head 9: it was cut or rolled back")
    assert content(cut) == before
    with monkeypatch.context() as first:
        take_away(first, _refuse_other_head, "it was cut or rolled back")
        denied(
            revoke, ForkedLogError, "the signed head of size 9 and the log contradict each other: there are two logs"
        )
    take_away(monkeypatch, _refuse_other_head, "it was cut or rolled back", "there are two logs")
    revoke()
    assert verify_log(cut, KEYRING).entries == 6  # a second history, signed


def test_the_last_entry_alone(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = len(content(copy)[b"entry"]) - 1
    edit(copy, b"entry", entry_key(last), lambda _: None)
    refused(copy, ForkedLogError, f"ROLLBACK: the log holds {last} entries, its signed head {last + 1}")
    edit(copy, b"cp", entry_key(last + 1), lambda _: None)
    refused(copy, ForkedLogError, f"ROLLBACK: the log holds {last} entries, its signed head {last + 1}")


def test_an_entry_in_the_middle(copy: Path) -> None:
    edit(copy, b"entry", entry_key(4), lambda _: None)
    refused(copy, ForkedLogError, "ROLLBACK")
    edit(copy, b"entry", entry_key(len(content(copy)[b"entry"]) + 1), lambda _: b"in its place")
    refused(copy, CorruptLogError, "the entry is missing", where="entry 4")
