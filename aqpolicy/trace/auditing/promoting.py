"""Promotions derived again: what a run owed when it published a model, and whether it was met, for the auditor.

Metrics are the run's word; what they had to be, and how many had to witness the
candidate, is not. Signatures of witnesses are for `aqpolicy promote` to check.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aqpolicy.bundle.tables import Tables
from aqpolicy.errors import CorruptLogError
from aqpolicy.trace.words import COMPARE

Event = Mapping[str, Any]


@dataclass(slots=True)
class Promoting:
    """All that a run owes before a model may leave it."""

    tables: Tables
    models: Mapping[int, Collection[str]] = field(default_factory=dict)
    """By number of steps, the digests of the models that the log has there."""
    owed: set[int] = field(default_factory=set)
    """Promotions that admitted updates ask for, by position among the obligations."""
    candidates: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By digest, what a candidate needs and how far it has come."""

    def follow(self, steps: int, events: Sequence[Event], waiting: Sequence[int]) -> None:
        """Follow the promotions that the log has after so many steps.

        Args:
            steps: How many steps were taken before them.
            events: The promotions.
            waiting: Verifications that were outstanding.

        Raises:
            CorruptLogError: A model left the run that had to stay; without a place.
        """
        for event in events:
            known = self.candidates.get(str(event.get("candidate")))
            if "checks" in event:
                self._begin(event, waiting)
            elif known is None:
                raise CorruptLogError("a promotion goes on that never began")
            else:
                self._go_on(event, known)
        for digest in self.models.get(steps, ()):
            if (self.owed or waiting) and digest not in self.candidates:
                raise CorruptLogError("a model was published although the run owed a verification or a promotion")

    def _begin(self, event: Event, waiting: Sequence[int]) -> None:
        """Compare a candidate with what the run owes."""
        found = event["checks"] if isinstance(event["checks"], list) else []
        checks: list[dict[str, Any]] = [check if isinstance(check, dict) else {} for check in found]
        if [check.get("obligation") for check in checks] != sorted(self.owed):
            raise CorruptLogError("a promotion looked at other obligations than the run owes")
        held = [self._holds(int(check["obligation"]), check) for check in checks]
        parameters = [self.tables.obligations[number].parameters for number in self.owed]
        witnesses = max((int(str(one["witnesses"])) for one in parameters), default=0)
        state = "refused" if waiting or not all(held) else "tentative" if witnesses else "executed"
        if (event.get("state"), event.get("witnesses")) != (state, witnesses):
            raise CorruptLogError(f"a candidate is `{event.get('state')}`, the policy makes it `{state}`")
        self.candidates[str(event.get("candidate"))] = {"state": state, "witnesses": witnesses}

    def _holds(self, number: int, check: Event) -> bool:
        obligation = self.tables.obligations[number]
        asked, now = obligation.parameters, check.get("now")
        same = all(check.get(name) == asked[name] for name in ("metric", "op", "value"))
        if not same or type(now) is not int:
            raise CorruptLogError(f"what was looked at is not what `{obligation.text}` asks for")
        met: bool = COMPARE[str(asked["op"])](now, int(str(asked["value"])))
        if check.get("holds") is not met:
            raise CorruptLogError(f"whether `{obligation.text}` holds is not what its metric says")
        return bool(met)

    def _go_on(self, event: Event, known: dict[str, Any]) -> None:
        """Follow a candidate from one state to the next."""
        state, signed = event.get("state"), event.get("signed_by")
        allowed = {"tentative": ("witnessed", "aborted"), "witnessed": ("executed", "aborted")}
        if state not in allowed.get(known["state"], ()):
            raise CorruptLogError(f"a candidate went from `{known['state']}` to `{state}`")
        if state == "witnessed" and not (isinstance(signed, list) and len(set(map(str, signed))) >= known["witnesses"]):
            raise CorruptLogError(f"a candidate was witnessed by fewer than {known['witnesses']}")
        known["state"] = state
