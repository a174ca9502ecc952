"""The state of an interrupted verification counts for what it was made of, or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import CanonicalError, InputError
from aqpolicy.lineage.verify_state import Reached, StateFile, Subject
from aqpolicy.trust import Checkpoint

SUBJECT = Subject("aqpolicy.local/run/1", Checkpoint("aqpolicy.local/run/1", 9, bytes(32)), b"\7" * 32)
REACHED = Reached(7, b"sums", {4: b"at the model", 6: b""})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    StateFile(tmp_path / "state", SUBJECT).write(REACHED)
    return tmp_path / "state"


def test_what_was_written_is_read_back(place: Path) -> None:
    assert StateFile(place, SUBJECT).read() == REACHED
    assert place.stat().st_mode & 0o077 == 0


def test_without_a_file_nothing_is_believed(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "none", SUBJECT).read() is None


@pytest.mark.parametrize(
    "change",
    [
        {"store": b"\x08" * 32},
        {"head": Checkpoint(SUBJECT.origin, 10, bytes(32))},
        {"head": Checkpoint(SUBJECT.origin, 9, b"\1" * 32)},
    ],
)
def test_another_head_or_a_store_that_was_written_to_begins_anew(place: Path, change: dict[str, object]) -> None:
    assert StateFile(place, replace(SUBJECT, **change)).read() is None


def test_the_state_of_another_log_is_refused(place: Path) -> None:
    with pytest.raises(InputError, match="belongs to another log"):
        StateFile(place, replace(SUBJECT, origin="aqpolicy.local/run/2")).read()


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_state_that_others_may_write_is_refused(place: Path, mode: int) -> None:
    place.chmod(mode)
    with pytest.raises(InputError, match="others may write"):
        StateFile(place, SUBJECT).read()


def test_a_link_a_folder_and_a_pipe_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe", "."):
        with pytest.raises(InputError):
            StateFile(tmp_path / name, SUBJECT).read()


@settings(deadline=None)
@given(st.data())
def test_no_changed_byte_passes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = tmp_path_factory.mktemp("state") / "state"
    StateFile(place, SUBJECT).write(REACHED)
    content = bytearray(place.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    place.write_bytes(content)
    with pytest.raises(CanonicalError, match="holds no state of a verification"):
        StateFile(place, SUBJECT).read()


@settings(deadline=None)
@given(st.binary(max_size=200) | st.sampled_from([b"{}\n", b"null\n", b"[" * 100_000 + b"\n", b'{"format":1}\n']))
def test_other_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    place = tmp_path_factory.mktemp("state") / "state"
    place.write_bytes(content)
    place.chmod(0o600)
    with pytest.raises(CanonicalError):
        StateFile(place, SUBJECT).read()


def test_the_state_changes_with_every_write_to_the_store(tmp_path: Path) -> None:
    store = tmp_path / "lineage" / "data.mdb"
    store.parent.mkdir()
    store.write_bytes(b"log")
    before = Subject.of(tmp_path, SUBJECT.head)
    assert Subject.of(tmp_path, SUBJECT.head) == before
    times = store.stat()
    store.write_bytes(b"lag")
    os.utime(store, ns=(times.st_atime_ns, times.st_mtime_ns))  # who changes it may put this time back, not the other
    assert Subject.of(tmp_path, SUBJECT.head) != before
