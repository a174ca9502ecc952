"""The index: what its runs hold, what an answer reads, and what shows that it is complete (attack A30)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from support.indexed_logs import BUNDLES, ROOTS, IndexedRun, leaves_of, random_row
from support.lineage_runs import KEYRING, edit

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage import LineageReader, Row, verify_log
from aqpolicy.lineage.entry import SEAL, StepEntry, decode_entry, decode_facts, encode_entry, encode_facts
from aqpolicy.lineage.lookup import Index
from aqpolicy.lineage.record import EFFECTS, Layout
from aqpolicy.lineage.runs import EXAMPLE_RUN, GROUP_RUN, RUNS, RunBuilder, prefix_of, rebuild
from aqpolicy.lineage.runs_codec import F32, U32, decode_run, encode_run
from aqpolicy.lineage.segment import Segment
from aqpolicy.lineage.store import block_key, entry_key, run_key
from aqpolicy.lineage.tops import KEPT
from aqpolicy.lineage.verify_blocks import Blocks
from aqpolicy.trust import digest_text, sha256

Write = Callable[..., LineageReader]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Write]:
    """Return what writes a log of one rank and opens it; each item is the rows of a step."""
    opened: list[LineageReader] = []

    def write(
        *steps: Sequence[Row],
        seal: bool = True,
        seal_every: int = 1000,
        make: Callable[[], RunBuilder] = RunBuilder,
    ) -> LineageReader:
        run = IndexedRun(tmp_path / f"run-{len(opened)}", seal_every=seal_every, make=make)
        for rows in steps:
            run.step([rows])
        opened.append(LineageReader(run.stop("close" if seal else "leave"), KEYRING))
        return opened[-1]

    yield write
    for reader in opened:
        reader.close()


def plain_row(number: int, norm: float = 1.0) -> Row:
    """Return a row of an example of its own."""
    row = random_row(Random(number))
    key = number.to_bytes(4, "little") + b"k" * 12
    return replace(row, example_key=key, manifest_index=number, effect="admit", norms=(norm, norm), exceptions=())


def key_of(number: int) -> bytes:
    return plain_row(number).example_key


def run_of(log: LineageReader, name: str) -> bytes:
    """Return a run of the only seal."""
    ((_, _, data),) = log.runs(name)
    return data


def test_columns_are_read_back_as_they_were_written() -> None:
    data = encode_run("group", ((U32, [3, 1, 2**32 - 1]), (F32, [0.5])))
    numbers, fractions = decode_run("group", (U32, F32), data)
    assert (list(numbers), list(fractions)) == ([3, 1, 2**32 - 1], [0.5])
    assert data[-16:] == struct.pack("<3If", 3, 1, 2**32 - 1, 0.5)


@pytest.mark.parametrize("change", ["cut", "longer", "other name", "other kind", "one column less", "padding"])
def test_a_run_of_another_form_is_refused(change: str) -> None:
    data = encode_run("group", ((U32, [3, 1]), (U32, [4])))
    changed = {
        "cut": data[:-1],
        "longer": data + b"\0",
        "other name": data.replace(b"group", b"grupo"),
        "other kind": data.replace(b"I\0\0\0", b"f\0\0\0", 1),
        "one column less": encode_run("group", ((U32, [3, 1]),)),
        "padding": data.replace(b"I\0\0\0", b"I\0\1\0", 1),
    }[change]
    with pytest.raises(CorruptLogError):
        decode_run("group", (U32, U32), changed)


def test_a_step_without_rows_has_runs_and_a_log_without_steps_has_none(written: Write) -> None:
    log = written([])
    index = Index(log)
    assert {name for name in RUNS if run_of(log, name)} == set(RUNS)
    assert index.visits_of_example(key_of(0)) == index.visits_of_step(0) == []
    assert not index.top(0, 3)
    assert [place.step for place in index.steps_of_group(0)] == [0]
    empty = written()
    assert [*empty.runs("step")] == Index(empty).visits_of_example(key_of(0)) == Index(empty).steps_of_group(0) == []


@pytest.mark.parametrize("seal_every", [1, 2, 1000])
def test_one_row_is_read_per_seal_where_a_prefix_has_one_key(
    written: Write, monkeypatch: pytest.MonkeyPatch, seal_every: int
) -> None:
    log, reads = written(*[[plain_row(7), plain_row(8)]] * 6, seal_every=seal_every), list[int]()
    read = LineageReader.key_of_row

    def counting(self: LineageReader, attempt: int, step: int, rank: int, row: int) -> bytes:
        reads.append(step)
        return read(self, attempt, step, rank, row)

    monkeypatch.setattr(LineageReader, "key_of_row", counting)
    assert len(Index(log).visits_of_example(key_of(7))) == 6
    assert len(reads) == {1: 6, 2: 3, 1000: 1}[seal_every]


def test_an_absent_key_with_the_prefix_of_another_is_absent(written: Write) -> None:
    assert Index(written([plain_row(7)])).visits_of_example(key_of(7)[:4] + b"other key 12") == []


@pytest.mark.parametrize("rows", [1, 2])
def test_an_example_whose_row_was_damaged_is_not_called_absent(written: Write, rows: int) -> None:
    log = written([plain_row(7)] * rows)
    log.close()
    for number in range(rows):
        other = key_of(7)[:-1] + bytes([number])
        edit(log.run, b"blk", block_key(0, 0), lambda data, new=other: data.replace(key_of(7), new, 1))
    with (
        LineageReader(log.run, KEYRING) as damaged,
        pytest.raises(CorruptLogError, match="the rows are not those of the signed entry"),
    ):
        Index(damaged).visits_of_example(key_of(7))


def test_keys_with_one_prefix_are_told_apart(written: Write) -> None:
    first, second = plain_row(7), replace(plain_row(7), example_key=key_of(7)[:4] + b"x" * 12)
    log = written([first, second, first, plain_row(9)])
    *_, shared = decode_run(EXAMPLE_RUN, (U32, U32, U32), run_of(log, EXAMPLE_RUN))
    assert list(shared) == [prefix_of(first.example_key)]
    assert [visit.row for visit in Index(log).visits_of_example(first.example_key)] == [0, 2]
    assert [visit.row for visit in Index(log).visits_of_example(second.example_key)] == [1]


@pytest.mark.parametrize(("effect", "counts"), [("deny", 0), ("defer", 0), ("modulate", 1), ("admit", 1)])
def test_what_was_denied_or_deferred_has_no_mass(written: Write, effect: str, counts: int) -> None:
    assert effect in EFFECTS
    assert len(Index(written([replace(plain_row(1), effect=effect)])).top(0, 5)) == counts


def test_an_exception_lowers_the_mass_of_its_group(written: Write) -> None:
    lowered = replace(plain_row(1, 2.0), exceptions=((1, 5, 250_000),))
    index = Index(written([lowered, replace(plain_row(2), sketch=b"s" * 9)]))
    assert [(top.mass, top.visit.row) for top in index.top(0, 5)] == [(2.0, 0), (1.0, 1)]
    assert [(top.mass, top.visit.row) for top in index.top(1, 5)] == [(1.0, 1), (0.5, 0)]


def test_of_equal_masses_the_earliest_are_kept(written: Write) -> None:
    log = written([plain_row(number) for number in range(3 * KEPT)])
    assert [top.visit.row for top in Index(log).top(0, KEPT)] == list(range(KEPT))


def test_more_than_a_seal_keeps_is_looked_for_in_its_blocks(written: Write) -> None:
    log = written([plain_row(number, float(number + 1)) for number in range(2 * KEPT)])
    assert [top.visit.row for top in Index(log).top(1, KEPT + 5)] == [*range(2 * KEPT - 1, KEPT - 6, -1)]


def test_a_depth_group_that_the_run_does_not_have_is_refused(written: Write) -> None:
    index = Index(written([plain_row(1)]))
    for ask in (lambda: index.top(2, 1), lambda: index.steps_of_group(-1)):
        with pytest.raises(LineageError, match="no depth group"):
            ask()


@pytest.mark.parametrize("how", ["leave", "close"])
def test_going_back_without_a_step_supersedes_all_the_same(tmp_path: Path, how: str) -> None:
    run = IndexedRun(tmp_path / "run")
    run.step([[plain_row(1)]])
    run.go_back(1, how)
    with LineageReader(run.stop("leave"), KEYRING) as log:
        index = Index(log)
        assert index.visits_of_step(0) == index.visits_of_example(key_of(1)) == []
        assert len(index.visits_of_step(0, superseded=True)) == 1


def test_a_step_that_was_taken_again_is_found_in_every_attempt(tmp_path: Path) -> None:
    run = IndexedRun(tmp_path / "run")
    run.step([[plain_row(1)]])
    run.publish()
    for number in (2, 3):
        run.step([[plain_row(number)]])
        run.step([[plain_row(number)]])
        run.go_back(2, "leave")
    run.step([[plain_row(4)]])
    with LineageReader(run.stop(), KEYRING) as log:
        index = Index(log)
        assert len([*log.runs("step")]) == 1  # all attempts are in the one seal
        assert [visit.attempt for visit in index.visits_of_step(1, superseded=True)] == [0, 1, 2]
        assert [visit.attempt for visit in index.visits_of_step(2, superseded=True)] == [0, 1]
        assert [visit.attempt for visit in index.visits_of_step(0)] == [0]
        assert [visit.attempt for visit in index.visits_of_step(1)] == [2]
        assert index.visits_of_step(2) == index.visits_of_example(key_of(3)) == []


def test_a_label_or_a_row_of_the_table_is_that_of_the_manifest_or_bundle_in_force(tmp_path: Path) -> None:
    run, row = IndexedRun(tmp_path / "run"), replace(plain_row(3), route=2)
    run.step([[row]])
    run.writer.append_policy(BUNDLES[1])
    run.step([[row]])
    run.writer.append_manifest(ROOTS[1], bytes(32))
    run.step([[row, row]])
    with LineageReader(run.stop(), KEYRING) as log:
        index = Index(log)
        assert index.grounds == {(BUNDLES[0], ROOTS[0]), (BUNDLES[1], ROOTS[0]), (BUNDLES[1], ROOTS[1])}
        for root, steps in ((ROOTS[0], [0, 1]), (ROOTS[1], [2]), (None, [0, 1, 2]), (bytes(32), [])):
            assert [step.step for step in index.steps_of_examples([row.example_key], root=root)] == steps
        for bundle, visits in ((BUNDLES[0], {0: 1}), (BUNDLES[1], {1: 1, 2: 2}), (None, {0: 1, 1: 1, 2: 2})):
            assert {step.step: step.visits for step in index.steps_of_route(2, bundle=bundle)} == visits


def test_evidence_of_absence_names_the_records_beside_the_gap(written: Write) -> None:
    log = written([plain_row(3), plain_row(5), plain_row(9)])
    index, key = Index(log), key_of(6)
    assert index.visits_of_example(key) == []
    (found,) = index.evidence_of_example(key)
    ((seal, facts, data),) = log.runs(EXAMPLE_RUN)
    prefixes, *_ = decode_run(EXAMPLE_RUN, (U32, U32, U32), data)
    assert (found.seal, found.run, found.start, found.end) == (seal, EXAMPLE_RUN, 2, 2)
    assert found.digest == facts["runs"][EXAMPLE_RUN]
    assert prefixes[found.start - 1] < prefix_of(key) < prefixes[found.start]
    (present,) = index.evidence_of_example(key_of(5))
    assert present.end == present.start + 1
    assert prefixes[present.start] == prefix_of(key_of(5))


def test_evidence_of_what_is_not_sealed_says_so(written: Write) -> None:
    (found,) = Index(written([plain_row(3)], seal=False)).evidence_of_example(key_of(3))
    assert (found.seal, found.start, found.end) == (-1, 0, 1)


class Emptying(RunBuilder):
    """Makes an index in which one run holds nothing; a signer who hides something can seal it."""

    hidden = EXAMPLE_RUN

    def finish(self) -> dict[str, bytes]:
        return {**super().finish(), self.hidden: rebuild([], Layout(2, 1))[self.hidden]}


class Skipping(RunBuilder):
    """Makes an index that leaves out a step."""

    def add(self, index: int, entry: StepEntry, leaves: Sequence[Sequence[bytes]], layout: Layout) -> None:
        if entry.step != 1:
            super().add(index, entry, leaves, layout)


@pytest.mark.parametrize("name", RUNS)
def test_a_sealed_run_that_hides_something_is_found(written: Write, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(Emptying, "hidden", name)
    log = written([plain_row(3)], [plain_row(5)], make=Emptying)
    run, made = log.run, rebuild(leaves_of(log), log.layout)
    assert [other for other in RUNS if made[other] != run_of(log, other)] == [name]
    log.close()
    with pytest.raises(CorruptLogError, match="the index that the seal commits to is not that of its steps"):
        verify_log(run, KEYRING)
    monkeypatch.setattr(Blocks, "_seal", lambda *_: ())  # unguarded, it is a log like another
    assert verify_log(run, KEYRING).steps == 2


def test_a_hidden_visit_is_missing_where_the_index_is_believed_unverified(written: Write) -> None:
    assert len(Index(written([plain_row(3)])).visits_of_example(key_of(3))) == 1
    assert Index(written([plain_row(3)], make=Emptying)).visits_of_example(key_of(3)) == []


def test_a_sealed_index_that_leaves_out_a_step_is_refused_and_found(
    written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = written([plain_row(3)], [plain_row(5)], [plain_row(5)], make=Skipping)
    with pytest.raises(CorruptLogError, match="does not cover the steps"):
        Index(log).visits_of_example(key_of(5))
    monkeypatch.setattr(LineageReader, "blocks", 2)  # unguarded, nobody notices
    assert [visit.step for visit in Index(log).visits_of_example(key_of(5))] == [2]
    monkeypatch.undo()
    log.close()
    with pytest.raises(CorruptLogError, match="the index that the seal commits to is not that of its steps"):
        verify_log(log.run, KEYRING)


def test_runs_that_were_taken_away_are_missed(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(*[[plain_row(5)]] * 3, seal_every=1)
    middle = [*log.seals()][1]
    log.close()
    for name in RUNS:
        edit(log.run, b"run", run_key(middle, name), lambda _: None)
    with LineageReader(log.run, KEYRING) as cut:
        with pytest.raises(CorruptLogError, match="does not cover the steps"):
            Index(cut).visits_of_example(key_of(5))
        monkeypatch.setattr(LineageReader, "blocks", 2)  # unguarded, nobody notices
        assert [visit.step for visit in Index(cut).visits_of_example(key_of(5))] == [0, 2]
        monkeypatch.undo()
    with pytest.raises(CorruptLogError, match="the index is not the one that the seal commits to"):
        verify_log(log.run, KEYRING)


@pytest.mark.parametrize("change", [lambda _: None, lambda data: data[:-1], lambda data: data[:-1] + b"\1"])
def test_a_run_that_is_not_the_sealed_one_is_refused(written: Write, change: Callable[[bytes], bytes | None]) -> None:
    log = written([plain_row(3)])
    (seal,) = log.seals()
    log.close()
    edit(log.run, b"run", run_key(seal, EXAMPLE_RUN), change)
    with (
        LineageReader(log.run, KEYRING) as changed,
        pytest.raises(CorruptLogError, match="is not the one that was sealed"),
    ):
        Index(changed).visits_of_example(key_of(3))


def forged(log: LineageReader, run: bytes) -> LineageReader:
    """Put another run `example` in the place of the only one, and its digest into the seal, which nobody signs."""
    (seal,) = log.seals()

    def renamed(data: bytes) -> bytes:
        facts = decode_facts(decode_entry(data)[1])
        return encode_entry(
            SEAL, encode_facts({**facts, "runs": {**facts["runs"], EXAMPLE_RUN: digest_text(sha256(run))}})
        )

    log.close()
    edit(log.run, b"entry", entry_key(seal), renamed)
    edit(log.run, b"run", run_key(seal, EXAMPLE_RUN), lambda _: run)
    return LineageReader(log.run, KEYRING)


def test_a_forged_seal_is_found(written: Write) -> None:
    log = written([plain_row(3), plain_row(5), plain_row(5)])
    prefixes, places, shared = decode_run(EXAMPLE_RUN, (U32, U32, U32), run_of(log, EXAMPLE_RUN))
    with forged(log, encode_run(EXAMPLE_RUN, ((U32, prefixes[:-1]), (U32, places[:-1]), (U32, shared)))) as found:
        assert len(Index(found).visits_of_example(key_of(5))) == 1  # unverified, nobody notices
    with pytest.raises(CorruptLogError, match="the index that the seal commits to is not that of its steps"):
        verify_log(log.run, KEYRING)


@pytest.mark.parametrize("place", [1, 2**32 - 1])
def test_a_run_that_names_a_row_beyond_the_step_is_refused(written: Write, place: int) -> None:
    beyond = encode_run(EXAMPLE_RUN, ((U32, [prefix_of(key_of(3))]), (U32, [place]), (U32, [])))
    with forged(written([plain_row(3)]), beyond) as log, pytest.raises(CorruptLogError):
        Index(log).visits_of_example(key_of(3))


def test_runs_are_opened_one_at_a_time() -> None:
    runs = rebuild([], Layout(2, 1))
    asked: list[str] = []

    def data(name: str) -> bytes:
        asked.append(name)
        return runs[name]

    segment = Segment(5, data)
    segment.example(1)
    segment.example(2)
    assert asked == ["step", "example"]


def test_a_seal_without_one_of_its_runs_is_refused(written: Write) -> None:
    log = written([plain_row(3)])
    (seal,) = log.seals()
    log.close()
    edit(log.run, b"run", run_key(seal, GROUP_RUN), lambda _: None)
    with LineageReader(log.run, KEYRING) as changed:
        assert len(Index(changed).visits_of_example(key_of(3))) == 1
        with pytest.raises(CorruptLogError, match="run `group` is not the one that was sealed"):
            Index(changed).top(0, 1)


def test_a_builder_that_saw_nothing_has_runs_of_nothing() -> None:
    assert RunBuilder().finish() == rebuild([], Layout(2, 1))
