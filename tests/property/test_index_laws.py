"""What the index says is what a look at every entry and row of the log says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.indexed_logs import BUNDLES, KEYS, ROOTS, leaves_of, mass_of, random_log, rows_of, steps_of
from support.lineage_runs import KEYRING

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.lineage.lookup import Index
from aqpolicy.lineage.runs import RUNS, RunBuilder, rebuild
from aqpolicy.lineage.runs_codec import decode_run
from aqpolicy.lineage.segment import Segment

seeds = st.integers(0, 2**32 - 1)
flags = st.booleans()


@contextmanager
def random_reader(seed: int, make: type[RunBuilder] = RunBuilder) -> Iterator[LineageReader]:
    """Return a log of its own per seed, open."""
    with (
        TemporaryDirectory() as folder,
        LineageReader(random_log(Random(seed), Path(folder) / "run", make), KEYRING) as r,
    ):
        yield r


@settings(max_examples=30, deadline=None)
@given(seeds, flags)
def test_the_visits_of_an_example_are_those_of_a_scan(seed: int, superseded: bool) -> None:
    with random_reader(seed) as log:
        index, rows = Index(log), rows_of(log, superseded=superseded)
        for key in (*KEYS, b"\0\1\2\3" + b"x" * 12, b"absent" * 3):
            expected = [row.visit for row in rows if row.row.example_key == key]
            assert index.visits_of_example(key, superseded=superseded) == expected


@settings(max_examples=30, deadline=None)
@given(seeds, flags, st.sets(st.sampled_from(KEYS)), st.sampled_from([None, *ROOTS]))
def test_the_steps_of_a_session_are_those_of_a_scan(
    seed: int, superseded: bool, keys: set[bytes], root: bytes | None
) -> None:
    with random_reader(seed) as log:
        expected = [
            row.visit
            for row in rows_of(log, superseded=superseded)
            if row.row.example_key in keys and root in (None, row.entry.manifest_root)
        ]
        steps = Index(log).steps_of_examples(keys, root=root, superseded=superseded)
        assert [(step.entry, step.visits) for step in steps] == [*Counter(visit.entry for visit in expected).items()]


@settings(max_examples=30, deadline=None)
@given(seeds, flags, st.sampled_from([0, 1, 2, 3, 7, 8]), st.sampled_from([None, *BUNDLES]))
def test_the_steps_of_a_route_are_those_of_a_scan(
    seed: int, superseded: bool, route: int, bundle: bytes | None
) -> None:
    with random_reader(seed) as log:
        expected = Counter(
            row.visit.entry
            for row in rows_of(log, superseded=superseded)
            if row.row.route == route and bundle in (None, row.entry.bundle)
        )
        steps = Index(log).steps_of_route(route, bundle=bundle, superseded=superseded)
        assert [(step.entry, step.visits) for step in steps] == [*expected.items()]


@settings(max_examples=30, deadline=None)
@given(seeds, flags)
def test_the_steps_of_a_group_are_those_in_which_it_moved(seed: int, superseded: bool) -> None:
    with random_reader(seed) as log:
        index, steps = Index(log), steps_of(log, superseded=superseded)
        movements = [log.block(entry).book.movement for _, entry in steps]
        for group in range(2):
            moved = [at for (at, _), movement in zip(steps, movements, strict=True) if movement[group]]
            assert [place.entry for place in index.steps_of_group(group, superseded=superseded)] == moved


@settings(max_examples=30, deadline=None)
@given(seeds, flags, st.integers(1, 80))
def test_the_largest_masses_are_those_of_a_scan(seed: int, superseded: bool, count: int) -> None:
    with random_reader(seed) as log:
        index, rows = Index(log), rows_of(log, superseded=superseded)
        for group in range(2):
            masses = [(-mass_of(row.row, group, log.layout), at, row.visit) for at, row in enumerate(rows)]
            ranked = sorted(found for found in masses if found[0] < 0)[:count]
            found = index.top(group, count, superseded=superseded)
            assert [(-top.mass, top.visit) for top in found] == [(mass, visit) for mass, _, visit in ranked]


@settings(max_examples=30, deadline=None)
@given(seeds, flags)
def test_the_rows_of_a_step_are_those_of_a_scan(seed: int, superseded: bool) -> None:
    with random_reader(seed) as log:
        index, rows = Index(log), rows_of(log, superseded=superseded)
        for step in range(13):
            expected = [row.visit for row in rows if row.visit.step == step]
            assert index.visits_of_step(step, superseded=superseded) == expected


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_what_counts_is_what_the_log_says_counts(seed: int) -> None:
    with random_reader(seed) as log:
        assert steps_of(log, superseded=False) == [*log.step_entries()]
        assert {(entry.bundle, entry.manifest_root) for _, entry in log.step_entries(superseded=True)} == Index(
            log
        ).grounds


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_runs_follow_from_the_blocks_alone(seed: int) -> None:
    fast = pytest.importorskip("aqpolicy.scribe.index").FastRunBuilder
    with random_reader(seed) as one, random_reader(seed, fast) as other:
        for name in RUNS:
            assert [(seal, data) for seal, _, data in one.runs(name)] == [
                (seal, data) for seal, _, data in other.runs(name)
            ]
        assert rebuild(leaves_of(one), one.layout) == rebuild(leaves_of(one), one.layout, fast)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_index_of_every_log_is_verified_whoever_made_it(seed: int) -> None:
    fast = pytest.importorskip("aqpolicy.scribe.index").FastRunBuilder
    with TemporaryDirectory() as folder:
        for made, makes in ((RunBuilder, fast), (fast, RunBuilder)):
            run = random_log(Random(seed), Path(folder) / made.__name__, made)
            verify_log(run, KEYRING, index=makes)


@settings(max_examples=50, deadline=None)
@given(seeds, st.data())
def test_changed_runs_raise_nothing_but_corruption(seed: int, data: st.DataObject) -> None:
    with random_reader(seed) as log:
        runs = rebuild(leaves_of(log), log.layout)
    name = data.draw(st.sampled_from(RUNS))
    changed = bytearray(runs[name])
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)) | st.none())
    try:
        segment = Segment(0, ({**runs, name: bytes(changed)[:cut]}).__getitem__)
        for place in range(4):
            segment.visit(place)
        for position in range(len(segment)):
            segment.at(position)
        [*segment.of_number(1), *segment.grounds]
        segment.example(0), segment.route(1), segment.moved(1), segment.largest(1)
    except CorruptLogError:
        pass


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_run(data: bytes) -> None:
    with pytest.raises(CorruptLogError):
        decode_run("example", "III", data)
