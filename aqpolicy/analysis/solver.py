"""One incremental z3 solver over policies: the back-end for what bit sets leave open.

It decides within a bound on the solver's effort (counted steps, not seconds, so
that every machine gives the same answer) and raises where it cannot: an
undecided question is never a pass. Only this module and what it imports know z3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any as Term

import z3

from aqpolicy.analysis.domain import Domain
from aqpolicy.analysis.encoder import Encoder
from aqpolicy.analysis.observation import Observation, Value, shared_attributes
from aqpolicy.analysis.query import Query
from aqpolicy.errors import AnalysisError, InternalError
from aqpolicy.model.policy import Attribute, Category, Policy


class Z3Solver:
    """Answers questions about policies by z3."""

    def __init__(self, policies: Sequence[Policy], effort: int) -> None:
        """Declare the domain; policies are encoded as far as questions reach."""
        self._domain = Domain(shared_attributes(policies))
        self._encoder = Encoder(policies, self._domain)
        self._policies = tuple(policies)
        self._solver = z3.SimpleSolver()
        self._solver.set("rlimit", effort)
        self._known = 0

    def possible(self, query: Query) -> bool:
        """Return whether some observation satisfies the question.

        Raises:
            AnalysisError: The solver gave up.
        """
        with self._given(self._term(query)):
            return self._check()

    def witness(self, query: Query) -> Observation | None:
        """Return the least observation that satisfies the question, or None if there is none.

        Raises:
            AnalysisError: The solver gave up.
        """
        found: Observation = {}
        with ExitStack() as stack:
            stack.enter_context(self._given(self._term(query)))
            if not self._check():
                return None
            for attribute in self._domain.attributes:
                found[attribute.name] = self._least(attribute)
                stack.enter_context(self._given(self._domain.equals(attribute.name, found[attribute.name])))
        return found

    def decide(self, observation: Mapping[str, Value]) -> tuple[tuple[int, ...], ...]:
        """Return shares, norms (-1 where there is none), charges and obligations (0 or 1) of an observation."""
        decision = self._encoder.encodings[0].decision
        parts = (decision.shares, decision.norms, decision.charged, decision.obligations)
        self._synchronise()
        with self._given(*(self._domain.equals(a.name, observation[a.name]) for a in self._domain.attributes)):
            if not self._check():
                raise InternalError("an observation of the policy is outside the solver's domain")
            model = self._solver.model()
            return tuple(tuple(_number(model, term) for term in terms) for terms in parts)

    def smt2(self, query: Query) -> str:
        """Return a complete SMT-LIB2 script that asks the question, without its comments."""
        term, apart = self._term(query), z3.Context()
        script = z3.Solver(ctx=apart)
        # In a context of its own a term is written the same whatever was asked before.
        script.add(*(asserted.translate(apart) for asserted in (*self._domain.constraints, term)))
        lines = _numbered(script.to_smt2()).splitlines()
        kept = [line for line in lines if not line.startswith((";", "(set-info"))]
        return "\n".join(["(set-logic QF_LIA)", *kept]) + "\n"

    # ---- One frame at a time

    def _term(self, query: Query) -> Term:
        term = self._encoder.term(query)
        self._synchronise()
        return term

    def _synchronise(self) -> None:
        """Assert what encoding has added to the domain, outside of every frame."""
        self._solver.add(*self._domain.constraints[self._known :])
        self._known = len(self._domain.constraints)

    @contextmanager
    def _given(self, *terms: Term) -> Iterator[None]:
        self._solver.push()
        try:
            self._solver.add(*terms)
            yield
        finally:
            self._solver.pop()

    def _check(self) -> bool:
        answer = self._solver.check()
        if answer == z3.unknown:
            raise AnalysisError(f"the solver gave up: {self._solver.reason_unknown()}")
        return bool(answer == z3.sat)

    def _least(self, attribute: Attribute) -> Value:
        """Return the least value of an attribute in all solutions, of which there is one."""
        kind, variable = attribute.type, self._domain.variable(attribute.name)
        low = 0 if isinstance(kind, Category) else kind.low
        with self._given(variable == low):
            if self._check():
                return _value(kind, low)
        self._check()
        high = _number(self._solver.model(), variable)
        low += 1
        while low < high:
            middle = (low + high) // 2
            with self._given(variable <= middle):
                if self._check():
                    high = _number(self._solver.model(), variable)
                else:
                    low = middle + 1
        return _value(kind, high)


def _value(kind: object, number: int) -> Value:
    return kind.values[number] if isinstance(kind, Category) else number


def _numbered(script: str) -> str:
    """Number the local names of a script as they occur; z3 numbers them by all that it has ever made."""
    names: dict[str, str] = {}
    return re.sub(r"[?$]x\d+", lambda found: names.setdefault(found[0], f"{found[0][0]}x{len(names)}"), script)


def _number(model: Term, term: Term) -> int:
    found = model.eval(term, model_completion=True)
    if z3.is_bool(found):
        return int(z3.is_true(found))
    return int(found.as_long())
