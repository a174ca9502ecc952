"""What the gate decides about a visit is what the tables say, in every way of looking up."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.accounts import LARGEST, MICRO, PHASES, Signed, budget, category, deferral, number, row, whole

from aqpolicy.bundle.tables import ERROR_ROW, LARGEST_SHARE, AttributeTable, Row, Tables, linear_limit
from aqpolicy.errors import BundleError
from aqpolicy.gate.accounts import classify
from aqpolicy.gate.accounts.decisions import UNKNOWN, Decisions
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import LARGEST_ENTROPY, LARGEST_SURPRISAL, NOT_FINITE, Reason, micro_nats
from aqpolicy.trust import example_key

SURPRISAL = number("surprisal", 0, 2 * MICRO, high=LARGEST_SURPRISAL, origin="run")
ENTROPY = number("predictive_entropy", 0, MICRO, high=LARGEST_ENTROPY, origin="run")
PHASE = category("phase", *PHASES, origin="run")
STEP = number("step", 0, 3 * MICRO, high=9 * MICRO, step=MICRO, origin="run")
TODAY = number("today", 0, 20_000 * MICRO, high=30_000 * MICRO, step=MICRO, origin="run")
KIND = category("kind", "x", "y", "z")
BUDGET = budget("all", (0, 1))
TRUST = number("trust", 0, 500_000, high=MICRO)
OPEN = [row((MICRO, 0)), row((0, MICRO)), row((5, 7)), row((MICRO, MICRO)), row((0, 0))]


def decisions(tables: Tables, *attributes: dict[str, object], refused: tuple[str, ...] = ()) -> Decisions:
    """Return decisions about examples `0`, `1` and so on with these attributes."""
    return Decisions(tables, Signed({str(n): one for n, one in enumerate(attributes)}), refused)


def routes(
    made: Decisions, *names: str, state: RunState | None = None, nats: int = 0, entropy: int | None = None
) -> list[int]:
    surprisal = torch.full((len(names),), nats)
    doubt = None if entropy is None else torch.full((len(names),), entropy)
    return made.decide(made.schedule(names), state or RunState(), surprisal, doubt).route.tolist()


# ---- Every way of looking up says what the tables say

values = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["x", "y", "z", "other", 3]),
        "trust": st.one_of(st.integers(-1, MICRO + 1), st.sampled_from([True, "much", 2**70])),
    },
)
states = st.builds(
    RunState, step=st.integers(0, 11), phase=st.sampled_from([*PHASES, "other"]), today=st.integers(0, 31_000)
)
orders = st.permutations([KIND, SURPRISAL, TRUST, PHASE, STEP, TODAY, ENTROPY])


@st.composite
def linear_rows(draw: st.DrawFn) -> list[Row]:
    """Draw rows, some of them with shares that are linear in any number there is; positions are put right later."""
    sizes = st.one_of(st.integers(-2 * MICRO, 2 * MICRO), st.integers(-LARGEST, LARGEST))
    terms = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9), sizes, sizes), max_size=3)
    shares = st.sampled_from([1, MICRO // 2, MICRO, LARGEST_SHARE])
    return [
        row((draw(shares), draw(shares)), linear=tuple(draw(terms)), charged=(draw(st.booleans()),))
        for _ in range(draw(st.integers(1, 5)))
    ]


def placed(one: Row, attributes: list[AttributeTable]) -> Row:
    numbers = [n for n, table in enumerate(attributes) if table.kind == "numeric"]
    terms = [(group, numbers[at % len(numbers)], start, slope) for group, at, start, slope in one.linear if numbers]
    return replace(one, linear=tuple(terms))


@pytest.mark.parametrize("machine", [classify.LARGEST_MACHINE, 1])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_rows_and_shares_are_those_of_the_tables(machine: int, data: st.DataObject) -> None:
    attributes = data.draw(orders)[: data.draw(st.integers(1, 7))]
    made = [placed(one, attributes) for one in data.draw(linear_rows())]
    tables = whole(made, attributes, budgets=[BUDGET])
    observed = data.draw(st.lists(values, min_size=1, max_size=4))
    visits = st.tuples(
        st.integers(0, len(observed) - 1),
        st.integers(-1, LARGEST_SURPRISAL),
        st.integers(-1, LARGEST_ENTROPY),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify, "LARGEST_MACHINE", machine)
        gate = decisions(tables, *observed)
    for _ in range(2):
        state, drawn = data.draw(states), data.draw(st.lists(visits, min_size=1, max_size=6))
        who, nats, doubts = zip(*drawn, strict=True)
        scheduled = gate.schedule([str(one) for one in who])
        batch = gate.decide(scheduled, state, torch.tensor(nats), torch.tensor(doubts))
        for n, (index, surprisal, entropy) in enumerate(drawn):
            run = state.attributes() | {"surprisal": surprisal, "predictive_entropy": entropy}
            known = {table.name: run[table.name] for table in attributes if table.origin == "run"}
            seen = observed[index] | known
            want = tables.decide(seen)
            assert batch.route[n] == tables.row_of(seen)
            lost = surprisal == NOT_FINITE
            assert batch.shares[n].tolist() == ([0, 0] if lost else list(want.shares))
            assert batch.charged[n].tolist() == ([0] if lost else list(want.charged))
            said = tables.rows[batch.route[n]].shares
            reason = [
                Reason.LINEAR if left < share else Reason.TABLE for left, share in zip(want.shares, said, strict=True)
            ]
            assert batch.reasons[n].tolist() == ([Reason.NOT_FINITE] * 2 if lost else reason)


# ---- Who has no row of its own


@pytest.mark.parametrize("attributes", [[KIND], [KIND, PHASE], [PHASE], [PHASE, KIND]], ids=len)
@pytest.mark.parametrize("machine", [classify.LARGEST_MACHINE, 1])
def test_who_is_unknown_or_refused_gets_the_error_row(
    attributes: list[AttributeTable], machine: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "LARGEST_MACHINE", machine)
    made = decisions(whole(OPEN, attributes), {"kind": "x"}, {"kind": "x"}, refused=("1", "stranger"))
    scheduled = made.schedule(["0", "1", "2", "stranger"])
    assert scheduled.index.tolist() == [0, 1, UNKNOWN, UNKNOWN]
    assert scheduled.refused.tolist() == [False, True, False, True]
    assert scheduled.keys == tuple(example_key(name) for name in scheduled.names)
    assert routes(made, "0", "1", "2", "stranger", state=RunState(phase=PHASES[0])) == [1, *[ERROR_ROW] * 3]


def test_an_empty_schedule_is_decided() -> None:
    made = decisions(whole(OPEN, [KIND, SURPRISAL]), {"kind": "x"})
    batch = made.decide(made.schedule([]), RunState(), torch.zeros(0, dtype=torch.int64), None)
    assert batch.shares.shape == (0, 2)
    assert batch.charged.shape == (0, 0)


def test_names_that_nobody_signed_for_are_not_remembered() -> None:
    made = decisions(whole(OPEN, [KIND]), {"kind": "x"})
    made.schedule(["0", *(f"stranger {n}" for n in range(9))])
    assert list(made._seen) == ["0"]


# ---- What the run decides


def test_a_row_follows_phase_step_and_date() -> None:
    made = decisions(whole([row((n + 1,)) for n in range(8)], [PHASE, STEP, TODAY]), {})
    state = RunState(step=0, phase=PHASES[0], today=19_999)
    assert routes(made, "0", state=state) == [1]
    assert routes(made, "0", state=replace(state, today=20_000)) == [2]
    assert routes(made, "0", state=replace(state, step=3)) == [3]
    assert routes(made, "0", state=replace(state, phase=PHASES[1])) == [5]
    assert routes(made, "0", state=replace(state, step=10)) == [ERROR_ROW]
    assert routes(made, "0", state=replace(state, phase="elsewhere")) == [ERROR_ROW]


def test_a_loss_that_is_not_finite_keeps_its_row_but_gets_nothing() -> None:
    made = decisions(whole([row((MICRO, 5))], [category("kind", "x")], budgets=[BUDGET]), {"kind": "x"})
    batch = made.decide(made.schedule(["0", "0"]), RunState(), torch.tensor([NOT_FINITE, 0]), None)
    assert batch.route.tolist() == [1, 1]
    assert batch.shares.tolist() == [[0, 0], [MICRO, 5]]
    assert batch.charged.tolist() == [[0], [MICRO]]
    assert batch.reasons.tolist() == [[Reason.NOT_FINITE] * 2, [Reason.TABLE] * 2]


def test_where_rows_depend_on_surprisal_a_loss_that_is_not_finite_has_no_row() -> None:
    made = decisions(whole([row((MICRO,))], [SURPRISAL]), {})
    assert routes(made, "0", nats=0) == [1]
    assert routes(made, "0", nats=LARGEST_SURPRISAL) == [1]
    assert routes(made, "0", nats=NOT_FINITE) == [ERROR_ROW]


def test_where_rows_depend_on_entropy_it_must_be_known() -> None:
    made = decisions(whole([row((MICRO,))], [ENTROPY]), {})
    assert made.needs_entropy
    assert routes(made, "0", entropy=LARGEST_ENTROPY) == [1]
    assert routes(made, "0", entropy=NOT_FINITE) == [ERROR_ROW]
    assert routes(made, "0") == [ERROR_ROW]
    assert not decisions(whole([row((MICRO,))], [number("predictive_entropy", 0)]), {}).needs_entropy


# ---- Linear limits


@settings(deadline=None, max_examples=300)
@given(
    st.integers(-LARGEST, LARGEST),
    st.integers(-LARGEST, LARGEST),
    st.one_of(st.integers(-LARGEST, LARGEST), st.integers(-2 * MICRO, 2 * MICRO)),
    st.sampled_from([1, MICRO // 3, MICRO, LARGEST_SHARE]),
)
def test_a_linear_limit_is_exact_for_all_numbers_of_the_language(
    intercept: int, slope: int, value: int, share: int
) -> None:
    between = MICRO // 2 - slope * value // MICRO  # where the limit is neither 0 nor 1
    for start in (intercept, max(-LARGEST, min(LARGEST, between))):
        one = row((share, share), linear=((0, 0, start, slope),))
        made = decisions(whole([one], [number("trust", -LARGEST)]), {"trust": value})
        batch = made.decide(made.schedule(["0"]), RunState(), torch.tensor([0]), None)
        assert batch.shares.tolist() == [[min(share, linear_limit(start, slope, value)), share]]


def test_the_steepest_slopes_meet_the_largest_surprisal() -> None:
    for slope in (LARGEST, -LARGEST):
        one = row((MICRO,), linear=((0, 0, 0, slope),))
        made = decisions(whole([one], [replace(SURPRISAL, breaks=(0,))]), {})
        batch = made.decide(made.schedule(["0"]), RunState(), torch.tensor([LARGEST_SURPRISAL]), None)
        assert batch.shares.tolist() == [[MICRO if slope > 0 else 0]]


def test_a_linear_limit_below_the_share_of_an_amplified_row_leaves_what_it_says() -> None:
    one = row((LARGEST_SHARE, LARGEST_SHARE), linear=((1, 0, MICRO, -MICRO),))
    made = decisions(whole([one], [TRUST], budgets=[BUDGET]), {"trust": 400_000}, {"trust": MICRO})
    batch = made.decide(made.schedule(["0", "1"]), RunState(), torch.zeros(2, dtype=torch.int64), None)
    assert batch.shares.tolist() == [[LARGEST_SHARE, 600_000], [LARGEST_SHARE, 0]]
    assert batch.reasons.tolist() == [[Reason.TABLE, Reason.LINEAR]] * 2
    assert batch.charged.tolist() == [[LARGEST_SHARE]] * 2


def test_a_budget_is_charged_what_linear_limits_leave() -> None:
    one = row((MICRO, MICRO), linear=((0, 0, MICRO, -MICRO), (1, 0, MICRO // 2, -MICRO)))
    made = decisions(whole([one], [TRUST], budgets=[BUDGET]), {"trust": 300_000}, {"trust": MICRO})
    batch = made.decide(made.schedule(["0", "1"]), RunState(), torch.zeros(2, dtype=torch.int64), None)
    assert batch.shares.tolist() == [[700_000, 200_000], [0, 0]]
    assert batch.charged.tolist() == [[700_000], [0]]


# ---- What is refused


@pytest.mark.parametrize("share", [-1, LARGEST_SHARE + 1])
def test_a_share_outside_the_language_is_refused(share: int) -> None:
    with pytest.raises(BundleError, match="a share outside 0 to 100"):
        decisions(whole([row((share,))], [KIND]), {})


@pytest.mark.parametrize("term", [(0, 0, 2**53 + 1, 0), (0, 0, 0, -(2**53) - 1), (0, 0, 2**80, 1)])
def test_a_linear_number_outside_the_language_is_refused(term: tuple[int, int, int, int]) -> None:
    with pytest.raises(BundleError, match="a linear share with a number outside the language"):
        decisions(whole([row((MICRO,), linear=(term,))], [TRUST]), {})


def test_what_no_run_has_is_refused() -> None:
    moon = number("moon", 0, high=9, origin="run")
    with pytest.raises(BundleError, match="the bundle decides by `moon`, which no run of this version has"):
        decisions(whole([row((MICRO,))], [moon]), {})


def test_rows_that_wait_are_found_as_any_other() -> None:
    waits = row((0,), effect="defer", obligations=(0,))
    made = decisions(whole([waits, row((MICRO,))], [PHASE], obligations=[deferral(1)]), {})
    assert routes(made, "0", state=RunState(phase=PHASES[0])) == [1]
    assert routes(made, "0", state=RunState(phase=PHASES[1])) == [2]


# ---- Nats


@settings(max_examples=300)
@given(st.floats(0, 2200), st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]))
def test_nats_are_rounded_up_exactly(nats: float, dtype: torch.dtype) -> None:
    loss = torch.tensor([nats], dtype=dtype)
    want = min(ceil(Fraction(loss.item()) * MICRO), LARGEST_SURPRISAL)
    assert micro_nats(loss).tolist() == [want]


@given(st.integers(0, 2147 * MICRO), st.sampled_from([-1, 0, 1]))
def test_nats_next_to_a_whole_millionth_are_rounded_up_exactly(micro: int, off: int) -> None:
    near = torch.tensor([micro / MICRO], dtype=torch.float64)
    loss = near if off == 0 else near.nextafter(torch.tensor([off * 1e9], dtype=torch.float64))
    want = max(ceil(Fraction(loss.item()) * MICRO), 0)
    assert micro_nats(loss).tolist() == [want]


def test_nats_are_clipped_and_what_is_no_number_is_marked() -> None:
    losses = torch.tensor([-5.0, -0.0, 1e-30, 2147.483647, 2147.49, 1e300, torch.inf, -torch.inf, torch.nan]).double()
    found = micro_nats(torch.tensor([*losses.tolist()[:3], 2147.483647, 2147.49, 1e300], dtype=torch.float64)).tolist()
    assert found == [0, 0, 1, LARGEST_SURPRISAL, LARGEST_SURPRISAL, LARGEST_SURPRISAL]
    assert micro_nats(losses[6:]).tolist() == [NOT_FINITE] * 3
    assert micro_nats(torch.tensor([99.5, 100.5, 1e9]), LARGEST_ENTROPY).tolist() == [
        99_500_000,
        *[LARGEST_ENTROPY] * 2,
    ]
