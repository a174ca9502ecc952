"""Policy to mask tables, without the cross product of all attributes.

Every interval of every attribute gets a bit vector: which conjuncts of the
policy's guards it satisfies. Going through the attributes one by one and keeping
only distinct ANDs finds every vector that an observation can have, with one
observation for each.

Source:
    Lakshman and Stiliadis, SIGCOMM 1998, section 3 (bit-vector packet classification).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aqpolicy.bundle.tables import NO_LIMIT, AttributeTable, BudgetTable, Row, Tables
from aqpolicy.compiler.decide import Decider
from aqpolicy.compiler.normalise import Conjunct, conjuncts
from aqpolicy.compiler.partition import Partition, comparisons, partition
from aqpolicy.errors import InputError
from aqpolicy.model.policy import Budget, Category, Policy

LARGEST_TABLE: Final = 65_536
"""How many distinct vectors a policy may have."""

Observation = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Compilation:
    """Tables, and for every vector the least observation that has it."""

    tables: Tables
    examples: Mapping[int, Observation]


def compile_tables(policy: Policy) -> Tables:
    """Return the mask tables of a policy.

    Raises:
        InputError: The policy distinguishes too many kinds of observation.
    """
    return compile_with_examples(policy).tables


def compile_with_examples(policy: Policy) -> Compilation:
    """Return the mask tables of a policy and an observation for each vector.

    Raises:
        InputError: The policy distinguishes too many kinds of observation.
    """
    guards = [*(rule.when for rule in policy.rules), *(budget.when for budget in policy.budgets)]
    atoms = [atom for guard in guards for atom in comparisons(guard)]
    partitions = [partition(attribute, atoms) for attribute in policy.taxonomy.attributes]
    bits = _Bits([conjuncts(guard, partitions) for guard in guards])
    vectors = [bits.vectors(position, part) for position, part in enumerate(partitions)]
    examples = _reachable(partitions, vectors)
    rows, row_of_vector = _rows(policy, bits, list(examples))
    tables = Tables(
        groups=policy.group_names,
        attributes=tuple(_attribute_table(p, v) for p, v in zip(partitions, vectors, strict=True)),
        rows=rows,
        row_of_vector=row_of_vector,
        budgets=tuple(_budget_table(policy, budget) for budget in policy.budgets),
    )
    return Compilation(tables, examples)


class _Bits:
    """Numbers the distinct conjuncts of all guards and knows each guard's own."""

    def __init__(self, guards: Sequence[tuple[Conjunct, ...]]) -> None:
        self.conjuncts = tuple(dict.fromkeys(conjunct for guard in guards for conjunct in guard))
        number = {conjunct: bit for bit, conjunct in enumerate(self.conjuncts)}
        self.masks = tuple(sum(1 << number[conjunct] for conjunct in guard) for guard in guards)
        """Per guard, the bits of its conjuncts."""

    def vectors(self, position: int, part: Partition) -> tuple[int, ...]:
        """Return for each interval of an attribute the conjuncts that it does not rule out."""
        allowed = [dict(conjunct).get(position, part.everything) for conjunct in self.conjuncts]
        return tuple(
            sum(1 << bit for bit, mask in enumerate(allowed) if mask >> interval & 1)
            for interval in range(len(part.lowest))
        )


def _reachable(partitions: Sequence[Partition], vectors: Sequence[Sequence[int]]) -> dict[int, Observation]:
    """Return every vector that some observation has, with the least such observation."""
    found: dict[int, tuple[str | int, ...]] = {-1: ()}
    for part, options in zip(partitions, vectors, strict=True):
        values: dict[int, str | int] = {}
        for vector, value in zip(options, part.lowest, strict=True):
            values.setdefault(vector, value)
        found_next: dict[int, tuple[str | int, ...]] = {}
        for before, path in found.items():
            for vector, value in values.items():
                found_next.setdefault(before & vector, (*path, value))
            if len(found_next) > LARGEST_TABLE:
                raise InputError(
                    f"the policy tells more than {LARGEST_TABLE} kinds of observation apart; "
                    "use fewer thresholds or split it in several policies"
                )
        found = found_next
    names = [part.attribute.name for part in partitions]
    return {vector: dict(zip(names, path, strict=True)) for vector, path in found.items()}


def _rows(policy: Policy, bits: _Bits, vectors: Sequence[int]) -> tuple[tuple[Row, ...], dict[int, int]]:
    decider, split = Decider(policy), len(policy.rules)
    rows = [_error_row(policy)]
    number: dict[Row, int] = {}
    row_of_vector: dict[int, int] = {}
    for vector in vectors:
        applies = [bool(vector & mask) for mask in bits.masks]
        rules = [rule for rule, holds in zip(policy.rules, applies[:split], strict=True) if holds]
        budgets = {b.name for b, holds in zip(policy.budgets, applies[split:], strict=True) if holds}
        row = decider.row(rules, budgets)
        if row not in number:
            number[row] = len(rows)
            rows.append(row)
        row_of_vector[vector] = number[row]
    return tuple(rows), row_of_vector


def _error_row(policy: Policy) -> Row:
    groups = len(policy.groups)
    return Row(
        effect="deny",
        cause="error",
        shares=(0,) * groups,
        norms=(NO_LIMIT,) * groups,
        charged=(0,) * len(policy.budgets),
        rules=(),
        reason="an attribute is missing, ill-typed or out of range",
    )


def _attribute_table(part: Partition, vectors: tuple[int, ...]) -> AttributeTable:
    attribute, kind = part.attribute, part.attribute.type
    if isinstance(kind, Category):
        return AttributeTable(attribute.name, "category", kind.values, (), 0, 1, vectors)
    # Neighbours with one vector are one interval.
    starts = [i for i in range(len(vectors)) if i == 0 or vectors[i] != vectors[i - 1]]
    return AttributeTable(
        name=attribute.name,
        kind="numeric",
        values=(),
        breaks=tuple(int(part.lowest[i]) for i in starts),
        high=kind.high,
        step=kind.step,
        vectors=tuple(vectors[i] for i in starts),
    )


def _budget_table(policy: Policy, budget: Budget) -> BudgetTable:
    def tightest(window: str) -> int:
        return min((limit.nats for limit in budget.limits if limit.window == window), default=NO_LIMIT)

    return BudgetTable(
        name=budget.name,
        groups=tuple(sorted(policy.group_names.index(name) for name in budget.groups)),
        per_update=NO_LIMIT if budget.per_update is None else budget.per_update,
        per_epoch=tightest("epoch"),
        per_run=tightest("run"),
        exposures=NO_LIMIT if budget.exposures is None else budget.exposures,
        on_exhaust=budget.on_exhaust,
    )
