"""A wheel holds the grammar, the policies and the pages of rules, and works without the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SHIPPED = {"grammar": "grammar", "policies": "policies", "docs/rules": "rules"}
"""Folders of the checkout, and what they are called in the wheel."""

EXAMPLE = "site/aqpolicy/_shipped/policies/examples/radiology/policy.aqp"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    script = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_grammar_policies_and_pages_of_rules_unchanged(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        prefix = "aqpolicy/_shipped/"
        shipped = {n.removeprefix(prefix): archive.read(n) for n in archive.namelist() if n.startswith(prefix)}
    files = {
        f"{name}/{path.relative_to(ROOT / folder)}": path.read_bytes()
        for folder, name in SHIPPED.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    assert shipped == files
    assert {"grammar/aqpolicy.lark", "grammar/parse_tables.json", "rules/README.md"} <= files.keys()


@pytest.mark.parametrize("arguments", [("check", EXAMPLE), ("explain", "AQ301")], ids=lambda arguments: arguments[0])
def test_the_installed_wheel_reads_what_it_carries(arguments: tuple[str, str], wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    where = "import sys; from aqpolicy.cli import main; print(main.__file__); sys.exit(main.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", where, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(tmp_path) in done.stdout
