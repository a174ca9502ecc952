"""Take the run's steps once more, from its recorded gradients: where the weights go, and what they fall on.

The gate's own rules do it, in the space that the run recorded. Rounded gradients
make a rounded way; what the gate itself measured of every step is exact, and in
the log beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aqpolicy.gate.motion.rules import Adam, Rule, Sgd, Split, State
from aqpolicy.lineage import Book
from aqpolicy.trace.writing import Writing, split


@dataclass
class Forward:
    """The weights between two steps, and what the optimizer remembers of them.

    Shapes:
        values: per group (width).
    """

    values: list[Tensor]
    states: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Remember nothing before the first step."""
        self.states = self.states or [{} for _ in self.values]

    def copy(self) -> Forward:
        """Return the same, to go on from on its own."""
        return Forward([value.clone() for value in self.values], [_copied(state) for state in self.states])

    def step(self, book: Book, writing: Writing) -> list[Split | None]:
        """Take a step and return what it is made of, before factors; None for groups that were closed."""
        rows = len(book.movement)
        clip = torch.tensor(book.clip, dtype=torch.float64)
        (total,) = writing.pull(clip.expand(1, writing.count, rows))
        rule, settings = rule_of(book), settings_of(book)
        gradients = split(total, [len(value) for value in self.values])
        found: list[Split | None] = []
        for group, (value, gradient) in enumerate(zip(self.values, gradients, strict=True)):
            if book.closed[group] or not len(value):
                found.append(None)
                continue
            parts = rule.split(value, gradient.to(value.dtype), settings, self.states[group])
            self.values[group] = value + book.factors[group] * parts.whole
            found.append(parts)
        return found

    def ground(self, book: Book) -> Tensor:
        """Return by what each number of a gradient was multiplied, beside the rate: 1 / (sqrt(v) + epsilon)."""
        parts = []
        for value, state in zip(self.values, self.states, strict=True):
            squares = state.get("most", state.get("second"))
            if squares is None:
                parts.append(torch.zeros_like(value))
                continue
            correction = (1.0 - book.second_momentum ** state["step"]) ** 0.5
            parts.append(1.0 / (squares.sqrt() / correction + book.epsilon))
        return torch.cat(parts)


def rule_of(book: Book) -> Rule:
    """Return the rule that a step was taken by."""
    return Adam() if book.second_momentum else Sgd()


def settings_of(book: Book) -> dict[str, Any]:
    """Return the settings of a step as its optimizer had them."""
    return {
        "lr": book.lr,
        "momentum": book.momentum,
        "betas": (book.momentum, book.second_momentum),
        "dampening": book.dampening,
        "weight_decay": book.weight_decay,
        "nesterov": book.nesterov,
        "maximize": False,
        "eps": book.epsilon,
        "amsgrad": book.amsgrad,
        "decoupled_weight_decay": book.decoupled,
    }


def backwards(start: Forward, steps: int, take: Any) -> Iterator[tuple[int, Forward]]:
    """Yield the states after every step, the last first, keeping about the square root of them in memory.

    Args:
        start: Before the first step.
        steps: Number of steps.
        take: Called with a state and the number of a step, takes the state through it.
    """
    length = max(1, round(steps**0.5))
    marks: list[Forward] = []
    now = start.copy()
    for number in range(steps):
        if number % length == 0:
            marks.append(now.copy())
        take(now, number)
    for mark in reversed(range(len(marks))):
        now, after = marks.pop(), []
        for number in range(mark * length, min(steps, (mark + 1) * length)):
            take(now, number)
            after.append((number, now.copy()))
        yield from reversed(after)


def _copied(state: State) -> State:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
