from __future__ import annotations

import pytest

from aqpolicy.errors import InputError
from aqpolicy.trust import replace_file, write_new


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "f"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_new_file_never_takes_the_place_of_another(tmp_path):
    path = tmp_path / "f"
    write_new(path, b"one")
    with pytest.raises(InputError, match="not overwritten"):
        write_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_dangling_link_is_not_followed_to_make_a_new_file(tmp_path):
    path = tmp_path / "f"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="not overwritten"):
        write_new(path, b"x")
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_folder_is_an_input_error(tmp_path):
    for write in (write_new, replace_file):
        with pytest.raises(InputError, match="cannot write"):
            write(tmp_path / "no" / "f", b"x")
