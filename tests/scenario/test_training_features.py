"""What training loops use beside a plain step: every one gives what it gives without it, or is refused by name."""

from __future__ import annotations

import io
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from support.gating import Memory, budget, open_gate, tables
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.gate import Gate

NAMES = [f"{1 + number % 3}-{number}" for number in range(8)]
GROUPS = (("first.", "norm."), ("second.", "last."))
TABLE = tables(
    [[1, 0.5], [0, 1], [0.3, 0]],
    norms=[[0.5, None], [None, 2.0], [None, None]],
    budgets=[budget(groups=(0, 1), per_run=30_000_000, per_update=1_000_000)],
)


class Net(nn.Module):
    """Three layers, one of which may be recomputed in the backward pass."""

    def __init__(self, checkpointed: bool | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = nn.Linear(5, 16), nn.LayerNorm(16), nn.Linear(16, 16)
        self.last, self.dropout, self.checkpointed = nn.Linear(16, 3), nn.Dropout(dropout), checkpointed

    def middle(self, h: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.second(self.norm(h))))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.checkpointed is None:
            return self.last(self.middle(h))
        return self.last(checkpoint(self.middle, h, use_reentrant=self.checkpointed))


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(1)
    x = torch.randn(8, 5, generator=generator, dtype=dtype)
    return x, torch.randint(0, 3, (8,), generator=generator)


