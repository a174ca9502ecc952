"""What `gate.explain` answers: facts for programs, and the same facts read aloud."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from aqpolicy.bundle.tables import Effect, Row
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Reason
from aqpolicy.units import MICRO, micro_text

Standing = Literal["known", "refused", "unknown"]

_BECAME: Final[Mapping[Effect, str]] = {
    "deny": "denied",
    "defer": "deferred",
    "modulate": "modulated",
    "admit": "admitted",
}


@dataclass(frozen=True, slots=True)
class RowAccount:
    """A row of the table, for an example in a state of the run; `decision` has its linear limits resolved."""

    number: int
    decision: Row
    faults: tuple[str, ...] = ()
    """Why nothing could be decided, where that is so."""


@dataclass(frozen=True, slots=True)
class GroupAccount:
    """What an example could write into a depth group, and what it could not.

    Units:
        table, share, limit: millionths.
    """

    group: str
    table: int
    """The share that the row says."""
    share: int
    """The share that was left."""
    limit: int | None
    """The row's norm limit."""
    norm: float | None
    """Norm of the example's own gradient; None where it was not recorded, infinite where it was not finite."""
    reason: Reason
    because: str
    """What took the difference away, in words; empty where there is none."""

    def __str__(self) -> str:
        """Return the account in words."""
        parts = [f"{micro_text(self.share)} of {micro_text(self.table)}"]
        if self.norm is not None:
            finite = self.norm != float("inf")
            parts.append(f"norm {self.norm:.4g}" if finite else "norm not finite")
        if self.limit is not None and self.table:
            cut = self.norm is not None and self.norm > self.limit / MICRO and self.share
            parts.append(f"{'cut' if cut else 'limited'} to {micro_text(self.limit)}")
        return ", ".join(parts) + (f": {self.because}" if self.because else "")


@dataclass(frozen=True, slots=True)
class VisitAccount:
    """What became of the example when it was visited last.

    Units:
        surprisal, entropy, charges: millionths of a nat.
    """

    state: RunState
    """`today` is not kept and stands at 0."""
    effect: Effect
    row: int
    rules: tuple[str, ...]
    reason: str
    """What the row gives as its reason."""
    surprisal: int | None
    """None where the loss was not finite."""
    entropy: int | None
    groups: tuple[GroupAccount, ...]
    charges: tuple[tuple[str, int], ...]
    """What was charged, by budget, where anything was."""
    note: str = ""
    """What decided over the whole visit, whatever the row says; empty where nothing did."""


@dataclass(frozen=True, slots=True)
class PendingAccount:
    """Something that the example waits for."""

    text: str
    since: int
    """Epoch of its first deferral."""
    expires: int
    """Epoch from which on it is denied."""


@dataclass(frozen=True, slots=True)
class WaitAccount:
    """The example's place in the queue."""

    why: str
    step: int
    epoch: int
    """Since when it waits."""
    pending: tuple[PendingAccount, ...]
    """What its row waits for; empty where a budget deferred it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that the gate can say of one example."""

    example: str
    standing: Standing
    attributes: Mapping[str, str | int]
    """What the manifest says, numbers in millionths."""
    groups: tuple[str, ...]
    """Names of the depth groups, in the order of the row's shares."""
    visits: int
    last: VisitAccount | None
    """None where it was never visited."""
    waits: WaitAccount | None
    """None where it does not wait."""
    state: RunState
    """Where the run is."""
    now: RowAccount | None
    """What the table says in this state, before budgets; None where `unseen` decides."""
    unseen: tuple[str, ...] = ()
    """Attributes that the table asks for and that only a visit tells."""
    refusal: str = ""
    """Why the example was refused, where it was."""

    def __str__(self) -> str:
        """Read the explanation aloud."""
        return "\n".join(_lines(self))


def _lines(told: Explanation) -> Iterator[str]:
    yield f"{told.example}: {_summary(told)}"
    if told.standing == "unknown":
        return
    yield from ("", "The manifest says")
    yield from _aligned({name: _value(value) for name, value in told.attributes.items()})
    if told.last is not None:
        yield from ("", *_visit_lines(told.last))
    if told.waits is not None:
        yield from ("", *_wait_lines(told.waits))
    yield from ("", *_now_lines(told))


def _summary(told: Explanation) -> str:
    if told.standing == "unknown":
        return "not in the manifest; wherever it is scheduled it is denied, as an error"
    times = "once" if told.visits == 1 else f"{told.visits} times"
    seen = "never visited" if told.last is None else f"visited {times}"
    if told.standing == "refused":
        return f"refused when the gate was attached: {told.refusal}, so it is denied; {seen}"
    if told.last is None:
        return seen
    return f"{seen}, {'then' if told.visits == 1 else 'the last time'} {_BECAME[told.last.effect]}"


def _visit_lines(visit: VisitAccount) -> Iterator[str]:
    note = f", because {visit.note}" if visit.note else ""
    yield f"Its last visit, in {_place(visit.state)}: {_BECAME[visit.effect]}{note}"
    yield f"  {_row_words(visit.row, visit.rules, visit.reason)}"
    nats = "surprisal not finite" if visit.surprisal is None else f"surprisal {micro_text(visit.surprisal)} nat"
    entropy = "" if visit.entropy is None else f", predictive entropy {micro_text(visit.entropy)} nat"
    yield f"  {nats}{entropy}"
    yield from _aligned({account.group: str(account) for account in visit.groups})
    for budget, charge in visit.charges:
        yield f"  charged {micro_text(charge)} nat to {budget}"


def _wait_lines(waits: WaitAccount) -> Iterator[str]:
    yield f"It waits since step {waits.step}, epoch {waits.epoch}: {waits.why}"
    for pending in waits.pending:
        yield f"  {pending.text}: since epoch {pending.since}, denied from epoch {pending.expires} on"


def _now_lines(told: Explanation) -> Iterator[str]:
    where = f"Now, in {_place(told.state)}"
    if told.now is None:
        yield f"{where}, its row depends on {_and(told.unseen)}, which its first visit will tell"
        return
    row = told.now.decision
    yield f"{where}, the table says {row.effect}"
    yield f"  {_row_words(told.now.number, row.rules, row.reason)}"
    for fault in told.now.faults:
        yield f"  {fault}"
    if any(row.shares):
        limits = [f", norm at most {micro_text(norm)}" if norm >= 0 and share else "" for share, norm in _pairs(row)]
        shares = [f"{micro_text(share)}{limit}" for share, limit in zip(row.shares, limits, strict=True)]
        yield from _aligned(dict(zip(told.groups, shares, strict=True)))


def _pairs(row: Row) -> Iterator[tuple[int, int]]:
    return zip(row.shares, row.norms, strict=True)


def _row_words(number: int, rules: tuple[str, ...], reason: str) -> str:
    named = [f"`{rule}`" for rule in rules]
    return f"row {number} of the table, by {_and(named) if named else 'no rule'}: {reason}"


def _place(state: RunState) -> str:
    words = [f"step {state.step}", f"epoch {state.epoch}"]
    words += [f"{kind} {name}" for kind, name in (("phase", state.phase), ("stage", state.stage)) if name]
    return ", ".join(words)


def _value(value: str | int) -> str:
    return value if isinstance(value, str) else micro_text(value)


def _and(words: tuple[str, ...] | list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _aligned(facts: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, facts), default=0)
    return (f"  {name:<{width}}  {fact}" for name, fact in facts.items())
