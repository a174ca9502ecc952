"""What the gate says of one example: its last visit, what took its shares away, and what would happen now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.gating import MICRO, Observed, budget, tables

from aqpolicy.bundle.tables import AttributeTable, ObligationTable, Tables
from aqpolicy.errors import InputError
from aqpolicy.gate.accounts.accountant import Accountant
from aqpolicy.gate.accounts.decisions import Decisions
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import NOT_FINITE, Batch, Reason, Scheduled, Spending, micro_nats
from aqpolicy.gate.view.explain import Explainer
from aqpolicy.gate.view.explanation import Explanation, VisitAccount
from aqpolicy.gate.view.last_visits import LastVisit, LastVisits
from aqpolicy.lineage import NOT_MEASURED

OFTEN = ObligationTable("frequency", "r1", "g0 in 1 of 3 steps", {"groups": (0,), "updates": 1, "steps": 3})
CHECK = ObligationTable(
    "verify",
    "r1",
    "gold.accuracy falls at most 0.01 within 5 steps",
    {"metric": "gold.accuracy", "direction": "falls", "amount": 10_000, "steps": 5, "remedy": "hold"},
)
LATER = ObligationTable("defer", "r2", "defer until adjudicated, for 2 epochs", {"epochs": 2})


class Run:
    """Everything of the gate that knows examples, without a model."""

    def __init__(self, table: Tables, names: Sequence[str], refused: Sequence[str] = ()) -> None:
        manifest = Observed(names)
        self.state = RunState()
        self.decisions = Decisions(table, manifest, refused)
        self.accountant = Accountant(table, manifest.size)
        self.visits = LastVisits(table, manifest.size)
        self.explainer = Explainer(table, manifest, dict.fromkeys(refused, "its bytes are others"), self.visits)
        self.groups = len(table.groups)

    def step(
        self, losses: Mapping[str, float], norms: Sequence[Sequence[float]] | None = None, broken: Sequence[int] = ()
    ) -> None:
        """Visit examples, each with its loss; in the groups `broken` their gradients are not finite."""
        self.accountant.begin_step(self.state)
        nats = micro_nats(torch.tensor(list(losses.values()), dtype=torch.float64))
        batch = self.decisions.decide(self.decisions.schedule(list(losses)), self.state, nats, None)
        spending = self.accountant.spend(batch)
        lost = torch.zeros_like(spending.shares, dtype=torch.bool)
        lost[:, list(broken)] = True
        spending = self.accountant.close(spending, lost)
        self.accountant.commit([spending])
        made = None if norms is None else torch.tensor(norms, dtype=torch.float64)
        self.visits.observe(self.state, [spending], made)
        self.state = replace(self.state, step=self.state.step + 1)

    def start_epoch(self) -> None:
        self.accountant.start_epoch()
        self.state = replace(self.state, epoch=self.state.epoch + 1)

    def explain(self, name: str) -> Explanation:
        since: dict[int, dict[int, int]] = {}
        for index, obligation, epoch in self.accountant.state_dict()["since"]:
            since.setdefault(index, {})[obligation] = epoch
        return self.explainer.explain(name, self.state, queue=self.accountant.queue, since=since)

    def last(self, name: str) -> VisitAccount:
        told = self.explain(name).last
        assert told is not None
        return told


def asking(table: Tables, row: int, *obligations: ObligationTable, **parts: Any) -> Tables:
    """Return tables in which a row asks for obligations."""
    known = len(table.obligations)
    numbers = tuple(range(known, known + len(obligations)))
    rows = [replace(one, obligations=numbers, **parts) if at == row else one for at, one in enumerate(table.rows)]
    return replace(table, rows=tuple(rows), obligations=(*table.obligations, *obligations))


def deferring() -> Tables:
    table = tables([[1.0, 1.0], [0.0, 0.0]])
    return asking(table, 2, LATER, effect="defer", cause="denied", reason="not adjudicated")


# ---- Who it is


def test_an_unknown_example_is_denied_wherever_it_comes() -> None:
    told = Run(tables([[1.0]]), ["1-a"]).explain("1-b")
    assert (told.standing, told.last, told.visits) == ("unknown", None, 0)
    assert str(told) == "1-b: not in the manifest; wherever it is scheduled it is denied, as an error"


def test_a_refused_example_says_so_and_has_no_other_future() -> None:
    run = Run(tables([[1.0]]), ["1-a"], refused=["1-a"])
    run.step({"1-a": 0.5})
    told = run.explain("1-a")
    assert told.standing == "refused"
    assert told.now is not None
    assert told.now.decision.cause == "error"
    assert told.last is not None
    assert told.last.effect == "deny"
    assert "its bytes are others, so it is denied; visited once" in str(told)


def test_an_example_that_was_never_visited_has_only_a_future() -> None:
    told = Run(tables([[1.0, 0.5]]), ["1-a"]).explain("1-a")
    assert (told.standing, told.visits, told.last) == ("known", 0, None)
    assert str(told) == NEVER_VISITED


def test_an_id_is_a_string() -> None:
    with pytest.raises(InputError, match="named by a string"):
        Run(tables([[1.0]]), ["1-a"]).explain(7)  # type: ignore[arg-type]


# ---- The last visit


def test_an_explanation_reads_aloud() -> None:
    noise = budget("noise", (0,), per_run=MICRO)
    run = Run(tables([[1.0, 0.5]], norms=[[None, 0.25]], budgets=[noise]), ["1-a", "1-b"])
    run.step({"1-a": 0.75, "1-b": 0.5}, [[3.0, 1.5], [2.0, 0.125]])
    assert f"{run.explain('1-a')}\n\n{run.explain('1-b')}" == READ_ALOUD


def test_only_the_last_visit_counts() -> None:
    run = Run(tables([[1.0]]), ["1-a"])
    run.step({"1-a": 0.5}, [[3.0]])
    run.start_epoch()
    run.step({"1-a": 0.25}, [[2.0]])
    told = run.explain("1-a")
    assert told.visits == 2
    assert told.last is not None
    assert (told.last.state.step, told.last.state.epoch, told.last.surprisal) == (1, 1, 250_000)
    assert told.last.groups[0].norm == 2.0


def test_norms_that_were_not_recorded_or_not_finite_are_told_apart() -> None:
    run = Run(tables([[1.0, 1.0]]), ["1-a", "1-b"])
    run.step({"1-a": 0.5})
    run.step({"1-b": 0.5}, [[float("nan"), NOT_MEASURED]], broken=[0])
    assert [account.norm for account in run.last("1-a").groups] == [None, None]
    assert [account.norm for account in run.last("1-b").groups] == [float("inf"), None]
    assert "norm not finite: its gradient was not finite here" in str(run.explain("1-b"))


@pytest.mark.parametrize(
    ("share", "loss", "effect"),
    [(1.0, 0.5, "admit"), (0.5, 0.5, "modulate"), (0.0, 0.5, "deny"), (1.0, float("nan"), "deny")],
)
def test_the_effect_is_what_became_of_it(share: float, loss: float, effect: str) -> None:
    run = Run(tables([[share]]), ["1-a"])
    run.step({"1-a": loss})
    assert run.last("1-a").effect == effect


@pytest.mark.parametrize(
    ("bounds", "loss", "reason", "because", "share"),
    [
        ({"per_update": MICRO // 4}, 0.5, Reason.PER_UPDATE, "limit per update of `noise`", 500_000),
        ({"per_run": MICRO // 4}, 0.5, Reason.EXHAUSTED, "exhausted: `noise`", 0),
        (
            {"per_run": MICRO // 4, "on_exhaust": "attenuate"},
            0.5,
            Reason.ATTENUATED,
            "all that was left of `noise`",
            500_000,
        ),
        ({"per_run": MICRO // 4, "on_exhaust": "defer"}, 0.5, Reason.DEFERRED, "deferred by `noise`", 0),
        ({"per_run": MICRO // 4, "on_exhaust": "halt"}, 0.5, Reason.HALTED, "the run was halted", 0),
        ({"per_run": MICRO}, float("inf"), Reason.NOT_FINITE, "its loss was not finite", 0),
    ],
)
def test_what_budgets_took_is_named(
    bounds: dict[str, Any], loss: float, reason: Reason, because: str, share: int
) -> None:
    run = Run(tables([[1.0]], budgets=[budget("noise", (0,), **bounds), budget("other", (0,))]), ["1-a"])
    run.step({"1-a": loss})
    (account,) = run.last("1-a").groups
    assert (account.reason, account.because, account.share, account.table) == (reason, because, share, MICRO)


def test_a_budget_that_does_not_cover_the_group_is_not_blamed() -> None:
    both = [budget("noise", (0,), per_run=1), budget("free", (1,), per_run=MICRO)]
    run = Run(tables([[1.0, 1.0]], budgets=both), ["1-a"])
    run.step({"1-a": 0.5})
    first, second = run.last("1-a").groups
    assert first.because == "exhausted: `noise`"
    assert second.because == ""
    assert run.last("1-a").charges == (("free", 500_000),)


def test_a_frequency_limit_is_quoted() -> None:
    run = Run(asking(tables([[1.0, 1.0]]), 1, OFTEN), ["1-a", "1-b"])
    run.step({"1-a": 0.5})
    run.step({"1-b": 0.5})
    first, second = run.last("1-b").groups
    assert (first.reason, first.because) == (Reason.FREQUENCY, "written often enough: `g0 in 1 of 3 steps`")
    assert (second.share, second.because) == (MICRO, "")


def test_a_hold_is_quoted() -> None:
    run = Run(asking(tables([[1.0]]), 1, CHECK), ["1-a"])
    run.accountant.hold(0, on=True)
    run.step({"1-a": 0.5})
    (account,) = run.last("1-a").groups
    assert account.reason is Reason.HELD
    assert account.because == "held until it is verified: `gold.accuracy falls at most 0.01 within 5 steps`"


def test_a_linear_limit_names_its_attribute() -> None:
    table = with_surprisal(tables([[1.0]]))
    table = replace(table, rows=(table.rows[0], replace(table.rows[1], linear=((0, 1, MICRO, -MICRO),))))
    run = Run(table, ["1-a"])
    run.step({"1-a": 0.25})
    (account,) = run.last("1-a").groups
    assert (account.reason, account.share) == (Reason.LINEAR, 750_000)
    assert account.because == "limited in proportion to `surprisal`"
    told = run.explain("1-a")
    assert told.now is not None
    assert told.now.decision.shares == (750_000,)


# ---- Waiting


def test_a_deferral_says_what_it_waits_for_and_until_when() -> None:
    run = Run(deferring(), ["1-a", "2-a"])
    run.start_epoch()
    run.step({"2-a": 0.5})
    run.start_epoch()
    run.step({"2-a": 0.5})
    told = run.explain("2-a")
    assert told.last is not None
    assert told.last.effect == "defer"
    assert told.waits is not None
    assert (told.waits.step, told.waits.epoch, told.waits.why) == (0, 1, "not adjudicated")
    assert [(one.text, one.since, one.expires) for one in told.waits.pending] == [(LATER.text, 1, 3)]
    assert "It waits since step 0, epoch 1: not adjudicated" in str(told)
    assert "  defer until adjudicated, for 2 epochs: since epoch 1, denied from epoch 3 on" in str(told)


def test_a_deferral_that_has_expired_is_denied_and_waits_no_more() -> None:
    run = Run(deferring(), ["2-a"])
    run.step({"2-a": 0.5})
    for _ in range(2):
        run.start_epoch()
    run.step({"2-a": 0.5})
    told = run.explain("2-a")
    assert told.waits is None
    assert told.last is not None
    assert told.last.effect == "deny"
    assert told.last.note == "it had waited too long"
    assert "it had waited too long" in str(told)


def test_an_example_that_a_budget_deferred_waits_for_the_budget() -> None:
    run = Run(tables([[1.0]], budgets=[budget("noise", (0,), per_epoch=1, on_exhaust="defer")]), ["1-a"])
    run.step({"1-a": 0.5})
    told = run.explain("1-a")
    assert told.waits is not None
    assert (told.waits.why, told.waits.pending) == ("no room in budget `noise`", ())


# ---- Now


def with_surprisal(table: Tables) -> Tables:
    """Return tables whose row 1 is for surprisals below 1 nat; above, nothing is known of it."""
    high = AttributeTable("surprisal", "numeric", (), (0,), MICRO - 1, 1, (-1,), "run")
    return replace(table, attributes=(*table.attributes, high))


def with_epochs(table: Tables) -> Tables:
    """Return tables in which row 1 becomes row 2 in epoch 1."""
    vectors = (0b01, 0b10)
    kind = replace(table.attributes[0], values=("1",), vectors=(0b11,))
    epochs = AttributeTable("epoch", "numeric", (), (0, MICRO), 10 * MICRO, MICRO, vectors, "run")
    return replace(table, attributes=(kind, epochs), row_of_vector={0b01: 1, 0b10: 2})


def test_now_is_decided_by_where_the_run_is() -> None:
    run = Run(with_epochs(tables([[0.25], [1.0]])), ["1-a"])
    run.step({"1-a": 0.5})
    run.start_epoch()
    told = run.explain("1-a")
    assert told.last is not None
    assert told.now is not None
    assert (told.last.row, told.now.number) == (1, 2)
    assert "Now, in step 1, epoch 1, the table says admit" in str(told)


def test_what_only_a_visit_tells_is_not_guessed() -> None:
    run = Run(with_surprisal(tables([[1.0]])), ["1-a"])
    told = run.explain("1-a")
    assert (told.now, told.unseen) == (None, ("surprisal",))
    assert "its row depends on surprisal, which its first visit will tell" in str(told)
    run.step({"1-a": 0.5})
    told = run.explain("1-a")
    assert told.now is not None
    assert told.now.number == 1


@pytest.mark.parametrize(
    ("loss", "fault"),
    [(5.0, "`surprisal` is `5`, which the policy's type does not hold"), (float("nan"), "`surprisal` is not known")],
)
def test_an_error_row_says_which_attribute_is_at_fault(loss: float, fault: str) -> None:
    run = Run(with_surprisal(tables([[1.0]])), ["1-a"])
    run.step({"1-a": loss})
    told = run.explain("1-a")
    assert told.now is not None
    assert (told.now.number, told.now.faults) == (0, (fault,))
    assert fault in str(told)


# ---- The store, against a slow reference


def spending(table: Tables, index: Sequence[int], seed: int) -> Spending:
    """Return a spending of arbitrary numbers."""
    dice = torch.Generator().manual_seed(seed)

    def thrown(most: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, most, shape, generator=dice)

    count, groups, budgets = len(index), len(table.groups), len(table.budgets)
    numbers = torch.tensor(index, dtype=torch.int64)
    scheduled = Scheduled((b"",) * count, ("",) * count, numbers, torch.zeros(count, dtype=torch.bool))
    batch = Batch(
        scheduled=scheduled,
        route=thrown(len(table.rows), count),
        surprisal=thrown(2**31, count) - 1,
        entropy=thrown(100 * MICRO, count) - 1,
        shares=thrown(100 * MICRO, count, groups),
        charged=thrown(MICRO, count, budgets),
        reasons=thrown(len(Reason), count, groups),
    )
    charges = thrown(2**40, count, budgets)
    return Spending(batch, batch.shares, charges, batch.reasons, thrown(2, count).bool())


@given(
    steps=st.lists(st.lists(st.lists(st.integers(-1, 9), max_size=5), min_size=1, max_size=3), max_size=12),
    listed=st.integers(0, 30),
    looks=st.sets(st.integers(0, 11)),
    budgets=st.integers(0, 2),
)
def test_the_store_keeps_the_last_visit_of_every_example(
    steps: list[list[list[int]]], listed: int, looks: set[int], budgets: int
) -> None:
    table = tables([[1.0, 1.0, 1.0]], budgets=[budget(str(number), (0,)) for number in range(budgets)])
    table = replace(table, phases=("warm", "cool"))
    store, expected = LastVisits(table, 10, listed), dict[int, LastVisit]()
    for number, parts in enumerate(steps):
        state = RunState(number, number // 4, ("warm", "cool")[number % 2])
        spent = [spending(table, index, 100 * number + part) for part, index in enumerate(parts)]
        norms = torch.arange(3 * sum(map(len, parts)), dtype=torch.float64).reshape(-1, 3) + number
        store.observe(state, spent, norms if number % 3 else None)
        rows = norms.tolist() if number % 3 else [[NOT_MEASURED] * 3] * len(norms)
        for one in spent:
            note(expected, state, one, [rows.pop(0) for _ in range(len(one.shares))])
        if number in looks:
            assert [store.of(index) for index in range(10)] == [expected.get(index) for index in range(10)]
    assert [store.of(index) for index in range(10)] == [expected.get(index) for index in range(10)]


def note(known: dict[int, LastVisit], state: RunState, one: Spending, norms: list[list[float]]) -> None:
    """Take in a part of a step, visit by visit."""
    for at, index in enumerate(one.batch.scheduled.index.tolist()):
        if index < 0:
            continue
        surprisal, entropy = int(one.batch.surprisal[at]), int(one.batch.entropy[at])
        known[index] = LastVisit(
            visits=1 + (known[index].visits if index in known else 0),
            step=state.step,
            epoch=state.epoch,
            phase=state.phase,
            stage="",
            route=int(one.batch.route[at]),
            surprisal=None if surprisal == NOT_FINITE else surprisal,
            entropy=None if entropy == NOT_FINITE else entropy,
            deferred=bool(one.deferred[at]),
            shares=tuple(one.shares[at].tolist()),
            reasons=tuple(one.reasons[at].tolist()),
            norms=tuple(norms[at]),
            charges=tuple(one.charges[at].tolist()),
        )


NEVER_VISITED = """\
1-a: never visited

The manifest says
  kind  1

Now, in step 0, epoch 0, the table says modulate
  row 1 of the table, by `r0`: because
  g0  1
  g1  0.5"""

READ_ALOUD = """\
1-a: visited once, then modulated

The manifest says
  kind  1

Its last visit, in step 0, epoch 0: modulated
  row 1 of the table, by `r0`: because
  surprisal 0.75 nat
  g0  1 of 1, norm 3
  g1  0.5 of 0.5, norm 1.5, cut to 0.25
  charged 0.75 nat to noise

Now, in step 1, epoch 0, the table says modulate
  row 1 of the table, by `r0`: because
  g0  1
  g1  0.5, norm at most 0.25

1-b: visited once, then modulated

The manifest says
  kind  1

Its last visit, in step 0, epoch 0: modulated
  row 1 of the table, by `r0`: because
  surprisal 0.5 nat
  g0  0 of 1, norm 2: exhausted: `noise`
  g1  0.5 of 0.5, norm 0.125, limited to 0.25

Now, in step 1, epoch 0, the table says modulate
  row 1 of the table, by `r0`: because
  g0  1
  g1  0.5, norm at most 0.25"""
