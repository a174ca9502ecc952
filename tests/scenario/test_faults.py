"""What is not finite harms nobody but the example it comes from; what raises leaves a run that still adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from support.gating import Memory, budget, open_gate, tables
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.bundle.tables import EFFECTS, ObligationTable, Tables
from aqpolicy.errors import AqpolicyError, IllegalTrainingSetupError
from aqpolicy.gate.accounts.visits import Reason
from aqpolicy.gate.gate import NORM_NOT_FINITE, Gate

# ---- examples that are not finite

B, BAD = 5, 2
NAMES = [f"1-{number}" for number in range(B)]
Y = torch.arange(B) % 3
GROUPS = (("front.",), ("back.",))


class Layers(nn.Module):
    """A front of some kind, and a linear back."""

    def __init__(self, front: Callable[[], nn.Module], width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.back = front(), nn.Linear(width, 3)
        self.double()

    def forward(self, x: Tensor, spoil: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        h = self.front(x)
        h = h[0] if isinstance(h, tuple) else h
        h = torch.tanh(h).flatten(1)
        return self.back(h if spoil is None else spoil(h))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Scaled(nn.Module):
    """A raw parameter, which only the interceptor sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


FRONTS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "linear": (lambda: nn.Linear(4, 2), 6),
    "norm": (lambda: nn.LayerNorm(4), 12),
    "conv": (lambda: nn.Sequential(nn.Conv1d(3, 4, 2), nn.GroupNorm(2, 4)), 12),
    "recurrent": (lambda: nn.LSTM(4, 2, batch_first=True), 6),
    "attention": (Attention, 12),
    "raw": (Scaled, 12),
}
ROWS: dict[str, dict[str, Any]] = {
    "open": {"rows": [[1, 1]]},
    "shares": {"rows": [[0.5, 2]]},
    "limits": {"rows": [[1, 0.5]], "norms": [[0.1, 0.2]]},
}
RECORDS: dict[str, dict[str, Any]] = {
    "decisions": {"record": "decisions"},
    "norms": {},
    "sketch": {"record": "sketch"},
    "factors": {"record": "factors"},
}


class _Spoil(torch.autograd.Function):
    """Nothing forward; backward, one example's gradient is not finite."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, value: float) -> Tensor:
        ctx.value = value
        return h.clone()

    @staticmethod
    def backward(ctx: Any, e: Tensor) -> tuple[Tensor, None]:
        e = e.clone()
        e[BAD] = ctx.value
        return e, None


def batch() -> Tensor:
    return torch.randn(
        B, 3, 4, generator=torch.Generator(torch.get_default_device()).manual_seed(3), dtype=torch.float64
    )


def losses(out: Tensor, y: Tensor = Y) -> Tensor:
    return functional.cross_entropy(out, y, reduction="none")


def closed_row(*closed: int, **how: Any) -> dict[str, Any]:
    """Return the arguments of tables with a second row: the first one's, closed to some groups."""
    first = how["rows"][0]
    rows = [first, [0 if number in closed else share for number, share in enumerate(first)]]
    return {"rows": rows, "norms": how["norms"] * 2 if "norms" in how else None}


def run(
    kind: str, how: dict[str, Any], record: dict[str, Any], names: list[str], loss: Callable[[Layers], Tensor]
) -> tuple[Layers, Memory]:
    """Return the net after two steps with momentum."""
    net, log = Layers(*FRONTS[kind]), Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    gate = open_gate(net, optimizer, tables(**how), names, groups=GROUPS, log=log, **record)
    for _ in range(2):
        with gate.step(names):
            gate.backward(loss(net))
    return net, log


def same(one: nn.Module, other: nn.Module) -> None:
    for (name, value), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        assert value.isfinite().all(), name
        assert torch.allclose(value, expected, rtol=1e-12, atol=1e-14), name


ALL = list(product(FRONTS, ROWS, RECORDS))


