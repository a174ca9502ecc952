"""Tables to plain JSON values and back, with every fact checked that one table states about another.

It knows no bytes and no signatures. What it returns is a decision table that can
be used without further checks: every number is in range, every position points
at something, no row contradicts itself, and no feature is used that is not asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal

from aqpolicy.bundle.capabilities import ATTRIBUTE_FEATURES, OBLIGATION_FEATURES, meter_feature
from aqpolicy.bundle.fields import LARGEST_TEXT, a_text, an_object, choice, integer, items, members, refuse, unique
from aqpolicy.bundle.tables import (
    CAUSES,
    EFFECTS,
    ERROR_ROW,
    EXHAUSTS,
    LARGEST_SHARE,
    NO_LIMIT,
    OBLIGATION_KINDS,
    ORIGINS,
    AttributeTable,
    BudgetTable,
    EvidenceTable,
    ObligationTable,
    Row,
    Tables,
)
from aqpolicy.units import MICRO

_KINDS: Final[tuple[Literal["category", "numeric"], ...]] = ("category", "numeric")
_METERS: Final = ("surprisal", "movement", "drift")
_WINDOWS: Final = ("update", "step", "epoch", "phase", "run")
_VECTOR: Final = re.compile(r"-1|0|[1-9a-f][0-9a-f]*", re.ASCII)


def encode_tables(tables: Tables) -> dict[str, object]:
    """Return the tables as lists, objects, texts and integers."""
    return {
        "attributes": [
            _fields(table) | {"vectors": [format(vector, "x") for vector in table.vectors]}
            for table in tables.attributes
        ],
        "budgets": [_fields(budget) for budget in tables.budgets],
        "evidence": None if tables.evidence is None else _fields(tables.evidence),
        "groups": tables.groups,
        "obligations": [_fields(obligation) for obligation in tables.obligations],
        "requires": tables.requires,
        "rows": [_fields(row) for row in tables.rows],
        "vectors": {format(vector, "x"): row for vector, row in tables.row_of_vector.items()},
    }


def _fields(table: AttributeTable | BudgetTable | EvidenceTable | ObligationTable | Row) -> dict[str, object]:
    return {name: getattr(table, name) for name in table.__slots__}


def decode_tables(value: object) -> Tables:
    """Read what `encode_tables` returns.

    Raises:
        MalformedBundleError: It returns no such thing.
    """
    m = members(value, "attributes budgets evidence groups obligations requires rows vectors", "the tables")
    rows = items(m["rows"], _row)
    tables = Tables(
        groups=unique(items(m["groups"], a_text), "a group"),
        attributes=items(m["attributes"], _attribute),
        rows=rows,
        row_of_vector={
            _vector(vector): integer(row, 1, len(rows) - 1) for vector, row in an_object(m["vectors"]).items()
        },
        budgets=items(m["budgets"], _budget),
        obligations=items(m["obligations"], _obligation),
        requires=unique(items(m["requires"], a_text), "a feature"),
        evidence=None if m["evidence"] is None else _evidence(m["evidence"]),
    )
    _check(tables)
    return tables


# ---- Each table by itself


def _attribute(value: object) -> AttributeTable:
    m = members(value, "breaks high kind name origin step values vectors", "an attribute")
    table = AttributeTable(
        name=a_text(m["name"]),
        kind=choice(m["kind"], _KINDS),
        values=unique(items(m["values"], a_text), "a value"),
        breaks=items(m["breaks"], integer),
        high=integer(m["high"]),
        step=integer(m["step"], 1),
        vectors=items(m["vectors"], _vector),
        origin=choice(m["origin"], ORIGINS),
    )
    category = table.kind == "category"
    intervals, others = (table.values, table.breaks) if category else (table.breaks, table.values)
    if not intervals or others or len(intervals) != len(table.vectors):
        refuse(f"attribute `{table.name}` has the wrong intervals")
    ends = (*table.breaks, table.high + 1)
    if not category and any(start >= end for start, end in pairwise(ends)):
        refuse(f"the intervals of attribute `{table.name}` do not ascend")
    return table


def _vector(value: object) -> int:
    # Hexadecimal, because a policy has more conjuncts than a JSON number has exact bits.
    if not isinstance(value, str) or len(value) > LARGEST_TEXT * 16 or _VECTOR.fullmatch(value) is None:
        refuse("a bit vector is not written in hexadecimal")
    return int(value, 16)


def _row(value: object) -> Row:
    m = members(value, "cause charged effect linear norms obligations reason rules shares", "a row")
    return Row(
        effect=choice(m["effect"], EFFECTS),
        cause=choice(m["cause"], CAUSES),
        shares=items(m["shares"], lambda share: integer(share, 0, LARGEST_SHARE)),
        norms=items(m["norms"], lambda norm: integer(norm, NO_LIMIT)),
        charged=items(m["charged"], lambda share: integer(share, 0, LARGEST_SHARE)),
        rules=unique(items(m["rules"], a_text), "a rule"),
        reason=a_text(m["reason"]),
        linear=items(m["linear"], _linear),
        obligations=items(m["obligations"], lambda number: integer(number, 0)),
    )


def _linear(value: object) -> tuple[int, int, int, int]:
    group, attribute, intercept, slope = items(value, integer, 4)
    return integer(group, 0), integer(attribute, 0), intercept, slope


def _budget(value: object) -> BudgetTable:
    names = "exposures groups meters name on_exhaust per_epoch per_run per_update"
    m = members(value, names, "a budget")
    meters = items(m["meters"], _meter)
    if [(meter, window) for meter, window, _ in meters] != sorted({(meter, window) for meter, window, _ in meters}):
        refuse("the meters of a budget do not ascend")
    return BudgetTable(
        name=a_text(m["name"]),
        groups=items(m["groups"], lambda group: integer(group, 0)),
        per_update=integer(m["per_update"], NO_LIMIT),
        per_epoch=integer(m["per_epoch"], NO_LIMIT),
        per_run=integer(m["per_run"], NO_LIMIT),
        exposures=integer(m["exposures"], NO_LIMIT),
        on_exhaust=choice(m["on_exhaust"], EXHAUSTS),
        meters=meters,
    )


def _meter(value: object) -> tuple[str, str, int]:
    meter, window, amount = items(value, lambda part: part, 3)
    found = choice(meter, _METERS), choice(window, _WINDOWS), integer(amount, 0)
    if meter_feature(*found[:2]) == "surprisal budget":
        refuse("a limit that has a member of its own stands among the other meters")
    return found


def _obligation(value: object) -> ObligationTable:
    m = members(value, "kind parameters rule text", "an obligation")
    kind = choice(m["kind"], OBLIGATION_KINDS)
    return ObligationTable(kind, a_text(m["rule"]), a_text(m["text"]), _parameters(kind, m["parameters"]))


def _parameters(kind: str, value: object) -> Mapping[str, str | int | tuple[int, ...]]:
    if kind == "frequency":
        m = members(value, "groups steps updates", "a frequency limit")
        groups = items(m["groups"], lambda group: integer(group, 0))
        return {"groups": groups, "steps": integer(m["steps"], 1), "updates": integer(m["updates"], 0)}
    if kind == "defer":
        return {"epochs": integer(members(value, "epochs", "a deferral")["epochs"], 0)}
    if kind == "verify":
        m = members(value, "amount direction metric remedy steps", "a verification")
        return {
            "amount": integer(m["amount"], 0),
            "direction": choice(m["direction"], ("falls", "rises")),
            "metric": a_text(m["metric"]),
            "remedy": choice(m["remedy"], ("rollback", "halt", "hold")),
            "steps": integer(m["steps"], 0),
        }
    m = members(value, "metric op value witnesses", "a promotion")
    return {
        "metric": a_text(m["metric"]),
        "op": choice(m["op"], ("=", "<", "<=", ">", ">=")),
        "value": integer(m["value"]),
        "witnesses": integer(m["witnesses"], 0),
    }


def _evidence(value: object) -> EvidenceTable:
    m = members(value, "ceiling floor independent_by weights", "the evidence")
    table = EvidenceTable(
        weights=items(m["weights"], _weights),
        independent_by=unique(items(m["independent_by"], a_text), "a key"),
        floor=integer(m["floor"]),
        ceiling=integer(m["ceiling"]),
    )
    unique([name for name, _ in table.weights], "a weighed attribute")
    if table.floor > table.ceiling:
        refuse("the floor of the evidence is above its ceiling")
    return table


def _weights(value: object) -> tuple[str, tuple[tuple[str, int], ...]]:
    name, weights = items(value, lambda part: part, 2)
    found = items(weights, _weight)
    unique([weighed for weighed, _ in found], "a weighed value")
    return a_text(name), found


def _weight(value: object) -> tuple[str, int]:
    name, weight = items(value, lambda part: part, 2)
    return a_text(name), integer(weight, 0)


# ---- The tables together


def _check(tables: Tables) -> None:
    groups = len(tables.groups)
    if not groups or not tables.attributes or not tables.rows or tables.rows[ERROR_ROW].cause != "error":
        refuse("it has no depth group, no attribute or no error row")
    unique([table.name for table in tables.attributes], "an attribute")
    unique([budget.name for budget in tables.budgets], "a budget")
    covered = [budget.groups for budget in tables.budgets]
    covered += [_frequency_groups(obligation) for obligation in tables.obligations]
    if any(list(found) != sorted(set(found)) or max(found, default=0) >= groups for found in covered):
        refuse("a budget or a frequency limit covers a group that is not there, or one twice")
    if list(tables.requires) != sorted(tables.requires) or not _used(tables) <= set(tables.requires):
        refuse("it does not ask for all the features that it uses, in order")
    for row in tables.rows:
        _check_row(row, tables)


def _frequency_groups(obligation: ObligationTable) -> tuple[int, ...]:
    groups = obligation.parameters.get("groups", ())
    return groups if isinstance(groups, tuple) else ()


def _used(tables: Tables) -> set[str]:
    """Return the features that the tables themselves show to be used, beyond those that every gate has had."""
    used = {ATTRIBUTE_FEATURES.get(table.name, "") for table in tables.attributes if table.origin != "manifest"}
    used |= {meter_feature(meter, window) for budget in tables.budgets for meter, window, _ in budget.meters}
    used |= {OBLIGATION_FEATURES[obligation.kind] for obligation in tables.obligations}
    used |= {"linear share"} if any(row.linear for row in tables.rows) else set()
    used |= {"amplify"} if any(max(row.shares, default=0) > MICRO for row in tables.rows) else set()
    return used | ({"evidence weighting"} if tables.evidence is not None else set())


def _check_row(row: Row, tables: Tables) -> None:
    groups = len(tables.groups)
    if (len(row.shares), len(row.norms), len(row.charged)) != (groups, groups, len(tables.budgets)):
        refuse("a row has not one number per group and budget")
    granted = any(row.shares)
    if granted is not (row.cause == "granted") or granted is not (row.effect in ("modulate", "admit")):
        refuse("a row's shares contradict its cause or effect")
    whole = set(row.shares) == {MICRO} and max(row.norms) == NO_LIMIT
    if granted and whole is not (row.effect == "admit"):
        refuse("a row's shares and norms contradict its effect")
    _check_charges(row, tables.budgets)
    _check_linear(row, tables)
    _check_obligations(row, tables.obligations)


def _check_charges(row: Row, budgets: Sequence[BudgetTable]) -> None:
    for budget, share in zip(budgets, row.charged, strict=True):
        if share not in (0, max((row.shares[group] for group in budget.groups), default=0)):
            refuse(f"a row charges budget `{budget.name}` another share than it admits")


def _check_linear(row: Row, tables: Tables) -> None:
    if list(row.linear) != sorted(set(row.linear)):
        refuse("the linear limits of a row do not ascend")
    for group, attribute, _, _ in row.linear:
        if group >= len(tables.groups) or not row.shares[group]:
            refuse("a linear limit is of a group that is closed or not there")
        if attribute >= len(tables.attributes) or tables.attributes[attribute].kind != "numeric":
            refuse("a linear limit is in an attribute that is no number or not there")


def _check_obligations(row: Row, obligations: Sequence[ObligationTable]) -> None:
    numbers = list(row.obligations)
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= len(obligations)):
        refuse("the obligations of a row do not ascend, or are not there")
    waits = {obligations[number].kind == "defer" for number in numbers}
    deferred = row.effect == "defer"
    if waits not in ([{True}] if deferred else [{False}, set()]) or (numbers and not deferred and not any(row.shares)):
        refuse("a row's obligations contradict its effect")
    if deferred and row.cause != "denied":
        refuse("a row defers and is not denied")
