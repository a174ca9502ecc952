"""A revocation reaches exactly what a scan of the whole log, row by row, finds it to reach."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gating import tables
from support.tracing import KEYRING, LOG, Story, train

from aqpolicy.errors import TraceError
from aqpolicy.lineage import LineageReader, LineageWriter
from aqpolicy.trace import Run, footprint, open_run
from aqpolicy.trace.revocation import entry_of_step, first_step_from, misuses, refusal, revocations

RATE = 0.25


def told(credential: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"event": "revoked", "credential": credential, "kind": kind, "reason": kind, "time_s": 9, **more}


def random_story(seed: int, events: dict[int, dict[str, Any]]) -> Story:
    """Return a run of random owners, shares, limits and batches, with revocations logged before some steps."""
    dice = random.Random(seed)
    shares = [[dice.choice([0.0, 0.3, 1.0]) for _ in range(2)] for _ in range(3)]
    limits = [[dice.choice([None, 0.05, 0.2]) for _ in range(2)] for _ in range(3)]
    owners = {f"{1 + dice.randrange(3)}-{number}": f"reader{dice.randrange(4)}" for number in range(14)}

    def before(gate: Any, step: int) -> None:
        if step in events:
            gate.machinery.recorder.event(events[step])

    return Story(
        owners, tables(shares, norms=limits), batch=dice.choice([2, 3, 5]), settings={"lr": RATE}, before=before
    )


@pytest.fixture(scope="module", params=range(4))
def random_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, Run, Path]:
    story = random_story(request.param, {3: told("reader0", "left"), 4: told("reader1", "superseded")})
    folder = train(tmp_path_factory.mktemp("random"), story)
    return story, open_run(folder, KEYRING), folder


def scan(run: Run, story: Story, credential: str, first: int) -> Iterator[tuple[int, int, float, float]]:
    """Yield step, group, mass and displacement of every visit, from the rows and the table alone."""
    for block in run.blocks:
        for row in block.rows:
            name = run.manifest.example_id(row.manifest_index)
            if story.owners[name] != credential or block.step < first:
                continue
            lowered = {group: share for group, _, share in row.exceptions}
            for group, share in enumerate(run.tables.rows[row.route].shares):
                applied = lowered.get(group, share) / 1e6
                limit = run.tables.rows[row.route].norms[group]
                norm = row.norms[group] if limit < 0 else min(row.norms[group], limit / 1e6)
                if applied:
                    # Plain gradient descent moves a weight by rate times gradient, once and for all.
                    yield block.step, group, applied * norm, RATE * applied * norm / block.book.denominator


@pytest.mark.parametrize("first", [None, 0, 2, 5, 10**6])
def test_steps_groups_and_displacement_are_those_of_a_brute_force_scan(
    random_run: tuple[Story, Run, Path], first: int | None
) -> None:
    story, run, _ = random_run
    for credential in sorted(set(story.owners.values())):
        expected: dict[tuple[int, str], list[float]] = {}
        for step, group, mass, moved in scan(run, story, credential, first or 0):
            total = expected.setdefault((step, run.tables.groups[group]), [0, 0.0, 0.0])
            total[0] += 1
            total[1] += mass
            total[2] += moved
        found = footprint(run, credential=credential, since=first)
        assert {(each.step, each.group): each.visits for each in found.updates} == {
            place: total[0] for place, total in expected.items()
        }
        for each in found.updates:
            _, mass, moved = expected[each.step, each.group]
            assert each.mass == pytest.approx(mass, rel=1e-6)
            assert each.displacement == pytest.approx(moved, rel=1e-6)
        for part in found.groups:
            mine = [each for each in found.updates if each.group == part.group]
            assert part.mass == pytest.approx(sum(each.mass for each in mine))
            assert part.displacement == pytest.approx(sum(each.displacement or 0.0 for each in mine))
            assert part.steps == len(mine)


def slow_misuses(folder: Path, story: Story, run: Run) -> set[tuple[str, int, int]]:
    """Return credential, step and rows of every use within reach, by asking every pair of step and revocation."""
    found = set()
    with LineageReader(folder, KEYRING) as log:
        for revocation in revocations(log):
            for index, entry in log.step_entries():
                names = [run.manifest.example_id(row.manifest_index) for row in log.block(entry).rows]
                rows = sum(story.owners[name] == revocation.credential for name in names)
                retroactive = revocation.kind in {"compromised", "error"}
                reached = index >= revocation.since if retroactive else index > revocation.entry
                if rows and reached:
                    found.add((revocation.credential, entry.step, rows))
    return found


def test_uses_after_a_revocation_are_found_by_the_order_of_the_log(random_run: tuple[Story, Run, Path]) -> None:
    story, run, folder = random_run
    with LineageReader(folder, KEYRING) as log:
        found, known = list(misuses(log, run.manifest)), revocations(log)
    assert {(each.credential, each.step, each.rows) for each in found} == slow_misuses(folder, story, run)
    assert found
    assert all(not each.is_retroactive and each.entry > each.revoked_at for each in found)
    assert {each.step for each in found if each.credential == "reader0"} <= set(range(3, 100))
    # Clocks say nothing: every revocation bears a time long before all steps.
    assert all(each.time_s == 9 for each in known)


def appended(folder: Path, *events: dict[str, Any]) -> None:
    writer = LineageWriter.open_for_status(folder, LOG, KEYRING)
    for event in events:
        writer.append_status(event)
    writer.close()


def test_what_was_stolen_reaches_back_and_what_ended_does_not(tmp_path: Path) -> None:
    story = random_story(7, {})
    folder = train(tmp_path, story)
    run = open_run(folder, KEYRING)
    with LineageReader(folder, KEYRING) as log:
        since = entry_of_step(log, 2)
    appended(
        folder, told("reader0", "compromised", since_entry=since), told("reader1", "left"), told("reader2", "error")
    )
    with LineageReader(folder, KEYRING) as log:
        found = list(misuses(log, run.manifest))
        by = {name: {each.step for each in found if each.credential == name} for name in set(story.owners.values())}
        assert by["reader0"] == set(footprint(run, credential="reader0", since=2).steps)
        assert by["reader1"] == set()
        assert by["reader2"] == set(footprint(run, credential="reader2").steps)
        assert all(each.is_retroactive for each in found)
        stolen, left, wrong = (refusal(log, each) for each in revocations(log))
    assert {(each.credential, each.step, each.rows) for each in found} == slow_misuses(folder, story, run)
    root = run.manifest.root.hex()
    assert (stolen.from_s, stolen.known_roots) == (0, (root,))
    assert (left.from_s, left.known_roots) == (9, ())
    assert (wrong.from_s, wrong.known_roots) == (0, ())


def test_an_entry_that_says_too_little_is_read_as_the_strictest(tmp_path: Path) -> None:
    folder = train(tmp_path, random_story(8, {}))
    bare = {"event": "revoked", "credential": "reader0"}
    odd = told("reader1", "tired", since_entry=-5)
    appended(folder, bare, odd, {"event": "revoked"}, {"event": "revoked", "credential": 7})
    with LineageReader(folder, KEYRING) as log:
        first, second = revocations(log)
        assert [(each.kind, each.since) for each in (first, second)] == [("compromised", 0)] * 2
        assert first.reaches(0)


def test_places_in_the_log_and_steps_are_translated_both_ways(tmp_path: Path) -> None:
    folder = train(tmp_path, random_story(9, {2: {"event": "note"}}))
    with LineageReader(folder, KEYRING) as log:
        places = {entry.step: index for index, entry in log.step_entries()}
        for step, index in places.items():
            assert entry_of_step(log, step) == index
            assert first_step_from(log, index) == step
        assert places[2] - places[1] == 2  # the note is between
        assert first_step_from(log, places[1] + 1) == 2
        assert first_step_from(log, max(places.values()) + 1) is None
        with pytest.raises(TraceError, match="no step 10000"):
            entry_of_step(log, 10_000)
