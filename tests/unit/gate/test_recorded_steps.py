"""The rows and the book say what happened to each example, and why."""

from __future__ import annotations

import math

import pytest
import torch
from support.gating import MICRO, Memory, budget, open_gate, tables
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.bundle.tables import ERROR_ROW
from aqpolicy.errors import BudgetExhaustedError, IllegalTrainingSetupError
from aqpolicy.gate.accounts.accountant import Reason
from aqpolicy.gate.gate import Gate
from aqpolicy.lineage import NO_INDEX, NO_SURPRISAL, Row
from aqpolicy.trust import example_key

NAMES = ["1-a", "2-a", "3-a", "4-a"]
SHARES = [[1, 1], [0.5, 1], [0, 0], [0, 1]]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def run(
    names: list[str], losses: Tensor | None = None, *, times: int = 1, **options: object
) -> tuple[Gate, Memory, nn.Module]:
    """Train `times` steps on the named examples; `losses` multiplies the loss of each."""
    net, log = model(), Memory()
    table = options.pop("table", tables(SHARES))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    gate = open_gate(net, optimizer, table, NAMES, groups=(("0.",), ("2.",)), log=log, **options)
    x, y = torch.linspace(-1, 1, 3 * len(names)).view(-1, 3), torch.zeros(len(names), dtype=torch.int64)
    for _ in range(times):
        with gate.step(names):
            loss = functional.cross_entropy(net(x), y, reduction="none")
            gate.backward(loss if losses is None else loss * losses)
    return gate, log, net


def rows(log: Memory, step: int = -1) -> tuple[Row, ...]:
    return log.blocks[step].rows


def test_a_row_says_who_what_and_how_much() -> None:
    _, log, _ = run(NAMES)
    found = rows(log)
    assert [row.example_key for row in found] == [example_key(name) for name in NAMES]
    assert [row.manifest_index for row in found] == [0, 1, 2, 3]
    assert [row.route for row in found] == [1, 2, 3, 4]
    assert [row.effect for row in found] == ["admit", "modulate", "deny", "modulate"]
    assert [row.cause for row in found] == ["granted", "granted", "denied", "granted"]
    assert [row.reason_code for row in found] == [Reason.TABLE] * 4
    assert [row.exceptions for row in found] == [()] * 4
    assert all(norm > 0 for row in found for norm in row.norms)


def test_surprisal_is_the_loss_in_micro_nats_rounded_up() -> None:
    _, log, net = run(["1-a"])
    first = model()
    loss = functional.cross_entropy(first(torch.linspace(-1, 1, 3).view(1, 3)), torch.tensor([0]))
    assert rows(log)[0].surprisal == math.ceil(loss.double().item() * MICRO)
    assert not torch.equal(first[0].weight, net[0].weight)


def test_an_unknown_example_learns_nothing_and_is_recorded() -> None:
    _, log, net = run(["stranger"], times=2)
    (row,) = rows(log)
    assert (row.effect, row.cause, row.route, row.manifest_index) == ("deny", "error", ERROR_ROW, NO_INDEX)
    assert row.reason_code == Reason.UNKNOWN_EXAMPLE
    assert log.blocks[0].book.closed == (True, True)
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), model().parameters(), strict=True))


def test_a_refused_example_learns_nothing_and_is_recorded() -> None:
    _, log, net = run(["1-a"], refused=["1-a"])
    (row,) = rows(log)
    assert (row.effect, row.cause, row.route, row.manifest_index) == ("deny", "error", ERROR_ROW, 0)
    assert row.reason_code == Reason.REFUSED_EXAMPLE
    assert torch.equal(net[0].weight, model()[0].weight)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_left_out_and_harms_no_other(bad: float) -> None:
    _, log, net = run(NAMES[:2], torch.tensor([bad, 1.0]))
    first, second = rows(log)
    assert (first.effect, first.cause, first.reason_code) == ("deny", "error", Reason.NOT_FINITE)
    assert first.surprisal == NO_SURPRISAL
    assert first.norms == (-1.0, -1.0)
    assert [group for group, _, share in first.exceptions if share == 0] == [0, 1]
    assert second.effect == "modulate"
    assert all(value.isfinite().all() for value in net.parameters())
    assert not torch.equal(net[0].weight, model()[0].weight)


def test_a_finite_loss_with_an_infinite_gradient_is_left_out() -> None:
    net, log = model(), Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    gate = open_gate(net, optimizer, tables(SHARES), NAMES, groups=(("0.",), ("2.",)), log=log)
    x = torch.ones(2, 3)
    with gate.step(NAMES[:2]):
        out = net(x).sum(1)
        gate.backward(torch.stack([(out[0] - out[0].detach()).abs().sqrt(), out[1]]))
    first, second = rows(log)
    assert (first.effect, first.cause, first.reason_code) == ("deny", "error", Reason.GRADIENT_NOT_FINITE)
    assert second.effect == "modulate"
    assert all(value.isfinite().all() for value in net.parameters())


def test_norms_are_of_the_examples_own_loss_whatever_the_batch() -> None:
    _, log, _ = run(["1-a", "3-a"])
    net, x = model(), torch.linspace(-1, 1, 6).view(2, 3)
    for own, row in zip(
        functional.cross_entropy(net(x), torch.zeros(2, dtype=torch.int64), reduction="none"), rows(log), strict=True
    ):
        gradients = torch.autograd.grad(own, [net[0].weight, net[0].bias], retain_graph=True)
        want = torch.cat([part.flatten() for part in gradients]).norm().item()
        assert row.norms[0] == pytest.approx(want, rel=1e-5)


def test_the_same_example_twice_is_two_visits() -> None:
    gate, log, _ = run(["1-a", "1-a", "2-a"])
    assert len(rows(log)) == 3
    assert gate.totals.examples == 3


