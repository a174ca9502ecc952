"""Files that policies import and extend: where they are found, and what a lock refuses."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError, PolicyError
from aqpolicy.library import Files, Lock, encode_lock, find_lock, load_lock, read_source
from aqpolicy.library.lock import relative_name, source_digest
from aqpolicy.model import Policy, gather, load_policy
from aqpolicy.syntax import parse

VOCABULARY = """\
taxonomy shared.labels version 1 {
  authority crowd < expert
  attribute consensus : number 0..1
}
define agreed(level) = consensus >= level
profile full { all 1 }
"""
BASE = """\
policy org.base version 1.0.0
import "vocabulary.aqp"
depth from input { surface = modules "a"; head = modules "b" }
rule experts "Experts shape everything" when authority is expert and agreed(0.5) admit full
budget all_learning on all surprisal at most 100 nat per run, at most 6 nat per update
otherwise deny because "nobody says so"
test "only here" { given authority is expert expect admit }
"""
PROJECT = """\
policy team.project version 1.0.0
extends org.base
rule careful when not agreed(0.9) limit head share 0.5
otherwise deny because "not in this project"
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.aqp").write_text(text, encoding="utf-8")
    return folder / "project.aqp"


def resolved(path: Path, files: Files) -> Policy:
    return load_policy(read_source(path), files)


def codes(path: Path, files: Files) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        resolved(path, files)
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


UNLOCKED = Files(None, is_locking=True)


def test_a_project_stands_on_its_organisation_and_on_shared_vocabulary(tmp_path: Path) -> None:
    path = write(tmp_path, vocabulary=VOCABULARY, base=BASE, project=PROJECT)
    policy = resolved(path, UNLOCKED)
    assert (policy.name, policy.taxonomy.name) == ("team.project", "shared.labels")
    assert [rule.name for rule in policy.rules] == ["experts", "careful"]
    assert policy.otherwise.because == "not in this project"
    assert policy.cases == ()
    assert policy.extends is not None
    assert [rule.name for rule in policy.extends.rules] == ["experts"]
    assert policy.extends.otherwise.because == "nobody says so"
    assert policy.rules[0].span.file == str(tmp_path / "base.aqp")


@pytest.mark.parametrize("place", ["org/base.aqp", "org.base.aqp", "base.aqp"])
def test_an_extended_policy_is_found_by_its_name(tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere" / "org").mkdir(parents=True)
    (tmp_path / "elsewhere" / place).write_text(BASE.replace('import "vocabulary.aqp"', VOCABULARY), encoding="utf-8")
    path = write(tmp_path, project=PROJECT)
    assert codes(path, UNLOCKED) == ["AQ221"]
    assert resolved(path, Files(None, (str(tmp_path / "elsewhere"),), is_locking=True)).extends is not None


def test_a_file_of_another_policy_is_not_taken_for_it(tmp_path: Path) -> None:
    path = write(tmp_path, vocabulary=VOCABULARY, base=BASE.replace("org.base", "org.other"), project=PROJECT)
    assert codes(path, UNLOCKED) == ["AQ221"]


def test_circles_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, vocabulary=VOCABULARY + 'import "vocabulary.aqp"', base=BASE, project=PROJECT)
    assert codes(path, UNLOCKED) == ["AQ222"]
    path = write(
        tmp_path, vocabulary=VOCABULARY, base=BASE + 'extends team.project from "project.aqp"', project=PROJECT
    )
    assert codes(path, UNLOCKED) == ["AQ222"]


def test_shared_vocabulary_holds_no_rules(tmp_path: Path) -> None:
    rule = 'rule r when anything deny all because "no"'
    path = write(tmp_path, vocabulary=VOCABULARY + rule, base=BASE, project=PROJECT)
    assert codes(path, UNLOCKED) == ["AQ224"]


def test_a_layer_cannot_restate_the_vocabulary_above_it(tmp_path: Path) -> None:
    path = write(tmp_path, vocabulary=VOCABULARY, base=BASE, project=PROJECT + VOCABULARY.split("define", 1)[0])
    assert codes(path, UNLOCKED) == ["AQ224"]


def test_an_absolute_import_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, vocabulary=VOCABULARY, base=BASE, project=PROJECT + 'import "/etc/passwd"')
    assert codes(path, UNLOCKED) == ["AQ221"]


def locked(tmp_path: Path) -> tuple[Path, Files]:
    path = write(tmp_path, vocabulary=VOCABULARY, base=BASE, project=PROJECT)
    source = read_source(path)
    stack = gather(parse(source), source, UNLOCKED)
    files = {relative_name(s, tmp_path): source_digest(s) for s in stack.sources().values() if s.name != source.name}
    (tmp_path / "aqpolicy.lock").write_bytes(encode_lock(files))
    found = find_lock(path)
    assert found is not None
    return path, Files(load_lock(found))


def test_locked_files_are_read_and_changed_ones_refused(tmp_path: Path) -> None:
    path, files = locked(tmp_path)
    assert resolved(path, files).name == "team.project"
    with (tmp_path / "base.aqp").open("a", encoding="utf-8") as file:
        file.write("# a harmless comment\n")
    assert codes(path, files) == ["AQ223"]
    assert codes(path, Files(None)) == ["AQ223", "AQ223"]


def test_a_file_that_the_lock_does_not_name_is_refused(tmp_path: Path) -> None:
    path, files = locked(tmp_path)
    assert files.lock is not None
    less = Lock(files.lock.folder, {"base.aqp": files.lock.files["base.aqp"]})
    assert codes(path, Files(less)) == ["AQ223"]


@given(st.binary(max_size=200))
def test_no_bytes_make_a_lock_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.lock"
    path.write_bytes(data)
    with pytest.raises(InputError):
        load_lock(path)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_no_json_makes_a_lock_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any-json.lock"
    path.write_text(json.dumps({"files": value, "format": "aqpolicy lock 1"}), encoding="utf-8")
    with contextlib.suppress(InputError):
        assert load_lock(path).files == value


def test_what_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "latin.aqp").write_bytes(b"\xe9")
    for path in (tmp_path / "missing.aqp", tmp_path, tmp_path / "latin.aqp", "a\x00b"):
        with pytest.raises(InputError):
            read_source(path)


def test_sources_are_told_apart_by_their_names() -> None:
    assert source_digest(Source("a", "x")) == source_digest(Source("b", "x")) != source_digest(Source("a", "y"))
