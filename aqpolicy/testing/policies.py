"""Draw well-typed policies, as the text an author would write and as what it resolves to.

Every construct of the language occurs. A drawn policy has the right names, types
and units; whether its rules conflict or its budgets suffice is left to chance,
since that is what the checker is there to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from aqpolicy.diagnostics import Source
from aqpolicy.model import Policy, load_policy

_ORDERS = (">=", ">", "<=", "<")
_SHARES = ("0", "0.000001", "0.25", "0.5", "1", "1", "1")
_EXHAUST = ("deny", "defer", "attenuate", "halt")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One attribute that conditions may compare: its line in the taxonomy, its values, and those in an order.

    The line is empty for what the language itself provides.
    """

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
    _Kind(
        "licensed",
        "attribute licensed : date 2020-01-01..2030-12-31",
        *(("2020-01-01", "2025-06-30", "2030-12-31"),) * 2,
    ),
)

_BANDS = _Kind("band", "bands of {} {{ low < {}; middle < {}; high }}", ("low", "middle", "high"), ())
_BANDED = {
    "consensus": ("0.25", "0.9"),
    "doubt": ("-0.5 nat", "1"),
    "judgments": ("2", "10"),
    "surprisal": ("1", "4 nat"),
}

_PROVIDED = (
    _Kind("surprisal", "", *(("0", "1.5 nat", "6"),) * 2),
    _Kind("predictive_entropy", "", *(("0.5", "2 nat"),) * 2),
    _Kind("step", "", *(("0", "100", "1000 steps"),) * 2),
    _Kind("epoch", "", *(("1", "3 epochs"),) * 2),
    _Kind("today", "", *(("2026-01-01", "2027-12-31"),) * 2),
    _Kind("phase", "phases warm < main < cool", *(("warm", "main", "cool"),) * 2),
    _Kind("stage", "stages basic < advanced { advanced requires gold.accuracy >= 0.9 }", *(("basic", "advanced"),) * 2),
    _Kind("evidence", "evidence", *(("0", "2", "7.5"),) * 2),
)
"""What the language provides, with the statement that makes it where it needs one."""


def policies() -> st.SearchStrategy[Policy]:
    """Draw resolved policies."""
    return policy_texts().map(lambda text: load_policy(Source("drawn.aqp", text)))


@st.composite
def policy_texts(draw: st.DrawFn) -> str:
    """Draw policy texts; their statements stand in any order."""
    declared = draw(st.lists(st.sampled_from(_KINDS), min_size=2, max_size=4, unique=True))
    possible = [kind for kind in _PROVIDED if kind.name != "evidence" or _category(declared)]
    provided = draw(st.lists(st.sampled_from(possible), max_size=2, unique=True))
    bands = draw(_bands([kind.name for kind in (*declared, *provided)]))
    kinds = [*declared, *provided, *([_BANDS] if bands else [])]
    groups = draw(st.sampled_from((("surface",), ("surface", "head"), ("surface", "semantic", "head"))))
    defines = draw(st.lists(_conditions(kinds, ()), max_size=2))
    names = tuple(f"defined_{n}" for n in range(len(defines)))
    numeric = [kind for kind in declared if kind.values == kind.ordered and kind.ordered[0] in {"0", "1"}]
    profiles = draw(st.lists(_profiles(groups), min_size=1, max_size=3))
    words = _Words(tuple(kinds), names, groups, tuple(kind.name for kind in numeric), len(profiles))
    budgets = draw(st.lists(_budgets(words), max_size=2))
    statements = [
        "policy drawn.policy version 1.2.3",
        "taxonomy drawn.labels version 1 {\n" + "".join(f"  {kind.line}\n" for kind in declared) + "}",
        *_made(provided, declared),
        *bands,
        _depth(draw(st.sampled_from(("input", "output"))), groups),
        *(f"define {name} = {condition}" for name, condition in zip(names, defines, strict=True)),
        *(f"profile profile_{n} {{ {body} }}" for n, body in enumerate(profiles)),
        *draw(_rules(words)),
        *(f"budget budget_{n} {body}" for n, body in enumerate(budgets)),
        *draw(st.lists(_proofs(words, len(budgets)), max_size=2)),
        *draw(st.lists(_cases(words), max_size=1)),
        'otherwise deny because "no rule admits it"',
        *draw(st.sampled_from(([], [], ["combine grants by min"], ["complete"], ["assume epochs <= 3, steps <= 50"]))),
    ]
    return "\n\n".join(draw(st.permutations(statements))) + "\n"


