"""Verification: checks come in time, remedies do what they say, and a rollback is exact bit by bit."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.promises import policy, promote, verify
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.rollback import State
from aqpolicy.gate.motion.verification import Outcome, Verifier
from aqpolicy.units import MICRO

YES, NO = frozenset({0}), frozenset()


class Counting(nn.Module):
    """A small net with buffers that change in training: one saved, one not, one that is None at first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.first.weight.requires_grad_(False)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(4), persistent=False)
        self.register_buffer("late", None)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        if self.training:
            self.count += 1
            self.mean = self.mean * 0.9 + hidden.detach().mean(0)
            self.late = self.mean.clone()
        return self.last(hidden)


def built() -> Counting:
    torch.manual_seed(0)
    return Counting()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: Sequence[int]) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(5, 3, generator=generator)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def verifier(
    *obligations: Any, metric: Callable[[str], int] | None = None, model: nn.Module | None = None, **more: Any
) -> Verifier:
    model = model or built()
    optimizer = more.pop("optimizer", None) or torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    return Verifier(policy((), obligations), metric or (lambda _: MICRO), model, optimizer, **more)


class Metric:
    """A metric that is set by hand and counts how often it was looked at."""

    def __init__(self, now: float = 0.9) -> None:
        self.now, self.looks = now, 0

    def __call__(self, _: str) -> int:
        self.looks += 1
        return round(self.now * MICRO)


def step(one: Verifier, number: int, asked: frozenset[int] = NO) -> Outcome:
    one.before_step(number, asked)
    return one.after_step(number, asked)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3])
def test_training_after_a_rollback_equals_training_that_never_had_the_step(kind: str, before: int) -> None:
    runs = []
    for bad in (False, True):
        model = built()
        optimizer = OPTIMIZERS[kind]([p for p in model.parameters() if p.requires_grad])
        train(model, optimizer, range(before))
        if bad:
            state = State.of(before, model, optimizer)
            for _ in range(2):  # a state is good for more than one time
                train(model, optimizer, [100, 101])
                state.restore(model, optimizer)
        train(model, optimizer, range(before, before + 4))
        runs.append((model, optimizer))
    (plain, plain_optimizer), (again, again_optimizer) = runs
    pairs = zip([*plain.parameters(), *plain.buffers()], [*again.parameters(), *again.buffers()], strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    flat = [torch.utils._pytree.tree_leaves(o.state_dict()) for o in (plain_optimizer, again_optimizer)]
    assert all(
        torch.equal(one, other) if isinstance(one, Tensor) else one == other for one, other in zip(*flat, strict=True)
    )


def test_what_an_optimizer_keeps_comes_back_in_its_own_type() -> None:
    model = built().to(torch.bfloat16)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    precise = torch.tensor([1 + 2.0**-20])
    optimizer.state[model.last.bias]["master"] = precise.clone()
    state = State.of(0, model, optimizer)
    optimizer.state[model.last.bias]["master"].zero_()
    state.restore(model, optimizer)
    assert torch.equal(optimizer.state[model.last.bias]["master"], precise)  # `load_state_dict` would round it


def test_a_rollback_leaves_the_learning_rate_to_the_loop_and_counts_to_the_optimizer() -> None:
    model = built()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    optimizer.param_groups[0]["k"] = 3
    state = State.of(0, model, optimizer)
    optimizer.param_groups[0].update(lr=0.05, k=7)
    state.restore(model, optimizer)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["k"]) == (0.05, 3)


def test_a_model_with_other_parameters_is_not_rolled_back() -> None:
    model = built()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    state = State.of(0, model, optimizer)
    with pytest.raises(IllegalTrainingSetupError, match="other parameters than its last verified state"):
        state.restore(nn.Linear(1, 1), optimizer)


def test_the_first_value_is_measured_before_the_first_admitted_update_only() -> None:
    metric = Metric()
    one = verifier(verify(steps=3, falls=0.1), metric=metric)
    step(one, 0)
    assert metric.looks == 0
    one.before_step(1, YES)
    assert metric.looks == 1
    one.before_step(1, YES)
    assert metric.looks == 1


@pytest.mark.parametrize(("steps", "due"), [(1, 5), (3, 7), (0, 5)])
def test_a_check_is_made_within_the_steps_that_the_policy_gives(steps: int, due: int) -> None:
    one = verifier(verify(steps=steps))
    made = [number for number in range(5, 12) if step(one, number, YES if number == 5 else NO).events]
    assert made == [due]


def test_later_updates_do_not_put_a_check_off() -> None:
    one = verifier(verify(steps=3))
    made = [number for number in range(9) if step(one, number, YES).events]
    assert made == [2, 5, 8]


