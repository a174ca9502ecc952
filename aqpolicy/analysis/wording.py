"""How the checker says things: lists, shares, decisions, regions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aqpolicy.model.policy import Atom, Category, Limit, Numeric, Policy
from aqpolicy.semantics import Decision
from aqpolicy.space import Region
from aqpolicy.units import micro_text, value_text

MOST_REGIONS = 3
"""How many regions a note spells out."""


def quoted(names: Iterable[str]) -> str:
    """Return names as a list in words."""
    marked = [f"`{name}`" for name in names]
    return marked[0] if len(marked) == 1 else ", ".join(marked[:-1]) + " and " + marked[-1]


def shares_text(names: Sequence[str], shares: Sequence[int]) -> str:
    """Return shares by group as words."""
    return ", ".join(f"{name} {micro_text(share)}" for name, share in zip(names, shares, strict=True))


def decision_text(policy: Policy, decision: Decision) -> str:
    """Return what a decision admits and why."""
    if decision.effect == "defer":
        return f"defer, {decision.reason}"
    return f"{decision.effect}, {shares_text(policy.group_names, decision.shares)}; {decision.reason}"


def limit_text(limit: Limit) -> str:
    """Return a limit of a budget as its author would write it."""
    unit = "l2" if limit.meter == "movement" else "nat"
    return f"{micro_text(limit.amount)} {unit} per {limit.window}"


def nats(amount: int) -> str:
    """Return an amount of information."""
    return f"{micro_text(amount)} nat"


def region_notes(regions: Sequence[Region], lead: str) -> tuple[str, ...]:
    """Return where something happens as one note, if that is known; `regions` may hold one more than is shown."""
    texts = [region.text() for region in regions[:MOST_REGIONS]]
    if not texts or texts == ["anything"]:
        return (f"{lead} everywhere",) if texts else ()
    more = ", or elsewhere" if len(regions) > MOST_REGIONS else ""
    return (f"{lead} where {', or '.join(texts)}{more}",)


def atom_text(atom: Atom, kind: Category | Numeric, *, holds: bool) -> str:
    """Return a comparison, or its opposite, as its author would write it."""
    value = atom.value if isinstance(kind, Category) else value_text(atom.value, kind.kind)
    word = "is" if isinstance(kind, Category) else "="
    text = f"{atom.attribute} {word if atom.op == '=' else atom.op} {value}"
    return text if holds else f"not {text}"


def domain_text(kind: Category | Numeric) -> str:
    """Return what values a type has."""
    if isinstance(kind, Category):
        return "one of " + ", ".join(kind.values)
    unit = f" {kind.unit}" if kind.unit else ""
    article = "an" if kind.kind == "integer" else "a"
    return f"{article} {kind.kind} from {value_text(kind.low, kind.kind)} to {value_text(kind.high, kind.kind)}{unit}"
