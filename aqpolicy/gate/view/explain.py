"""Explain what the gate does with one example: what it said at the last visit, and what it would say now.

It reads, and decides nothing: rows are looked up in the tables that the gate
itself uses, and what was taken away comes from the last visit's reason codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from aqpolicy.bundle.tables import ERROR_ROW, NO_LIMIT, BudgetTable, Effect, ObligationTable, Row, Tables
from aqpolicy.errors import InputError
from aqpolicy.gate.accounts.columns import OF_THE_VISIT, Observations
from aqpolicy.gate.accounts.queue import Waiting
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Reason
from aqpolicy.gate.view.explanation import (
    Explanation,
    GroupAccount,
    PendingAccount,
    RowAccount,
    VisitAccount,
    WaitAccount,
)
from aqpolicy.gate.view.last_visits import TURNED_AWAY, LastVisit, LastVisits
from aqpolicy.lineage import NOT_FINITE, NOT_MEASURED
from aqpolicy.units import MICRO, micro_text

_PLAIN: Final = {
    Reason.TABLE: "",
    Reason.UNKNOWN_EXAMPLE: "the manifest does not hold the example",
    Reason.REFUSED_EXAMPLE: "the example was refused",
    Reason.NOT_FINITE: "its loss was not finite",
    Reason.HALTED: "the run was halted",
    Reason.GRADIENT_NOT_FINITE: "its gradient was not finite here",
    Reason.DEFERRAL_EXPIRED: "it had waited too long",
}


_OVER_ALL: Final = frozenset(_PLAIN) - {Reason.TABLE, Reason.GRADIENT_NOT_FINITE}
"""Reasons that decide over a whole visit, whatever its row says."""

NO_DEFERRALS: Final[Mapping[int, Mapping[int, int]]] = MappingProxyType({})


class Explainer:
    """Answers for the examples of one manifest."""

    def __init__(self, tables: Tables, manifest: Observations, refused: Mapping[str, str], visits: LastVisits) -> None:
        """Keep what is asked about."""
        self._tables, self._manifest, self._refused, self._visits = tables, manifest, refused, visits

    def explain(
        self,
        example: str,
        state: RunState,
        *,
        queue: Iterable[Waiting] = (),
        since: Mapping[int, Mapping[int, int]] = NO_DEFERRALS,
    ) -> Explanation:
        """Return what can be said of an example.

        Args:
            example: Its id; one that the manifest does not hold has an explanation too.
            state: Where the run is.
            queue: Who waits.
            since: By example's index and obligation, the epoch of the first deferral.

        Raises:
            InputError: The id is not a string.
        """
        if not isinstance(example, str):
            raise InputError(f"an example is named by a string, not by `{example!r}`")
        index = self._manifest.index_of(example)
        nothing = RowAccount(ERROR_ROW, self._tables.rows[ERROR_ROW])
        if index is None:
            return Explanation(example, "unknown", {}, self._tables.groups, 0, None, None, state, nothing)
        last, waiting = self._visits.of(index), next((one for one in queue if one.index == index), None)
        told = Explanation(
            example=example,
            standing="refused" if example in self._refused else "known",
            attributes=dict(self._manifest.attributes(index)),
            groups=self._tables.groups,
            visits=0 if last is None else last.visits,
            last=None if last is None else self._visit(last),
            waits=None if waiting is None else self._waits(waiting, since.get(index, {})),
            state=state,
            now=nothing,
            refusal=self._refused.get(example, ""),
        )
        return told if told.standing == "refused" else self._with_outlook(told, last)

    # ---- Now

    def _with_outlook(self, told: Explanation, last: LastVisit | None) -> Explanation:
        """Add what the table says in the present state, as far as it is known."""
        asked = {table.name for table in self._tables.attributes if table.origin == "run"}
        known: dict[str, str | int] = dict(told.state.attributes())
        seen = () if last is None else (("surprisal", last.surprisal), ("predictive_entropy", last.entropy))
        known.update({name: value for name, value in seen if value is not None})
        if last is None and (unseen := tuple(sorted(asked & OF_THE_VISIT))):
            return replace(told, now=None, unseen=unseen)
        values = {
            table.name: (known if table.origin == "run" else told.attributes).get(table.name)
            for table in self._tables.attributes
        }
        row = RowAccount(self._tables.row_of(values), self._tables.decide(values), tuple(self._faults(values)))
        return replace(told, now=row)

    def _faults(self, values: Mapping[str, str | int | None]) -> Iterable[str]:
        """Yield which attributes have no value that the policy knows."""
        for table in self._tables.attributes:
            value = values[table.name]
            if value is None:
                yield f"`{table.name}` is not known"
            elif table.interval_of(value) is None:
                said = value if isinstance(value, str) else micro_text(value)
                yield f"`{table.name}` is `{said}`, which the policy's type does not hold"

    # ---- Waiting

    def _waits(self, waiting: Waiting, since: Mapping[int, int]) -> WaitAccount:
        asked = ((self._tables.obligations[number], first) for number, first in since.items())
        pending = tuple(
            PendingAccount(one.text, first, first + epochs)
            for one, first in asked
            if isinstance(epochs := one.parameters.get("epochs"), int)
        )
        return WaitAccount(waiting.reason, waiting.step, waiting.epoch, () if waiting.budgets else pending)

    # ---- The last visit

    def _visit(self, last: LastVisit) -> VisitAccount:
        row, budgets = self._tables.rows[last.route], self._tables.budgets
        charges = zip(budgets, last.charges, strict=True)
        return VisitAccount(
            state=RunState(last.step, last.epoch, last.phase, last.stage),
            effect=_effect(row, last),
            row=last.route,
            rules=row.rules,
            reason=row.reason,
            surprisal=last.surprisal,
            entropy=last.entropy,
            groups=tuple(self._group(at, row, last) for at in range(len(self._tables.groups))),
            charges=tuple((budget.name, charge) for budget, charge in charges if charge > 0),
            note=next((_PLAIN[reason] for reason in map(Reason, last.reasons) if reason in _OVER_ALL), ""),
        )

    def _group(self, at: int, row: Row, last: LastVisit) -> GroupAccount:
        reason, norm = Reason(last.reasons[at]), last.norms[at]
        return GroupAccount(
            group=self._tables.groups[at],
            table=row.shares[at],
            share=last.shares[at],
            limit=None if row.norms[at] == NO_LIMIT else row.norms[at],
            norm=None if norm == NOT_MEASURED else float("inf") if norm == NOT_FINITE else norm,
            reason=reason,
            because=self._because(reason, at, row, last) if last.shares[at] != row.shares[at] else "",
        )

    def _because(self, reason: Reason, at: int, row: Row, last: LastVisit) -> str:
        """Return in words why a share was lowered; all causes that the code may stand for are named."""
        match reason:
            case Reason.PER_UPDATE:
                return f"limit per update of {self._budgets(at, row, lambda one: one.per_update != NO_LIMIT)}"
            case Reason.EXHAUSTED:
                return f"exhausted: {self._budgets(at, row, _runs_out)}"
            case Reason.ATTENUATED:
                return f"all that was left of {self._budgets(at, row, lambda one: one.on_exhaust == 'attenuate')}"
            case Reason.DEFERRED:
                turned = zip(self._tables.budgets, last.charges, strict=True)
                return f"deferred by {_or(one.name for one, charge in turned if charge == TURNED_AWAY)}"
            case Reason.LINEAR:
                names = (self._tables.attributes[position].name for group, position, *_ in row.linear if group == at)
                return f"limited in proportion to {_or(names)}"
            case Reason.FREQUENCY:
                return f"written often enough: {self._asked(row, 'frequency', at)}"
            case Reason.HELD:
                return f"held until it is verified: {self._asked(row, 'verify', at)}"
        return _PLAIN[reason]

    def _budgets(self, at: int, row: Row, chosen: Callable[[BudgetTable], bool]) -> str:
        concerned = zip(self._tables.budgets, row.charged, strict=True)
        return _or(one.name for one, charged in concerned if charged and at in one.groups and chosen(one))

    def _asked(self, row: Row, kind: str, at: int) -> str:
        asked = (self._tables.obligations[number] for number in row.obligations)
        return _or(one.text for one in asked if one.kind == kind and _covers(one, at))


def _covers(obligation: ObligationTable, group: int) -> bool:
    groups = obligation.parameters.get("groups")
    return group in groups if isinstance(groups, tuple) else True


def _runs_out(budget: BudgetTable) -> bool:
    """Return whether a budget takes shares away once it is spent."""
    windows = any(meter == "surprisal" for meter, _, _ in budget.meters)
    bounded = windows or max(budget.per_epoch, budget.per_run, budget.exposures) != NO_LIMIT
    return bounded and budget.on_exhaust in ("deny", "attenuate")


def _effect(row: Row, last: LastVisit) -> Effect:
    if last.deferred:
        return "defer"
    if not any(last.shares):
        return "deny"
    return "admit" if set(last.shares) == {MICRO} and max(row.norms) == NO_LIMIT else "modulate"


def _or(names: Iterable[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)
