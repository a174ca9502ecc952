"""Ask questions about policies: bit sets first, the solver for what they leave open.

Whichever answers, the answer is exact and the witness the same: the least
observation in the order in which attributes and values are declared. What neither
decides raises, and is never a pass. z3 is imported only when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice
from typing import TYPE_CHECKING, Final, Literal

from aqpolicy.analysis.bits import BitSets
from aqpolicy.analysis.observation import Observation, Value, observation_text, shared_attributes
from aqpolicy.analysis.query import And, Applies, Query
from aqpolicy.errors import AnalysisError
from aqpolicy.model.policy import Policy
from aqpolicy.space import Region, Undecided

if TYPE_CHECKING:
    from aqpolicy.analysis.solver import Z3Solver

EFFORT: Final = 20_000_000
"""Default bound on the solver's steps per question; questions on shipped policies need under 100,000."""

Deciders = Literal["bits first", "bits", "z3"]
"""Who answers: bit sets and then the solver, or one of the two alone."""


@dataclass(frozen=True, slots=True)
class SolverDecision:
    """What the solver says an observation gets; norms are -1 where there is no limit."""

    shares: tuple[int, ...]
    norms: tuple[int, ...]
    charged: tuple[int, ...]
    obligations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Obligation:
    """A question whose answer is a claim; `expected` is the answer by which the claim is proved."""

    name: str
    policies: tuple[Policy, ...]
    query: Query
    expected: Literal["unsat", "sat"] = "unsat"


class Prover:
    """Asks about one policy, or about several over the same observations."""

    def __init__(self, *policies: Policy, effort: int = EFFORT, solver: Deciders = "bits first") -> None:
        """Nothing is read yet.

        Args:
            policies: What questions may speak of, by position.
            effort: Bounds the solver's steps per question.
            solver: Who answers.

        Raises:
            InputError: Two policies declare an attribute differently.
        """
        self.policies = policies
        self.attributes = shared_attributes(policies)
        self._effort = effort
        self._deciders = solver

    def about(self, *policies: Policy) -> Prover:
        """Return a prover of the same kind about other policies."""
        return Prover(*policies, effort=self._effort, solver=self._deciders)

    # ---- Questions

    def learn(self, queries: Iterable[Query]) -> None:
        """Prepare for questions that will be asked: not needed, but faster."""
        self._bits.learn(queries)

    def possible(self, query: Query) -> bool:
        """Return whether some observation satisfies a question.

        Raises:
            AnalysisError: The question was not decided.
        """
        if self._deciders != "z3":
            try:
                return self._bits.possible(query)
            except Undecided:
                self._only_bits()
        return self._solver.possible(query)

    def quick(self, query: Query) -> bool | None:
        """Return what bit sets alone say of a question; None where they leave it open, or are not asked."""
        if self._deciders == "z3":
            return None
        try:
            return self._bits.possible(query)
        except Undecided:
            return None

    def witness(self, query: Query) -> Observation | None:
        """Return the least observation that satisfies a question; None is proof that there is none.

        Raises:
            AnalysisError: The question was not decided.
        """
        if self._deciders != "z3":
            try:
                return self._bits.find(query)
            except Undecided:
                self._only_bits()
        return self._solver.witness(query)

    def regions(self, query: Query, most: int) -> tuple[Region, ...]:
        """Return readable regions that together hold what satisfies a question, unless there are more.

        None are returned where bit sets do not answer: the solver knows no regions.
        """
        try:
            return tuple(islice(self._bits.regions(query, most), most))
        except Undecided:
            return ()

    def decide(self, observation: Mapping[str, Value]) -> SolverDecision:
        """Return what the solver says of one complete, well-typed observation and the first policy."""
        shares, norms, charged, owed = self._solver.decide(observation)
        return SolverDecision(shares, norms, charged, tuple(number for number, asked in enumerate(owed) if asked))

    def text(self, observation: Mapping[str, Value]) -> dict[str, str]:
        """Return an observation as its author would write it."""
        return observation_text(self.attributes, observation)

    def smt2(self, query: Query) -> str:
        """Return a question as a complete SMT-LIB2 script, the same for the same question."""
        return self._solver.smt2(query)

    # ---- All guards at once

    def rivals(self) -> Iterator[tuple[str, str]]:
        """Yield every pair of grants of the first policy that may conflict, in the order of the policy."""
        if self._deciders != "z3":
            with suppress(Undecided):
                rivals = self._bits.readings[0].rivals
                yield from ((name, other) for name, others in rivals.items() for other in others)
                return
        grants = [(rule.name, rule.admit.shares) for rule in self.policies[0].rules if rule.admit is not None]
        yield from ((a, b) for (a, one), (b, other) in combinations(grants, 2) if one != other)

    def meeting(self, rule: str) -> list[str]:
        """Return the other rules of the first policy that apply together with a rule to some observation."""
        if self._deciders != "z3":
            with suppress(Undecided):
                return self._bits.readings[0].meeting(rule)
        rules = [other.name for other in self.policies[0].rules if other.name != rule]
        return [other for other in rules if self.possible(And((Applies(rule), Applies(other))))]

    # ---- The two back-ends

    @cached_property
    def _bits(self) -> BitSets:
        return BitSets(self.policies)

    @cached_property
    def _solver(self) -> Z3Solver:
        from aqpolicy.analysis.solver import Z3Solver

        return Z3Solver(self.policies, self._effort)

    def _only_bits(self) -> None:
        """Raise the open question again where the solver may not be asked."""
        if self._deciders == "bits":
            raise AnalysisError("bit sets do not decide this question, and the solver may not be asked")


def smt2(obligation: Obligation) -> str:
    """Return a proof obligation as an SMT-LIB2 script that says what it proves and which answer proves it."""
    policies = ", ".join(f"{policy.name} {policy.version}" for policy in obligation.policies)
    header = f"; {obligation.name}\n; of {policies}\n; proved by the answer: {obligation.expected}\n"
    return header + Prover(*obligation.policies).smt2(obligation.query)