@dataclass(frozen=True, slots=True)
class _Words:
    """What the rules of one drawn policy may name."""

    kinds: tuple[_Kind, ...]
    defines: tuple[str, ...]
    groups: tuple[str, ...]
    numeric: tuple[str, ...]
    """Attributes without a unit from which a share may be computed."""
    profiles: int

    @property
    def conditions(self) -> st.SearchStrategy[str]:
        return _conditions(self.kinds, self.defines)


def _bands(names: Sequence[str]) -> st.SearchStrategy[list[str]]:
    fitting = [name for name in names if name in _BANDED]
    if not fitting:
        return st.just([])
    made = st.sampled_from(fitting).map(lambda name: [_BANDS.line.format(name, *_BANDED[name])])
    return st.one_of(st.just([]), made)


def _category(declared: Sequence[_Kind]) -> _Kind | None:
    return next((kind for kind in declared if kind.values[0].isidentifier()), None)


def _made(provided: Sequence[_Kind], declared: Sequence[_Kind]) -> list[str]:
    """Return the statements that what is provided needs; evidence weighs the first category."""
    category = _category(declared)
    lines = []
    for kind in (kind for kind in provided if kind.line):
        if kind.name != "evidence":
            lines.append(kind.line)
        elif category is not None:
            lines.append(f"evidence {{ weigh {category.name}: {category.values[0]} 1.5 one per session at most 8 }}")
    return lines


def _depth(origin: str, groups: tuple[str, ...]) -> str:
    lines = "".join(f'  {name} = modules "{name}.*", "{name}_in" to "{name}_out"\n' for name in groups)
    return f"depth from {origin} {{\n{lines}}}"


def _profiles(groups: tuple[str, ...]) -> st.SearchStrategy[str]:
    share = st.sampled_from(_SHARES)
    some = st.lists(st.sampled_from(groups), min_size=1, unique=True)
    by_name = some.flatmap(
        lambda names: st.tuples(*(share.map(f"{name} {{}}".format) for name in names)).map("; ".join)
    )
    first, last = groups[0], groups[-1]
    curves = [
        st.tuples(share, share).map(lambda pair: f"from {first} {pair[0]} to {last} {pair[1]} linear"),
        share.map(lambda one: f"{first} to {first} {one} tapered over 1 groups"),
        share.map(lambda one: f"{first} to {last} {one}"),
        st.just(f"amplify {last} 1.5"),
    ]
    return st.one_of(share.map("all {}".format), by_name, by_name, *curves)


def _conditions(kinds: Sequence[_Kind], names: tuple[str, ...]) -> st.SearchStrategy[str]:
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
def _rules(draw: st.DrawFn, words: _Words) -> list[str]:
    """Draw rules; a grant may override grants before it, which keeps `overrides` free of circles."""
    grants: list[str] = []
    rules = []
    for n in range(draw(st.integers(1, 5))):
        admits = n == 0 or draw(st.sampled_from((True, True, False)))
        actions = [f"admit profile_{draw(st.integers(0, words.profiles - 1))}"] if admits else []
        actions += draw(st.lists(_restrictions(words), min_size=0 if admits else 1, max_size=2))
        title = draw(st.sampled_from(("", f' "Title {n}"')))
        until = draw(st.sampled_from(("", "", "", " until 2027-06-30")))
        text = f"rule rule_{n}{title} when {draw(words.conditions)}{until}\n  " + "\n  ".join(actions)
        if admits and grants and draw(st.booleans()):
            text += f"\n  overrides {draw(st.sampled_from(grants))}"
        grants += [f"rule_{n}"] if admits else []
        rules.append(text)
    return rules


