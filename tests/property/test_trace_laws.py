"""Laws of the trace: two ledgers that agree, scores that add up, books that close."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gating import budget, tables

from aqpolicy.gate import SketchPlan
from aqpolicy.gate.accountant import NOT_FINITE, Accountant, Batch
from aqpolicy.lineage import Book, Row, StepBlock
from aqpolicy.trace.attribution import Scores, contributions, estimates
from aqpolicy.trace.book import Terms, impulse
from aqpolicy.trace.ledger import Ledger, Visit
from aqpolicy.trace.rollup import roll_up
from aqpolicy.trace.visits import Visits

MICRO = 1_000_000
WIDTHS = (3, 2)
shares = st.sampled_from([0.0, 0.1, 0.333333, 0.5, 1.0])
nats = st.one_of(st.none(), st.integers(0, 5 * MICRO), st.just(2**31 - 1))
limits = st.one_of(st.just(-1), st.integers(0, 8 * MICRO))
words = st.sampled_from(["deny", "defer", "attenuate", "halt"])


@st.composite
def budgets(draw):
    return [
        budget(
            name,
            draw(st.sampled_from([(0,), (1,), (0, 1)])),
            per_update=draw(limits),
            per_epoch=draw(limits),
            per_run=draw(limits),
            exposures=draw(st.sampled_from([-1, 0, 1, 3])),
            on_exhaust=draw(words),
        )
        for name in ("b", "c")[: draw(st.integers(0, 2))]
    ]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_the_auditors_ledger_and_the_gates_accountant_agree_to_the_last_micro_nat(data) -> None:
    made = data.draw(budgets())
    rows = data.draw(st.lists(st.tuples(shares, shares), min_size=1, max_size=3))
    table = tables(rows, budgets=made)
    gate, auditor = Accountant(table, 4), Ledger(table)
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            gate.start_epoch()
            auditor.start_epoch()
        batch = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, len(rows)), nats), max_size=5))
        batch = batch or [(0, 1, 0)]
        numbers = [(who, row, NOT_FINITE if value is None else value) for who, row, value in batch]
        index, route, surprisal = (torch.tensor(column) for column in zip(*numbers, strict=True))
        pairs = st.lists(st.booleans(), min_size=2, max_size=2)
        broken = data.draw(st.lists(pairs, min_size=len(batch), max_size=len(batch)))
        spending = gate.spend(Batch(route, index, surprisal))
        if not spending.halted:
            spending = gate.close(spending, torch.tensor(broken))
            gate.commit(spending)
        # A step that a budget halts has no gradients, broken or not.
        bad = [[] if spending.halted else [at for at in (0, 1) if flags[at]] for flags in broken]
        visits = [
            Visit(bytes([who]), table.rows[row], value, tuple(groups))
            for (who, row, value), groups in zip(batch, bad, strict=True)
        ]
        outcomes = auditor.step(visits)
        assert [list(one.shares) for one in outcomes] == spending.shares.tolist()
        assert [list(one.charges) for one in outcomes] == spending.charges.tolist()
        assert [list(one.reasons) for one in outcomes] == spending.reasons.tolist()
        assert auditor.run == gate.run
        for number, one in enumerate(made):
            assert one.per_run == -1 or auditor.run[number] <= one.per_run
            assert one.per_epoch == -1 or auditor.epoch[number] <= one.per_epoch


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
    return Visits(run, SketchPlan(WIDTHS), impulses, parts, torch.zeros(len(step), 2), step, torch.arange(len(step)))


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
    torch.testing.assert_close(estimates(visits, q, damp=0.0), contributions(visits, q), rtol=1e-6, atol=1e-8)


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
    assert not estimates(visits, q, damp)[:, 1].any()
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
    before = estimates(made_visits(gradients.clone(), blocks, **optimizer), q)
    after = estimates(made_visits(gradients[order], blocks, **optimizer), q)
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
