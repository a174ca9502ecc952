"""A folder is there as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqpolicy.errors import InputError
from aqpolicy.export import folder
from aqpolicy.export.folder import new_folder


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def fill(out: Path, error: BaseException | None = None) -> None:
    """Write a folder with one file, and come to an error before its end."""
    with new_folder(out) as place:
        (place / "file").write_bytes(b"text")
        if error is not None:
            raise error


def test_what_was_written_is_there_at_the_end_and_not_before(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as place:
        (place / "deep").mkdir()
        (place / "deep" / "file").write_bytes(b"text")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "deep" / "file").read_bytes() == b"text"
    assert names(tmp_path) == ["out"]


def test_everything_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, before = set(), []
    fsync, rename = os.fsync, folder.rename

    def note(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def look(old: Path, new: Path) -> None:
        before.append({path.stat().st_ino for path in [old, *old.rglob("*")]} <= synced)
        rename(old, new)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(folder, "rename", look)
    with new_folder(tmp_path / "out") as place:
        (place / "deep").mkdir()
        for name in ("file", "deep/file"):
            (place / name).write_bytes(b"text")
    assert before == [True]
    assert tmp_path.stat().st_ino in synced


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_what_failed(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fill(tmp_path / "out", error())
    assert names(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write `.*out`: No space left"):
        fill(tmp_path / "out", OSError(28, "No space left on device"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    {"folder": out.mkdir, "file": out.touch, "link": lambda: out.symlink_to("nowhere")}[kind]()
    with pytest.raises(InputError, match="exists and is not overwritten"):
        fill(out)
    assert names(tmp_path) == ["out"]


def test_what_came_in_between_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = folder._sync

    def come_in_between(place: Path) -> None:
        sync(place)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()

    monkeypatch.setattr(folder, "_sync", come_in_between)
    with pytest.raises(InputError, match="exists and is not overwritten"):
        fill(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["theirs"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder `.*missing`; make it first"):
        fill(tmp_path / "missing" / "out")
