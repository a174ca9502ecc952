"""A proof shows one row to a stranger with the log's key, whether its step counts, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.lineage_runs import KEY, KEYRING, edit, row, write_run
from support.proof_logs import TRUSTED, ProofLog, head_of, steps_of_three_ranks

from aqpolicy.errors import AqpolicyError, CanonicalError, CorruptLogError, ForkedLogError, LineageError, ProofError
from aqpolicy.lineage import LineageReader
from aqpolicy.lineage.entry import CKPT, END, RESUME, SEAL, encode_entry, encode_facts
from aqpolicy.lineage.proof import LoggedEntry, attempt_of, decode_row_proof, encode_row_proof
from aqpolicy.lineage.proved import Checker, Names
from aqpolicy.lineage.prover import Prover
from aqpolicy.lineage.store import BLOCK, ENTRY, block_key, entry_key
from aqpolicy.trust import Checkpoint, sign_checkpoint

NAMES = Names(("surface", "head"), ("all",), ("warm-up", "tune"), ("trial", "open"))
BUNDLE = bytes([0x11]) * 32


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ProofLog]:
    with ProofLog(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LineageReader]:
    """Return a log of five steps of three ranks."""
    with ProofLog(tmp_path_factory.mktemp("plain")) as made:
        yield steps_of_three_ranks(made)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LineageReader]:
    """Return a log: steps 0 to 3, back to 2, steps 2 and 3, back to 3, step 3.

    Its entries from 3 on: step 0, step 1, model, step 2, step 3, resume, step 2, model, step 3, resume, step 3.
    """
    with ProofLog(tmp_path_factory.mktemp("resumed")) as made:
        models = {}
        for attempt, steps in enumerate(((0, 1, 2, 3), (2, 3), (3,))):
            if attempt:
                made.back(models[steps[0]])
            for step in steps:
                if step in (2, 3) and step not in models and (step, attempt) != (3, 0):
                    models[step] = made.model()
                made.step([row(step + 10 * attempt)])
        yield made.read()


def test_a_row_of_a_run_is_proved_from_the_file_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    with LineageReader(run, KEYRING) as reader:
        data = encode_row_proof(Prover(reader).prove(7, "e29"))
        head, entry, expected = reader.checkpoint, reader.step_entry(7), reader.step(7).rows[1]
    proved = Checker(TRUSTED).check_file(data)
    assert (proved.row, proved.example, proved.entry) == (expected, "e29", entry)
    assert (proved.head, proved.signers, proved.names) == (head, TRUSTED, NAMES)


def test_every_row_of_every_rank_is_proved(plain: LineageReader) -> None:
    prover, checker = Prover(plain), Checker(TRUSTED)
    indices = [index for index, _ in plain.step_entries()]
    found = [checker.check_file(encode_row_proof(proof)) for index in indices for proof in prover.proofs(index)]
    expected = [(step, rank, at) for step in range(5) for rank in range(3) for at in range(rank + 1)]
    assert [(one.entry.step, one.rank, one.position) for one in found] == expected
    assert [one.row for one in found] == [row(100 * step + number) for step in range(5) for number in range(6)]
    for one in found:
        assert one == checker.check(replace(prover.prove(one.entry.step, f"e{one.row.manifest_index}"), example=""))


def test_a_proof_under_an_older_head_is_of_that_head(plain: LineageReader) -> None:
    note, head = head_of(plain, 5)
    proved = Checker(TRUSTED, head).check(Prover(plain, note, head).prove(1, "e100"))
    assert (proved.head, proved.index) == (head, 4)
    with pytest.raises(LineageError, match="behind the head of size 5"):
        Prover(plain, note, head).prove(2, "e200")
    with pytest.raises(ProofError, match="not under the one that was given, of size 5"):
        Checker(TRUSTED, head).check(Prover(plain).prove(1, "e100"))


def test_entries_that_the_head_was_not_signed_over_are_not_proved_from(log: ProofLog) -> None:
    steps_of_three_ranks(log, steps=3)
    other = log.copy()
    edit(other, ENTRY, entry_key(3), lambda data: data[:-1] + bytes((data[-1] ^ 1,)))
    with LineageReader(other, KEYRING) as reader, pytest.raises(ForkedLogError, match="root of the entries"):
        Prover(reader)
    other = log.copy()
    edit(other, ENTRY, entry_key(5), lambda _: None)
    with LineageReader(other, KEYRING) as reader, pytest.raises(ForkedLogError, match="cut or rolled back"):
        Prover(reader)


def test_rows_that_are_not_those_of_the_entry_are_not_proved_from(log: ProofLog) -> None:
    steps_of_three_ranks(log, steps=1)
    other = log.copy()
    edit(other, BLOCK, block_key(0, 0, 2), lambda data: data[:-1] + bytes((data[-1] ^ 1,)))
    with LineageReader(other, KEYRING) as reader:
        proofs = Prover(reader).proofs(3)
        assert [Checker(TRUSTED).check(next(proofs)).row for _ in range(3)] == [row(0), row(1), row(2)]
        with pytest.raises(CorruptLogError, match="step 0, rank 2: the rows are not those of the signed entry"):
            next(proofs)


def test_a_head_of_another_log_is_not_proved_under(plain: LineageReader) -> None:
    other = Checkpoint("example.org/other", plain.checkpoint.size, plain.checkpoint.root)
    with pytest.raises(LineageError, match="another log"):
        Prover(plain, sign_checkpoint(other, KEY).encode(), other)


def test_an_example_with_several_rows_in_a_step_needs_a_choice(log: ProofLog) -> None:
    log.step([row(1), row(2)], [row(1)])
    prover = Prover(log.read())
    with pytest.raises(LineageError, match="example `e1` has 2 rows in step 0"):
        prover.prove(0, "e1")
    assert [prover.prove(0, "e1", visit=visit).rank for visit in (0, 1)] == [0, 1]
    for visit in (-1, 2):
        with pytest.raises(LineageError, match="only 2 rows"):
            prover.prove(0, "e1", visit=visit)


@pytest.mark.parametrize(("step", "example"), [(0, "nobody"), (9, "e0"), (-1, "e0"), (2**70, "e0")])
def test_what_the_log_does_not_hold_is_not_proved(plain: LineageReader, step: int, example: str) -> None:
    with pytest.raises(LineageError, match="the log has no"):
        Prover(plain).prove(step, example)


def test_only_steps_have_rows(plain: LineageReader) -> None:
    for index in (0, -1, 99):
        with pytest.raises(LineageError, match="is no step"):
            next(Prover(plain).proofs(index))


def test_a_short_proof_proves_the_same_with_the_names_of_the_bundle(plain: LineageReader) -> None:
    proof = Prover(plain).prove(1, "e100")
    data = encode_row_proof(replace(proof, genesis=None))
    assert decode_row_proof(data).genesis is None
    assert Checker(TRUSTED, policies={BUNDLE: NAMES}).check_file(data) == Checker(TRUSTED).check(proof)


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ({}, "read with the bundle that decided its step, sha256:1111"),
        ({bytes(32): NAMES}, "read with the bundle that decided its step"),
        ({BUNDLE: Names(("surface",), ("all",))}, "the row has"),
        ({BUNDLE: Names(("surface", "head", "more"), ("all",))}, "the row has"),
        ({BUNDLE: Names(("surface",), ("all", "more"))}, "other depth groups than the step"),
        ({BUNDLE: Names((), ("all", "more"))}, "the row has"),
    ],
)
def test_a_short_proof_is_read_by_the_bundle_of_its_step_only(
    plain: LineageReader, policies: dict[bytes, Names], message: str
) -> None:
    proof = replace(Prover(plain).prove(1, "e100"), genesis=None)
    with pytest.raises((ProofError, CorruptLogError), match=message):
        Checker(TRUSTED, policies=policies).check(proof)


def test_a_step_that_counts_is_shown_to_stand_through_every_resumption(resumed: LineageReader) -> None:
    prover, newest = Prover(resumed), resumed.checkpoint.size - 1
    for step, example in ((0, "e0"), (1, "e1"), (2, "e12")):
        proof = prover.prove(step, example)
        proved = Checker(TRUSTED).check(proof)
        assert (proved.stands_until, proved.superseded_by) == (newest, None)
        bare = Checker(TRUSTED).check(replace(proof, later=()))
        assert (bare.stands_until, bare.superseded_by) == (None, None)


def test_the_newest_step_stands_once_a_model_is_logged(log: ProofLog) -> None:
    log.step([row(1)])
    last = Checker(TRUSTED).check(Prover(log.read()).prove(0, "e1"))
    assert (last.stands_until, last.superseded_by) == (None, None)
    place = log.model()
    log.end()
    assert Checker(TRUSTED).check(Prover(log.read()).prove(0, "e1")).stands_until == place


@pytest.mark.parametrize(("step", "attempt", "by"), [(2, 0, 1), (3, 0, 1), (3, 1, 2)])
def test_the_proof_of_a_superseded_step_says_so(resumed: LineageReader, step: int, attempt: int, by: int) -> None:
    proof = Prover(resumed).prove(step, f"e{step + 10 * attempt}", attempt=attempt)
    proved = Checker(TRUSTED).check(proof)
    assert (proved.entry.attempt, proved.stands_until, proved.superseded_by) == (attempt, None, by)


def test_a_step_that_counts_is_the_one_that_is_proved_unless_another_is_named(resumed: LineageReader) -> None:
    assert Checker(TRUSTED).check(Prover(resumed).prove(3, "e23")).entry.attempt == 2
    with pytest.raises(LineageError, match="no row of example `e3` in step 3"):
        Prover(resumed).prove(3, "e3")


def logged(reader: LineageReader, *indices: int) -> tuple[LoggedEntry, ...]:
    return tuple(Prover(reader)._logged(index) for index in indices)


def test_a_superseded_step_cannot_be_shown_to_stand(resumed: LineageReader) -> None:
    old = replace(Prover(resumed).prove(3, "e3", attempt=0))
    (first, second), models, newest = (8, 12), (5, 10), 13
    for later in ((newest,), (second, newest), (first, second, newest), (first, second), (first, models[1]), (11,)):
        with pytest.raises(ProofError, match="do not show whether the step counts"):
            Checker(TRUSTED).check(replace(old, later=logged(resumed, *later)))
    assert Checker(TRUSTED).check(replace(old, later=logged(resumed, first))).superseded_by == 1


def test_a_gap_in_the_resumptions_shows_nothing(resumed: LineageReader) -> None:
    proof = Prover(resumed).prove(0, "e0")
    first, second, newest = proof.later
    assert (first.index, second.index, newest.index) == (8, 12, 13)
    for later in ((first, newest), (second, newest), (newest,), (first, second), (first,)):
        with pytest.raises(ProofError, match="do not show whether the step counts"):
            Checker(TRUSTED).check(replace(proof, later=later))
    for later in ((first, first), (proof.step,), (proof.genesis,), (first, proof.step)):
        with pytest.raises(ProofError, match="not in order"):
            Checker(TRUSTED).check(replace(proof, later=later))


def test_a_seal_of_older_steps_does_not_show_that_they_count(log: ProofLog) -> None:
    for step in range(3):
        log.step([row(step)])
    log.back()
    log.end()
    reader = log.read()
    kinds = [kind for _, kind, _ in reader.entries()]
    assert kinds[-3:] == [RESUME, SEAL, END]
    prover = Prover(reader)
    proof = prover.prove(2, "e2", attempt=0)
    assert Checker(TRUSTED).check(proof).superseded_by == 1
    with pytest.raises(ProofError, match="not of the kind that the proof needs"):
        Checker(TRUSTED).check(replace(proof, later=logged(reader, len(kinds) - 2)))


@pytest.mark.parametrize(
    "facts",
    [
        {"attempt": "1", "from_step": 0, "entry": -1, "reason": "", "supersedes": 1, "time_s": 0},
        {"attempt": 1, "from_step": 0},
    ],
)
def test_a_resumption_that_says_nothing_shows_nothing(log: ProofLog, facts: dict[str, object]) -> None:
    log.step([row(0)])
    place = log.writer._group.append(RESUME, encode_facts(facts))
    reader = log.read()
    prover = Prover(reader)
    entry = prover._entry(3)
    for proof in (
        lambda: prover.prove(0, "e0", attempt=0),
        lambda: Checker(TRUSTED).check(prover._proof(entry, 0, 0, prover._logged(3), logged(reader, place))),
    ):
        with pytest.raises(CorruptLogError, match="what training goes on from"):
            proof()


@pytest.mark.parametrize("payload", [b"{}", b'{"attempt":true}', b'{"attempt":"0"}'])
def test_a_model_that_names_no_attempt_is_no_witness(payload: bytes) -> None:
    assert attempt_of(CKPT, b'{"attempt":3}') == 3
    with pytest.raises(CorruptLogError, match="names no attempt"):
        attempt_of(CKPT, payload)


def test_a_proof_has_one_encoding_and_survives_it(resumed: LineageReader) -> None:
    proof = replace(Prover(resumed).prove(0, "e0"), label=b"label")
    data = encode_row_proof(proof)
    assert decode_row_proof(data) == proof
    for other in (data[:-1], data[1:], data + b"x", data.replace(b"extra ", b"extra  "), data.replace(b"\n", b"\r\n")):
        with pytest.raises(AqpolicyError):
            Checker(TRUSTED).check_file(other)


@pytest.mark.parametrize("change", [{"example": "\ud800"}, {"rank": 2**32}, {"rank": -1}, {"example": "e" * 65_536}])
def test_a_part_that_does_not_fit_is_not_written(plain: LineageReader, change: dict[str, object]) -> None:
    with pytest.raises(CanonicalError):
        encode_row_proof(replace(Prover(plain).prove(0, "e0"), **change))


def test_the_first_entry_of_another_format_is_refused_by_its_number(plain: LineageReader) -> None:
    proof = Prover(plain).prove(0, "e0")
    old = bytearray(encode_entry(1, b"{}"))
    old[5] = 2
    with pytest.raises(ProofError):
        Checker(TRUSTED).check(replace(proof, genesis=replace(proof.genesis, data=bytes(old))))


def test_more_later_entries_than_a_proof_may_hold_are_neither_written_nor_read(
    plain: LineageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = Prover(plain).prove(0, "e0")
    many = replace(proof, later=proof.later * 4097)
    with pytest.raises(CanonicalError, match="at most 4096 later entries; prove"):
        encode_row_proof(many)
    monkeypatch.setattr("aqpolicy.lineage.proof.MOST_LATER", 5000)
    data = encode_row_proof(many)
    monkeypatch.undo()
    with pytest.raises(CanonicalError, match="at most 4096 later entries"):
        decode_row_proof(data)
