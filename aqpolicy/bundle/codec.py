"""Bundle to canonical JSON and back; the form is described in docs/formats/bundle.md.

Decoding accepts exactly what encoding writes: every member, every type and every
size is checked, so that nothing behind this module meets an impossible table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal, NoReturn, TypeVar

from aqpolicy import LANGUAGE_VERSION
from aqpolicy.bundle.bundle import Bundle, Parameter
from aqpolicy.bundle.tables import (
    CAUSES,
    EFFECTS,
    ERROR_ROW,
    NO_LIMIT,
    AttributeTable,
    BudgetTable,
    Row,
    Tables,
)
from aqpolicy.errors import CanonicalError, MalformedBundleError
from aqpolicy.trust import canonical_json, parse_canonical, sha256
from aqpolicy.units import MICRO

FORMAT: Final = "aqpolicy bundle 1"

_EXHAUST: Final[tuple[Literal["deny", "defer", "attenuate", "halt"], ...]] = ("deny", "defer", "attenuate", "halt")
_KINDS: Final[tuple[Literal["category", "numeric"], ...]] = ("category", "numeric")
_VECTOR: Final = re.compile(r"-1|0|[1-9a-f][0-9a-f]*", re.ASCII)
_LARGEST_TEXT: Final = 4096

T = TypeVar("T")
Choice = TypeVar("Choice", bound=str)


def encode_bundle(bundle: Bundle) -> bytes:
    """Return the payload of a bundle: the same contents always give the same bytes."""
    return canonical_json(
        {
            "digests": bundle.digests,
            "findings": bundle.findings,
            "format": FORMAT,
            "language": LANGUAGE_VERSION,
            "parameters": bundle.parameters,
            "policy": {"name": bundle.policy_name, "version": bundle.policy_version},
            "source_map": bundle.source_map,
            "tables": _encode_tables(bundle.tables),
            "taxonomy": bundle.taxonomy,
        }
    )


def _encode_tables(tables: Tables) -> dict[str, object]:
    return {
        "attributes": [
            {
                "breaks": table.breaks,
                "high": table.high,
                "kind": table.kind,
                "name": table.name,
                "step": table.step,
                "values": table.values,
                "vectors": [format(vector, "x") for vector in table.vectors],
            }
            for table in tables.attributes
        ],
        "budgets": [{name: getattr(budget, name) for name in BudgetTable.__slots__} for budget in tables.budgets],
        "groups": tables.groups,
        "rows": [{name: getattr(row, name) for name in Row.__slots__} for row in tables.rows],
        "vectors": {format(vector, "x"): row for vector, row in tables.row_of_vector.items()},
    }


def decode_bundle(payload: bytes) -> Bundle:
    """Read a payload.

    Raises:
        MalformedBundleError: The bytes are not what `encode_bundle` writes.
    """
    try:
        value = parse_canonical(payload)
    except CanonicalError as error:
        raise MalformedBundleError(f"the bundle is not canonical: {error}") from error
    names = "digests findings format language parameters policy source_map tables taxonomy"
    members = _members(value, names, "bundle")
    if members["format"] != FORMAT or _integer(members["language"]) != LANGUAGE_VERSION:
        _refuse("it is of another version; compile the policy again")
    policy = _members(members["policy"], "name version", "policy")
    tables = _tables(members["tables"])
    return Bundle(
        tables=tables,
        policy_name=_text(policy["name"]),
        policy_version=_text(policy["version"]),
        taxonomy=_text(members["taxonomy"]),
        parameters=_parameters(members["parameters"], len(tables.groups)),
        digests=_texts_by_name(members["digests"]),
        source_map=_texts_by_name(members["source_map"]),
        findings=_list(members["findings"], _text),
        digest=sha256(payload),
    )


def _tables(value: object) -> Tables:
    members = _members(value, "attributes budgets groups rows vectors", "tables")
    groups = _unique(_list(members["groups"], _text), "group")
    budgets = _list(members["budgets"], lambda item: _budget(item, len(groups)))
    rows = _list(members["rows"], lambda item: _row(item, len(groups), len(budgets)))
    attributes = _list(members["attributes"], _attribute)
    _unique([table.name for table in attributes], "attribute")
    _unique([budget.name for budget in budgets], "budget")
    if not groups or not rows or rows[ERROR_ROW].cause != "error":
        _refuse("it has no depth group or no error row")
    vectors = _object(members["vectors"])
    row_of_vector = {_vector(name): _integer(row, 1, len(rows) - 1) for name, row in vectors.items()}
    return Tables(groups, attributes, rows, row_of_vector, budgets)


def _attribute(value: object) -> AttributeTable:
    m = _members(value, "breaks high kind name step values vectors", "attribute")
    table = AttributeTable(
        name=_text(m["name"]),
        kind=_choice(m["kind"], _KINDS),
        values=_unique(_list(m["values"], _text), "value"),
        breaks=_list(m["breaks"], _integer),
        high=_integer(m["high"]),
        step=_integer(m["step"], 1),
        vectors=_list(m["vectors"], _vector),
    )
    category = table.kind == "category"
    intervals, others = (table.values, table.breaks) if category else (table.breaks, table.values)
    if not intervals or others or len(intervals) != len(table.vectors):
        _refuse(f"attribute `{table.name}` has the wrong intervals")
    ends = (*table.breaks, table.high + 1)
    if not category and any(start >= end for start, end in pairwise(ends)):
        _refuse(f"the intervals of attribute `{table.name}` do not ascend")
    return table


def _row(value: object, groups: int, budgets: int) -> Row:
    m = _members(value, "cause charged effect norms reason rules shares", "row")
    row = Row(
        effect=_choice(m["effect"], EFFECTS),
        cause=_choice(m["cause"], CAUSES),
        shares=_list(m["shares"], lambda share: _integer(share, 0, MICRO)),
        norms=_list(m["norms"], lambda norm: _integer(norm, NO_LIMIT)),
        charged=_list(m["charged"], lambda share: _integer(share, 0, MICRO)),
        rules=_unique(_list(m["rules"], _text), "rule"),
        reason=_text(m["reason"]),
    )
    if (len(row.shares), len(row.norms), len(row.charged)) != (groups, groups, budgets):
        _refuse("a row has not one number per group and budget")
    if any(row.shares) is not (row.cause == "granted") or any(row.shares) is not (row.effect in ("modulate", "admit")):
        _refuse("a row's shares contradict its cause or effect")
    return row


def _budget(value: object, groups: int) -> BudgetTable:
    m = _members(value, " ".join(sorted(BudgetTable.__slots__)), "budget")
    return BudgetTable(
        name=_text(m["name"]),
        groups=_list(m["groups"], lambda group: _integer(group, 0, groups - 1)),
        per_update=_integer(m["per_update"], NO_LIMIT),
        per_epoch=_integer(m["per_epoch"], NO_LIMIT),
        per_run=_integer(m["per_run"], NO_LIMIT),
        exposures=_integer(m["exposures"], NO_LIMIT),
        on_exhaust=_choice(m["on_exhaust"], _EXHAUST),
    )


def _parameters(value: object, groups: int) -> tuple[tuple[Parameter, ...], ...]:
    found = _list(value, lambda group: _list(group, _parameter))
    if len(found) != groups:
        _refuse("it has not one list of parameters per group")
    _unique([name for group in found for name, _ in group], "parameter")
    return found


def _parameter(value: object) -> Parameter:
    if not isinstance(value, list) or len(value) != 2:
        _refuse("a parameter is not a pair of name and shape")
    return _text(value[0]), _list(value[1], lambda size: _integer(size, 0))


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        _refuse("an object is expected")
    return value


def _members(value: object, names: str, what: str) -> Mapping[str, object]:
    found = _object(value)
    if sorted(found) != names.split():
        _refuse(f"a {what} has not exactly the members {names}")
    return found


def _list(value: object, item: Callable[[object], T]) -> tuple[T, ...]:
    if not isinstance(value, list):
        _refuse("a list is expected")
    return tuple(item(element) for element in value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LARGEST_TEXT:
        _refuse("a text is expected, of moderate length")
    return value


def _texts_by_name(value: object) -> dict[str, str]:
    return {_text(name): _text(text) for name, text in _object(value).items()}


def _integer(value: object, low: int | None = None, high: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse("an integer is expected")
    if (low is not None and value < low) or (high is not None and value > high):
        _refuse(f"the number {value} is out of range")
    return value


def _vector(value: object) -> int:
    # Hexadecimal, because a policy has more conjuncts than a JSON number has exact bits.
    if not isinstance(value, str) or len(value) > _LARGEST_TEXT * 16 or _VECTOR.fullmatch(value) is None:
        _refuse("a bit vector is not written in hexadecimal")
    return int(value, 16)


def _choice(value: object, choices: Sequence[Choice]) -> Choice:
    found = next((choice for choice in choices if value == choice), None)
    if found is None:
        _refuse(f"one of {', '.join(choices)} is expected")
    return found


def _unique(names: Sequence[str], what: str) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        _refuse(f"a {what} is named twice")
    return tuple(names)


def _refuse(problem: str) -> NoReturn:
    raise MalformedBundleError(f"this is no bundle that this version reads: {problem}")
