"""Two histories of one log are the same, begin one another, or prove that the log is forked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block, edit, row, write_run
from support.proof_logs import TRUSTED, ProofLog

from aqpolicy.errors import CanonicalError, ForkedLogError, InputError, LineageError, ProofError, SignatureError
from aqpolicy.lineage import LineageReader, LineageWriter
from aqpolicy.lineage.compare import Side, compare, open_side, read_note
from aqpolicy.lineage.fork import ForkProof, decode_fork, encode_fork, read_fork, verify_fork
from aqpolicy.lineage.store import ENTRY, entry_key
from aqpolicy.trust import Checkpoint, SigningKey, canonical_json, sign_checkpoint, verify_consistency

BEFORE = 3
"""Entries before the first step."""

Logs = Callable[..., LineageReader]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logs]:
    """Return what makes logs of so many steps; from step `changed` on, a log is another one."""
    with ExitStack() as open_logs:

        @cache
        def made(steps: int, changed: int = -1) -> LineageReader:
            writing = open_logs.enter_context(ProofLog(tmp_path_factory.mktemp("log")))
            for step in range(steps):
                writing.step([row(step + (1000 if step == changed else 0))])
            return writing.read()

        yield made


def side(reader: LineageReader, *, whole: bool = True) -> Side:
    return Side(reader.note, reader.checkpoint, reader if whole else None)


@pytest.mark.parametrize("whole", [True, False])
def test_one_history_is_the_same_as_itself(log: Logs, whole: bool) -> None:
    assert compare(side(log(5), whole=whole), side(log(5), whole=whole)).relation == "same"


@pytest.mark.parametrize(("short", "long"), [(size, other) for other in range(10) for size in range(other)])
def test_a_prefix_is_shown_by_the_log_of_the_longer_history(log: Logs, short: int, long: int) -> None:
    for pair in ((log(short), log(long)), (log(long), log(short))):
        found = compare(side(pair[0]), side(pair[1]))
        old, new = found.shorter, found.longer
        assert (found.relation, old.size, new.size) == ("prefix", short + BEFORE, long + BEFORE)
        verify_consistency(old.size, new.size, old.root, new.root, found.path)
    assert compare(side(log(short), whole=False), side(log(long))).relation == "prefix"


def test_an_empty_history_begins_every_one(log: Logs) -> None:
    reader = log(2)
    empty = Checkpoint(reader.checkpoint.origin, 0, bytes.fromhex(EMPTY))
    assert compare(Side(b"", empty), side(reader)).relation == "prefix"


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_heads_alone_do_not_tell_whether_one_begins_the_other(log: Logs) -> None:
    for shorter in (side(log(3)), side(log(3), whole=False)):
        assert compare(shorter, side(log(5), whole=False)).relation == "open"


@pytest.mark.parametrize("whole", [True, False])
def test_two_roots_of_one_size_are_a_fork(log: Logs, whole: bool) -> None:
    found = compare(side(log(6), whole=whole), side(log(6, changed=3), whole=whole))
    assert (found.relation, found.differs_at) == ("fork", BEFORE + 3 if whole else None)
    assert found.fork is not None
    assert found.fork.path == ()
    assert [head.size for head in verify_fork(found.fork, TRUSTED)] == [BEFORE + 6] * 2


@pytest.mark.parametrize("short", range(2, 12))
def test_a_longer_history_that_does_not_begin_with_the_shorter_is_a_fork(log: Logs, short: int) -> None:
    for whole in (True, False):
        found = compare(side(log(short, changed=1), whole=whole), side(log(12)))
        assert (found.relation, found.differs_at) == ("fork", BEFORE + 1 if whole else None)
        assert found.fork is not None
        again = decode_fork(encode_fork(found.fork))
        assert again == found.fork
        assert verify_fork(again, TRUSTED) == (found.shorter, found.longer)


def test_different_logs_are_not_compared(log: Logs) -> None:
    reader = log(2)
    other = replace(reader.checkpoint, origin="example.org/other")
    with pytest.raises(LineageError, match="different logs"):
        compare(side(reader), Side(sign_checkpoint(other, KEY).encode(), other))


def test_a_log_that_is_not_its_own_heads_is_no_witness(log: Logs, tmp_path: Path) -> None:
    shutil.copytree(log(6).run, tmp_path / "changed")
    edit(tmp_path / "changed", ENTRY, entry_key(5), lambda data: data[:-1] + bytes((data[-1] ^ 1,)))
    shutil.copytree(log(6).run, tmp_path / "cut")
    edit(tmp_path / "cut", ENTRY, entry_key(8), lambda _: None)
    for name, message in (("changed", "root of the entries"), ("cut", "cut or rolled back")):
        with LineageReader(tmp_path / name, KEYRING) as reader:
            wrong = side(reader)
            for pair in ((wrong, side(log(4))), (side(log(4)), wrong), (wrong, side(log(8)))):
                with pytest.raises(ForkedLogError, match=message):
                    compare(*pair)


def innocent(log: Logs) -> list[tuple[ForkProof, str]]:
    """Return proofs against a log that told one story, and what is wrong with each."""
    short, long, changed = log(4), log(7), log(7, changed=1)
    found = compare(side(log(4, changed=1)), side(long)).fork
    assert found is not None
    path = compare(side(short), side(long)).path
    other = Checkpoint("example.org/other", 8, bytes(32))
    not_shown, no_hash = "is not a prefix of the tree", "something that is not a hash"
    return [
        (ForkProof(long.note, long.note), "do not contradict each other"),
        (ForkProof(short.note, long.note), no_hash),
        (ForkProof(short.note, long.note, short.checkpoint.root, path), "begins with the shorter one"),
        (ForkProof(short.note, long.note, bytes(32), path), not_shown),
        (ForkProof(short.note, long.note, b"", path), no_hash),
        (ForkProof(long.note, short.note, bytes(32), path), "no consistency proof leads from 10 to 7"),
        (ForkProof(long.note, sign_checkpoint(other, KEY).encode()), "different logs"),
        (replace(found, shorter=short.note), "begins with the shorter one"),
        (replace(found, path=found.path[:-1]), "a consistency proof is too short"),
        (replace(found, path=(*found.path, bytes(32))), "a consistency proof is too long"),
        (replace(found, begin=bytes(32)), not_shown),
        (replace(found, begin=b"short"), no_hash),
        (ForkProof(changed.note, long.note, bytes(32)), "hashes where none are needed"),
        (ForkProof(changed.note, long.note, b"", (bytes(32),)), "hashes where none are needed"),
    ]


@pytest.mark.parametrize("number", range(14))
def test_nobody_can_accuse_a_log_that_told_one_story(log: Logs, number: int) -> None:
    proof, message = innocent(log)[number]
    with pytest.raises(ProofError, match=message):
        verify_fork(proof, TRUSTED)


def test_a_fork_is_proved_by_trusted_signatures_only(log: Logs) -> None:
    found = compare(side(log(6)), side(log(6, changed=3))).fork
    assert found is not None
    with pytest.raises(SignatureError, match="no trusted key signed"):
        verify_fork(found, [SigningKey.generate("log").verify_key])
    forged = sign_checkpoint(log(6).checkpoint, SigningKey.generate("other")).encode()
    with pytest.raises(SignatureError, match="no trusted key signed"):
        verify_fork(replace(found, longer=forged), TRUSTED)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "aqpolicy fork 2"},
        {"notes": []},
        {"notes": ["a", "b", "c"]},
        {"notes": ["a", 1]},
        {"notes": "ab"},
        {"begin": 1},
        {"begin": "AA=="},
        {"path": ["AA=="]},
        {"path": ["*"]},
        {"path": [""] * 65},
        {"more": 1},
    ],
)
def test_a_file_of_another_form_is_refused(change: dict[str, object]) -> None:
    facts = {"begin": "", "format": "aqpolicy fork 1", "notes": ["a", "b"], "path": []}
    assert decode_fork(canonical_json(facts) + b"\n") == ForkProof(b"a", b"b")
    for data in (canonical_json(facts | change) + b"\n", canonical_json(facts), b"[]\n", b"", bytes(5_000_000) + b"\n"):
        with pytest.raises(CanonicalError):
            decode_fork(data)


def test_notes_that_are_no_text_or_too_long_are_not_written() -> None:
    for note, message in ((b"\xff", "not UTF-8"), (b"a" * 300_000, "at most 262144 bytes")):
        with pytest.raises(CanonicalError, match=message):
            encode_fork(ForkProof(note, b""))


def test_folders_and_notes_are_compared_alike(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    shutil.copy(run / "head.note", tmp_path / "old.note")
    writer = LineageWriter.open_for_status(run, KEY, KEYRING)
    writer.append_status({"credential": "reader-07"})
    writer.close()
    with open_side(tmp_path / "old.note", KEYRING) as old, open_side(run, KEYRING) as new:
        assert compare(old, new).relation == "prefix"
        assert compare(new, Side(new.note, new.head)).relation == "same"


def test_a_run_that_was_put_back_and_went_another_way_is_a_fork(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    for step in range(3):
        writer.append_step(block(step))
    writer.append_model(3, bytes(32), {})
    writer.close()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    for folder, name in (("run", "reader-07"), ("copy", "reader-08")):
        writer = LineageWriter.open_for_status(tmp_path / folder, KEY, KEYRING)
        writer.append_status({"credential": name})
        writer.close()
    with open_side(tmp_path / "run", KEYRING) as one, open_side(tmp_path / "copy", KEYRING) as other:
        found = compare(one, other)
        assert found.differs_at == one.head.size - 1
    assert found.relation == "fork"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the signed head"), open_side(tmp_path / "no.note", KEYRING):
        pass
    with pytest.raises(InputError, match="cannot read the proof"):
        read_fork(tmp_path / "no.aqfork")
    (tmp_path / "long").write_bytes(bytes(1_000_001))
    with pytest.raises(CanonicalError, match="too long"):
        read_note(tmp_path / "long")
    with pytest.raises(LineageError), open_side(tmp_path, KEYRING):
        pass


def test_the_reader_of_a_folder_is_closed_again(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    with open_side(run, KEYRING) as found:
        assert found.log is not None
    with LineageReader(run, KEYRING) as reader:
        assert reader.checkpoint == found.head
