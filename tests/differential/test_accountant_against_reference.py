"""The batched accountant spends exactly as the reference does, over whole runs."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gating import MICRO

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable, Row, Tables
from aqpolicy.gate.accountant import NOT_FINITE, Accountant, Batch, Reason
from aqpolicy.semantics.budget import LARGEST_SURPRISAL, empty_ledger, spend, start_epoch

GROUPS = 3
EXAMPLES = 5
NAMES = {
    Reason.TABLE: "as the table says",
    Reason.PER_UPDATE: "limit per update",
    Reason.NOT_FINITE: "loss not finite",
    Reason.EXHAUSTED: "budget exhausted",
    Reason.ATTENUATED: "attenuated to the budget's rest",
    Reason.DEFERRED: "deferred",
    Reason.HALTED: "halted",
}

shares = st.one_of(st.sampled_from([0, MICRO, 1]), st.integers(0, MICRO))
nats = st.one_of(st.integers(0, 5 * MICRO), st.integers(0, LARGEST_SURPRISAL))
limits = st.one_of(st.just(NO_LIMIT), st.integers(0, 20 * MICRO))
budgets = st.builds(
    BudgetTable,
    name=st.sampled_from(["first", "second"]),
    groups=st.sets(st.integers(0, GROUPS - 1), min_size=1).map(lambda found: tuple(sorted(found))),
    per_update=st.one_of(limits, st.integers(0, 2**40)),
    per_epoch=limits,
    per_run=limits,
    exposures=st.one_of(st.just(NO_LIMIT), st.integers(0, 4)),
    on_exhaust=st.sampled_from(["deny", "deny", "defer", "attenuate", "attenuate", "halt"]),
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Tables, list[list[tuple[int, int, int | None]]]]:
    """Draw tables, and steps of (route, example, surprisal)."""
    owned = tuple(draw(st.lists(budgets, max_size=3)))
    rows = [Row("deny", "error", (0,) * GROUPS, (NO_LIMIT,) * GROUPS, (0,) * len(owned), (), "error")]
    for _ in range(3):
        said = tuple(draw(st.lists(shares, min_size=GROUPS, max_size=GROUPS)))
        applies = draw(st.lists(st.booleans(), min_size=len(owned), max_size=len(owned)))
        charged = tuple(max(said[g] for g in b.groups) * on for b, on in zip(owned, applies, strict=True))
        rows.append(Row("modulate", "granted", said, (NO_LIMIT,) * GROUPS, charged, (), ""))
    tables = Tables(tuple("abc"), (), tuple(rows), {}, owned)
    visit = st.tuples(st.integers(0, 3), st.integers(0, EXAMPLES - 1), st.one_of(nats, nats, st.none()))
    return tables, draw(st.lists(st.lists(visit, min_size=1, max_size=9), min_size=1, max_size=4))


@settings(deadline=None, max_examples=80)
@given(runs())
def test_spending_equals_the_reference(run: tuple[Tables, list[list[tuple[int, int, int | None]]]]) -> None:
    tables, steps = run
    accountant, ledger = Accountant(tables, EXAMPLES), empty_ledger(tables.budgets)
    for number, visits in enumerate(steps):
        if number == 2:
            accountant.start_epoch()
            ledger = start_epoch(ledger)
        routes, examples, surprisals = zip(*visits, strict=True)
        rows = [tables.rows[route] for route in routes]
        want = spend(
            tables.budgets,
            ledger,
            [row.shares for row in rows],
            [row.charged for row in rows],
            surprisals,
            [bytes([example]) for example in examples],
        )
        got = accountant.spend(
            Batch(
                torch.tensor(routes),
                torch.tensor(examples),
                torch.tensor([NOT_FINITE if value is None else value for value in surprisals]),
            )
        )
        assert got.halted == (want.halted or "")
        assert got.shares.tolist() == [list(outcome.shares) for outcome in want.outcomes]
        assert got.charges.tolist() == [list(outcome.charges) for outcome in want.outcomes]
        names = [[NAMES[Reason(code)] for code in row] for row in got.reasons.tolist()]
        assert names == [list(outcome.reasons) for outcome in want.outcomes]
        accountant.commit(got)
        ledger = want.ledger
        assert accountant.epoch == [spent.epoch for spent in ledger]
        assert accountant.run == [spent.run for spent in ledger]
        for shown, spent in zip(accountant.shown, ledger, strict=True):
            if shown is not None:
                assert shown.tolist() == [spent.exposures.get(bytes([example]), 0) for example in range(EXAMPLES)]
