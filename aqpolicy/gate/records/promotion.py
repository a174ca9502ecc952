"""Promotion: how a model leaves a run whose policy says what must hold first.

Once an update was admitted under a `promote` obligation, the model is published
only where the metric holds, and where the policy asks for witnesses only after
they have signed the candidate's digest (`witnesses`). Stages: tentative,
witnessed, executed; refused where a metric does not hold, aborted by whoever
runs the training. Every stage is an event of the log, durable before a file
tells of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from aqpolicy.bundle.tables import ObligationTable, Tables
from aqpolicy.errors import IllegalTrainingSetupError, InputError
from aqpolicy.gate.motion.metrics import holds
from aqpolicy.trust import digest_text, replace_file, sha256

EVENT: Final = "promotion"
"""What `event` is in the log's entries about promotions."""

Stage = Literal["published", "tentative", "refused", "witnessed", "executed", "aborted"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


def model_file(name: str) -> str:
    """Return the name of a published model's file.

    Raises:
        InputError: The name cannot be that of a model.
    """
    return f"{_checked(name)}.pt"


def candidate_file(name: str) -> str:
    """Return the name of the file that a model waits in; raises as `model_file` does."""
    return f"{_checked(name)}.candidate.pt"


def witness_file(name: str) -> str:
    """Return the name of the file with the witnesses' signatures; raises as `model_file` does."""
    return f"{_checked(name)}.witnesses.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model may be published now."""

    stage: Stage
    """`published` where the run owes nothing, else `executed`, `tentative` or `refused`."""
    witnesses: int = 0
    """How many must sign first."""
    checks: tuple[Mapping[str, Any], ...] = ()
    """What was found of each obligation to promote."""
    unverified: tuple[int, ...] = ()
    """Obligations to verify whose updates still wait for a check."""

    def event(self, name: str, digest: bytes, step: int) -> dict[str, Any] | None:
        """Return what the log is told; None where the run owes nothing."""
        if self.stage == "published":
            return None
        return {
            "event": EVENT,
            "state": self.stage,
            "name": name,
            "candidate": digest_text(digest),
            "step": step,
            "witnesses": self.witnesses,
            "checks": [dict(check) for check in self.checks],
            "unverified": list(self.unverified),
        }

    def file(self, name: str) -> str:
        """Return the name of the file that the model goes into."""
        return model_file(name) if self.stage in {"published", "executed"} else candidate_file(name)


class Promotions:
    """The obligations to promote that a run has taken on."""

    def __init__(self, tables: Tables) -> None:
        """Start with none."""
        self._obligations: dict[int, ObligationTable] = {
            number: obligation for number, obligation in enumerate(tables.obligations) if obligation.kind == "promote"
        }
        self.owed: frozenset[int] = frozenset()
        """The obligations of updates that were admitted."""

    def ask(self, obligations: Iterable[int]) -> None:
        """Take note of the obligations of a step's admitted updates; once owed is owed to the end."""
        self.owed |= self._obligations.keys() & set(obligations)

    def judge(self, metric: Callable[[str], int], *, unverified: Collection[int] = ()) -> Verdict:
        """Return whether the model may be published as it is now.

        Args:
            metric: Returns the present value of a metric, in millionths.
            unverified: Obligations to verify that still wait (`Verifier.waiting`): there must be none.
        """
        checks = tuple(self._look(number, metric) for number in sorted(self.owed))
        waiting = tuple(sorted(unverified))
        witnesses = max((_count(self._obligations[number]) for number in self.owed), default=0)
        if waiting or not all(check["holds"] for check in checks):
            return Verdict("refused", witnesses, checks, waiting)
        if not checks:
            return Verdict("published")
        return Verdict("tentative" if witnesses else "executed", witnesses, checks)

    def state_dict(self) -> dict[str, Any]:
        """Return what the run owes."""
        return {"obligations": sorted(self._obligations), "owed": sorted(self.owed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            IllegalTrainingSetupError: It is of other obligations.
        """
        owed = state.get("owed")
        same = state.get("obligations") == sorted(self._obligations)
        if not same or not isinstance(owed, list) or not set(owed) <= self._obligations.keys():
            raise IllegalTrainingSetupError("the saved state is of other obligations to promote; attach anew")
        self.owed = frozenset(owed)

    def _look(self, number: int, metric: Callable[[str], int]) -> dict[str, Any]:
        asked = self._obligations[number].parameters
        name, op, value = str(asked["metric"]), str(asked["op"]), int(str(asked["value"]))
        now = metric(name)
        return {
            "obligation": number,
            "metric": name,
            "op": op,
            "value": value,
            "now": now,
            "holds": holds(now, op, value),
        }


class Log(Protocol):
    """The part of `lineage.LineageWriter` that publishing uses."""

    def append_event(self, facts: Mapping[str, Any]) -> Any:
        """Take an event; durable with the next model."""

    def append_model(self, step: int, model_digest: bytes, facts: Mapping[str, Any]) -> Any:
        """Take the digest of a model; durable on return."""


def publish(
    run: Path, name: str, data: bytes, verdict: Verdict, *, log: Log, step: int, facts: Mapping[str, Any]
) -> Path:
    """Write a model where the verdict lets it go, and return its path.

    Args:
        run: The run's folder.
        name: What the model is called, such as `model` or `merged`.
        data: The model's file.
        verdict: Whether it may be published.
        log: The run's.
        step: After how many steps it was made.
        facts: What the log says of the model besides.

    Durability: the log, then the file; so no file is there that the log does not tell of.

    Raises:
        InputError: The name cannot be that of a model, or the file cannot be written.
        LineageError: The log cannot be written; no file was.
    """
    path, digest = run / verdict.file(name), sha256(data)
    event = verdict.event(name, digest, step)
    if event is not None:
        log.append_event(event)
    log.append_model(step, digest, facts)
    replace_file(path, data)
    return path


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InputError(f"`{name!a:.80}` cannot name a model; use letters, digits, `_` and `-`, at most 64")
    return name


def _count(obligation: ObligationTable) -> int:
    return int(str(obligation.parameters["witnesses"]))