def _restrictions(words: _Words) -> st.SearchStrategy[str]:
    groups = words.groups
    chosen = st.lists(st.sampled_from(groups), min_size=1, max_size=max(1, len(groups) - 1), unique=True).map(", ".join)
    share = st.sampled_from(_SHARES[1:])
    norm = st.sampled_from(("0", "0.01", "1", "250"))
    plain = st.one_of(
        chosen.map("deny {}".format),
        _groups(groups).map('deny {} because "so it was decided"'.format),
        st.tuples(chosen, share).map(lambda pair: f"limit {pair[0]} share {pair[1]}"),
        st.tuples(chosen, norm).map(lambda pair: f"limit {pair[0]} norm {pair[1]}"),
    )
    return st.one_of(plain, plain, _obligations(words), *_linear(words, chosen))


def _linear(words: _Words, chosen: st.SearchStrategy[str]) -> list[st.SearchStrategy[str]]:
    if not words.numeric:
        return []
    forms = st.sampled_from(("1 - {}", "{}", "0.5 * {} + 0.1", "0.9 - 0.05 * {}", "2 * {} - 0.25"))
    amounts = st.tuples(forms, st.sampled_from(words.numeric)).map(lambda pair: pair[0].format(pair[1]))
    return [st.tuples(chosen, amounts).map(lambda pair: f"limit {pair[0]} share {pair[1]}")]


def _obligations(words: _Words) -> st.SearchStrategy[str]:
    return st.one_of(
        _groups(words.groups).map("limit {} frequency 1 per 10 steps".format),
        words.conditions.map("defer until {} for at most 3 epochs then deny".format),
        st.just("verify gold.accuracy falls at most 0.01 within 200 steps else rollback"),
        st.just("promote after gold.accuracy >= 0.9 witnessed by 2"),
    )


@st.composite
def _budgets(draw: st.DrawFn, words: _Words) -> str:
    windows = draw(st.lists(st.sampled_from(("update", "step", "epoch", "phase", "run")), unique=True, max_size=3))
    caps = [f"at most {draw(st.sampled_from(('0.5', '6', '500')))} nat per {window}" for window in windows]
    clauses = [f"on {draw(_groups(words.groups))}", f"on exhaust {draw(st.sampled_from(_EXHAUST))}"]
    clauses += [f"surprisal {', '.join(caps)}"] if caps else []
    clauses += draw(
        st.sampled_from(([], [], ["movement at most 0.05 l2 per step"], ["drift at most 0.1 nat per epoch"]))
    )
    if not caps or draw(st.booleans()):
        clauses.append(f"exposures at most {draw(st.integers(1, 4))} per example")
    if draw(st.booleans()):
        clauses.append(f"for {draw(words.conditions)}")
    return "\n  ".join(draw(st.permutations(clauses)))


def _proofs(words: _Words, budgets: int) -> st.SearchStrategy[str]:
    group = st.sampled_from(words.groups)
    asked = st.tuples(group, st.sampled_from((*_ORDERS, "is")), st.sampled_from(_SHARES))
    admitted = asked.map(lambda t: f"admitted({t[0]}) {t[1]} {t[2]}")
    never = st.tuples(words.conditions, admitted).map(" and ".join).map("prove never {}".format)
    along = st.sampled_from([kind.name for kind in words.kinds if kind.ordered and len(kind.ordered) > 1] or ["epoch"])
    rises = st.tuples(group, st.sampled_from(("rises", "falls")), along)
    forms = [never, rises.map(lambda t: f"prove admitted({t[0]}) {t[1]} with {t[2]}")]
    if budgets:
        forms.append(st.just("prove spent(budget_0) <= 1500 nat given epochs <= 3"))
        forms.append(st.sampled_from(_ORDERS).map("prove never charged(budget_0) {} 0.5".format))
    return st.one_of(forms)


def _cases(words: _Words) -> st.SearchStrategy[str]:
    effects = st.sampled_from(("admit", "modulate", "defer", "deny", "deny by rule_0"))
    that = st.sampled_from(words.groups).map("that admitted({}) <= 0.5".format)
    return st.tuples(words.conditions, st.one_of(effects, that)).map(
        lambda pair: f'test "drawn" {{ given {pair[0]} expect {pair[1]} }}'
    )