@pytest.mark.parametrize(("kind", "row", "record"), ALL)
def test_an_input_that_is_no_number_equals_a_denied_example(kind: str, row: str, record: str) -> None:
    def spoiled(net: Layers) -> Tensor:
        x = batch()
        x[BAD, 1, 1] = float("nan")
        return losses(net(x))

    how = closed_row(0, 1, **ROWS[row])
    found, log = run(kind, how, RECORDS[record], NAMES, spoiled)
    names = [name.replace("1-", "2-") if number == BAD else name for number, name in enumerate(NAMES)]
    same(found, run(kind, how, RECORDS[record], names, lambda net: losses(net(batch())))[0])
    for block in log.blocks:
        rows = block.rows
        assert [one.cause for one in rows] == ["error" if number == BAD else rows[0].cause for number in range(B)]
        assert rows[BAD].effect == "deny"
        assert block.reason[BAD] == Reason.NOT_FINITE


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
@pytest.mark.parametrize("row", ROWS)
def test_an_infinite_input_closes_the_groups_whose_gradient_it_breaks(row: str, value: float) -> None:
    """The front saturates: the loss is finite, and so is the back's gradient."""

    def spoiled(net: Layers) -> Tensor:
        x = batch()
        x[BAD, 1, 1] = value
        return losses(net(x))

    found, log = run("linear", {"rows": ROWS[row]["rows"], "norms": ROWS[row].get("norms")}, {}, NAMES, spoiled)
    assert all(value.isfinite().all() for value in found.parameters())
    for block in log.blocks:
        assert (block.norms == NORM_NOT_FINITE).tolist() == [[number == BAD, False] for number in range(B)]
        assert block.reason[BAD] == Reason.GRADIENT_NOT_FINITE


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("row", ROWS)
def test_a_loss_that_is_not_finite_equals_a_denied_example(row: str, value: float) -> None:
    def spoiled(net: Layers) -> Tensor:
        return losses(net(batch())) * torch.where(torch.arange(B) == BAD, value, 1.0)

    how = closed_row(0, 1, **ROWS[row])
    found, _ = run("linear", how, {}, NAMES, spoiled)
    names = [name.replace("1-", "2-") if number == BAD else name for number, name in enumerate(NAMES)]
    same(found, run("linear", how, {}, names, lambda net: losses(net(batch())))[0])


@pytest.mark.parametrize(("kind", "row", "record"), ALL)
def test_a_gradient_of_one_group_closes_that_group_to_its_example(kind: str, row: str, record: str) -> None:
    value = float("nan") if record == "norms" else float("inf")

    def spoiled(net: Layers) -> Tensor:
        return losses(net(batch(), lambda h: _Spoil.apply(h, value)))

    how = closed_row(0, **ROWS[row])
    found, log = run(kind, how, RECORDS[record], NAMES, spoiled)
    names = [name.replace("1-", "2-") if number == BAD else name for number, name in enumerate(NAMES)]
    same(found, run(kind, how, RECORDS[record], names, lambda net: losses(net(batch())))[0])
    for block in log.blocks:
        rows = block.rows
        assert block.reason.tolist() == [Reason.GRADIENT_NOT_FINITE if n == BAD else block.reason[0] for n in range(B)]
        assert [bool(one.exceptions) for one in rows] == [number == BAD for number in range(B)]
        assert rows[BAD].cause == "error"
        assert block.norms[BAD, 0] == NORM_NOT_FINITE


def test_a_budget_is_not_charged_for_what_was_not_finite() -> None:
    net, log = Layers(*FRONTS["linear"]), Memory()
    table = tables([[1, 1]], budgets=[budget(groups=(0,), per_run=100_000_000, exposures=2)])
    gate = open_gate(net, torch.optim.SGD(net.parameters(), lr=0.1), table, NAMES, groups=GROUPS, log=log)
    with gate.step(NAMES):
        gate.backward(losses(net(batch(), lambda h: _Spoil.apply(h, float("nan")))))
    (block,) = log.blocks
    assert [bool(charge) for charge in block.charges[:, 0]] == [number != BAD for number in range(B)]
    assert gate.totals.spent["b"] == int(block.charges.sum())
    assert gate.machinery.accountant.shown[0].tolist() == [int(number != BAD) for number in range(B)]


