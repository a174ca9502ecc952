"""Rows of the log in words, and as JSON; what the verbs that print them share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aqpolicy.units import micro_text

if TYPE_CHECKING:
    from aqpolicy.lineage import Row

_NORMS = {-1.0: "not finite", -2.0: "not measured"}
"""What stands in the log in place of a norm."""


def group_number(groups: Sequence[str], name: str | None) -> int | None:
    """Return the position of the depth group that was named, or None where none was.

    Raises:
        InputError: The run has no such group.
    """
    from aqpolicy.errors import InputError

    if name is None:
        return None
    if name not in groups:
        raise InputError(f"the run has no depth group `{name}`; it has " + ", ".join(groups))
    return groups.index(name)


def shown(value: object) -> str:
    """Return a value of the log so that it cannot act on a terminal."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=True)


def reason_text(code: int) -> str:
    """Return what a reason code stands for."""
    from aqpolicy.lineage.stats import reason_name

    return reason_name(code)


def norm_text(norm: float) -> str:
    """Return a norm as a person reads it."""
    return _NORMS.get(norm) or f"{norm:.4g}"


def nats_text(nats: int) -> str:
    """Return a surprisal or an entropy in nats."""
    from aqpolicy.lineage import NO_SURPRISAL

    return "not finite" if nats == NO_SURPRISAL else f"{micro_text(nats)} nat"


def row_text(row: Row, groups: Sequence[str], budgets: Sequence[str], group: int | None = None) -> str:
    """Return a row in one line, of one depth group or of all."""
    shown = [(at, name) for at, name in enumerate(groups) if group in (None, at)]
    norms = " ".join(f"{name}={norm_text(row.norms[at])}" for at, name in shown)
    charges = " ".join(f"{name}={micro_text(c)}" for name, c in zip(budgets, row.charges, strict=True) if c)
    lowered = " ".join(
        f"{groups[at]}={micro_text(share)} ({reason_text(code)})"
        for at, code, share in row.exceptions
        if group in (None, at)
    )
    verdict = f"{row.effect:<8} {row.cause:<7} row {row.route:<4} surprisal {nats_text(row.surprisal)}"
    parts = [
        f"{row.example_key.hex()} {verdict}",
        f"norms {norms}",
        f"charged {charges}" if charges else "",
        f"lowered to {lowered}" if lowered else "",
        f"because {reason_text(row.reason_code)}" if row.reason_code else "",
    ]
    return "; ".join(part for part in parts if part)


def row_facts(row: Row, groups: Sequence[str], budgets: Sequence[str], group: int | None = None) -> dict[str, Any]:
    """Return a row as JSON has it: nats and shares in millionths, a norm that is none by its name."""
    from aqpolicy.lineage import NO_ENTROPY, NO_INDEX, NO_SURPRISAL

    return {
        "example": row.example_key.hex(),
        "manifest_index": None if row.manifest_index == NO_INDEX else row.manifest_index,
        "row": row.route,
        "effect": row.effect,
        "cause": row.cause,
        "reason": reason_text(row.reason_code),
        "surprisal": None if row.surprisal == NO_SURPRISAL else row.surprisal,
        "entropy": None if row.entropy == NO_ENTROPY else row.entropy,
        "norms": {
            name: _NORMS.get(row.norms[at], row.norms[at]) for at, name in enumerate(groups) if group in (None, at)
        },
        "charges": dict(zip(budgets, row.charges, strict=True)),
        "lowered": {
            groups[at]: {"share": share, "reason": reason_text(code)}
            for at, code, share in row.exceptions
            if group in (None, at)
        },
    }
