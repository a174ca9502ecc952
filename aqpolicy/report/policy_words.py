"""Say in plain sentences what the parts of a policy's tree mean.

It looks up nothing but which attributes are categories, decides nothing, and quotes
the author's own names and numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aqpolicy.syntax import tree as t

_NUMBERS: Final[Mapping[str, str]] = MappingProxyType(
    {">=": "at least {}", ">": "more than {}", "<=": "at most {}", "<": "less than {}", "=": "exactly {}"}
)
_DATES: Final[Mapping[str, str]] = MappingProxyType(
    {">=": "{} or later", ">": "after {}", "<=": "{} or earlier", "<": "before {}"}
)
_RANKS: Final[Mapping[str, str]] = MappingProxyType(
    {">=": "{} or above", ">": "above {}", "<=": "{} or below", "<": "below {}"}
)
_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rollback": "what was learned is rolled back",
        "halt": "the run is halted",
        "hold": "what was learned is held back",
    }
)
_DECIDED: Final[Mapping[tuple[str, str, str], str]] = MappingProxyType(
    {
        ("admitted", ">", "0"): "something is admitted to {}",
        ("admitted", "=", "0"): "nothing is admitted to {}",
        ("admitted", "=", "1"): "everything is admitted to {}",
        ("charged", ">", "0"): "budget {} is charged",
        ("charged", "=", "0"): "budget {} is not charged",
    }
)
_EFFECTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "admit": "is admitted in full",
        "modulate": "is admitted in part",
        "defer": "is held back for now",
        "deny": "is denied",
    }
)


def listed(names: Sequence[str], word: str = "and") -> str:
    """Return names as a list in words."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def quoted(text: str) -> str:
    """Return a text of the author's in quotation marks."""
    return f"\u201c{text}\u201d"


def sentence(text: str) -> str:
    """Return words as a sentence; a first word that is no plain word keeps its letters."""
    first = text.partition(" ")[0]
    return f"{text[:1].upper() if first.isalpha() else text[:1]}{text[1:]}."


def groups_text(groups: t.Groups) -> str:
    """Return groups in words."""
    return "every depth group" if groups.names is None else listed([name.text for name in groups.names])


def number_text(number: t.Number) -> str:
    """Return a number with its unit."""
    return f"{number.text} {number.unit.text}" if number.unit else number.text


def value_words(value: t.Value) -> str:
    """Return a value."""
    return number_text(value) if isinstance(value, t.Number) else value.text