def losses(net: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(net(x).float() if x.dtype == torch.float32 else net(x), y, reduction="none")


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def train(
    net: Net, steps: int = 4, parts: int = 1, optimizer: Callable[[nn.Module], Any] = sgd, **options: Any
) -> tuple[Gate, Memory]:
    """Train on one batch, in so many parts."""
    x, y = data(next(net.parameters()).dtype)
    log = Memory()
    gate = open_gate(net, optimizer(net), TABLE, NAMES, groups=GROUPS, log=log, **options)
    each = len(NAMES) // parts
    for _ in range(steps):
        with gate.step(NAMES):
            for start in range(0, len(NAMES), each):
                here = slice(start, start + each)
                if parts == 1:
                    gate.backward(losses(net, x, y))
                else:
                    with gate.part(NAMES[here]):
                        gate.backward(losses(net, x[here], y[here]))
    return gate, log


def same(one: nn.Module, other: nn.Module, tolerance: float = 1e-12) -> None:
    for (name, value), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(value, expected, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulated_parts_are_one_batch(parts: int) -> None:
    whole, cut = Net().double(), Net().double()
    one, first = train(whole)
    other, second = train(cut, parts=parts)
    same(whole, cut)
    assert one.totals.effects == other.totals.effects
    assert one.totals.spent == other.totals.spent
    for a, b in zip(first.blocks, second.blocks, strict=True):
        assert a.book.parts == 1
        assert b.book.parts == parts
        assert a.book.denominator == b.book.denominator == 8
        assert a.rows[0].exceptions == b.rows[0].exceptions


def test_parts_are_the_next_examples_in_order() -> None:
    net = Net().double()
    x, y = data()
    gate = open_gate(net, sgd(net), TABLE, NAMES, groups=GROUPS)
    with pytest.raises(IllegalTrainingSetupError, match="next examples of the"), gate.step(NAMES), gate.part(NAMES[4:]):
        gate.backward(losses(net, x[4:], y[4:]))
    with pytest.raises(IllegalTrainingSetupError, match="after 4 of its 8"), gate.step(NAMES), gate.part(NAMES[:4]):
        gate.backward(losses(net, x[:4], y[:4]))
    with pytest.raises(IllegalTrainingSetupError, match="part was left"), gate.step(NAMES), gate.part(NAMES[:4]):
        pass
    assert gate.totals.steps == 0


def test_the_denominator_is_that_of_the_whole_schedule() -> None:
    """Losses summed over tokens, divided by the planned tokens: what a mean over tokens is."""
    tokens = torch.tensor([1, 5, 2, 3, 4, 1, 2, 2])
    net, plain = Net().double(), Net().double()
    x, y = data()
    open_table = tables([[1, 1], [1, 1], [1, 1]])
    gate = open_gate(net, sgd(net), open_table, NAMES, groups=GROUPS)
    with gate.step(NAMES, denominator=float(tokens.sum())):
        for start in (0, 4):
            here = slice(start, start + 4)
            with gate.part(NAMES[here]):
                gate.backward(losses(net, x[here], y[here]) * tokens[here])
    optimizer = sgd(plain)
    ((losses(plain, x, y) * tokens).sum() / tokens.sum()).backward()
    optimizer.step()
    same(net, plain)


@pytest.mark.parametrize("denominator", [0.0, -1.0, float("inf"), float("nan")])
def test_a_denominator_that_is_none(denominator: float) -> None:
    net = Net().double()
    gate = open_gate(net, sgd(net), TABLE, NAMES, groups=GROUPS)
    with pytest.raises(IllegalTrainingSetupError, match="positive number"), gate.step(NAMES, denominator=denominator):
        pass


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_give_the_same(reentrant: bool) -> None:
    groups = (("first.",), ("norm.", "second."), ("last.",))
    table = tables([[1, 0.5, 1], [0, 1, 0.2], [0.3, 0, 1]], norms=[[0.5, 0.1, None], [None, 2.0, 0.3], [None] * 3])
    nets = Net().double(), Net(checkpointed=reentrant).double()
    for net in nets:
        gate = open_gate(net, sgd(net), table, NAMES, groups=groups)
        for _ in range(3):
            with gate.step(NAMES):
                gate.backward(losses(net, *data()))
    same(*nets)


def test_a_checkpoint_that_shares_a_group_with_the_rest_of_the_model() -> None:
    kept, recomputed = Net().double(), Net(checkpointed=False).double()
    train(kept)
    train(recomputed)
    same(kept, recomputed)
    split = Net(checkpointed=True).double()
    with pytest.raises(IllegalTrainingSetupError, match="use_reentrant=False"):
        train(split)


def test_a_checkpointed_dropout_draws_the_same_mask_again() -> None:
    kept, recomputed = Net(dropout=0.3).double(), Net(checkpointed=False, dropout=0.3).double()
    for net in (kept, recomputed):
        torch.manual_seed(5)
        gate = open_gate(net, sgd(net), TABLE, NAMES, groups=GROUPS)
        gate.machinery.backward._probed.update({()} | {(number,) for number in range(8)})  # a probe draws no mask
        with gate.step(NAMES):
            gate.backward(losses(net, *data()))
    same(kept, recomputed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_open_gate_under_autocast_is_plain_autocast(dtype: torch.dtype) -> None:
    net, plain = Net(), Net()
    x, y = data(torch.float32)
    gate = open_gate(net, sgd(net), tables([[1, 1]] * 3), NAMES, groups=GROUPS)
    optimizer = sgd(plain)
    for _ in range(3):
        with gate.step(NAMES):
            with torch.autocast("cpu", dtype=dtype):
                out = net(x)
            gate.backward(functional.cross_entropy(out.float(), y, reduction="none"))
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            out = plain(x)
        functional.cross_entropy(out.float(), y, reduction="none").mean().backward()
        optimizer.step()
    for value, expected in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(value, expected)


def test_shares_and_limits_under_autocast_are_those_of_single_precision_but_for_its_rounding() -> None:
    net, exact = Net(), Net().double()
    x, y = data(torch.float32)
    log, truth = Memory(), Memory()
    gate = open_gate(net, sgd(net), TABLE, NAMES, groups=GROUPS, log=log)
    other = open_gate(exact, sgd(exact), TABLE, NAMES, groups=GROUPS, log=truth)
    with gate.step(NAMES):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(x)
        gate.backward(functional.cross_entropy(out.float(), y, reduction="none"))
    with other.step(NAMES):
        other.backward(functional.cross_entropy(exact(x.double()), y, reduction="none"))
    norms, expected = torch.tensor(log.blocks[0].norms), torch.tensor(truth.blocks[0].norms)
    assert torch.allclose(norms, expected, rtol=0.05)
    assert log.blocks[0].book.closed == truth.blocks[0].book.closed


def test_a_loss_scale_changes_nothing_but_the_range() -> None:
    scaled, plain = Net(), Net()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    gate, log = train(scaled, scaler=scaler)
    _, unscaled = train(plain)
    same(scaled, plain, tolerance=1e-5)
    assert [block.book.loss_scale for block in log.blocks] == [2.0**10, 2.0**10, 2.0**11, 2.0**11]
    assert scaler.get_scale() == 2.0**12
    for one, other in zip(log.blocks, unscaled.blocks, strict=True):
        assert torch.allclose(torch.tensor(one.norms), torch.tensor(other.norms), rtol=1e-4)
    assert gate.totals.spent == {"b": pytest.approx(29_000_000, rel=0.2)}


def test_a_scale_that_overflows_one_example_costs_that_example_and_shrinks() -> None:
    net = Net()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    x, y = data(torch.float32)
    log = Memory()
    gate = open_gate(net, sgd(net), TABLE, NAMES, groups=GROUPS, log=log, scaler=scaler)
    before = deepcopy(net)
    with gate.step(NAMES):
        loss = losses(net, x, y)
        gate.backward(torch.where(torch.arange(8) == 1, loss * 1e38, loss), surprisal=loss.detach().clamp_max(5))
    assert scaler.get_scale() == 2.0**7
    row = log.blocks[0].rows[1]
    assert row.cause == "error"
    assert all(value.isfinite().all() for value in net.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), before.parameters(), strict=True))


def test_schedulers_move_the_learning_rate_that_is_booked() -> None:
    net = Net().double()
    optimizer = sgd(net)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    log = Memory()
    gate = open_gate(net, optimizer, TABLE, NAMES, groups=GROUPS, log=log)
    for _ in range(3):
        with gate.step(NAMES):
            gate.backward(losses(net, *data()))
        scheduler.step()
    assert [block.book.lr for block in log.blocks] == [0.1, 0.05, 0.025]
    assert all(residual < 1e-9 for block in log.blocks for residual in block.book.residual)


def test_parameter_groups_with_settings_of_their_own() -> None:
    def decaying(net: nn.Module) -> torch.optim.Optimizer:
        matrices = [value for value in net.parameters() if value.dim() > 1]
        vectors = [value for value in net.parameters() if value.dim() == 1]
        settings = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(settings, lr=0.01)

    net, plain = Net(), Net()
    x, y = data(torch.float32)
    gate = open_gate(net, decaying(net), tables([[1, 1]] * 3), NAMES, groups=GROUPS)
    optimizer = decaying(plain)
    for _ in range(3):
        with gate.step(NAMES):
            gate.backward(losses(net, x, y))
        optimizer.zero_grad()
        losses(plain, x, y).mean().backward()
        optimizer.step()
    for value, expected in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(value, expected)


def test_clipping_is_done_group_by_group() -> None:
    """The coefficient of one group does not depend on what another lets in."""
    net, log = Net().double(), Memory()
    gate = open_gate(net, sgd(net), tables([[1, 1]] * 3), NAMES, groups=GROUPS, log=log, clip=0.01)
    with gate.step(NAMES):
        gate.backward(losses(net, *data()))
    alone, other = Net().double(), Memory()
    gate = open_gate(alone, sgd(alone), tables([[1, 0]] * 3), NAMES, groups=GROUPS, log=other, clip=0.01)
    with gate.step(NAMES):
        gate.backward(losses(alone, *data()))
    both, one = log.blocks[0].book, other.blocks[0].book
    assert both.clip[0] == one.clip[0] < 1
    assert both.movement == (pytest.approx(0.001), pytest.approx(0.001))
    assert one.movement == (pytest.approx(0.001), 0.0)


def test_an_averaged_copy_is_a_plain_model_and_follows() -> None:
    net = Net().double()
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    closed = tables([[0, 1]] * 3)
    gate = open_gate(net, sgd(net), closed, NAMES, groups=GROUPS)
    for _ in range(3):
        with gate.step(NAMES):
            gate.backward(losses(net, *data()))
        averaged.update_parameters(net)
    assert torch.equal(averaged.module.first.weight, net.first.weight), "a closed group does not move in the average"
    assert not torch.equal(averaged.module.last.weight, net.last.weight)


def test_averaged_weights_put_into_the_model_are_refused() -> None:
    net = Net().double()
    gate = open_gate(net, sgd(net), TABLE, NAMES, groups=GROUPS)
    with torch.no_grad():
        net.last.weight.mul_(0.5)
    with pytest.raises(IllegalTrainingSetupError, match="averaged weights on a copy"), gate.step(NAMES):
        pass


@pytest.mark.parametrize("kind", ["sgd", "adamw", "amsgrad"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(kind: str) -> None:
    makers: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
        "sgd": sgd,
        "adamw": lambda net: torch.optim.AdamW(net.parameters(), lr=0.01),
        "amsgrad": lambda net: torch.optim.Adam(net.parameters(), lr=0.01, amsgrad=True),
    }
    x, y = data(torch.float32)

    def steps(gate: Gate, net: nn.Module, count: int) -> None:
        for _ in range(count):
            noise = torch.randn_like(x) * 0.1
            with gate.step(NAMES):
                gate.backward(losses(net, x + noise, y))

    torch.manual_seed(3)
    whole = Net(dropout=0.2)
    torch.manual_seed(3)
    first_log = Memory()
    gate = open_gate(whole, makers[kind](whole), TABLE, NAMES, groups=GROUPS, log=first_log)
    steps(gate, whole, 3)
    gate.start_epoch()
    steps(gate, whole, 3)

    torch.manual_seed(3)
    stopped = Net(dropout=0.2)
    torch.manual_seed(3)
    optimizer = makers[kind](stopped)
    gate = open_gate(stopped, optimizer, TABLE, NAMES, groups=GROUPS)
    steps(gate, stopped, 3)
    file = io.BytesIO()
    torch.save({"net": stopped.state_dict(), "optimizer": optimizer.state_dict(), "gate": gate.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    torch.manual_seed(99)
    resumed = Net(dropout=0.2)
    resumed.load_state_dict(saved["net"])
    optimizer = makers[kind](resumed)
    optimizer.load_state_dict(saved["optimizer"])
    log = Memory()
    gate = open_gate(resumed, optimizer, TABLE, NAMES, groups=GROUPS, log=log, state=saved["gate"])
    gate.start_epoch()
    steps(gate, resumed, 3)
    for value, expected in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(value, expected)
    assert [block.step for block in log.blocks] == [3, 4, 5]
    for one, other in zip(log.blocks, first_log.blocks[3:], strict=True):
        assert one.rows == other.rows
        assert one.book.movement == other.book.movement


def test_a_state_of_another_run_is_refused() -> None:
    net = Net()
    with pytest.raises(IllegalTrainingSetupError, match="state"):
        open_gate(net, sgd(net), TABLE, NAMES, groups=GROUPS, state={"course": {}})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_model_is_gated_as_it_is() -> None:
    compiled, eager = Net(), Net()
    x, y = data(torch.float32)
    for net, wrap in ((compiled, torch.compile), (eager, lambda model: model)):
        gate = open_gate(net, sgd(net), TABLE, NAMES, groups=GROUPS)
        run = wrap(net)
        for _ in range(3):
            with gate.step(NAMES):
                gate.backward(losses(run, x, y))
    same(compiled, eager, tolerance=1e-5)
