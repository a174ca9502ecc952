"""A23: input that nests, counts or promises without end; it costs little, whatever it says."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from support.attacking import put_in_place
from support.fuzzing import MOST_BYTES, MOST_S, peak_bytes, seconds
from support.lineage_runs import KEYRING, LAYOUT, block

from aqpolicy.errors import CanonicalError, CorruptLogError
from aqpolicy.lineage import block as blocks
from aqpolicy.lineage.proof import decode_row_proof
from aqpolicy.lineage.touched import decode_touched
from aqpolicy.provenance import decode_manifest
from aqpolicy.report.live_form import parse_live
from aqpolicy.trust import canonical, open_checkpoint, parse_keyring

DEEP = b"[" * 100_000
LONG = b'"' + b"x" * 1_000_000


@pytest.mark.parametrize(
    "data", [DEEP, DEEP + b"]" * 100_000, b'{"a":' * 50_000, b"1" * 1_000_000, b'"' + b"x" * 1_000_000]
)
@pytest.mark.parametrize(
    "decode",
    [
        canonical.parse_canonical,
        parse_keyring,
        parse_live,
        decode_row_proof,
        lambda data: decode_manifest(data, KEYRING),
        lambda data: open_checkpoint(data, KEYRING.keys("log")),
    ],
)
def test_what_nests_or_goes_on_is_refused_soon(decode: Callable[[bytes], object], data: bytes) -> None:
    assert seconds(decode, data) <= MOST_S
    assert peak_bytes(decode, data) <= MOST_BYTES


def test_a_block_that_promises_rows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(blocks.encode_blocks(block(0), LAYOUT, 3)[0].data)
    struct.pack_into("<I", data, blocks.HEAD_BYTES, 0xFFFF_FFFF)
    with pytest.raises(CorruptLogError, match="no valid head"):
        blocks.cut_block(bytes(data), LAYOUT)
    assert peak_bytes(lambda one: blocks.cut_block(one, LAYOUT), bytes(data)) < 1 << 20
    put_in_place(monkeypatch, blocks.row_bytes, lambda _: 1e-9)  # so that any number of rows would fit
    with pytest.raises((OverflowError, TypeError, MemoryError, CorruptLogError)) as caught:
        blocks.cut_block(bytes(data), LAYOUT)
    assert "no valid head" not in str(caught.value)


def test_tables_that_promise_rows_without_end() -> None:
    data = struct.pack("<IHHI", 1, 0, 0, 0xFFFF_FFFF) + b"\0" * 8
    with pytest.raises(CorruptLogError, match="cut short"):
        decode_touched(data, LAYOUT)
    assert peak_bytes(lambda one: decode_touched(one, LAYOUT), data) < 1 << 20


def test_without_a_depth_json_exhausts_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = DEEP[:5_000] + b"]" * 5_000
    with pytest.raises(CanonicalError):
        canonical.parse_canonical(nested)
    value: object = 0
    for _ in range(200):
        value = [value]
    with pytest.raises(CanonicalError, match="nests deeper"):
        canonical.canonical_json(value)
    monkeypatch.setattr(canonical, "LARGEST_DEPTH", 10_000)
    assert canonical.canonical_json(value).startswith(b"[" * 200)
