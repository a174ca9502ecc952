"""One incremental solver over one policy: questions, least witnesses, decisions.

It decides within a bound on the solver's effort (counted steps, not seconds, so
that every machine gives the same answer) and raises where it cannot: an
undecided question is never a pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any as Term
from typing import Final

import z3

from aqpolicy.analysis.domain import Value, representatives
from aqpolicy.analysis.encoder import Encoding
from aqpolicy.errors import AnalysisError, InternalError
from aqpolicy.model.policy import Policy

EFFORT: Final = 20_000_000
"""Default bound on the solver's steps per question; questions on shipped policies need under 100,000."""


@dataclass(frozen=True, slots=True)
class SolverDecision:
    """What the solver says an observation gets; norms are -1 where there is no limit."""

    shares: tuple[int, ...]
    norms: tuple[int, ...]
    charged: tuple[int, ...]


class Prover:
    """Asks the solver about one policy."""

    def __init__(self, policy: Policy, effort: int = EFFORT) -> None:
        """Encode the policy and declare its domain."""
        self.policy = policy
        self.encoding = Encoding(policy)
        self._solver = z3.SimpleSolver()
        self._solver.set("rlimit", effort)
        self._solver.add(*self.encoding.domain.constraints)
        conditions = [
            *(rule.when for rule in policy.rules),
            *(budget.when for budget in policy.budgets),
            *(proof.never for proof in policy.proofs),
        ]
        self._cells = {a.name: representatives(a, conditions) for a in policy.taxonomy.attributes}

    @contextmanager
    def given(self, *terms: Term) -> Iterator[None]:
        """Assume terms for a while."""
        self._solver.push()
        try:
            self._solver.add(*terms)
            yield
        finally:
            self._solver.pop()

    def possible(self, *terms: Term) -> bool:
        """Return whether some observation satisfies the terms and all that is given.

        Raises:
            AnalysisError: The solver gave up.
        """
        with self.given(*terms):
            return self._check()

    def _check(self) -> bool:
        answer = self._solver.check()
        if answer == z3.unknown:
            raise AnalysisError(f"the solver gave up: {self._solver.reason_unknown()}")
        return bool(answer == z3.sat)

    def witness(self, *terms: Term) -> dict[str, Value] | None:
        """Return the least observation that satisfies the terms, or None if there is none.

        Least in the order in which attributes and values are declared, so that it
        does not depend on the solver's version.

        Raises:
            AnalysisError: The solver gave up.
        """
        if not self.possible(*terms):
            return None
        found: dict[str, Value] = {}
        with ExitStack() as stack:
            stack.enter_context(self.given(*terms))
            for name, cells in self._cells.items():
                found[name] = self._least(name, cells)
                stack.enter_context(self.given(self.encoding.domain.equals(name, found[name])))
        return found

    def _least(self, name: str, cells: Sequence[Value]) -> Value:
        position = bisect_left(cells, True, key=lambda value: self.possible(self.encoding.domain.at_most(name, value)))
        if position == len(cells):
            raise InternalError(f"the solver's answer lies in no cell of attribute `{name}`")
        return cells[position]

    def decide(self, observation: Mapping[str, Value]) -> SolverDecision:
        """Return what the encoding says of one complete, well-typed observation."""
        fixed = [self.encoding.domain.equals(name, observation[name]) for name in self._cells]
        with self.given(*fixed):
            if not self._check():
                raise InternalError("an observation of the taxonomy is outside the solver's domain")
            model = self._solver.model()
            decision = self.encoding.decision

            def values(terms: Sequence[Term]) -> tuple[int, ...]:
                return tuple(model.eval(term, model_completion=True).as_long() for term in terms)

            return SolverDecision(values(decision.shares), values(decision.norms), values(decision.charged))
