"""Policies of any size for the benchmark: a structured one without findings, and a random one."""

from __future__ import annotations

import random

GROUPS = 5
ATTRIBUTES = ("authority", "review", "tier", "consensus", "ontology", "assisted")

_VOCABULARY = """\
  authority a0 < a1 < a2 < a3 < a4 < a5
  review    r0 < r1 < r2 < r3 < r4 < r5
  tier      t0 < t1 < t2 < t3 < t4
  attribute consensus : number 0..1
  attribute ontology  : version 1..20
  attribute assisted  : one of yes, no
"""
_FRAME = """\
depth from input {
  g0 = modules "a"
  g1 = modules "b"
  g2 = modules "c"
  g3 = modules "d"
  g4 = modules "e"
}

profile full { all 1 }

budget everything
  on all
  surprisal at most 100000 nat per run, at most 6 nat per update
  on exhaust deny

otherwise deny because "no rule admits it"
"""


def structured(rules: int, *, linear: bool = False) -> str:
    """Return a policy of departments, each with a grant and nine restrictions of its own; nothing is wrong with it.

    Args:
        rules: How many rules.
        linear: Whether one rule in ten has a share that is linear in an attribute.
    """
    sites = -(-rules // 10)
    names = ", ".join(f"s{site}" for site in range(sites))
    parts = [
        "policy bench.structured version 1.0.0",
        "taxonomy bench.labels version 1 {\n" + _VOCABULARY + f"  attribute site : one of {names}\n}}",
        _FRAME,
        *(_structured_rule(number, linear=linear) for number in range(rules)),
        *(f"prove never authority is a0 and admitted(g{group}) > 0" for group in range(GROUPS)),
    ]
    return "\n\n".join(parts) + "\n"


def _structured_rule(number: int, *, linear: bool) -> str:
    site, part = divmod(number, 10)
    if part == 0:
        guard = f"site is s{site} and authority >= a{1 + site % 3} and consensus >= 0.{50 + site % 50}"
        return f'rule grant_{site} "Site {site} teaches every depth"\n  when {guard}\n  admit full'
    guard = f"site is s{site} and review is r{part % 6} and tier is t{part % 5}"
    action = f"limit g{part % 5} norm 0.{10 + part}"
    if linear and part == 9:
        action = f"limit g{part % 5} share 1 - 0.5 * consensus"
    elif part == 8:
        action = f'deny g{part % 5} because "site {site} says so"'
    return f"rule limit_{site}_{part}\n  when {guard}\n  {action}"


def drawn(rules: int, seed: int = 7, *, conflicting: bool = False) -> str:
    """Return a policy of random conjunctive rules over six attributes: seven grants in ten, the rest denials.

    Args:
        rules: How many rules.
        seed: Of the dice.
        conflicting: Whether every other grant has another profile, so that most of them conflict.
    """
    dice = random.Random(seed)
    parts = [
        "policy bench.random version 1.0.0",
        "taxonomy bench.labels version 1 {\n" + _VOCABULARY + "}",
        _FRAME,
        *(_drawn_rule(number, dice, conflicting=conflicting) for number in range(rules)),
        *(["profile half { all 0.5 }"] if conflicting else []),
    ]
    return "\n\n".join(parts) + "\n"


def _drawn_rule(number: int, dice: random.Random, *, conflicting: bool) -> str:
    guard = " and ".join(_comparison(name, dice) for name in dice.sample(ATTRIBUTES, dice.randint(2, 4)))
    if dice.random() < 0.7:
        profile = "half" if conflicting and number % 2 else "full"
        return f'rule rule_{number} "Rule {number}"\n  when {guard}\n  admit {profile}'
    return f'rule rule_{number}\n  when {guard}\n  deny g{dice.randrange(GROUPS)} because "rule {number} says so"'


def _comparison(name: str, dice: random.Random) -> str:
    match name:
        case "authority":
            return f"authority {dice.choice(('>=', '<='))} a{dice.randint(0, 5)}"
        case "review":
            return f"review {dice.choice(('>=', '<='))} r{dice.randint(0, 5)}"
        case "tier":
            return f"tier is not t{dice.randint(0, 4)}"
        case "consensus":
            return f"consensus {dice.choice(('>=', '<'))} 0.{dice.randint(10, 99)}"
        case "ontology":
            return f"ontology >= {dice.randint(1, 20)}"
        case _:
            return f"assisted is {dice.choice(('yes', 'no'))}"
