"""AQ305: guards that no observation satisfies, with the conditions that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any as Term

import z3

from aqpolicy.analysis.domain import atom_text
from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.question import Question
from aqpolicy.diagnostics import Diagnostic, Label, Span
from aqpolicy.errors import InternalError
from aqpolicy.model.policy import Admitted, Atom, Category, Condition, Not, Numeric, Policy
from aqpolicy.model.policy import All as Every
from aqpolicy.units import micro_text


def questions(policy: Policy) -> Iterator[Question]:
    """Ask of every rule and budget whether some observation satisfies its guard."""
    guarded: list[tuple[str, str, Condition, Span]] = [
        *(("rule", rule.name, rule.when, rule.span) for rule in policy.rules),
        *(("budget", budget.name, budget.when, budget.span) for budget in policy.budgets),
    ]
    for kind, name, when, span in guarded:

        def findings(
            prover: Prover, what: str = f"{kind} `{name}`", when: Condition = when, span: Span = span
        ) -> Iterator[Diagnostic]:
            return dead(prover, what, when, span)

        yield Question(f"{kind} `{name}` can apply", span, findings)


@dataclass(frozen=True, slots=True)
class Literal:
    """A comparison, or its opposite, as it stands in a guard."""

    atom: Atom
    holds: bool


def dead(prover: Prover, what: str, when: Condition, span: Span) -> Iterator[Diagnostic]:
    """Yield a finding if a guard never holds.

    Unsat iff no observation satisfies the guard; the finding names a smallest set
    of its conditions that already cannot be met, found by leaving out one after
    the other from the last to the first.
    """
    if not prover.possible(prover.encoding.condition(when)):
        literals: list[Literal] = []
        skeleton = _skeleton(when, literals, holds=True)
        yield _finding(prover, what, span, _core(prover, skeleton, literals))


def _switch(number: int) -> Term:
    return z3.Bool(f"condition {number}")


def _skeleton(condition: Condition, literals: list[Literal], *, holds: bool) -> Term:
    """Return the guard over one switch per comparison, negations pushed inside, and collect the comparisons."""
    if isinstance(condition, Not):
        return _skeleton(condition.term, literals, holds=not holds)
    if isinstance(condition, Admitted):
        raise InternalError("a guard asks for its own decision")
    if isinstance(condition, Atom):
        literals.append(Literal(condition, holds))
        return _switch(len(literals) - 1)
    terms = [_skeleton(term, literals, holds=holds) for term in condition.terms]
    return z3.And(terms) if isinstance(condition, Every) is holds else z3.Or(terms)


def _core(prover: Prover, skeleton: Term, literals: Sequence[Literal]) -> list[Literal]:
    """Return literals that contradict each other, none of which can be spared."""
    terms = [prover.encoding.domain.atom(literal.atom) for literal in literals]
    ties = [
        z3.Implies(_switch(n), terms[n] if literal.holds else z3.Not(terms[n])) for n, literal in enumerate(literals)
    ]
    kept = list(range(len(literals)))
    with prover.given(skeleton):
        for number in reversed(range(len(literals))):
            rest = [n for n in kept if n != number]
            if not prover.possible(*(ties[n] for n in rest)):
                kept = rest
    return [literals[n] for n in kept]


def _finding(prover: Prover, what: str, span: Span, core: list[Literal]) -> Diagnostic:
    kinds = {attribute.name: attribute.type for attribute in prover.policy.taxonomy.attributes}
    names = dict.fromkeys(literal.atom.attribute for literal in core)
    spots = _by_spot(core)
    reason = "its conditions contradict each other" if len(spots) > 1 else "its guard is never true"
    return Diagnostic(
        code="AQ305",
        severity="error",
        message=f"{what} can never apply: {reason}",
        labels=(
            *(Label(spot, _text(literals, kinds)) for spot, literals in spots.items()),
            Label(span, "can never apply"),
        ),
        notes=tuple(f"`{name}` is {_domain_text(kinds[name])}" for name in names),
        help=(f"change one of these conditions, or take the {what.split(maxsplit=1)[0]} away",),
    )


def _by_spot(core: list[Literal]) -> dict[Span, list[Literal]]:
    """Gather literals by where they stand: an order over a category is several comparisons written as one."""
    spots: dict[Span, list[Literal]] = {}
    for literal in core:
        spots.setdefault(literal.atom.span, []).append(literal)
    return spots


def _text(literals: list[Literal], kinds: Mapping[str, Category | Numeric]) -> str:
    texts = [atom_text(li.atom, kinds[li.atom.attribute], holds=li.holds) for li in literals]
    return (" or " if literals[0].holds else " and ").join(texts)


def _domain_text(kind: Category | Numeric) -> str:
    if isinstance(kind, Category):
        return "one of " + ", ".join(kind.values)
    unit = f" {kind.unit}" if kind.unit else ""
    return f"a {kind.kind} from {micro_text(kind.low)} to {micro_text(kind.high)}{unit}"
