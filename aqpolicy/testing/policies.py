"""Draw well-typed policies, as the text an author would write and as what it resolves to.

Every construct of the language occurs. A drawn policy has the right names, types
and units; whether its rules conflict or its budgets suffice is left to chance,
since that is what the checker is there to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from aqpolicy.diagnostics import Source
from aqpolicy.model import Policy, load_policy

_ORDERS = (">=", ">", "<=", "<")
_SHARES = ("0", "0.000001", "0.25", "0.5", "1", "1", "1")
_EXHAUST = ("deny", "defer", "attenuate", "halt")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One attribute that a drawn taxonomy may have: its line, its values, and those that an order compares."""

    name: str
    line: str
    values: tuple[str, ...]
    ordered: tuple[str, ...]


_KINDS = (
    _Kind("authority", "authority crowd < expert < board", ("crowd", "expert", "board"), ("crowd", "expert", "board")),
    _Kind("review", "review draft < approved; rejected", ("draft", "approved", "rejected"), ("draft", "approved")),
    _Kind("prelabel", "attribute prelabel : one of none, kept, corrected", ("none", "kept", "corrected"), ()),
    _Kind("consensus", "attribute consensus : number 0..1", *(("0", "0.25", "0.5", "0.500001", "0.9", "1"),) * 2),
    _Kind("judgments", "attribute judgments : integer 0..20", *(("0", "1", "3", "20"),) * 2),
    _Kind("doubt", "attribute doubt : number -1..2.5 nat", *(("-1", "-0.5 nat", "0 nat", "2.5"),) * 2),
    _Kind("ontology", "attribute ontology : version 1..50", *(("1", "7", "50"),) * 2),
    _Kind(
        "site", "attribute site : ordered clinic < hospital; unknown", ("clinic", "hospital", "unknown"), ("clinic",)
    ),
)


def policies() -> st.SearchStrategy[Policy]:
    """Draw resolved policies."""
    return policy_texts().map(lambda text: load_policy(Source("drawn.aqp", text)))


@st.composite
def policy_texts(draw: st.DrawFn) -> str:
    """Draw policy texts; their statements stand in any order."""
    kinds = draw(st.lists(st.sampled_from(_KINDS), min_size=2, max_size=4, unique=True))
    groups = draw(st.sampled_from((("surface",), ("surface", "head"), ("surface", "semantic", "head"))))
    defines = draw(st.lists(_conditions(kinds, ()), max_size=2))
    names = tuple(f"defined_{n}" for n in range(len(defines)))
    profiles = draw(st.lists(_profiles(groups), min_size=1, max_size=3))
    rules = draw(_rules(kinds, names, groups, len(profiles)))
    budgets = draw(st.lists(_budgets(kinds, names, groups), max_size=2))
    proofs = draw(st.lists(_proofs(kinds, names, groups), max_size=1))
    statements = [
        "policy drawn.policy version 1.2.3",
        "taxonomy drawn.labels version 1 {\n" + "".join(f"  {kind.line}\n" for kind in kinds) + "}",
        _depth(draw(st.sampled_from(("input", "output"))), groups),
        *(f"define {name} = {condition}" for name, condition in zip(names, defines, strict=True)),
        *(f"profile profile_{n} {{ {body} }}" for n, body in enumerate(profiles)),
        *rules,
        *(f"budget budget_{n} {body}" for n, body in enumerate(budgets)),
        *(f"prove never {condition}" for condition in proofs),
        'otherwise deny because "no rule admits it"',
        *(["combine grants by min"] if draw(st.booleans()) else []),
    ]
    return "\n\n".join(draw(st.permutations(statements))) + "\n"


def _depth(origin: str, groups: tuple[str, ...]) -> str:
    lines = "".join(f'  {name} = modules "{name}.*", "{name}_in" to "{name}_out"\n' for name in groups)
    return f"depth from {origin} {{\n{lines}}}"


def _profiles(groups: tuple[str, ...]) -> st.SearchStrategy[str]:
    share = st.sampled_from(_SHARES)
    some = st.lists(st.sampled_from(groups), min_size=1, unique=True)
    by_name = some.flatmap(
        lambda names: st.tuples(*(share.map(f"{name} {{}}".format) for name in names)).map("; ".join)
    )
    return st.one_of(share.map("all {}".format), by_name)


