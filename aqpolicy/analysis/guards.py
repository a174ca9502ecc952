"""AQ305: guards that no observation satisfies, with the conditions that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aqpolicy.analysis.inheritance import own_budgets, own_rules
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import Applies, InScope, Leaf
from aqpolicy.analysis.question import Question, policies_of
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import atom_text, domain_text
from aqpolicy.diagnostics import Diagnostic, Label, Span
from aqpolicy.errors import InternalError
from aqpolicy.model.policy import All, Any, Atom, Category, Condition, Not, Numeric, Policy
from aqpolicy.space import Space, Undecided


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask of every rule and budget of the policy's own whether some observation satisfies its guard."""
    guarded: list[tuple[str, Leaf, Condition, Span]] = [
        *((f"rule `{rule.name}`", Applies(rule.name), rule.when, rule.span) for rule in own_rules(policy)),
        *((f"budget `{b.name}`", InScope(b.name), b.when, b.span) for b in own_budgets(policy)),
    ]
    for what, query, when, span in guarded:

        def findings(
            prover: Prover, what: str = what, query: Leaf = query, when: Condition = when, span: Span = span
        ) -> Iterator[Diagnostic]:
            if not prover.possible(query):
                yield _finding(prover, what, span, contradiction(prover, when))

        claim = f"{what} can apply"
        yield Question(claim, span, findings, (Obligation(claim, policies_of(policy), query, "sat"),))


@dataclass(frozen=True, slots=True)
class Literal:
    """A comparison, or its opposite, as it stands in a guard."""

    atom: Atom
    holds: bool


def clash(prover: Prover, condition: Condition) -> tuple[Label, ...]:
    """Return labels at the conditions that leave no observation, none of which can be spared."""
    kinds = {attribute.name: attribute.type for attribute in prover.attributes}
    spots = _by_spot(contradiction(prover, condition))
    return tuple(Label(spot, _text(literals, kinds)) for spot, literals in spots.items())


def contradiction(prover: Prover, when: Condition) -> list[Literal]:
    """Return conditions of a guard that contradict each other, none of which can be spared.

    They are found by leaving out one after the other, from the last to the first:
    what is left out counts as true.
    """
    literals = list(_literals(when, holds=True))
    kept = set(range(len(literals)))
    for number in reversed(range(len(literals))):
        without, counter = kept - {number}, iter(range(len(literals)))
        relaxed = _relaxed(when, without, counter, holds=True)
        if not _possible(prover, relaxed):
            kept = without
    return [literals[number] for number in sorted(kept)]


def _possible(prover: Prover, condition: Condition) -> bool:
    space = Space(prover.attributes, (condition,))
    try:
        return space.possible(space.formula(condition))
    except Undecided:
        return True  # a condition that might be needed stays


def _literals(condition: Condition, *, holds: bool) -> Iterator[Literal]:
    """Yield the comparisons of a guard with negations pushed inside, from left to right."""
    if isinstance(condition, Not):
        yield from _literals(condition.term, holds=not holds)
    elif isinstance(condition, Atom):
        yield Literal(condition, holds)
    elif isinstance(condition, All | Any):
        for term in condition.terms:
            yield from _literals(term, holds=holds)
    else:
        raise InternalError("a guard asks for its own decision")


def _relaxed(condition: Condition, kept: set[int], counter: Iterator[int], *, holds: bool) -> Condition:
    """Return the guard with negations pushed inside, where only the kept comparisons still ask for something."""
    if isinstance(condition, Not):
        return _relaxed(condition.term, kept, counter, holds=not holds)
    if not isinstance(condition, All | Any):
        literal = condition if holds else Not(condition)
        return literal if next(counter) in kept else All(())
    terms = tuple(_relaxed(term, kept, counter, holds=holds) for term in condition.terms)
    return All(terms) if isinstance(condition, All) is holds else Any(terms)


def _finding(prover: Prover, what: str, span: Span, core: Sequence[Literal]) -> Diagnostic:
    kinds = {attribute.name: attribute.type for attribute in prover.attributes}
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
        notes=tuple(f"`{name}` is {domain_text(kinds[name])}" for name in names),
        help=(f"change one of these conditions, or take the {what.split(maxsplit=1)[0]} away",),
    )


def _by_spot(core: Sequence[Literal]) -> dict[Span, list[Literal]]:
    """Gather literals by where they stand: an order over a category is several comparisons written as one."""
    spots: dict[Span, list[Literal]] = {}
    for literal in core:
        spots.setdefault(literal.atom.span, []).append(literal)
    return spots


def _text(literals: list[Literal], kinds: Mapping[str, Category | Numeric]) -> str:
    texts = [atom_text(li.atom, kinds[li.atom.attribute], holds=li.holds) for li in literals]
    return (" or " if literals[0].holds else " and ").join(texts)
