"""AQ308 and AQ309: shares that must rise or fall with an attribute."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from aqpolicy.analysis.copies import other_name, second
from aqpolicy.analysis.inheritance import is_own
from aqpolicy.analysis.observation import Observation, Value, attribute_text
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import And, Before, Exceeds, Holds, Over, Query
from aqpolicy.analysis.question import Question, confirm
from aqpolicy.analysis.reading import conditions, linear_limits
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import All, Atom, Attribute, Category, Condition, Monotone, Not, Policy, Rule
from aqpolicy.semantics import evaluate
from aqpolicy.space.partition import comparisons, partition
from aqpolicy.units import micro_text


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask of every such statement whether two observations refute it."""
    for proof in (proof for proof in policy.proofs if isinstance(proof, Monotone)):
        obligation = Obligation(proof.text, _policies(policy, proof), _refutation(proof))
        yield Question(proof.text, proof.span, partial(findings, proof=proof), (obligation,))


def _policies(policy: Policy, proof: Monotone) -> tuple[Policy, Policy]:
    return policy, second(policy, (proof.attribute,))


def _wrong(proof: Monotone) -> Query:
    """Ask for shares that go the wrong way from the first to the second value of the attribute."""
    return Exceeds(proof.group, 0, 1) if proof.direction == "rises" else Exceeds(proof.group, 1, 0)


def _refutation(proof: Monotone) -> Query:
    """Ask for two observations that differ in the attribute alone, whose shares go the wrong way."""
    return And((Before(proof.attribute, other_name(proof.attribute)), _wrong(proof)))


def findings(prover: Prover, proof: Monotone) -> Iterator[Diagnostic]:
    """Yield a finding if a share goes the wrong way, or a warning if nothing is ever admitted.

    Unsat iff no two observations that differ in the attribute alone, in its order, get
    shares in the opposite order. A value outside the order is compared with none.
    """
    pair = prover.about(*_policies(prover.policies[0], proof))
    witness = None if _holds_step_by_step(pair, proof) else pair.witness(_refutation(proof))
    if witness is not None:
        yield _refuted(prover, proof, witness)
    elif is_own(prover.policies[0], proof) and not prover.possible(Over(proof.group, 0)):
        yield Diagnostic(
            code="AQ309",
            severity="warning",
            message="a `prove` statement holds vacuously",
            labels=(Label(proof.span, f"nothing is ever admitted to `{proof.group}`"),),
            help=("correct the statement so that it says what was meant, or take it away",),
        )


def _holds_step_by_step(pair: Prover, proof: Monotone) -> bool:
    """Say whether bit sets prove the statement from each stretch of the attribute to the next: many small questions.

    Enough, as a share that never falls from one stretch to the next never falls, unless
    it moves inside a stretch. False where it does, where it falls, and where that is open.
    """
    policy = pair.policies[0]
    if any(limit.attribute == proof.attribute for _, limit in linear_limits(policy, proof.group)):
        return False
    steps = [And((Holds(low), Holds(high), _wrong(proof))) for low, high in _neighbours(policy, proof)]
    pair.learn(steps)
    return all(pair.quick(step) is False for step in steps)


def _neighbours(policy: Policy, proof: Monotone) -> list[tuple[Condition, Condition]]:
    """Return for each stretch of the attribute but the last that its first value lies there, its second in the next."""
    attribute = next(attribute for attribute in policy.attributes if attribute.name == proof.attribute)
    lowest = partition(attribute, (atom for condition in conditions(policy) for atom in comparisons(condition))).lowest
    if isinstance(attribute.type, Category):
        lowest = lowest[: attribute.type.ordered]
    return [
        (
            _inside(attribute, proof.attribute, (low, high)),
            _inside(attribute, other_name(proof.attribute), (high, after)),
        )
        for low, high, after in zip(lowest, lowest[1:], (*lowest[2:], None), strict=False)
    ]


def _inside(attribute: Attribute, name: str, stretch: tuple[Value, Value | None]) -> Condition:
    """Return that a value of the attribute, under some name, lies from one number up to, but not at, another."""
    first, after = stretch
    if isinstance(attribute.type, Category):
        return Atom(name, "=", first, attribute.span)
    above = Atom(name, ">=", first, attribute.span)
    return above if after is None else All((above, Not(Atom(name, ">=", after, attribute.span))))


def _refuted(prover: Prover, proof: Monotone, witness: Observation) -> Diagnostic:
    policy, other = prover.policies[0], other_name(proof.attribute)
    less = {name: value for name, value in witness.items() if name != other}
    more = less | {proof.attribute: witness[other]}
    one, two = evaluate(policy, less), evaluate(policy, more)
    group = policy.group_names.index(proof.group)
    wrong = (
        two.shares[group] < one.shares[group] if proof.direction == "rises" else two.shares[group] > one.shares[group]
    )
    confirm(wrong, f"`{proof.text}` is refuted")
    attribute = next(attribute for attribute in policy.attributes if attribute.name == proof.attribute)
    values = [attribute_text(attribute, observation[proof.attribute]) for observation in (less, more)]
    shares = [micro_text(decision.shares[group]) for decision in (one, two)]
    verb = "falls" if proof.direction == "rises" else "rises"
    changed = [rule for rule in policy.rules if (rule.name in one.rules) != (rule.name in two.rules)]
    return Diagnostic(
        code="AQ308",
        severity="error",
        message=f"a `prove` statement is refuted: the share of `{proof.group}` {verb} from {shares[0]} to {shares[1]}",
        labels=(
            Label(proof.span, f"does not hold where `{proof.attribute}` goes from {values[0]} to {values[1]}"),
            *(Label(rule.span, _applies_where(rule, proof, values, one.rules)) for rule in changed),
        ),
        notes=(f"the witness is the first observation; in the second only `{proof.attribute}` is {values[1]}",),
        help=("change the rules that apply to one of the two only, or correct the statement",),
        witness=prover.text(less),
    )


def _applies_where(rule: Rule, proof: Monotone, values: list[str], before: tuple[str, ...]) -> str:
    return f"decides only where `{proof.attribute}` is {values[0] if rule.name in before else values[1]}"