def test_a_norm_limit_makes_an_open_row_a_modulated_one() -> None:
    table = tables([[1, 1]], norms=[[1e-3, None]])
    _, log, _ = run(["1-a"], table=table)
    (row,) = rows(log)
    assert row.effect == "modulate"
    assert row.exceptions == ()
    assert log.blocks[0].book.movement[0] == pytest.approx(0.1 * 1e-3, rel=1e-4)


def spending(on_exhaust: str, **limits: int) -> dict[str, object]:
    one = budget("early", (0,), on_exhaust=on_exhaust, **limits)
    return {"table": tables([[1, 1]], budgets=[one])}


def test_charges_are_what_the_share_took() -> None:
    gate, log, _ = run(["1-a"], **spending("deny", per_run=10 * MICRO))
    (row,) = rows(log)
    assert row.charges == (row.surprisal,)
    assert gate.totals.spent == {"early": row.surprisal}


def test_a_limit_per_update_attenuates_and_says_so() -> None:
    _, log, _ = run(["1-a"], **spending("deny", per_update=100_000))
    (row,) = rows(log)
    ((group, reason, share),) = row.exceptions
    assert (group, reason) == (0, Reason.PER_UPDATE)
    assert share == 100_000 * MICRO // row.surprisal
    assert row.charges[0] <= 100_000
    assert (row.effect, row.reason_code) == ("modulate", Reason.PER_UPDATE)


def test_an_exhausted_budget_denies_what_it_covers() -> None:
    _, log, _ = run(["1-a"], times=2, **spending("deny", exposures=1))
    (row,) = rows(log)
    assert row.exceptions == ((0, Reason.EXHAUSTED, 0),)
    assert (row.effect, row.cause, row.charges) == ("modulate", "granted", (0,))
    assert log.blocks[1].book.closed == (True, False)


def test_an_exhausted_budget_over_all_groups_denies() -> None:
    table = tables([[1, 1]], budgets=[budget("all", (0, 1), exposures=0)])
    _, log, _ = run(["1-a"], table=table)
    (row,) = rows(log)
    assert (row.effect, row.cause, row.reason_code) == ("deny", "denied", Reason.EXHAUSTED)


def test_a_deferring_budget_defers_the_whole_example() -> None:
    _, log, _ = run(["1-a"], **spending("defer", per_run=1))
    (row,) = rows(log)
    assert (row.effect, row.reason_code) == ("defer", Reason.DEFERRED)
    assert log.blocks[0].book.closed == (True, True)


def test_an_attenuating_budget_spends_exactly_what_is_left() -> None:
    gate, log, _ = run(["1-a"], times=3, **spending("attenuate", per_run=MICRO))
    assert gate.totals.spent["early"] <= MICRO
    assert gate.totals.spent["early"] >= MICRO - 3
    assert rows(log)[0].reason_code in (Reason.ATTENUATED, Reason.EXHAUSTED)


def test_a_halting_budget_stops_before_anything_moves_and_is_recorded() -> None:
    net, log = model(), Memory()
    options = spending("halt", per_run=1)
    gate = open_gate(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
        options["table"],
        NAMES,
        groups=(("0.",), ("2.",)),
        log=log,
    )
    with pytest.raises(BudgetExhaustedError, match="`early` is exhausted"), gate.step(["1-a"]):
        gate.backward(functional.cross_entropy(net(torch.ones(1, 3)), torch.tensor([0]), reduction="none"))
    assert torch.equal(net[0].weight, model()[0].weight)
    (row,) = rows(log)
    assert (row.effect, row.reason_code, row.charges) == ("deny", Reason.HALTED, (0,))
    with pytest.raises(IllegalTrainingSetupError, match="halted: budget `early`"), gate.step(["1-a"]):
        pass


def test_an_epoch_gives_windows_back_and_counts() -> None:
    net, log = model(), Memory()
    table = spending("deny", per_epoch=MICRO)["table"]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    gate = open_gate(net, optimizer, table, NAMES, groups=(("0.",), ("2.",)), log=log)
    for _ in range(2):
        for _ in range(2):
            with gate.step(["1-a"]):
                gate.backward(functional.cross_entropy(net(torch.ones(1, 3)), torch.tensor([0]), reduction="none"))
        gate.start_epoch()
    taken = [row.charges[0] > 0 for block in log.blocks for row in block.rows]
    assert taken == [True, False, True, False]
    assert [block.epoch for block in log.blocks] == [0, 0, 1, 1]


def test_surprisal_may_be_given_apart_from_the_loss() -> None:
    net, log = model(), Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    gate = open_gate(net, optimizer, tables(SHARES), NAMES, groups=(("0.",), ("2.",)), log=log)
    with gate.step(NAMES[:3]):
        nats = torch.tensor([0.25, math.nan, -1.0])
        gate.backward(net(torch.ones(3, 3)).square().sum(1), surprisal=nats)
    assert [row.surprisal for row in rows(log)] == [250_000, NO_SURPRISAL, 0]
    assert rows(log)[1].effect == "deny"


def test_sketches_are_of_what_was_admitted() -> None:
    gate, log, net = run(NAMES, record="sketch")
    found = [gate.machinery.plan.decode(row.sketch) for row in rows(log)]
    before = model()
    moved = [before[0].weight - net[0].weight, before[0].bias - net[0].bias]
    applied = torch.cat([part.detach().flatten() for part in moved]) / 0.1
    total = sum(sketch[0] for sketch in found)
    assert torch.allclose(total, applied, atol=2e-3 * applied.abs().max().item() * len(NAMES))
    assert not found[2][0].any()
    assert not found[3][0].any()
    assert found[3][1].any()