def test_small_losses_do_not_pass_one_by_one_below_what_was_verified() -> None:
    metric = Metric(0.9)
    one = verifier(verify(falls=0.02, steps=1, remedy="halt"), metric=metric)
    one.before_step(0, YES)
    metric.now = 0.89
    (event,) = one.after_step(0, YES).events
    assert event == {
        "event": "verification",
        "obligation": 0,
        "metric": "gold",
        "verified": 900_000,
        "now": 890_000,
        "passed": True,
        "remedy": "",
        "step": 0,
    }
    one.before_step(1, YES)
    metric.now = 0.869999
    outcome = one.after_step(1, YES)
    assert outcome.events[0]["verified"] == 890_000
    assert outcome.halted == "verify gold"


@pytest.mark.parametrize(
    ("direction", "now", "passed"),
    [
        ("falls", 0.85, False),
        ("falls", 2.0, True),
        ("rises", 0.96, False),
        ("rises", 0.0, True),
        ("rises", 0.95, True),
        ("falls", 0.86, True),
    ],
)
def test_a_loss_is_in_the_direction_that_the_policy_names(direction: str, now: float, passed: bool) -> None:
    metric = Metric(0.9)
    one = verifier(
        verify(falls=0.05 if direction == "rises" else 0.04, direction=direction, remedy="halt"), metric=metric
    )
    one.before_step(0, YES)
    metric.now = now
    assert one.after_step(0, YES).events[0]["passed"] is passed


def trained(obligation: Any, metric: Metric, *, also: Sequence[Any] = ()) -> tuple[Verifier, Counting, Any]:
    model = built()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    return verifier(obligation, metric=metric, model=model, optimizer=optimizer, also=also), model, optimizer


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in [*model.parameters(), *model.buffers()]])


def test_a_rollback_goes_to_the_last_check_that_was_passed_or_before_the_first_update() -> None:
    metric = Metric()
    one, model, optimizer = trained(verify(steps=2), metric)
    train(model, optimizer, [0])
    first = weights(model)
    one.before_step(1, YES)
    train(model, optimizer, [1])
    one.after_step(1, YES)
    one.before_step(2, NO)
    train(model, optimizer, [2])
    metric.now = 0.5
    outcome = one.after_step(2, NO)
    assert outcome.rolled_back
    assert outcome.events[0]["remedy"] == "rollback"
    assert torch.equal(weights(model), first)
    metric.now = 0.9
    one.before_step(3, YES)
    train(model, optimizer, [3, 4])
    one.after_step(3, YES)
    assert one.after_step(4, NO).events[0]["passed"]
    second = weights(model)
    one.before_step(5, YES)
    train(model, optimizer, [5, 6])
    metric.now = 0.1
    one.after_step(5, YES)
    assert one.after_step(6, NO).rolled_back
    assert torch.equal(weights(model), second)
    assert one.after_step(7, NO).events == ()  # the update that was taken back waits no more


def test_what_goes_with_the_optimizer_is_rolled_back_with_it() -> None:
    class Books:
        def __init__(self) -> None:
            self.state: Any = {"buffer": torch.ones(2)}

        def state_dict(self) -> Any:
            return self.state

        def load_state_dict(self, state: Any) -> None:
            self.state = state

    metric, books = Metric(), Books()
    one, _, _ = trained(verify(), metric, also=[books])
    one.before_step(0, YES)
    books.state["buffer"].zero_()
    metric.now = 0.0
    assert one.after_step(0, YES).rolled_back
    assert torch.equal(books.state["buffer"], torch.ones(2))


@pytest.mark.parametrize("remedy", ["halt", "hold"])
def test_a_state_is_copied_only_where_a_remedy_needs_it(remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "of", lambda *_: pytest.fail("a state was copied"))
    one = verifier(verify(remedy=remedy))
    assert step(one, 0, YES).events[0]["passed"]


def test_a_hold_lasts_until_a_later_check_is_passed_and_the_parameters_stay() -> None:
    metric = Metric(0.9)
    one, model, optimizer = trained(verify(falls=0.01, steps=2, remedy="hold"), metric)
    one.before_step(0, YES)
    train(model, optimizer, [0])
    moved = weights(model)
    metric.now = 0.5
    held = []
    for number in range(7):
        if number == 5:
            metric.now = 0.895
        outcome = one.after_step(number, YES if number == 0 else NO)
        assert not outcome.rolled_back
        assert not outcome.halted
        held.append(one.held)
    assert held == [NO, YES, YES, YES, YES, NO, NO]
    assert torch.equal(weights(model), moved)
    assert one.waiting == NO


