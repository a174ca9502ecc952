"""What a decision costs: from the names of a batch to shares and charges, without any tensor of a model.

The tables are those of a policy of departments with ten rules each: a rule's guard
is a department and a kind of label, and every rule has a row of its own.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from aqpolicy.bundle import NO_LIMIT, AttributeTable, BudgetTable, Row, Tables
from aqpolicy.gate.accounts.accountant import Accountant
from aqpolicy.gate.accounts.decisions import Decisions
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.units import MICRO

BATCH, GROUPS, EXAMPLES, KINDS = 256, 5, 4_096, 10


@dataclass(frozen=True)
class Labels:
    """A manifest in memory."""

    rows: list[dict[str, str]]

    @property
    def size(self) -> int:
        """Number of observations."""
        return len(self.rows)

    def index_of(self, example_id: str) -> int:
        """Return the number of an example's observation."""
        return int(example_id)

    def attributes(self, index: int) -> Mapping[str, str]:
        """Return what is known of an observation."""
        return self.rows[index]


def microseconds(rules: int, budgets: int, rounds: int) -> float:
    """Return the median CPU time to decide and spend a batch of 256, names known."""
    tables, dice = departments(rules, budgets), random.Random(5)
    sites, kinds = (table.values for table in tables.attributes)
    labels = Labels([{"site": dice.choice(sites), "kind": dice.choice(kinds)} for _ in range(EXAMPLES)])
    decisions, accountant = Decisions(tables, labels, ()), Accountant(tables, EXAMPLES)
    nats = torch.randint(0, 3 * MICRO, (BATCH,))
    taken = []
    for step in range(rounds):
        names = [str((step * BATCH + number) % EXAMPLES) for number in range(BATCH)]
        scheduled = decisions.schedule(names)
        accountant.begin_step(state := RunState(step))
        start = time.process_time_ns()
        spending = accountant.spend(decisions.decide(scheduled, state, nats, None))
        taken.append((time.process_time_ns() - start) / 1e3)
        assert bool(spending.shares.any())
        accountant.commit([spending])
    return statistics.median(taken)


def departments(rules: int, budgets: int) -> Tables:
    """Return the tables of that many rules and budgets; the budgets' windows never close."""
    dice, sites = random.Random(7), -(-rules // KINDS)
    every = tuple(range(GROUPS))
    accounts = tuple(
        BudgetTable(f"b{n}", every[n % GROUPS :], 100 * MICRO, NO_LIMIT, 10**15, NO_LIMIT, "deny")
        for n in range(budgets)
    )
    rows = [Row("deny", "error", (0,) * GROUPS, (NO_LIMIT,) * GROUPS, (0,) * budgets, (), "error")]
    for number in range(sites * KINDS):
        shares = tuple(dice.randrange(1, MICRO) for _ in every)
        cost = tuple(max(shares[group] for group in account.groups) for account in accounts)
        rows.append(Row("modulate", "granted", shares, (MICRO,) * GROUPS, cost, (f"r{number}",), "because"))
    of_site = [sum(1 << (site * KINDS + kind) for kind in range(KINDS)) for site in range(sites)]
    of_kind = [sum(1 << (site * KINDS + kind) for site in range(sites)) for kind in range(KINDS)]
    attributes = (_category("site", of_site), _category("kind", of_kind))
    return Tables(
        tuple(f"g{n}" for n in every), attributes, tuple(rows), {1 << n: n + 1 for n in range(sites * KINDS)}, accounts
    )


def _category(name: str, vectors: list[int]) -> AttributeTable:
    values = tuple(f"{name}{number}" for number in range(len(vectors)))
    return AttributeTable(name, "category", values, (), 0, 1, tuple(vectors))
