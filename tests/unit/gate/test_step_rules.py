"""Every way to use the gate wrongly stops the step, moves nothing, and says what to do."""

from __future__ import annotations

import io
from copy import deepcopy

import pytest
import torch
from support.gating import Memory, open_gate, tables
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.errors import IllegalTrainingSetupError, UngovernedParameterError
from aqpolicy.gate.gate import Gate

NAMES = ["1-a", "1-b", "1-c"]
NUMBERED = ["1-a", "2-b", "3-c"]
X, Y = torch.linspace(-1, 1, 9).view(3, 3), torch.tensor([0, 1, 1])


class Run:
    """A small gated run, and what it must not change."""

    def __init__(self, **options: object) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.log = Memory()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        groups = (("0.",), ("2.",))
        self.gate: Gate = open_gate(
            self.net, self.optimizer, tables([[1, 0.5]]), NAMES, groups=groups, log=self.log, **options
        )
        self.before = deepcopy(self.net.state_dict())

    def loss(self) -> Tensor:
        return functional.cross_entropy(self.net(X), Y, reduction="none")

    def step(self) -> None:
        with self.gate.step(NAMES):
            self.gate.backward(self.loss())

    @property
    def untouched(self) -> bool:
        return all(torch.equal(value, self.before[name]) for name, value in self.net.state_dict().items())


@pytest.fixture
def run() -> Run:
    return Run()


def wrong(run: Run, message: str, kind: type[Exception] = IllegalTrainingSetupError) -> pytest.RaisesExc:
    return pytest.raises(kind, match=message)


def usable(run: Run) -> None:
    """Nothing moved, nothing was recorded, and the next step works."""
    assert run.untouched
    assert run.log.blocks == []
    run.step()
    assert len(run.log.blocks) == 1


def test_backward_outside_a_step(run: Run) -> None:
    with wrong(run, "inside `with gate.step"):
        run.gate.backward(run.loss())
    usable(run)


def test_plain_backward_outside_a_step(run: Run) -> None:
    with wrong(run, "ungated gradient reached group `g1`"):
        run.loss().mean().backward()
    usable(run)


def test_a_loss_made_in_a_step_and_differentiated_after_it(run: Run) -> None:
    with wrong(run, "left without gate.backward"), run.gate.step(NAMES):
        late = run.loss()
    with wrong(run, "outside a step"):
        late.mean().backward()
    usable(run)


def test_backward_twice(run: Run) -> None:
    with wrong(run, "twice over the same examples"), run.gate.step(NAMES):
        run.gate.backward(run.loss())
        run.gate.backward(run.loss())
    usable(run)


def test_a_step_without_backward(run: Run) -> None:
    with wrong(run, "left without gate.backward"), run.gate.step(NAMES):
        run.loss()
    usable(run)


@pytest.mark.parametrize("shape", [(), (2,), (3, 1), (4,)])
def test_a_loss_of_another_shape(run: Run, shape: tuple[int, ...]) -> None:
    with wrong(run, "one number per scheduled example"), run.gate.step(NAMES):
        run.gate.backward(run.loss().sum().expand(shape))
    usable(run)


def test_a_surprisal_of_another_shape(run: Run) -> None:
    with wrong(run, "the surprisal has shape"), run.gate.step(NAMES):
        run.gate.backward(run.loss(), surprisal=torch.ones(2))
    usable(run)


def test_a_loss_of_nothing(run: Run) -> None:
    with wrong(run, "does not depend on any trained parameter"), run.gate.step(NAMES):
        run.gate.backward(torch.ones(3))
    usable(run)


@pytest.mark.parametrize("ids", [[], [1, 2, 3], [b"1-a"]])
def test_ids_that_are_none(run: Run, ids: list[str]) -> None:
    with wrong(run, "non-empty list of example ids"), run.gate.step(ids):
        pass
    usable(run)


def test_a_step_inside_a_step(run: Run) -> None:
    with wrong(run, "step was called inside a step"), run.gate.step(NAMES), run.gate.step(NAMES):
        pass
    usable(run)


@pytest.mark.parametrize("call", ["start_epoch", "close"])
def test_epochs_and_close_inside_a_step(run: Run, call: str) -> None:
    with wrong(run, "inside a step"), run.gate.step(NAMES):
        getattr(run.gate, call)()
    usable(run)


def test_the_loop_steps_the_optimizer_inside(run: Run) -> None:
    with wrong(run, "optimizer.step was called by the loop"), run.gate.step(NAMES):
        run.gate.backward(run.loss())
        run.optimizer.step()
    usable(run)


def test_the_loop_steps_the_optimizer_outside(run: Run) -> None:
    with wrong(run, "optimizer.step was called by the loop"):
        run.optimizer.step()
    usable(run)


def test_gradients_changed_after_backward(run: Run) -> None:
    with wrong(run, "gradients were changed"), run.gate.step(NAMES):
        run.gate.backward(run.loss())
        nn.utils.clip_grad_norm_(run.net.parameters(), 1e-3)
    usable(run)


def test_a_penalty_on_a_weight(run: Run) -> None:
    with wrong(run, "ungated gradient reached group `g0`"), run.gate.step(NAMES):
        run.gate.backward(run.loss() + run.net[0].weight.square().sum())
    usable(run)


