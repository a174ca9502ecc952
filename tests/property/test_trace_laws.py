"""Laws of the trace: two ledgers that agree, scores that add up, books that close."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gating import budget, tables
from support.running import Action, Course, acted, courses, walk

from aqpolicy.bundle.tables import ERROR_ROW, Tables
from aqpolicy.errors import CorruptLogError
from aqpolicy.gate import SketchPlan
from aqpolicy.gate.motion.meters import Meters
from aqpolicy.lineage import Book, Row, StepBlock
from aqpolicy.semantics import Run, RunState, Visit
from aqpolicy.trace.attribution import DEFAULT_DAMP, Scores, contributions, sweep
from aqpolicy.trace.auditing.ledger import Ledger, concerned
from aqpolicy.trace.auditing.ledger import Visit as AuditedVisit
from aqpolicy.trace.auditing.limits import Limits
from aqpolicy.trace.auditing.metering import Metering
from aqpolicy.trace.book import Terms, impulse
from aqpolicy.trace.rollup import roll_up
from aqpolicy.trace.visits import SketchSpace, Visits
from aqpolicy.trace.words import reason_of, verdict_of

MICRO = 1_000_000
WIDTHS = (3, 2)
groups = st.sampled_from([(0,), (1,), (0, 1)])


def pair(values):
    return st.lists(values, min_size=2, max_size=2)


words = st.sampled_from(["deny", "defer", "attenuate", "halt"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(courses())
def test_the_auditor_derives_what_the_reference_means(course: Course) -> None:
    tables = course.tables
    ledger, limits = Ledger(tables), Limits(tables)
    for before, action, step in walk(course):
        state = before.state
        if step is None:
            follow(course, action, before, ledger, limits)
            continue
        visits, seen = course.visits(action), []
        for visit in visits:
            known = visit.known and not visit.refused
            values = {**visit.attributes, **values_of(tables, state, visit)} if known else {}
            row = tables.rows[tables.row_of(values) if known else ERROR_ROW]
            decided = limits.decide(visit.key, row, values, state.step, state.epoch)
            # A step that a budget halts has no gradients, broken or not.
            broken = () if step.run.halted else visit.broken
            seen.append(AuditedVisit(visit.key, decided, visit.surprisal, broken))
        outcomes = ledger.step(seen)
        for visit, audited, one, found in zip(visits, seen, step.visits, outcomes, strict=True):
            assert audited.decided.row is tables.rows[one.decided.route]
            assert (found.shares, found.reasons, found.charges) == (
                one.shares,
                tuple(map(int, one.reasons)),
                one.charges,
            )
            reason = reason_of(found.reasons, known=visit.known, refused=visit.refused)
            verdict = verdict_of(audited.decided.row, found.shares, reason, expired=audited.decided.expired)
            assert (reason, verdict) == (one.reason, (one.effect, one.cause))
        assert ledger.halted == step.run.halted
        if step.run.halted:
            return
        limits.book(state.step, [(one.decided.row, found.shares) for one, found in zip(seen, outcomes, strict=True)])
        assert concerned(tables, seen, outcomes) == step.concerned
        spent = [(one.epoch, one.phase, one.run) for one in step.run.ledger]
        assert list(zip(ledger.epoch, ledger.phase, ledger.run, strict=True)) == spent


def values_of(tables: Tables, state: RunState, visit: Visit) -> dict[str, object]:
    """Return what the tables ask of the run."""
    said = {**state.attributes, "surprisal": visit.surprisal, "predictive_entropy": visit.entropy}
    return {table.name: said[table.name] for table in tables.attributes if table.origin == "run"}


def follow(course: Course, action: Action, before: Run, ledger: Ledger, limits: Limits) -> None:
    """Let the auditor follow something that is no step."""
    if action == "epoch":
        ledger.start_epoch()
    elif acted(before, action).state.phase != before.state.phase:
        ledger.start_phase()
    limits.held = acted(before, action).held


class Drawn:
    """A step that can be scaled: each factor moves a group by so much less, and drifts it by some of it."""

    def __init__(self, proposed: list[float], depth: list[float]) -> None:
        self.proposed, self.depth, self.factors = proposed, depth, (1.0,) * len(proposed)

    def apply(self, factors) -> None:
        self.factors = tuple(factors)

    def movement(self) -> list[float]:
        return [far * factor for far, factor in zip(self.proposed, self.factors, strict=True)]

    def drift(self) -> list[float]:
        return [deep * factor for deep, factor in zip(self.depth, self.factors, strict=True)]


sizes_of_steps = st.floats(0.0, 5.0) | st.sampled_from([0.0, 0.5, 1.0])
meters = st.lists(
    st.tuples(
        st.sampled_from(["movement", "drift"]),
        st.sampled_from(["step", "epoch", "phase", "run"]),
        st.integers(0, 8 * MICRO),
    ),
    max_size=3,
    unique_by=lambda one: one[:2],
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_auditor_agrees_with_what_the_gate_leaves_of_movement_and_drift(data) -> None:
    made = [
        budget(name, data.draw(groups), on_exhaust=data.draw(words), meters=tuple(data.draw(meters)))
        for name in ("b", "c")[: data.draw(st.integers(1, 2))]
    ]
    table = tables([[1.0, 1.0]], budgets=made)
    gate, auditor = Meters(table), Metering(table)
    for _ in range(data.draw(st.integers(1, 4))):
        for window in data.draw(st.sets(st.sampled_from(["epoch", "phase"]))):
            gate.start_epoch() if window == "epoch" else gate.start_phase()
            auditor.start(window)
        concerns = data.draw(st.tuples(*[st.booleans()] * len(made)))
        change = Drawn(data.draw(pair(sizes_of_steps)), data.draw(pair(sizes_of_steps)))
        ruling = gate.settle(change, concerns)
        gate.book(ruling)
        book = Book(
            *(0.1, 0.0, 0.0, 0.0, False, "SGD"),
            movement=ruling.movement,
            residual=(0.0, 0.0),
            closed=(False, False),
            denominator=1.0,
            proposed=tuple(change.proposed),
            factors=ruling.factors,
            drift=ruling.drift or (),
            movement_charges=ruling.movement_charges,
            drift_charges=ruling.drift_charges,
        )
        auditor.check(book, concerns)
        if ruling.halted:
            return
        drifts = gate.watches("drift", concerns)  # how far a step would have drifted is not in the log
        if ruling.factors != (1.0, 1.0) and not drifts:
            for factors in ((1.0, 1.0), tuple(factor * 0.7 for factor in ruling.factors)):
                if factors != ruling.factors:
                    movement = [far * factor for far, factor in zip(change.proposed, factors, strict=True)]
                    lie = replace(book, factors=factors, movement=tuple(movement))
                    with pytest.raises(CorruptLogError):
                        deepcopy(auditor).check(lie, concerns)


def made_visits(sketches, blocks_of, *, momentum=0.0, weight_decay=0.0, nesterov=False, closed=()):
    """Return visits with these sketches, (v, 5), cut into steps of the given sizes."""
    blocks, at = [], 0
    for step, size in enumerate(blocks_of):
        rows = tuple(Row(bytes([n]) * 16, n, 1, "admit", "granted", 0, 0, (1.0, 1.0), ()) for n in range(at, at + size))
        book = Book(
            0.1,
            momentum,
            0.0,
            weight_decay,
            nesterov,
            "SGD",
            (1.0, 1.0),
            (0.0, 0.0),
            tuple((step, group) in closed for group in (0, 1)),
            size,
        )
        blocks.append(StepBlock(0, step, 0, 0, rows, book))
        at += size
    run = SimpleNamespace(blocks=tuple(blocks), rows=[(block, row) for block in blocks for row in block.rows])
    impulses = tuple(
        impulse([Terms(0.1, momentum, 0.0, weight_decay, nesterov, block.book.closed[group]) for block in blocks])
        for group in (0, 1)
    )
    step = torch.tensor([block.step for block in blocks for _ in block.rows])
    for number, one in enumerate(step.tolist()):
        for group, columns in enumerate((slice(0, 3), slice(3, 5))):
            if (one, group) in closed:
                sketches[number, columns] = 0.0
    parts = tuple(part.contiguous() for part in sketches.float().split(list(WIDTHS), dim=1))
    plan = SketchPlan(tuple(((width,),) for width in WIDTHS))
    space = SketchSpace(plan, parts, torch.zeros(len(step), 2))
    return Visits(run, space, impulses, step, torch.arange(len(step)))


def split(q):
    return tuple(q.double().split(list(WIDTHS)))


sizes = st.lists(st.integers(1, 4), min_size=1, max_size=5)
seeds = st.integers(0, 10_000)
optimizers = st.sampled_from([{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
decays = st.sampled_from([0.0, 0.2])


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, optimizers, decays, st.booleans())
def test_an_estimate_without_curvature_is_the_contribution(blocks, seed, optimizer, decay, shut) -> None:
    generator = torch.Generator().manual_seed(seed)
    closed = {(0, 0), (len(blocks) - 1, 1)} if shut else set()
    visits = made_visits(
        torch.randn(sum(blocks), 5, generator=generator), blocks, weight_decay=decay, closed=closed, **optimizer
    )
    q = split(torch.randn(5, generator=generator))
    torch.testing.assert_close(sweep(visits, q, 0.0).scores, contributions(visits, q), rtol=1e-6, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, optimizers, decays)
def test_contributions_and_opening_are_the_change_of_a_linear_behaviour(blocks, seed, optimizer, decay) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(sum(blocks), 5, generator=generator)
    visits = made_visits(gradients, blocks, weight_decay=decay, **optimizer)
    start, q = torch.randn(5, generator=generator, dtype=torch.float64), torch.randn(5, generator=generator)
    weights = torch.nn.Parameter(start.clone())
    sgd = torch.optim.SGD([weights], lr=0.1, weight_decay=decay, **optimizer)
    for part in gradients.double().split(blocks):
        weights.grad = part.sum(0)
        sgd.step()
    opening = sum(
        (response.opening - 1) * part @ first
        for response, part, first in zip(visits.impulses, split(q), start.split(list(WIDTHS)), strict=True)
    )
    booked = contributions(visits, split(q)).sum() + opening
    torch.testing.assert_close(booked, q.double() @ (weights.detach() - start), rtol=1e-5, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(sizes, seeds, optimizers, st.sampled_from([0.0, 2.0]))
def test_a_closed_group_scores_exactly_nothing(blocks, seed, optimizer, damp) -> None:
    generator = torch.Generator().manual_seed(seed)
    closed = {(step, 1) for step in range(len(blocks))}
    visits = made_visits(torch.randn(sum(blocks), 5, generator=generator), blocks, closed=closed, **optimizer)
    q = split(torch.randn(5, generator=generator))
    assert not sweep(visits, q, damp).scores[:, 1].any()
    assert not contributions(visits, q)[:, 1].any()


@settings(max_examples=40, deadline=None)
@given(sizes, seeds, optimizers)
def test_permuting_a_batch_permutes_its_scores_and_nothing_else(blocks, seed, optimizer) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients, q = torch.randn(sum(blocks), 5, generator=generator), split(torch.randn(5, generator=generator))
    order, at = [], 0
    for size in blocks:
        order += [at + number for number in torch.randperm(size, generator=generator).tolist()]
        at += size
    before = sweep(made_visits(gradients.clone(), blocks, **optimizer), q, DEFAULT_DAMP).scores
    after = sweep(made_visits(gradients[order], blocks, **optimizer), q, DEFAULT_DAMP).scores
    torch.testing.assert_close(after, before[order], rtol=1e-9, atol=1e-11)


@settings(max_examples=30, deadline=None)
@given(sizes, seeds, st.sampled_from([0.0, 0.25, 0.5, 2.0]))
def test_scaling_a_share_scales_the_contribution(blocks, seed, factor) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients, q = torch.randn(sum(blocks), 5, generator=generator), split(torch.randn(5, generator=generator))
    scaled = gradients.clone()
    scaled[0] *= factor
    before, after = (contributions(made_visits(one, blocks), q) for one in (gradients, scaled))
    torch.testing.assert_close(after[0], before[0] * factor)
    assert torch.equal(after[1:], before[1:])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), seeds, st.data())
def test_every_roll_up_has_the_same_total(count, seed, data) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = Scores(
        torch.randn(count, 2, generator=generator, dtype=torch.float64),
        torch.randn(count, 2, generator=generator, dtype=torch.float64),
        torch.zeros(2),
    )
    names = st.lists(st.sampled_from("xyz"), min_size=1, max_size=3).map(tuple)
    labels = data.draw(st.lists(names, min_size=count, max_size=count))
    entries = roll_up(scores, labels)
    total = scores.estimate.sum().item()
    assert abs(sum(entry.score for entry in entries) - total) < 1e-9
    assert abs(sum(sum(entry.groups) for entry in entries) - total) < 1e-9
    assert abs(sum(entry.contribution for entry in entries) - scores.contribution.sum().item()) < 1e-9
    assert [entry.visits for entry in entries] == [
        sum(entry.name in several for several in labels) for entry in entries
    ]
    assert [abs(entry.score) for entry in entries] == sorted((abs(entry.score) for entry in entries), reverse=True)
