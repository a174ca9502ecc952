"""The output folder: its own work is replaced, anybody else's is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqpolicy.demo.workspace import MARKER, Workspace
from aqpolicy.errors import InputError


def test_a_folder_of_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    work = Workspace.create(tmp_path / "out")
    work.path("old").write_text("x")
    again = Workspace.create(tmp_path / "out")
    assert not again.path("old").exists()
    assert again.path(MARKER).is_file()


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="did not make"):
        Workspace.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_or_a_link_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    Workspace.create(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("file", "link"):
        with pytest.raises(InputError, match="not a folder"):
            Workspace.create(tmp_path / name)
    assert (tmp_path / "real" / MARKER).is_file()


def test_keys_are_trusted_for_their_own_role_only_and_private_files_are_private(tmp_path: Path) -> None:
    work = Workspace.create(tmp_path / "out")
    keys, keyring = work.make_keys()
    assert keyring.keys("log") == (keys["log"].verify_key,)
    assert len(keyring.keys("annotator")) == 10
    assert {path.stat().st_mode & 0o077 for path in work.path("keys").iterdir()} == {0}
