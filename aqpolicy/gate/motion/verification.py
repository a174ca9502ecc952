"""Verification: look at a metric after updates were committed, and answer a loss.

An obligation to verify becomes due by updates that were admitted under it. At
its check the metric is compared with its value at the last check that was passed,
so many small losses do not pass one by one. Where it lost too much, the remedy
follows: the last verified state comes back (`rollback`), the run halts, or
updates of this kind are held until a later check is passed.

It knows neither the log nor the ledger: it returns events, and says what is held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from aqpolicy.bundle.tables import ObligationTable, Tables
from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.rollback import State, Stateful
from aqpolicy.units import MICRO

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What checks led to."""

    events: tuple[Event, ...] = ()
    """One per check, for the log."""
    rolled_back: bool = False
    """Parameters, buffers and optimizer are those of an earlier state."""
    halted: str = ""
    """What the run halts for."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is remembered of one obligation."""

    value: int | None = None
    """The metric at the last check that was passed, or before the first update; None before that."""
    at: int = 0
    """After how many steps that was."""
    since: int | None = None
    """The first step with an update that waits for a check."""
    due: int | None = None
    """The step at whose end the next check takes place; None where no update waits for one."""
    held: bool = False
    state: State | None = None
    """The model as it was verified last; kept where the remedy is `rollback`."""