def test_what_waits_is_checked_before_publication_and_a_hold_stays_unpublished() -> None:
    metric = Metric(0.9)
    one = verifier(verify(steps=100), verify("other", steps=100, remedy="hold"), metric=metric)
    step(one, 0, frozenset({0, 1}))
    assert one.waiting == {0, 1}
    assert [event["passed"] for event in one.before_publication(0).events] == [True, True]
    assert one.waiting == NO
    assert one.before_publication(0) == Outcome()
    step(one, 1, frozenset({1}))
    metric.now = 0.0
    assert not one.before_publication(1).events[0]["passed"]
    assert one.waiting == one.held == {1}


def test_obligations_that_share_a_metric_look_once_and_answer_each_for_itself() -> None:
    metric = Metric(0.9)
    one = verifier(
        verify(falls=0.2), verify(falls=0.01, remedy="halt"), verify(falls=0.01, remedy="hold"), metric=metric
    )
    one.before_step(0, frozenset({0, 1, 2}))
    metric.now, metric.looks = 0.8, 0
    outcome = one.after_step(0, frozenset({0, 1, 2}))
    assert metric.looks == 1
    assert [event["passed"] for event in outcome.events] == [True, False, False]
    assert outcome.halted
    assert not outcome.rolled_back
    assert one.held == {2}


def test_a_rollback_goes_behind_the_updates_of_its_own_obligation_and_forgets_later_checks() -> None:
    values = {"slow": 900_000, "quick": 900_000}
    model = built()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    one = verifier(
        verify("slow", steps=3), verify("quick", steps=1), metric=values.__getitem__, model=model, optimizer=optimizer
    )
    one.before_step(0, frozenset({0}))
    clean = weights(model)
    train(model, optimizer, [0])
    one.after_step(0, frozenset({0}))
    one.before_step(1, frozenset({1}))
    train(model, optimizer, [1])
    values["quick"] = 950_000
    assert one.after_step(1, frozenset({1})).events[0]["passed"]  # this state has the update that waits for `slow`
    values["slow"] = 0
    assert one.after_step(2, NO).rolled_back
    assert torch.equal(weights(model), clean)
    values["quick"] = 900_000  # what it is on the state that is back
    one.before_step(3, frozenset({1}))
    (event,) = one.after_step(3, frozenset({1})).events
    assert (event["verified"], event["passed"]) == (900_000, True)


def test_updates_that_a_rollback_took_back_wait_for_no_check() -> None:
    values = {"first": 900_000, "second": 900_000}
    one = verifier(verify("first", steps=2), verify("second", steps=9, remedy="halt"), metric=values.__getitem__)
    step(one, 0, frozenset({0, 1}))
    values["first"] = 0
    assert step(one, 1).rolled_back
    assert one.waiting == NO


def test_the_entropy_of_every_group_stands_in_the_event() -> None:
    one = verifier(verify(), entropies=lambda: (0.5, 1.25))
    assert step(one, 0, YES).events[0]["entropy"] == [500_000, 1_250_000]


def test_obligations_of_other_kinds_are_not_its_business() -> None:
    one = verifier(promote(), verify(remedy="halt"))
    assert one.active
    assert step(one, 0, YES).events == ()
    assert [event["obligation"] for event in step(one, 1, frozenset({0, 1})).events] == [1]
    assert not verifier(promote()).active


def test_a_saved_state_goes_on_with_its_verified_states() -> None:
    metric = Metric()
    one, model, optimizer = trained(verify(steps=2), metric)
    one.before_step(0, YES)
    clean = weights(model)
    train(model, optimizer, [0])
    one.after_step(0, YES)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    again = verifier(verify(steps=2), metric=metric, model=model, optimizer=optimizer)
    again.load_state_dict(torch.load(file, weights_only=True))
    metric.now = 0.0
    assert again.after_step(1, NO).rolled_back
    assert torch.equal(weights(model), clean)


def test_two_obligations_at_one_state_save_it_once() -> None:
    one = verifier(verify(steps=5), verify("other", steps=5), verify("third", steps=5, remedy="hold"))
    one.before_step(0, frozenset({0, 1, 2}))
    saved = one.state_dict()
    assert len(saved["states"]) == 1
    assert [kept["state"] for kept in saved["kept"].values()] == [0, 0, None]


def test_a_saved_state_of_other_obligations_is_refused() -> None:
    one = verifier(verify())
    for wrong in ({}, verifier(promote(), verify()).state_dict()):
        with pytest.raises(IllegalTrainingSetupError, match="other obligations to verify"):
            one.load_state_dict(wrong)
    with pytest.raises(IllegalTrainingSetupError, match="no verified state"):
        one.load_state_dict(one.state_dict() | {"states": [{"steps": 0}]})