def test_a_batch_of_nothing_finite_moves_nothing_and_is_recorded() -> None:
    net, log = Layers(*FRONTS["linear"]), Memory()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    gate = open_gate(net, optimizer, tables([[1, 1]]), NAMES, groups=GROUPS, log=log)
    before = [value.detach().clone() for value in net.parameters()]
    with gate.step(NAMES):
        gate.backward(losses(net(batch() * float("nan"))))
    assert all(torch.equal(one, other) for one, other in zip(before, net.parameters(), strict=True))
    assert log.blocks[0].book.closed == (True, True)
    with gate.step(NAMES):
        gate.backward(losses(net(batch())))
    assert all(value.isfinite().all() for value in net.parameters())


# ---- what raises

STEPS = 4
CHECKED = ObligationTable(
    "verify",
    "r",
    "gold falls",
    {"metric": "gold", "direction": "falls", "amount": 10**12, "steps": 1, "remedy": "rollback"},
)


class Fault(Exception):  # noqa: N818 - it is one, in the machine
    """Something in the loop or the machine."""


class Faulty:
    """Raises when it is called while it is armed."""

    def __init__(self, error: type[BaseException] = Fault) -> None:
        self.armed, self.error = False, error

    def __call__(self, *_: Any, **__: Any) -> None:
        if self.armed:
            self.armed = False
            raise self.error("as planned")


class Optimizer(torch.optim.SGD):
    """Fails before or after it has moved half of the parameters."""

    def __init__(self, net: nn.Module, before: Faulty, amid: Faulty) -> None:
        self.before, self.amid = before, amid
        super().__init__(net.parameters(), lr=0.1, momentum=0.9)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        self.before()
        if self.amid.armed:
            next(iter(self.param_groups[0]["params"])).add_(1.0)
        self.amid()
        super().step(closure)


class Log(Memory):
    def __init__(self, fault: Faulty) -> None:
        super().__init__()
        self.fault = fault

    def append_step(self, block: Any) -> None:
        self.fault()
        super().append_step(block)


STAGES = (
    "forward",
    "loss",
    "backward",
    "block",
    "verifier before",
    "optimizer before",
    "optimizer amid",
    "log",
    "commit",
    "meters",
    "visits",
    "promotions",
    "metric",
    "live",
)


def table() -> Tables:
    made = tables(
        [[1, 0.5], [0, 1]],
        norms=[[0.5, None], [None, None]],
        budgets=[
            budget(groups=(0, 1), per_run=9_000_000, exposures=3),
            budget("m", (1,), meters=(("movement", "run", 10**6),)),
        ],
    )
    return replace(
        made, rows=(made.rows[0], *(replace(row, obligations=(0,)) for row in made.rows[1:])), obligations=(CHECKED,)
    )


