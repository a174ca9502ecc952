"""A01 without the guard: a byte that nothing else looks at goes unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.attacking import (
    accepted,
    content,
    copy_of,
    flipped,
    put_in_place,
    refused,
    take_away,
    unnoticed,
)
from support.lineage_runs import LAYOUT, edit

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import LineageReader
from aqpolicy.lineage.block import cut_block
from aqpolicy.lineage.store import block_key, entry_key
from aqpolicy.lineage.verify import _Check
from aqpolicy.lineage.verify_blocks import Blocks, _damage
from aqpolicy.trust import VerifyKey


def last_digit(data: bytes) -> bytes:
    return flipped(data, max(at for at, byte in enumerate(data) if byte in b"0123456789"))


def test_without_the_inner_roots_a_changed_surprisal_goes_unnoticed(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(data: bytes) -> bytes:
        return flipped(data, data.index(cut_block(data, LAYOUT).leaves[0]) + 28)

    edit(copy, b"blk", block_key(0, 2, 1), change)
    assert refused(copy, CorruptLogError, "the record is not what was signed").startswith("step 2, rank 1, row 0")
    put_in_place(monkeypatch, _damage, lambda *_: ([], True))
    unnoticed(copy)


def test_without_the_heads_a_changed_event_goes_unnoticed(rich_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(rich_copy, b"entry", entry_key(14), last_digit)
    refused(rich_copy, CorruptLogError, "the entry is not what was signed", where="entry 14")
    put_in_place(monkeypatch, _Check._is_head, lambda *_: True)
    unnoticed(rich_copy)


def test_without_its_digest_a_changed_body_goes_unnoticed(rich_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(rich_copy, b"body", entry_key(1), last_digit)
    refused(rich_copy, CorruptLogError, "the body of the entry is not what was signed", where="entry 1")
    take_away(monkeypatch, LineageReader.raw_body, "the body of the entry is not what was signed")
    unnoticed(rich_copy)


def test_without_the_seal_a_changed_index_goes_unnoticed(rich_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (key, *_) = content(rich_copy)[b"run"]
    edit(rich_copy, b"run", key, lambda data: flipped(data, len(data) - 1))
    refused(rich_copy, CorruptLogError, "the index is not the one that the seal commits to")
    take_away(monkeypatch, Blocks._seal, "the index is not the one that the seal commits to")
    unnoticed(rich_copy)


@pytest.mark.parametrize("table", [b"cp", b"meta"])
def test_without_signatures_a_changed_signature_goes_unnoticed(
    copy: Path, monkeypatch: pytest.MonkeyPatch, table: bytes
) -> None:
    key = b"state" if table == b"meta" else entry_key(3)
    at = -10 if table == b"cp" else content(copy)[table][key].index(b'"sig":"') + 12
    edit(copy, table, key, lambda data: data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at:][1:])
    refused(copy, CorruptLogError, "the bytes were altered")
    put_in_place(monkeypatch, VerifyKey.verify, lambda *_: None)
    unnoticed(copy)


def test_without_flips_both_verifiers_take_the_copies(rich: Path) -> None:
    accepted(copy_of(rich))