@dataclass(frozen=True, slots=True)
class Words:
    """Words for conditions and actions; `categories` are the attributes whose values are names."""

    categories: Collection[str]

    def condition(self, expression: t.Expression) -> str:
        """Return a condition as a clause that fits behind `when`."""
        match expression:
            case t.Anything():
                return "it is any observation"
            case t.Named():
                return f"{expression.name.text} holds"
            case t.Call():
                values = listed([value_words(value) for value in expression.values])
                return f"{expression.name.text} with {values} holds"
            case t.OneOf():
                return self._one_of(expression)
            case t.Compare():
                return self._compare(expression)
            case t.DecidedShare():
                return self._decided(expression)
            case t.Negation():
                return self._negation(expression.term)
            case t.Junction():
                return self._junction(expression)

    def terms(self, expression: t.Expression) -> tuple[str, tuple[str, ...]]:
        """Return how the terms of a condition are joined (`all`, `any`) and each of them in words."""
        if isinstance(expression, t.Junction):
            how = "all" if expression.word == "and" else "any"
            return how, tuple(self.condition(term) for term in expression.terms)
        return "all", (self.condition(expression),)

    def _one_of(self, term: t.OneOf) -> str:
        values = [value_words(value) for value in term.values]
        if not term.negated:
            return f"{term.attribute.text} is {listed(values, 'or')}"
        return f"{term.attribute.text} is {'not' if len(values) == 1 else 'neither'} {listed(values, 'nor')}"

    def _compare(self, term: t.Compare) -> str:
        forms = _RANKS if term.attribute.text in self.categories else _NUMBERS
        forms = _DATES if isinstance(term.value, t.Day) else forms
        return f"{term.attribute.text} is {forms[term.op].format(value_words(term.value))}"

    def _decided(self, term: t.DecidedShare) -> str:
        special = _DECIDED.get((term.kind, term.op, term.share.text))
        if special is not None:
            return special.format(term.name.text)
        what = "share admitted to" if term.kind == "admitted" else "share charged to budget"
        return f"the {what} {term.name.text} is {_NUMBERS[term.op].format(term.share.text)}"

    def _negation(self, term: t.Expression) -> str:
        if isinstance(term, t.Named | t.Call):
            return f"{self.condition(term).removesuffix(' holds')} does not hold"
        if isinstance(term, t.OneOf):
            return self._one_of(t.OneOf(term.attribute, term.values, negated=not term.negated, span=term.span))
        inner = self.condition(term)
        return f"it is not so that {f'({inner})' if isinstance(term, t.Junction) else inner}"

    def _junction(self, junction: t.Junction) -> str:
        is_nested = any(isinstance(term, t.Junction) for term in junction.terms)
        comma = "," if junction.word == "or" and is_nested else ""
        return f"{comma} {junction.word} ".join(self._inside(term, junction.word) for term in junction.terms)

    def _inside(self, term: t.Expression, word: str) -> str:
        """Return a term of a junction, in parentheses where it would be read wrongly without."""
        words = self.condition(term)
        return f"({words})" if isinstance(term, t.Junction) and term.word == "or" and word == "and" else words

    def action(self, action: t.Action) -> str:
        """Return what a rule does, beside admitting a profile, as a sentence."""
        match action:
            case t.AdmitClause():
                return f"Admits the profile {action.profile.text}."
            case t.DenyClause():
                because = f": {quoted(action.because.text)}" if action.because else ""
                return f"Closes {groups_text(action.groups)}{because}."
            case t.LimitClause(kind="share"):
                return f"Admits to {groups_text(action.groups)} at most a share of {action.limit.text}."
            case t.LimitClause():
                return (
                    f"Lets one example change the gradient of {groups_text(action.groups)} by at most "
                    f"{action.limit.text} in the l2 norm."
                )
            case t.LinearClause():
                return f"Admits to {groups_text(action.groups)} at most a share of {_linear_text(action)}."
            case t.FrequencyClause():
                return (
                    f"Writes {groups_text(action.groups)} in at most {action.updates.text} of any {action.steps.text} "
                    "steps in a row."
                )
            case t.DeferClause():
                return (
                    f"Holds the observation back until {self.condition(action.until)}, for at most "
                    f"{action.epochs.text} epochs; after that it is denied."
                )
            case t.VerifyClause():
                return (
                    f"Checks afterwards that {action.metric.text} {action.direction} by at most {action.amount.text} "
                    f"within {action.steps.text} steps; otherwise {_REMEDIES[action.remedy]}."
                )
            case t.PromoteClause():
                witnesses = f", before {action.witnesses.text} witnesses" if action.witnesses else ""
                passed = _NUMBERS[action.op].format(action.value.text)
                return f"Lets what was learned leave the run only after {action.metric.text} is {passed}{witnesses}."

    def promise(self, proof: t.ProveDecl) -> str:
        """Return a promise as a sentence."""
        match proof:
            case t.ProveNever():
                return f"Never: {self.condition(proof.never)}."
            case t.ProveMonotone():
                moves = "falls" if proof.direction == "rises" else "rises"
                return (
                    f"The share admitted to {proof.group.text} never {moves} where {proof.attribute.text} alone grows."
                )
            case t.ProveSpent():
                given = f" in a run of {bounds_text(proof.given)}" if proof.given else " in a run"
                return f"Budget {proof.budget.text} is charged at most {number_text(proof.most)}{given}."

    def expectation(self, item: t.ExpectEffect | t.ExpectThat) -> str:
        """Return what a test case expects, as a clause."""
        if isinstance(item, t.ExpectThat):
            return self.condition(item.condition)
        by = f" by {listed([rule.text for rule in item.rules])}" if item.rules else ""
        return f"it {_EFFECTS[item.effect]}{by}"


def bounds_text(bounds: Sequence[t.Bound]) -> str:
    """Return how long a run is, in words."""
    return "at most " + listed([f"{bound.most.text} {bound.what}" for bound in bounds])


def _linear_text(clause: t.LinearClause) -> str:
    term = f"{clause.factor.text} \u00d7 {clause.attribute.text}" if clause.factor else clause.attribute.text
    if clause.intercept is None:
        return term
    sign = "\u2212" if clause.falls else "+"
    return f"{clause.intercept.text} {sign} {term}"