class World:
    """A run with a fault at every stage, none of them armed."""

    names = ("1-a", "2-b", "1-c")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = Fault) -> None:
        torch.manual_seed(0)
        self.faults = {stage: Faulty(error) for stage in STAGES}
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.net[0].register_forward_hook(self.faults["forward"])
        self.log = Log(self.faults["log"])
        self.optimizer = Optimizer(self.net, self.faults["optimizer before"], self.faults["optimizer amid"])
        self.gate: Gate = open_gate(
            self.net,
            self.optimizer,
            table(),
            self.names,
            groups=(("0.",), ("2.",)),
            log=self.log,
            metrics={"gold": self.metric},
        )
        machinery = self.gate.machinery
        for stage, part, method in (
            ("verifier before", machinery.verifier, "before_step"),
            ("commit", machinery.accountant, "commit"),
            ("meters", machinery.meters, "book"),
            ("visits", machinery.visits, "observe"),
            ("promotions", machinery.publisher.promotions, "ask"),
            ("live", machinery.live, "update"),
        ):
            monkeypatch.setattr(part, method, self.failing(stage, getattr(part, method)), raising=False)

    def failing(self, stage: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.faults[stage]()
            return own(*given, **named)

        return call

    def metric(self, _: nn.Module) -> float:
        self.faults["metric"]()
        return 1.0

    def step(self) -> None:
        x = torch.linspace(-1, 1, 9, dtype=torch.float64).view(3, 3)
        with self.gate.step(list(self.names)):
            out = self.net(x)
            out.register_hook(self.faults["backward"])
            self.faults["loss"]()
            self.gate.backward(functional.cross_entropy(out, torch.tensor([0, 1, 1]), reduction="none"))
            self.faults["block"]()

    def values(self) -> list[Tensor]:
        return [value.detach().clone() for value in self.net.parameters()]

    @property
    def accounts(self) -> tuple[Any, ...]:
        accountant, meters = self.gate.machinery.accountant, self.gate.machinery.meters
        return (
            list(accountant.run),
            [None if shown is None else shown.tolist() for shown in accountant.shown],
            [account.spent for account in meters.accounts],
        )


class Journal:
    """What a run without faults is after each number of steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World(monkeypatch)
        self.values, self.accounts = [world.values()], [world.accounts]
        for _ in range(STEPS):
            world.step()
            self.values.append(world.values())
            self.accounts.append(world.accounts)
        self.blocks = world.log.blocks

    def agrees(self, world: World, *, halted: bool) -> None:
        """Check that parameters, ledger, log and totals of a run tell of the same number of steps."""
        steps = len(world.log.blocks)
        assert [block.step for block in world.log.blocks] == list(range(steps))
        assert all(torch.equal(*pair) for pair in zip(world.values(), self.values[steps], strict=True))
        totals = world.gate.totals
        assert totals.steps == steps
        assert sum(totals.effects[effect] for effect in EFFECTS) == 3 * steps
        assert totals.spent["b"] == sum(int(block.charges[:, 0].sum()) for block in world.log.blocks)
        for one, other in zip(world.log.blocks, self.blocks, strict=False):
            assert one.rows == other.rows
            assert one.book == other.book
        if not halted:
            assert world.accounts == self.accounts[steps]
            assert world.gate.state.step == steps


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    return Journal(monkeypatch)


def halted(world: World) -> bool:
    """Return whether the gate has halted and says so."""
    with pytest.raises((IllegalTrainingSetupError, ZeroDivisionError)) as caught, world.gate.step(list(world.names)):
        raise ZeroDivisionError
    return "halted" in str(caught.value)


@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_leaves_a_run_that_adds_up(
    stage: str, at: int, error: type[BaseException], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, error)
    for _ in range(at):
        world.step()
    fault = world.faults[stage]
    fault.armed = True
    with pytest.raises((error, AqpolicyError)):
        world.step()
    assert not fault.armed
    stopped = halted(world)
    journal.agrees(world, halted=stopped)
    if stopped:
        world.gate.close()
        assert world.log.models == []
        assert world.log.closed
        return
    while len(world.log.blocks) < STEPS:
        world.step()
    journal.agrees(world, halted=False)
    world.gate.close()


@pytest.mark.parametrize("stage", ["forward", "loss", "backward", "block", "verifier before"])
def test_a_fault_before_anything_moves_can_be_tried_again(
    stage: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as one likes: nothing of it stays."""
    world = World(monkeypatch)
    for done in range(STEPS):
        for _ in range(2):
            world.faults[stage].armed = True
            with pytest.raises(Fault):
                world.step()
            assert len(world.log.blocks) == done
            assert all(parameter.grad is None for parameter in world.net.parameters())
        world.step()
    journal.agrees(world, halted=False)


def test_a_fault_in_a_part_forgets_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = World(monkeypatch), World(monkeypatch)
    x = torch.linspace(-1, 1, 9, dtype=torch.float64).view(3, 3)
    y = torch.tensor([0, 1, 1])

    def parts(world: World, *, broken: bool) -> None:
        with world.gate.step(list(world.names)):
            for number, name in enumerate(world.names):
                with world.gate.part([name]):
                    out = world.net(x[number : number + 1])
                    world.gate.backward(functional.cross_entropy(out, y[number : number + 1], reduction="none"))
                    if broken and number == 1:
                        raise Fault

    for _ in range(2):
        with pytest.raises(Fault):
            parts(one, broken=True)
        parts(one, broken=False)
        parts(other, broken=False)
    assert all(torch.equal(*pair) for pair in zip(one.values(), other.values(), strict=True))
    assert one.accounts == other.accounts
    assert [block.rows for block in one.log.blocks] == [block.rows for block in other.log.blocks]
