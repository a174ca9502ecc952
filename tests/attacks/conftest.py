"""Logs to attack, written once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.attacking import accepted, plain_run, rich_run


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small log with all that a log can have; nobody writes to it."""
    run = rich_run(tmp_path_factory.mktemp("rich") / "run")
    accepted(run)
    return run


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small log of four steps of two ranks; nobody writes to it."""
    run = plain_run(tmp_path_factory.mktemp("plain") / "run")
    accepted(run)
    return run


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    """Return a copy of the plain log."""
    return Path(shutil.copytree(plain, tmp_path / "copy"))


@pytest.fixture
def rich_copy(rich: Path, tmp_path: Path) -> Path:
    """Return a copy of the rich log."""
    return Path(shutil.copytree(rich, tmp_path / "rich"))
