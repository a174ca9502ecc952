"""The same policy in other engines: Cedar (cedarpy), Rego (regopy, which is rego-cpp), CEL (cel-cpp).

Each peer answers one question of the many that a decision here answers: may the
observation write the first depth group? Some grant applies, and no rule denies that
group. Categories are given to them as numbers, numbers as integer millionths, so that
no engine compares texts or fractions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aqpolicy.model import All, Atom, Category, Condition, Deny, Not, Policy, Rule
from aqpolicy.model import Any as Some

Observation = Mapping[str, str | int]
Answer = Callable[[Observation], bool]


@dataclass(frozen=True)
class Peer:
    """One engine: how it reads and checks a policy text, and how it answers."""

    name: str
    text: str
    read: Callable[[], object]
    answer: Answer


def peers(policy: Policy) -> list[Peer]:
    """Return the engines that are installed, each with the policy in its language."""
    return [make(policy) for make in (_cedar, _rego, _cel)]


def _says(rule: Rule, policy: Policy) -> bool | None:
    """Return whether a rule grants the first group (True), denies it (False), or says nothing of it."""
    if rule.admit is not None:
        return True
    first = policy.group_names[0]
    return False if any(isinstance(r, Deny) and first in r.groups for r in rule.restrictions) else None


def numbers(policy: Policy, observation: Observation) -> dict[str, int]:
    """Return an observation with categories as numbers."""
    kinds = {attribute.name: attribute.type for attribute in policy.taxonomy.attributes}
    return {
        name: kind.values.index(str(observation[name])) if isinstance(kind, Category) else int(observation[name])
        for name, kind in kinds.items()
    }


def _written(policy: Policy, condition: Condition, variable: str, words: tuple[str, str, str]) -> str:
    """Return a condition in a language whose `and`, `or` and `not` are given."""
    both, either, negation = words
    kinds = {attribute.name: attribute.type for attribute in policy.taxonomy.attributes}

    def write(part: Condition) -> str:
        match part:
            case Atom(name, op, value):
                kind = kinds[name]
                literal = kind.values.index(str(value)) if isinstance(kind, Category) else value
                return f"{variable}{name} {'==' if op == '=' else op} {literal}"
            case Not(term):
                return f"{negation}({write(term)})"
            case All(terms):
                return "(" + both.join(map(write, terms)) + ")" if terms else "true"
            case Some(terms):
                return "(" + either.join(map(write, terms)) + ")" if terms else "false"
        raise TypeError(part)

    return write(condition)


def _cedar(policy: Policy) -> Peer:
    import cedarpy

    parts = []
    for rule in (rule for rule in policy.rules if _says(rule, policy) is not None):
        guard = _written(policy, rule.when, "context.", (" && ", " || ", "!"))
        effect = "permit" if rule.admit else "forbid"
        parts.append(f'@id("{rule.name}")\n{effect}(principal, action, resource) when {{ {guard} }};')
    text = "\n".join(parts)
    types = {name: {"type": "Long"} for name in (a.name for a in policy.taxonomy.attributes)}
    entity: dict[str, Any] = {"shape": {"type": "Record", "attributes": {}}}
    applies = {"principalTypes": ["U"], "resourceTypes": ["U"], "context": {"type": "Record", "attributes": types}}
    schema = json.dumps({"": {"entityTypes": {"U": entity}, "actions": {"learn": {"appliesTo": applies}}}})

    ready, nobody = cedarpy.PolicySet.from_str(text), cedarpy.Entities.from_json_str("[]")

    def answer(observation: Observation) -> bool:
        request = {"principal": 'U::"u"', "action": 'Action::"learn"', "resource": 'U::"u"'}
        asked = {**request, "context": numbers(policy, observation)}
        return bool(cedarpy.is_authorized(asked, ready, nobody).allowed)

    return Peer("cedarpy parse + validate", text, lambda: cedarpy.validate_policies(text, schema), answer)


def _rego(policy: Policy) -> Peer:
    from regopy import Interpreter

    parts = ["package learn", "allowed if { grants; not refused }"]
    spoken = [rule for rule in policy.rules if _says(rule, policy) is not None]
    parts += [
        f"{'grants' if rule.admit else 'refused'} if {{ {body} }}"
        for rule in spoken
        for body in _alternatives(policy, rule.when)
    ]
    text = "\n".join(parts) + "\n"

    def read() -> Interpreter:
        engine = Interpreter()
        engine.add_module("learn", text)
        engine.query("data.learn.allowed")
        return engine

    ready = Interpreter()
    ready.add_module("learn", text)

    def answer(observation: Observation) -> bool:
        ready.set_input(numbers(policy, observation))
        return any(result.expressions for result in ready.query("data.learn.allowed").results)  # undefined: none

    return Peer("regopy parse + compile", text, read, answer)


def _alternatives(policy: Policy, condition: Condition) -> list[str]:
    """Return rule bodies, one for each alternative: Rego has no `or` inside a body."""
    from itertools import product

    kinds = {attribute.name: attribute.type for attribute in policy.taxonomy.attributes}

    def unfold(part: Condition, *, holds: bool = True) -> list[list[str]]:
        match part:
            case Atom(name, op, value):
                kind = kinds[name]
                literal = kind.values.index(str(value)) if isinstance(kind, Category) else value
                text = f"input.{name} {'==' if op == '=' else op} {literal}"
                return [[text if holds else f"not {text}"]]
            case Not(term):
                return unfold(term, holds=not holds)
            case All(terms) | Some(terms):
                lists = [unfold(term, holds=holds) for term in terms]
                if isinstance(part, All) is holds:
                    return [[line for lines in choice for line in lines] for choice in product(*lists)]
                return [lines for alternatives in lists for lines in alternatives]
        raise TypeError(part)

    return ["; ".join(lines) or "true" for lines in unfold(condition)]


def _cel(policy: Policy) -> Peer:
    from cel_expr_python import cel

    def joined(admits: bool) -> str:
        chosen = [rule.when for rule in policy.rules if _says(rule, policy) is admits]
        return " || ".join(_written(policy, when, "", (" && ", " || ", "!")) for when in chosen) or "false"

    text = f"({joined(True)}) && !({joined(False)})"
    environment = cel.NewEnv(variables={a.name: cel.Type.INT for a in policy.taxonomy.attributes})
    compiled = environment.compile(text)

    def answer(observation: Observation) -> bool:
        return bool(compiled.eval(data=numbers(policy, observation)).value())

    return Peer("cel-cpp parse + check", text, lambda: environment.compile(text), answer)
