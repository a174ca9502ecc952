"""Verifications derived again: which were due, what they were compared with, and what followed, for the auditor.

An admitted update makes a check due; a check compares the metric with its value at
the last one that was passed. What the metric was is the run's word, that it was
looked at in time and what followed is not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aqpolicy.bundle.tables import ObligationTable
from aqpolicy.errors import CorruptLogError

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is remembered of one verification."""

    measured: int | None = None
    """After how many steps the value to compare with was measured; None where it is yet to be."""
    value: int | None = None
    """That value; None where no event has told it yet."""
    since: int | None = None
    """The first step with an update that waits for a check."""
    due: int | None = None
    """The step at whose end the next check takes place; None where nothing waits for one."""
    held: bool = False


@dataclass(slots=True)
class Checking:
    """All verifications of a run."""

    obligations: Sequence[ObligationTable]
    kept: dict[int, _Kept] = field(init=False)
    checks: int = 0
    rollbacks: int = 0
    halted: str = ""
    """What the verification that has stopped the run says."""

    def __post_init__(self) -> None:
        """Start with nothing due."""
        self.kept = {number: _Kept() for number, one in enumerate(self.obligations) if one.kind == "verify"}

    @property
    def held(self) -> frozenset[int]:
        """The verifications whose updates are held."""
        return frozenset(number for number, kept in self.kept.items() if kept.held)

    def after_step(self, step: int, asked: Collection[int]) -> None:
        """Note the updates that a step admitted."""
        for number in asked:
            kept = self.kept[number]
            due = step + self._number(number, "steps") - 1
            self.kept[number] = replace(
                kept,
                measured=step if kept.measured is None else kept.measured,
                since=step if kept.since is None else kept.since,
                due=due if kept.due is None else min(due, kept.due),
            )

    def follow(self, steps: int, events: Sequence[Event], *, publishing: bool, last: bool) -> None:
        """Follow the checks that the log has after so many steps: those that were due, then those for publications.

        Args:
            steps: How many steps were taken before them.
            events: The checks.
            publishing: Whether a model was to be published here.
            last: Whether the run may have broken off here.

        Raises:
            CorruptLogError: One is missing, too many, or does not follow from the run; without a place.
        """
        due = [number for number, kept in self.kept.items() if kept.due is not None and kept.due < steps]
        if due and not (events or last):
            raise CorruptLogError(f"`{self.obligations[due[0]].text}` was due and was not checked")
        batch, rest = events[: len(due)], events[len(due) :]
        if batch:
            self._check(due, batch, steps)
        while rest:
            waiting = self.waiting
            batch, rest = rest[: len(waiting)], rest[len(waiting) :]
            # A check that fails is the end of the publication that it was made for.
            if not waiting or not (publishing or last or any(event.get("passed") is False for event in batch)):
                raise CorruptLogError("a verification took place that nothing asked for")
            self._check(waiting, batch, steps)

    @property
    def waiting(self) -> list[int]:
        """The verifications that an update waits for, or that are held."""
        return [number for number, kept in self.kept.items() if kept.due is not None]

    def _check(self, numbers: Sequence[int], events: Sequence[Event], steps: int) -> None:
        """Follow checks that were made on the same model."""
        if [event.get("obligation") for event in events] != list(numbers):
            raise CorruptLogError("other verifications took place than were due")
        passed = {number: self._passed(number, event) for number, event in zip(numbers, events, strict=True)}
        self.checks += len(numbers)
        for number, event in zip(numbers, events, strict=True):
            if passed[number]:
                self.kept[number] = _Kept(steps, int(event["now"]))
            else:
                self.kept[number] = replace(self.kept[number], value=int(event["verified"]))
        failed = [number for number in numbers if not passed[number]]
        self._roll_back([number for number in failed if self._remedy(number) == "rollback"])
        for number in failed:
            if self._remedy(number) == "hold":
                again = steps - 1 + self._number(number, "steps")
                self.kept[number] = replace(self.kept[number], held=True, due=again)
            if self._remedy(number) == "halt":
                self.halted = self.obligations[number].text

    def _passed(self, number: int, event: Event) -> bool:
        """Compare one check with what is known, and return whether it was passed."""
        obligation, kept = self.obligations[number], self.kept[number]
        verified, now = event.get("verified"), event.get("now")
        if type(verified) is not int or type(now) is not int or event.get("metric") != obligation.parameters["metric"]:
            raise CorruptLogError("a verification says nothing of its metric")
        if kept.value is not None and verified != kept.value:
            raise CorruptLogError(f"`{obligation.text}` was compared with {verified}, not with {kept.value}")
        loss = verified - now if obligation.parameters["direction"] == "falls" else now - verified
        passed = loss <= self._number(number, "amount")
        if (event.get("passed"), event.get("remedy")) != (passed, "" if passed else self._remedy(number)):
            raise CorruptLogError(f"what followed from `{obligation.text}` is not what the policy says")
        return passed

    def _roll_back(self, failed: Sequence[int]) -> None:
        """Forget what belonged to steps that were taken back: they end at the oldest state that was asked for."""
        measured = [at for number in failed if (at := self.kept[number].measured) is not None]
        if not measured:
            return
        self.rollbacks += 1
        to = min(measured)
        for number, kept in self.kept.items():
            if kept.measured is not None and kept.measured > to:
                self.kept[number] = _Kept()
            elif number in failed or (kept.since is not None and kept.since >= to and not kept.held):
                self.kept[number] = replace(kept, since=None, due=None)

    def _remedy(self, number: int) -> str:
        return str(self.obligations[number].parameters["remedy"])

    def _number(self, number: int, name: str) -> int:
        value = self.obligations[number].parameters[name]
        return value if isinstance(value, int) else 0