def test_a_weight_used_behind_its_module_is_gated_all_the_same(run: Run) -> None:
    def loss(net: nn.Module) -> Tensor:
        hidden = torch.tanh(net[0](X))
        return functional.cross_entropy(functional.linear(hidden, net[2].weight), Y, reduction="none")

    plain = deepcopy(run.net)
    loss(plain).mean().backward()
    with run.gate.step(NAMES):
        run.gate.backward(loss(run.net))
        found = run.net[2].weight.grad.clone()
    assert torch.allclose(found, 0.5 * plain[2].weight.grad, rtol=1e-6)


def test_examples_that_depend_on_each_other(run: Run) -> None:
    with wrong(run, "depends on another example"), run.gate.step(NAMES):
        out = run.net(X)
        run.gate.backward(functional.cross_entropy(out - out.mean(0), Y, reduction="none"))
    usable(run)


def test_an_input_without_an_example_axis(run: Run) -> None:
    with wrong(run, "first axis is not the 3 examples"), run.gate.step(NAMES):
        run.net[2](torch.tanh(run.net[0](X))[:2])
    usable(run)


def test_shared_positions_that_happen_to_be_as_many_as_examples_are_followed() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(5, 2), nn.Embedding(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return (self.words(x) + self.places(torch.arange(3))).square().sum((1, 2))

    model, x = Words(), torch.randint(0, 5, (3, 3))
    plain = deepcopy(model)
    (plain(x) * torch.tensor([0.5, 1.0, 0.0])).mean().backward()
    gate = open_gate(model, torch.optim.SGD(model.parameters(), lr=0.1), tables([[0.5], [1.0], [0.0]]), NUMBERED)
    with gate.step(NUMBERED):
        gate.backward(model(x))
        for value, expected in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(value.grad, expected.grad, rtol=1e-6)


def test_weights_loaded_between_steps(run: Run) -> None:
    run.net.load_state_dict(run.before)
    with wrong(run, "`0.weight` was changed outside"), run.gate.step(NAMES):
        pass


def test_weights_changed_behind_torchs_back(run: Run) -> None:
    run.net[2].bias.data.add_(1.0)
    with wrong(run, "`2.bias` was changed outside"):
        run.step()
    assert run.log.blocks == []


def test_weights_changed_inside_the_step(run: Run) -> None:
    with wrong(run, "`0.bias` was changed outside"), run.gate.step(NAMES):
        run.gate.backward(run.loss())
        with torch.no_grad():
            run.net[0].bias.zero_()
    assert run.log.blocks == []


def test_weights_changed_before_close(run: Run) -> None:
    run.step()
    run.net[0].weight.data.mul_(2.0)
    with wrong(run, "`0.weight` was changed outside"):
        run.gate.close()
    assert run.log.closed


def test_a_parameter_added_after_attaching(run: Run) -> None:
    run.net.append(nn.Linear(2, 2))
    with wrong(run, "`3.weight` is trained and in no depth group", UngovernedParameterError), run.gate.step(NAMES):
        pass


def test_a_parameter_unfrozen_after_attaching() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD(net[1].parameters(), lr=0.1)
    gate = open_gate(net, optimizer, tables([[1.0]]), NAMES)
    with gate.step(NAMES):
        gate.backward(net(X).square().sum(1))
    net[0].requires_grad_(True)
    with pytest.raises(UngovernedParameterError, match=r"`0\.weight`"), gate.step(NAMES):
        pass


def test_a_parameter_frozen_after_attaching(run: Run) -> None:
    run.net[0].bias.requires_grad_(False)
    with wrong(run, "frozen or removed"), run.gate.step(NAMES):
        pass


def test_a_parameter_group_added_to_the_optimizer(run: Run) -> None:
    run.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    with wrong(run, "1 too many, 0 missing"), run.gate.step(NAMES):
        pass


def test_an_exception_inside_the_block(run: Run) -> None:
    with wrong(run, "zero", ZeroDivisionError), run.gate.step(NAMES):
        run.gate.backward(run.loss())
        print(1 // len(run.log.blocks))
    usable(run)


def test_evaluation_between_and_inside_steps_is_free(run: Run) -> None:
    with torch.no_grad():
        outside = run.net(X)
    with run.gate.step(NAMES):
        with torch.no_grad():
            assert torch.equal(run.net(X[:1]), outside[:1])
        run.gate.backward(run.loss())
    assert len(run.log.blocks) == 1


def test_detaching_restores_the_model(run: Run) -> None:
    run.gate.detach()
    assert all("forward" not in vars(module) for module in run.net.modules())
    run.loss().mean().backward()
    run.optimizer.step()
    assert not run.untouched
    with wrong(run, "halted: it was detached"), run.gate.step(NAMES):
        pass


def test_the_gate_leaves_names_types_and_copies_alone(run: Run) -> None:
    assert list(run.net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert type(run.net[0]) is nn.Linear
    copied = deepcopy(run.net)
    file = io.BytesIO()
    torch.save(run.net, file)
    file.seek(0)
    for other in (copied, torch.load(file, weights_only=False)):
        with torch.no_grad():
            other[0].weight.zero_()
        assert not torch.equal(other(X), run.net(X))
        other(X).sum().backward()
        assert other[2].weight.grad is not None
    usable(run)


def test_closing_twice_is_closing_once(run: Run) -> None:
    run.gate.close()
    run.gate.close()
    assert run.log.closed