class Verifier:
    """The obligations to verify of one run."""

    def __init__(
        self,
        tables: Tables,
        metric: Callable[[str], int],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        also: Sequence[Stateful] = (),
        entropies: Callable[[], Sequence[float]] | None = None,
    ) -> None:
        """Start with nothing due.

        Args:
            tables: The policy's.
            metric: Returns the present value of a metric, in millionths.
            model: What is rolled back.
            optimizer: Its state is rolled back with the model.
            also: What else goes back with them, such as the gate's own books of the optimizer.
            entropies: Measures S1 of every depth group, for the events.
        """
        self._obligations: dict[int, ObligationTable] = {
            number: obligation for number, obligation in enumerate(tables.obligations) if obligation.kind == "verify"
        }
        self._metric, self._entropies = metric, entropies
        self._model, self._optimizer, self._also = model, optimizer, tuple(also)
        self._kept = dict.fromkeys(self._obligations, _Kept())

    @property
    def active(self) -> bool:
        """Whether the policy has such an obligation at all."""
        return bool(self._obligations)

    @property
    def held(self) -> frozenset[int]:
        """The obligations whose updates are held."""
        return frozenset(number for number, kept in self._kept.items() if kept.held)

    @property
    def waiting(self) -> frozenset[int]:
        """The obligations with updates that wait for a check; nothing is published while there is one."""
        return frozenset(number for number, kept in self._kept.items() if kept.due is not None)

    def before_step(self, step: int, asked: Collection[int]) -> None:
        """Measure what has no value yet and keep the state to which its updates may have to go back.

        Args:
            step: The step that is about to move the parameters.
            asked: The obligations of updates that it admits.
        """
        state: State | None = None
        for number in self._known(asked):
            kept = self._kept[number]
            if kept.value is not None:
                continue
            if self._rolls_back(number):
                state = state or self._state(step)
            value = self._metric(str(self._obligations[number].parameters["metric"]))
            self._kept[number] = replace(kept, value=value, at=step, state=state if self._rolls_back(number) else None)

    def after_step(self, step: int, asked: Collection[int]) -> Outcome:
        """Make the checks that are due at the end of a step.

        Args:
            step: The step that has moved the parameters and is recorded.
            asked: The obligations of updates that it admitted.
        """
        for number in self._known(asked):
            kept, due = self._kept[number], step + self._number(number, "steps") - 1
            since = step if kept.since is None else kept.since
            self._kept[number] = replace(kept, since=since, due=due if kept.due is None else min(kept.due, due))
        due_now = [number for number, kept in self._kept.items() if kept.due is not None and kept.due <= step]
        return self._check(due_now, step)

    def before_publication(self, step: int) -> Outcome:
        """Make every check that is outstanding; what is `waiting` afterwards must not be published.

        Args:
            step: The last step that was taken.
        """
        return self._check(sorted(self.waiting), step)

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered, with the verified states; tensors are not copied."""
        states = list({id(kept.state): kept.state for kept in self._kept.values() if kept.state is not None}.values())
        kept = {
            number: {
                "value": one.value,
                "at": one.at,
                "since": one.since,
                "due": one.due,
                "held": one.held,
                "state": None if one.state is None else states.index(one.state),
            }
            for number, one in self._kept.items()
        }
        return {"kept": kept, "states": [state.state_dict() for state in states]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            IllegalTrainingSetupError: It is of other obligations.
        """
        kept = state.get("kept")
        if not isinstance(kept, Mapping) or kept.keys() != self._obligations.keys():
            raise IllegalTrainingSetupError("the saved state is of other obligations to verify; attach anew")
        states = [State.from_dict(one) for one in state["states"]]
        self._kept = {
            number: replace(_Kept(**one), state=None if one["state"] is None else states[one["state"]])
            for number, one in kept.items()
        }

    def _check(self, numbers: Sequence[int], step: int) -> Outcome:
        """Check obligations, all on the present state; then answer."""
        if not numbers:
            return Outcome()
        names = {number: str(self._obligations[number].parameters["metric"]) for number in numbers}
        values = {name: self._metric(name) for name in dict.fromkeys(names.values())}
        passed = {
            number: self._loss(number, values[names[number]]) <= self._number(number, "amount") for number in numbers
        }
        entropy = self._entropy()
        events = [
            {
                "event": "verification",
                "obligation": number,
                "metric": names[number],
                "verified": self._kept[number].value,
                "now": values[names[number]],
                "passed": passed[number],
                "remedy": "" if passed[number] else self._remedy(number),
                "step": step,
                **entropy,
            }
            for number in numbers
        ]
        self._accept([number for number in numbers if passed[number]], values, step)
        failed = [number for number in numbers if not passed[number]]
        rolled_back = self._roll_back([number for number in failed if self._remedy(number) == "rollback"])
        for number in failed:
            if self._remedy(number) == "hold":
                again = step + self._number(number, "steps")
                self._kept[number] = replace(self._kept[number], held=True, due=again)
        halts = [self._obligations[number].text for number in failed if self._remedy(number) == "halt"]
        return Outcome(tuple(events), rolled_back, next(iter(halts), ""))

    def _accept(self, numbers: Sequence[int], values: Mapping[str, int], step: int) -> None:
        """Take the present state for the verified one of these obligations."""
        state = self._state(step + 1) if any(map(self._rolls_back, numbers)) else None
        for number in numbers:
            value = values[str(self._obligations[number].parameters["metric"])]
            self._kept[number] = _Kept(value, step + 1, state=state if self._rolls_back(number) else None)

    def _roll_back(self, failed: Sequence[int]) -> bool:
        """Go back to the oldest verified state that these obligations ask for."""
        states = [state for number in failed if (state := self._kept[number].state) is not None]
        if not states:
            return False
        state = min(states, key=lambda one: one.steps)
        state.restore(self._model, self._optimizer, self._also)
        for number, kept in self._kept.items():
            if kept.at > state.steps:
                # Measured on a model that is no more: measured anew before the next update.
                self._kept[number] = _Kept()
            elif number in failed or (kept.since is not None and kept.since >= state.steps and not kept.held):
                self._kept[number] = replace(kept, since=None, due=None)  # its updates were taken back
        return True

    def _loss(self, number: int, now: int) -> int:
        kept = self._kept[number].value
        verified = now if kept is None else kept
        return verified - now if self._obligations[number].parameters["direction"] == "falls" else now - verified

    def _state(self, steps: int) -> State:
        return State.of(steps, self._model, self._optimizer, self._also)

    def _known(self, asked: Iterable[int]) -> list[int]:
        return sorted(self._obligations.keys() & set(asked))

    def _rolls_back(self, number: int) -> bool:
        return self._remedy(number) == "rollback"

    def _remedy(self, number: int) -> str:
        return str(self._obligations[number].parameters["remedy"])

    def _number(self, number: int, name: str) -> int:
        value = self._obligations[number].parameters[name]
        return value if isinstance(value, int) else 0

    def _entropy(self) -> dict[str, list[int]]:
        return {} if self._entropies is None else {"entropy": [round(nats * MICRO) for nats in self._entropies()]}
