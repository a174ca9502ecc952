"""A step becomes rows that say who, what and why, a book, and live totals; the gate itself is not needed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.gating import MICRO, budget, tables

from aqpolicy.bundle.tables import ERROR_ROW, Row, Tables
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Batch, Reason, Scheduled, Spending
from aqpolicy.gate.motion.book import Entry
from aqpolicy.gate.records.recorder import Recorder, StepFacts
from aqpolicy.lineage import NO_ENTROPY, NO_INDEX, NO_SURPRISAL, NOT_FINITE, NOT_MEASURED, Layout
from aqpolicy.lineage.block import cut_block, decode_blocks, encode_blocks
from aqpolicy.scribe.columns import StepColumns
from aqpolicy.trust import example_key

NAMES = ["a", "b", "c", "d"]
TABLE = tables(
    [[1.0, 1.0], [0.5, 1.0], [0.0, 0.0], [1.0, 1.0]],
    norms=[[None, None], [None, None], [None, None], [0.25, None]],
    budgets=[budget("b", (0, 1), per_run=10 * MICRO)],
)
ENTRY = Entry("SGD", 0.1, 0.9, 0.0, 0.0, False, (1.0, 2.0), (0.0, 0.0), (False, False))


class Memory:
    """A log that keeps what it is given."""

    def __init__(self) -> None:
        self.steps: list[StepColumns] = []
        self.events: list[Any] = []

    def append_step(self, step: StepColumns) -> None:
        self.steps.append(step)

    def append_event(self, facts: Any) -> None:
        self.events.append(facts)


def spending(routes: list[int], table: Tables = TABLE, **changes: Any) -> Spending:
    """Return what the tables say of some visits; `changes` are columns of the batch or of the spending."""
    count, groups = len(routes), len(table.groups)
    names = tuple(NAMES[:count])
    index = changes.pop("index", list(range(count)))
    refused = torch.tensor(changes.pop("refused", [False] * count))
    scheduled = Scheduled(tuple(map(example_key, names)), names, torch.tensor(index), refused)
    surprisal = torch.tensor(changes.pop("surprisal", [MICRO] * count))
    entropy = torch.tensor(changes.pop("entropy", [-1] * count))
    shares = torch.tensor([table.rows[route].shares for route in routes])
    batch = Batch(
        scheduled, torch.tensor(routes), surprisal, entropy, shares, torch.zeros(count, 1), torch.zeros_like(shares)
    )
    columns = {
        "shares": shares.tolist(),
        "charges": [[0] * len(table.budgets)] * count,
        "reasons": [[0] * groups] * count,
        "deferred": [False] * count,
    }
    return Spending(batch, **{name: torch.tensor(changes.get(name, value)) for name, value in columns.items()})


def facts(*parts: Spending, norms: Any = None, sketches: Any = None, state: RunState | None = None) -> StepFacts:
    count = sum(len(part.shares) for part in parts)
    made = torch.ones(count, parts[0].shares.shape[1], dtype=torch.float64) if norms is None else norms
    return StepFacts(state or RunState(), parts, made, sketches, float(count))


def record(*parts: Spending, table: Tables = TABLE, entry: Entry = ENTRY, **options: Any) -> tuple[Recorder, Any]:
    recorder = Recorder(table)
    recorder.log = Memory()
    told = facts(*parts, **options)
    recorder.count(told, recorder.append(told, entry))
    return recorder, recorder.log.steps[-1]


def test_a_row_says_who_what_and_how_much() -> None:
    _, step = record(spending([1, 2, 3, 4], entropy=[5, -1, 0, 7], charges=[[1], [2], [0], [2**40]]))
    rows = step.rows
    assert [row.example_key for row in rows] == [example_key(name) for name in NAMES]
    assert [row.manifest_index for row in rows] == [0, 1, 2, 3]
    assert [row.route for row in rows] == [1, 2, 3, 4]
    assert [row.effect for row in rows] == ["admit", "modulate", "deny", "modulate"]
    assert [row.cause for row in rows] == ["granted", "granted", "denied", "granted"]
    assert [row.reason_code for row in rows] == [Reason.TABLE] * 4
    assert [row.exceptions for row in rows] == [()] * 4
    assert [row.entropy for row in rows] == [5, NO_ENTROPY, 0, 7]
    assert [row.charges for row in rows] == [(1,), (2,), (0,), (2**40,)]


def test_a_loss_that_is_no_number_and_a_stranger_are_errors() -> None:
    lost = spending(
        [1, ERROR_ROW, ERROR_ROW],
        index=[0, -1, 2],
        refused=[False, False, True],
        surprisal=[-1, 3, 4],
        shares=[[0, 0]] * 3,
        reasons=[[3, 3], [0, 0], [0, 0]],
    )
    rows = record(lost)[1].rows
    assert [row.reason_code for row in rows] == [Reason.NOT_FINITE, Reason.UNKNOWN_EXAMPLE, Reason.REFUSED_EXAMPLE]
    assert [(row.effect, row.cause) for row in rows] == [("deny", "error")] * 3
    assert [row.surprisal for row in rows] == [NO_SURPRISAL, 3, 4]
    assert [row.manifest_index for row in rows] == [0, NO_INDEX, 2]
    assert rows[0].exceptions == ((0, 3, 0), (1, 3, 0))


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        ([4, 0], Reason.PER_UPDATE),
        ([4, 11], Reason.FREQUENCY),
        ([10, 11], Reason.FREQUENCY),
        ([11, 12], Reason.HELD),
        ([7, 9], Reason.GRADIENT_NOT_FINITE),
        ([5, 7], Reason.ATTENUATED),
    ],
)
def test_the_most_telling_reason_of_the_groups_is_that_of_the_visit(reasons: list[int], reason: Reason) -> None:
    _, step = record(spending([1], shares=[[1, 0]], reasons=[reasons]))
    assert step.rows[0].reason_code == reason
    assert step.rows[0].exceptions == ((0, reasons[0], 1), (1, reasons[1], 0))


def test_what_was_lowered_to_nothing_is_denied_and_says_so() -> None:
    _, step = record(spending([1], shares=[[0, 0]], reasons=[[11, 11]]))
    assert (step.rows[0].effect, step.rows[0].cause) == ("deny", "denied")


def deferring() -> Tables:
    waits = Row("defer", "denied", (0, 0), (-1, -1), (0,), (), "waits", (), (0,))
    return replace(TABLE, rows=(*TABLE.rows, waits))


def test_a_deferral_of_the_row_waits_until_it_has_expired() -> None:
    table = deferring()
    part = spending([5, 5], table, deferred=[True, False], reasons=[[0, 0], [13, 13]])
    first, second = record(part, table=table)[1].rows
    assert (first.effect, first.cause, first.reason_code) == ("defer", "denied", Reason.TABLE)
    assert (second.effect, second.cause, second.reason_code) == ("deny", "denied", Reason.DEFERRAL_EXPIRED)
    assert first.exceptions == second.exceptions == ()


def test_a_deferral_by_a_budget_defers() -> None:
    part = spending([1], shares=[[0, 0]], reasons=[[6, 6]], deferred=[True])
    (row,) = record(part)[1].rows
    assert (row.effect, row.cause, row.reason_code) == ("defer", "denied", Reason.DEFERRED)


def test_an_amplified_share_is_no_exception_and_no_plain_admission() -> None:
    table = tables([[2.0, 1.0]])
    (row,) = record(spending([1], table), table=table)[1].rows
    assert (row.effect, row.exceptions) == ("modulate", ())


def test_parts_follow_each_other_and_are_counted() -> None:
    _, step = record(spending([1, 2]), spending([3], index=[2]), norms=torch.arange(6.0).double().view(3, 2))
    assert [row.route for row in step.rows] == [1, 2, 3]
    assert [row.norms for row in step.rows] == [(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)]
    assert (step.book.parts, step.book.denominator) == (2, 3.0)


def test_norms_are_written_as_the_log_has_them() -> None:
    norms = torch.tensor([[math.nan, -1.0], [math.inf, NOT_MEASURED], [1e39, 0.5]], dtype=torch.float64)
    rows = record(spending([1, 1, 1]), norms=norms)[1].rows
    assert [row.norms for row in rows] == [(NOT_FINITE,) * 2, (NOT_FINITE, NOT_MEASURED), (NOT_FINITE, 0.5)]


def test_a_run_that_records_decisions_only_has_no_norms_and_no_masses() -> None:
    recorder = Recorder(TABLE)
    recorder.log = Memory()
    told = StepFacts(RunState(), (spending([1, 2]),), None, None, 2.0)
    recorder.count(told, recorder.append(told, ENTRY))
    assert [row.norms for row in recorder.log.steps[0].rows] == [(NOT_MEASURED,) * 2] * 2
    assert not recorder.totals.mass.any()
    assert recorder.totals.effects == {"admit": 1, "modulate": 1}


def test_the_state_of_the_run_and_the_whole_book_are_in_the_step() -> None:
    state = RunState(0, 2, "tune", "open", 20_000)
    entry = replace(
        ENTRY,
        mixed=True,
        loss_scale=8.0,
        factors=(0.5, 1.0),
        proposed=(2.0, 2.0),
        movement_charges=(9,),
        clip=(1.0, 0.5),
    )
    _, step = record(spending([1, 2]), entry=entry, state=state)
    layout = Layout(2, 1, ("warm-up", "tune"), ("open",))
    (block,) = encode_blocks(step, layout, 0)
    found = decode_blocks([cut_block(block.data, layout)], layout)
    assert (found.step, found.epoch, found.phase, found.stage, found.today) == (0, 2, "tune", "open", 20_000)
    assert found.rows == step.rows
    assert found.book == step.book
    assert (found.book.mixed, found.book.loss_scale, found.book.factors) == (True, 8.0, (0.5, 1.0))
    assert (found.book.movement_charges, found.book.drift_charges) == ((9,), (0,))
    assert found.book.drift == (NOT_MEASURED,) * 2


def test_totals_count_visits_nats_and_gradient_mass() -> None:
    recorder, _ = record(
        spending([1, 2, 3, 4], charges=[[3], [4], [0], [0]]),
        norms=torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, -1.0], [1.0, 1.0]], dtype=torch.float64),
    )
    totals = recorder.totals
    assert (totals.steps, totals.examples) == (1, 4)
    assert totals.effects == {"admit": 1, "modulate": 2, "deny": 1}
    assert totals.causes == {"granted": 3, "denied": 1}
    assert totals.spent == {"b": 7}
    assert totals.mass.tolist() == [5.0, 0.0, 9.0, 3.0]
    assert totals.offered.tolist() == [10.0, 7.0]
    assert totals.admitted.tolist() == [1.0 + 0.5 * 3.0 + 0.25, 2.0 + 4.0 + 1.0]


def test_events_go_to_the_log_and_are_counted() -> None:
    recorder = Recorder(TABLE)
    recorder.event({"event": "overflow", "step": 0})  # without a log
    recorder.log = Memory()
    recorder.event({"event": "phase", "phase": "tune", "step": 0})
    assert recorder.log.events == [{"event": "phase", "phase": "tune", "step": 0}]
    assert recorder.totals.events == {"overflow": 1, "phase": 1}


def test_a_step_that_the_log_did_not_take_is_not_counted() -> None:
    class Full(Memory):
        def append_step(self, step: StepColumns) -> None:
            raise OSError("no space left on device")

    recorder = Recorder(TABLE)
    recorder.log = Full()
    with pytest.raises(OSError, match="no space"):
        recorder.append(facts(spending([1])), ENTRY)
    assert recorder.totals.steps == recorder.totals.examples == 0
