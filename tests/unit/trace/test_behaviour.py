"""Functions are found by name, and everything wrong with them is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqpolicy.errors import InputError
from aqpolicy.trace.behaviour import find_function


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("def margin(model, name='x'):\n    return name\nnumber = 3\n")
    return path


def test_a_function_of_a_file_with_and_without_an_argument(file: Path) -> None:
    assert find_function(f"{file}:margin").argument is None
    assert find_function(f"{file}:margin:a:b").argument == "a:b"
    assert find_function(f"{file}:margin").call(None, "y") == "y"


def test_a_function_of_a_module() -> None:
    assert find_function("math:sqrt").call(4.0) == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("math", "names no function"),
        (":sqrt", "names no function"),
        ("math:nothing", "has no function `nothing`"),
        ("no.such.module:f", "cannot be imported: ModuleNotFoundError"),
        ("missing.py:f", "there is no file"),
    ],
)
def test_what_cannot_be_found_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_function(text)


def test_something_that_is_no_function_and_a_file_that_fails(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no function `number`"):
        find_function(f"{file}:number")
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        find_function(f"{broken}:f")
