"""A04: one log tells two people two stories, each whole and signed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.attacking import TRUSTED, accepted, begun, denied, refused, rows_of, take, take_away, unnoticed
from support.lineage_runs import KEYRING
from support.proof_logs import one_run

from aqpolicy.errors import ForkedLogError, ProofError
from aqpolicy.lineage import fork, verify_log
from aqpolicy.lineage.compare import compare, open_side
from aqpolicy.lineage.fork import ForkProof, decode_fork, encode_fork, verify_fork
from aqpolicy.lineage.verify_heads import RememberedHead, signed_heads


def story(run: Path, second: int) -> Path:
    """Write a log whose second step is of this example; a copy of it after two steps is beside it."""
    with one_run():
        writer = begun(run)
        for step in range(3):
            if step == 2:
                writer.barrier()
                shutil.copytree(run, run.with_name(f"{run.name}-short"))
            take(writer, rows_of(second if step == 1 else step, 1))
        writer.close()
    return run


@pytest.fixture
def stories(tmp_path: Path) -> tuple[Path, Path]:
    made = story(tmp_path / "one", 101), story(tmp_path / "two", 202)
    for run in made:
        accepted(run)  # alone, each is a good log
    return made


@pytest.mark.parametrize("known", ["one", "one-short"])
def test_who_knows_one_story_refuses_the_other(
    stories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    one, two = stories
    seen = one.with_name("seen.note")
    size = verify_log(one.with_name(known), KEYRING, remembered=seen).entries
    said = f"FORK: the log and the remembered head of size {size} contradict each other"
    denied(lambda: verify_log(two, KEYRING, remembered=seen), ForkedLogError, said)
    take_away(monkeypatch, RememberedHead.refuse_fork, "FORK")
    assert verify_log(two, KEYRING, remembered=seen).steps == 3


def test_the_head_of_the_one_on_the_log_of_the_other(
    stories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stories
    shutil.copy(one / "head.note", two / "head.note")
    refused(two, ForkedLogError, "FORK: the signed head of size 8 and the log contradict each other")
    take_away(monkeypatch, signed_heads, "FORK: the signed head")
    unnoticed(two)


@pytest.mark.parametrize("other", ["one", "one-short"])
def test_the_two_heads_prove_it_to_anyone(stories: tuple[Path, Path], other: str) -> None:
    one, two = stories
    with open_side(one.with_name(other), KEYRING) as first, open_side(two, KEYRING) as second:
        found = compare(first, second)
    assert (found.relation, found.differs_at) == ("fork", 4)
    assert found.fork is not None
    shorter, longer = verify_fork(decode_fork(encode_fork(found.fork)), TRUSTED)
    assert shorter.origin == longer.origin
    assert shorter.root != longer.root


def test_a_log_that_told_one_story_is_not_accused(stories: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = stories
    short, note = (one.with_name("one-short") / "head.note").read_bytes(), (one / "head.note").read_bytes()
    with open_side(one, KEYRING) as side, open_side(one.with_name("one-short"), KEYRING) as earlier:
        path, root = compare(earlier, side).path, earlier.head.root
    twice, prefix = ForkProof(note, note), ForkProof(short, note, root, path)
    denied(lambda: verify_fork(twice, TRUSTED), ProofError, "the heads have one size and do not contradict each other")
    denied(lambda: verify_fork(prefix, TRUSTED), ProofError, "the longer history begins with the shorter one")
    take_away(monkeypatch, verify_fork, "heads have one size", "begins with the shorter one")
    for accusation in (twice, prefix):
        fork.verify_fork(accusation, TRUSTED)
