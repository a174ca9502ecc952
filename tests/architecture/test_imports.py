"""What loads what: the two towers, the doors, and a light command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "z3", "lark", "numpy", "lmdb", "nacl", "pydantic", "hypothesis")


def loaded_after(statement: str, names: tuple[str, ...]) -> set[str]:
    """Return which of the named modules a fresh interpreter holds after a statement."""
    script = f"{statement}\nimport sys\nprint(*[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "statement",
    [
        "import aqpolicy",
        "from aqpolicy.cli.main import main\ntry:\n    main(['--version'])\nexcept SystemExit:\n    pass",
    ],
)
def test_the_root_and_the_version_load_nothing_heavy(statement: str) -> None:
    assert loaded_after(statement, HEAVY) == set()


@pytest.mark.parametrize("module", ["aqpolicy.gate", "aqpolicy.trace", "aqpolicy.trace.attribution"])
def test_training_loads_neither_parser_nor_solver(module: str) -> None:
    assert loaded_after(f"import {module}", ("lark", "z3")) == set()


@pytest.mark.parametrize(
    "module",
    [
        "aqpolicy.pipeline",
        "aqpolicy.lineage",
        "aqpolicy.provenance",
        "aqpolicy.bundle",
        "aqpolicy.trace.auditing.audit",
    ],
)
def test_authoring_and_auditing_load_no_torch(module: str) -> None:
    assert loaded_after(f"import {module}", ("torch", "numpy")) == set()


def test_every_import_contract_is_kept() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run([command, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout
