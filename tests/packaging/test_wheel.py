"""A wheel holds the grammar and the policies, and works without the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    script = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_grammar_and_policies_unchanged(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        prefix = "aqpolicy/_shipped/"
        shipped = {n.removeprefix(prefix): archive.read(n) for n in archive.namelist() if n.startswith(prefix)}
    files = [p for folder in ("grammar", "policies") for p in (ROOT / folder).rglob("*") if p.is_file()]
    assert shipped == {str(path.relative_to(ROOT)): path.read_bytes() for path in files}


def test_the_installed_wheel_checks_its_own_policy(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    policy = tmp_path / "site" / "aqpolicy" / "_shipped" / "policies" / "examples" / "radiology" / "policy.aqp"
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    where = "import sys; from aqpolicy.cli import main; print(main.__file__); sys.exit(main.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", where, "check", str(policy)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(tmp_path) in done.stdout
