"""Laws of training and deciding again: a policy agrees with itself, and what is forgotten was never there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.rerunning import NAMES, PLAIN, SPENDING, by_run, rarely, recipe_in, trained, verifying, waiting
from support.running import Course, acted, courses, walk
from support.tracing import KEYRING, LOG

from aqpolicy.lineage import NO_ENTROPY, NO_INDEX, NO_SURPRISAL, NOT_FINITE, Row
from aqpolicy.rerun.deciding import Deciding
from aqpolicy.rerun.forgetting import forget
from aqpolicy.rerun.indirect import exchanged
from aqpolicy.rerun.origin import Origin
from aqpolicy.rerun.plan import plan_forgetting
from aqpolicy.semantics import Step, Visit
from aqpolicy.trace import audit_run, open_run

KINDS = ("sgd", "nesterov", "adamw", "parts", "odd")
TABLES = (
    PLAIN,
    SPENDING,
    waiting(),
    rarely(),
    verifying("hold"),
    verifying("rollback"),
    by_run("surprisal", linear=True),
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(KINDS), st.sampled_from(TABLES), st.sets(st.sampled_from(NAMES), min_size=1, max_size=4), st.data()
)
def test_whatever_is_forgotten_in_whatever_order_was_never_there(kind, table, names, data) -> None:
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        trained(folder / "once", kind, table, "norms")
        recipe, digest = recipe_in(folder / "once", kind), ""
        order = data.draw(st.permutations(sorted(names)))
        cut = data.draw(st.integers(0, len(order)))
        for part in (order[:cut], order[cut:]):
            origin = Origin(open_run(folder / "once" / "run", KEYRING), KEYRING)
            plan = plan_forgetting(origin, [], part) if part else None
            if plan is not None and plan.is_needed:
                digest = forget(origin, plan, recipe, LOG, reason="it was asked for").digest
        never = trained(folder / "never", kind, table, "norms", refused=names)
        assert digest in ("", never.digest)
        again = trained(folder / "again", kind, table, "norms")
        assert digest or again.digest == never.digest  # nothing was done only where nothing was to be done
        assert audit_run(folder / "once" / "run", KEYRING).steps == 24


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(courses())
def test_a_policy_that_decides_again_decides_as_the_reference_means(course: Course) -> None:
    steps = [(before, action, step) for before, action, step in walk(course)]
    blocks, decided, held, began = [], [], [], []
    epoch, holds = 0, frozenset[int]()
    for before, action, step in steps:
        if step is None:
            holds = acted(before, action).held
            continue
        visits, state = course.visits(action), before.state
        rows = tuple(made(course, visit, one, step) for visit, one in zip(visits, step.visits, strict=True))
        blocks.append(
            SimpleNamespace(
                step=state.step, epoch=state.epoch, phase=state.phase, stage=state.stage, today=state.today, rows=rows
            )
        )
        decided.append([(one.shares, one.charges, one.effect, one.cause, int(one.reason)) for one in step.visits])
        held.append(holds)
        began.append(state.epoch > epoch)
        epoch = state.epoch
    run = stub(course, blocks)
    deciding = Deciding(run, SimpleNamespace(tables=course.tables, taxonomy="t@1"))  # type: ignore[arg-type]
    place = iter(range(len(blocks)))
    deciding._course = SimpleNamespace(
        checking=SimpleNamespace(held=frozenset()),
        follow=lambda number, *_, **__: setattr(deciding._course.checking, "held", held[number]),
        arrive=lambda _: began[next(place)],
        take=lambda *_: None,
    )
    for number, (expected, block) in enumerate(zip(decided, blocks, strict=True)):
        found = deciding.step(number)
        assert found is not None, block
        assert [(one.shares, one.charges, one.effect, one.cause, one.reason) for one in found] == expected


@given(st.lists(st.text(max_size=3), min_size=2, max_size=20, unique=True), st.integers(0, 1000))
def test_an_exchange_leaves_nobody_his_own_content(names: list[str], seed: int) -> None:
    contents = exchanged(names, seed)
    assert sorted(contents) == sorted(contents.values()) == sorted(names)
    assert all(name != other for name, other in contents.items())


def stub(course: Course, blocks: list[Any]) -> Any:
    """Return what deciding looks at of a run."""
    known = {visit.key: visit.attributes for _, action, step in walk(course) if step for visit in course.visits(action)}
    keys = list(known)
    manifest = SimpleNamespace(taxonomy="t@1", attributes=lambda index: known[keys[index]])
    return SimpleNamespace(
        tables=course.tables,
        manifest=manifest,
        models=(),
        events=(),
        blocks=tuple(blocks),
        first_step=0,
        applied=lambda row: (0,) * len(course.tables.groups),
        rows=[(block, row) for block in blocks for row in block.rows],
    )


def made(course: Course, visit: Visit, one: Any, step: Step) -> Row:
    """Return the row that the log would have of a visit."""
    keys = list({v.key: 0 for _, action, found in walk(course) if found for v in course.visits(action)})
    broken = () if step.run.halted else visit.broken
    return Row(
        visit.key,
        keys.index(visit.key) if visit.known else NO_INDEX,
        one.decided.route,
        one.effect,
        one.cause,
        2 if visit.refused and visit.known else int(one.reason),
        NO_SURPRISAL if visit.surprisal is None else visit.surprisal,
        tuple(NOT_FINITE if group in broken else 1.0 for group in range(len(course.tables.groups))),
        one.charges,
        entropy=NO_ENTROPY if visit.entropy is None else visit.entropy,
    )
