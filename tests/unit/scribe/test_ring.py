"""A ring gives back what was put, wherever its end falls."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import LineageError
from aqpolicy.scribe.ring import ALIGNMENT, Column, Ring, aligned, reserve


def new_ring(size: int) -> Ring:
    memory = reserve(size)
    try:
        return Ring(memory, size)
    finally:
        os.close(memory)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.lists(st.integers(1, 12), max_size=20))
def test_what_was_put_is_taken_across_the_end(eighths: int, lengths: list[int]) -> None:
    ring, position = new_ring(eighths * ALIGNMENT), 0
    for number, length in enumerate(lengths):
        values = np.arange(length, dtype=np.int64) + 1000 * number
        column = Column(values, values.dtype)
        taken, start = b"", 0
        while start < column.span:
            count = min(ring.size, column.span - start)
            ring.put(position, column, start, count)
            taken += ring.take(position, count)
            position, start = position + count, start + count
        assert np.frombuffer(taken, np.int64).tolist() == values.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e300), max_size=15), st.sampled_from([8, 16, 24, 1024]))
def test_numbers_are_narrowed_on_the_way(values: list[float], size: int) -> None:
    ring, column = new_ring(size), Column(np.array(values, np.float64), np.dtype(np.float32))
    taken = b""
    for start in range(0, column.span, size):
        count = min(size, column.span - start)
        ring.put(start, column, start, count)
        taken += ring.take(start, count)
    with np.errstate(over="ignore"):
        expected = np.array(values, np.float32)
    assert taken[: expected.nbytes] == expected.tobytes()
    assert column.span == aligned(expected.nbytes)


def test_two_mappings_of_one_memory_see_the_same() -> None:
    memory = reserve(64)
    ours, theirs = Ring(memory, 64), Ring(memory, 64)
    os.close(memory)
    values = np.arange(3, dtype=np.int64)
    ours.put(56, Column(values, values.dtype), 0, 24)
    assert np.frombuffer(theirs.take(56, 24), np.int64).tolist() == [0, 1, 2]


def test_memory_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = len([*Path("/dev/fd").iterdir()])
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LineageError, match="no 64 bytes of shared memory"):
        reserve(64)
    assert len([*Path("/dev/fd").iterdir()]) == before
