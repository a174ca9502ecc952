"""Habits of the code that a reviewer should not have to check by eye."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

import pytest

from aqpolicy import errors

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "aqpolicy").rglob("*.py"))
BANNED = {"utils", "helpers", "common", "misc"}


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [path for path in MODULES if path.stem in BANNED or path.parent.name in BANNED] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_silenced_checks_carry_a_reason(path: Path) -> None:
    with tokenize.open(path) as file:
        comments = [token for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]
    bare = re.compile(r"#\s*(noqa(:\s*[A-Z0-9, ]+)?|type:\s*ignore(\[[a-z, -]+\])?|pragma: no cover)\s*$")
    assert [f"{path.name}:{token.start[0]}" for token in comments if bare.search(token.string)] == []


def test_the_project_speaks_only_of_itself() -> None:
    texts = [path for path in ROOT.rglob("*") if path.suffix in {".py", ".md", ".toml", ".aqp", ".lark"}]
    inside = [path for path in texts if not {".venv", "build", ".git"} & set(path.relative_to(ROOT).parts)]
    machine_path = re.compile(r"/(work|root|home)/[a-z]")
    assert [path for path in inside if machine_path.search(path.read_text(encoding="utf-8"))] == []


def test_every_error_descends_from_one_root_and_siblings_stay_apart() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, errors.AqpolicyError) for kind in kinds)
    families = [errors.PolicyError, errors.TrustError, errors.BundleError, errors.ProvenanceError, errors.GateError]
    families += [errors.LineageError, errors.TraceError, errors.InputError, errors.AnalysisError]
    for one in families:
        assert [other for other in families if other is not one and issubclass(other, one)] == []
