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

from aqpolicy.bundle.tables import NO_LIMIT, AttributeTable, Row, Tables
from aqpolicy.compiler.clauses import budget_table, evidence_table, obligation_table, stage_tables
from aqpolicy.compiler.decide import Decider, Holding, Place, questions
from aqpolicy.compiler.demands import demands, features
from aqpolicy.errors import InputError
from aqpolicy.model.policy import Category, Policy
from aqpolicy.space.normalise import Conjunct, Unfolding
from aqpolicy.space.partition import Partition, comparisons, partition

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
    asked = questions(policy)
    guards = [*(rule.when for rule in policy.rules), *(budget.when for budget in policy.budgets), *asked.values()]
    atoms = [atom for guard in guards for atom in comparisons(guard)]
    partitions = [partition(attribute, atoms) for attribute in policy.attributes]
    unfolding = Unfolding(partitions)
    bits = _Bits([unfolding.conjuncts(guard) for guard in guards])
    vectors = [bits.vectors(position, part) for position, part in enumerate(partitions)]
    examples = _reachable(partitions, vectors)
    rows, row_of_vector = _rows(policy, bits, list(examples), list(asked))
    tables = Tables(
        groups=policy.group_names,
        attributes=tuple(_attribute_table(p, v) for p, v in zip(partitions, vectors, strict=True)),
        rows=rows,
        row_of_vector=row_of_vector,
        budgets=tuple(budget_table(policy, budget) for budget in policy.budgets),
        obligations=tuple(obligation_table(policy, *named) for named in policy.obligations),
        requires=features(demands(policy)),
        evidence=None if policy.evidence is None else evidence_table(policy.evidence),
        phases=policy.phases,
        stages=stage_tables(policy),
    )
    return Compilation(tables, examples)


class _Bits:
    """Numbers the distinct conjuncts of all guards and knows the guards of each."""

    def __init__(self, guards: Sequence[tuple[Conjunct, ...]]) -> None:
        self.conjuncts = tuple(dict.fromkeys(conjunct for guard in guards for conjunct in guard))
        number = {conjunct: bit for bit, conjunct in enumerate(self.conjuncts)}
        self._guards: list[list[int]] = [[] for _ in self.conjuncts]
        for guard, alternatives in enumerate(guards):
            for conjunct in alternatives:
                self._guards[number[conjunct]].append(guard)

    def vectors(self, position: int, part: Partition) -> tuple[int, ...]:
        """Return for each interval of an attribute the conjuncts that it does not rule out."""
        by_mask: dict[int, int] = {}
        for bit, conjunct in enumerate(self.conjuncts):
            mask = next((mask for at, mask in conjunct if at == position), part.everything)
            by_mask[mask] = by_mask.get(mask, 0) | 1 << bit
        return tuple(
            sum(bits for mask, bits in by_mask.items() if mask >> interval & 1) for interval in range(len(part.lowest))
        )

    def guards(self, vector: int) -> list[int]:
        """Return the guards that hold where a vector is selected, ascending."""
        held: set[int] = set()
        while vector:
            held.update(self._guards[(vector & -vector).bit_length() - 1])
            vector &= vector - 1
        return sorted(held)


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


def _rows(
    policy: Policy, bits: _Bits, vectors: Sequence[int], asked: Sequence[Place]
) -> tuple[tuple[Row, ...], dict[int, int]]:
    """Return the distinct rows, and the number of the row that each vector selects."""
    decider, first, second = Decider(policy), len(policy.rules), len(policy.rules) + len(policy.budgets)
    rows = [_error_row(policy)]
    number: dict[Row, int] = {}
    row_of_vector: dict[int, int] = {}
    for vector in vectors:
        held = bits.guards(vector)
        row = decider.row(
            Holding(
                rules=[policy.rules[guard] for guard in held if guard < first],
                budgets={policy.budgets[guard - first].name for guard in held if first <= guard < second},
                answers={asked[guard - second] for guard in held if guard >= second},
            )
        )
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
        return AttributeTable(attribute.name, "category", kind.values, (), 0, 1, vectors, attribute.origin)
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
        origin=attribute.origin,
    )