def _conditions(kinds: list[_Kind], names: tuple[str, ...]) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(kinds).flatmap(_comparisons)
    if names:
        leaves = st.one_of(leaves, leaves, st.sampled_from(names))
    terms = st.one_of(leaves, leaves, leaves.map("not {}".format))
    pairs = st.tuples(terms, st.sampled_from(("and", "or")), terms).map(lambda t: f"({' '.join(t)})")
    wide = st.lists(st.one_of(terms, terms, pairs), min_size=1, max_size=3).map(" and ".join)
    return st.one_of(wide, terms, pairs, st.just("anything"))


def _comparisons(kind: _Kind) -> st.SearchStrategy[str]:
    value = st.sampled_from(kind.values)
    several = st.lists(value, min_size=1, max_size=2, unique=True).map(", ".join)
    forms = [
        value.map(f"{kind.name} is {{}}".format),
        value.map(f"{kind.name} is not {{}}".format),
        several.map(lambda values: f"{kind.name} is one of {{ {values} }}"),
    ]
    if kind.ordered:
        orders = st.tuples(st.sampled_from(_ORDERS), st.sampled_from(kind.ordered))
        forms += [orders.map(lambda order: f"{kind.name} {order[0]} {order[1]}")] * 3
    return st.one_of(forms)


def _groups(groups: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.one_of(st.just("all"), st.lists(st.sampled_from(groups), min_size=1, unique=True).map(", ".join))


@st.composite
def _rules(
    draw: st.DrawFn, kinds: list[_Kind], names: tuple[str, ...], groups: tuple[str, ...], profiles: int
) -> list[str]:
    """Draw rules; a grant may override grants before it, which keeps `overrides` free of circles."""
    grants: list[str] = []
    rules = []
    for n in range(draw(st.integers(1, 5))):
        admits = n == 0 or draw(st.sampled_from((True, True, False)))
        actions = [f"admit profile_{draw(st.integers(0, profiles - 1))}"] if admits else []
        actions += draw(st.lists(_restrictions(groups), min_size=0 if admits else 1, max_size=2))
        title = draw(st.sampled_from(("", f' "Title {n}"')))
        text = f"rule rule_{n}{title} when {draw(_conditions(kinds, names))}\n  " + "\n  ".join(actions)
        if admits and grants and draw(st.booleans()):
            text += f"\n  overrides {draw(st.sampled_from(grants))}"
        grants += [f"rule_{n}"] if admits else []
        rules.append(text)
    return rules


def _restrictions(groups: tuple[str, ...]) -> st.SearchStrategy[str]:
    chosen = st.lists(st.sampled_from(groups), min_size=1, max_size=max(1, len(groups) - 1), unique=True).map(", ".join)
    share = st.sampled_from(_SHARES[1:])
    norm = st.sampled_from(("0", "0.01", "1", "250"))
    return st.one_of(
        chosen.map("deny {}".format),
        _groups(groups).map('deny {} because "so it was decided"'.format),
        st.tuples(chosen, share).map(lambda pair: f"limit {pair[0]} share {pair[1]}"),
        st.tuples(chosen, norm).map(lambda pair: f"limit {pair[0]} norm {pair[1]}"),
    )


@st.composite
def _budgets(draw: st.DrawFn, kinds: list[_Kind], names: tuple[str, ...], groups: tuple[str, ...]) -> str:
    windows = draw(st.lists(st.sampled_from(("epoch", "run", "update")), unique=True, max_size=3))
    caps = [f"at most {draw(st.sampled_from(('0.5', '6', '500')))} nat per {window}" for window in windows]
    clauses = [f"on {draw(_groups(groups))}", f"on exhaust {draw(st.sampled_from(_EXHAUST))}"]
    clauses += [f"surprisal {', '.join(caps)}"] if caps else []
    if not caps or draw(st.booleans()):
        clauses.append(f"exposures at most {draw(st.integers(1, 4))} per example")
    if draw(st.booleans()):
        clauses.append(f"for {draw(_conditions(kinds, names))}")
    return "\n  ".join(draw(st.permutations(clauses)))


def _proofs(kinds: list[_Kind], names: tuple[str, ...], groups: tuple[str, ...]) -> st.SearchStrategy[str]:
    admitted = st.tuples(st.sampled_from(groups), st.sampled_from(_ORDERS), st.sampled_from(_SHARES))
    asked = admitted.map(lambda t: f"admitted({t[0]}) {t[1]} {t[2]}")
    return st.tuples(_conditions(kinds, names), asked).map(" and ".join)
