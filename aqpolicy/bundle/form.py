"""Tables to plain JSON values and back, with every fact checked that one table states about another.

It knows no bytes and no signatures. What it returns is a decision table that can
be used without further checks: every number is in range, every position points
at something, no row contradicts itself, and no feature is used that is not asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Final, Literal

from aqpolicy.bundle.capabilities import meter_feature
from aqpolicy.bundle.consistency import check_tables
from aqpolicy.bundle.fields import LARGEST_TEXT, a_text, an_object, choice, integer, items, members, refuse, unique
from aqpolicy.bundle.tables import (
    CAUSES,
    COMPARISONS,
    EFFECTS,
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
    StageTable,
    Tables,
)

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
        "phases": tables.phases,
        "requires": tables.requires,
        "rows": [_fields(row) for row in tables.rows],
        "stages": [_fields(stage) for stage in tables.stages],
        "vectors": {format(vector, "x"): row for vector, row in tables.row_of_vector.items()},
    }


def _fields(
    table: AttributeTable | BudgetTable | EvidenceTable | ObligationTable | Row | StageTable,
) -> dict[str, object]:
    return {name: getattr(table, name) for name in table.__slots__}


def decode_tables(value: object) -> Tables:
    """Read what `encode_tables` returns.

    Raises:
        MalformedBundleError: It returns no such thing.
    """
    names = "attributes budgets evidence groups obligations phases requires rows stages vectors"
    m = members(value, names, "the tables")
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
        phases=unique(items(m["phases"], a_text), "a phase"),
        stages=items(m["stages"], _stage),
    )
    check_tables(tables)
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
            "steps": integer(m["steps"], 1),
        }
    m = members(value, "metric op value witnesses", "a promotion")
    return {
        "metric": a_text(m["metric"]),
        "op": choice(m["op"], COMPARISONS),
        "value": integer(m["value"]),
        "witnesses": integer(m["witnesses"], 0),
    }


def _stage(value: object) -> StageTable:
    m = members(value, "name requires", "a stage")
    return StageTable(a_text(m["name"]), items(m["requires"], _certification))


def _certification(value: object) -> tuple[str, str, int]:
    metric, op, amount = items(value, lambda part: part, 3)
    return a_text(metric), choice(op, COMPARISONS), integer(amount)


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
