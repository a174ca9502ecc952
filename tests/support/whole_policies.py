"""Random policies that use the whole language, built of the typed model itself; what is drawn may conflict."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from aqpolicy.diagnostics import Span
from aqpolicy.model.policy import (
    All,
    Any,
    Atom,
    Attribute,
    Budget,
    Category,
    Condition,
    Defer,
    Deny,
    DepthGroup,
    Limit,
    LimitFrequency,
    LimitLinear,
    LimitNorm,
    LimitShare,
    Not,
    Numeric,
    Otherwise,
    Policy,
    Profile,
    Promote,
    Restriction,
    Rule,
    Taxonomy,
    Verify,
)
from aqpolicy.space.partition import comparisons

MICRO = 1_000_000
HERE = Span("drawn.aqp", 0, 0, 1, 1)
GROUPS = ("surface", "semantic", "head")
AUTHORITY = Category(("crowd", "expert", "board", "unknown"), 3)
ATTRIBUTES = (
    Attribute("authority", AUTHORITY, HERE),
    Attribute("consensus", Numeric("number", 0, MICRO, 1), HERE),
    Attribute("judgments", Numeric("integer", 0, 9 * MICRO, MICRO), HERE),
)
DERIVED = (
    Attribute("evidence", Numeric("number", 0, 3 * MICRO, 1), HERE, "evidence"),
    Attribute("surprisal", Numeric("number", 0, 2**31 - 1, 1, "nat"), HERE, "run"),
    Attribute("today", Numeric("date", 0, 30_000 * MICRO, MICRO), HERE, "run"),
)
NUMBERS = {
    "consensus": (0, 1, 250_000, 500_000, 900_000, MICRO),
    "judgments": (0, MICRO, 3 * MICRO, 9 * MICRO),
    "evidence": (0, MICRO, 2_500_000),
    "surprisal": (0, 2_000_000, 5_000_000),
    "today": (20_000 * MICRO,),
}

names = st.lists(st.sampled_from(GROUPS), min_size=1, unique=True).map(
    lambda chosen: tuple(name for name in GROUPS if name in chosen)
)
orders = st.sampled_from(("=", "<", "<=", ">", ">="))
compared = st.sampled_from(sorted(NUMBERS)).flatmap(
    lambda name: st.builds(Atom, st.just(name), orders, st.sampled_from(NUMBERS[name]), st.just(HERE))
)
named = st.builds(Atom, st.just("authority"), st.just("="), st.sampled_from(AUTHORITY.values), st.just(HERE))
atoms = st.one_of(compared, named)
conditions: st.SearchStrategy[Condition] = st.recursive(
    st.one_of(atoms, st.just(All(()))),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=1, max_size=2).map(lambda terms: All(tuple(terms))),
        st.lists(inner, min_size=1, max_size=2).map(lambda terms: Any(tuple(terms))),
    ),
    max_leaves=4,
)
linears = st.builds(
    LimitLinear,
    names,
    st.sampled_from((-MICRO, 0, 1, 500_000, MICRO, 2 * MICRO)),
    st.sampled_from((-2 * MICRO, -MICRO, -333_333, -1, 0, 1, 333_333, MICRO, 7 * MICRO)),
    st.sampled_from(("consensus", "judgments", "evidence")),
    st.just(HERE),
)
restrictions: st.SearchStrategy[Restriction] = st.one_of(
    st.builds(Deny, names, st.sampled_from((None, "so it was decided")), st.just(HERE)),
    st.builds(LimitShare, names, st.sampled_from((1, 250_000, MICRO)), st.just(HERE)),
    linears,
    linears,
    st.builds(LimitNorm, names, st.sampled_from((0, 10_000, MICRO)), st.just(HERE)),
    st.builds(LimitFrequency, names, st.just(1), st.just(10), st.just(HERE)),
    st.builds(Defer, conditions, st.integers(1, 3), st.just("it is so"), st.just(HERE)),
    st.builds(
        Verify,
        st.just("gold.accuracy"),
        st.just("falls"),
        st.just(10_000),
        st.just(200),
        st.just("rollback"),
        st.just(HERE),
    ),
    st.builds(Promote, st.just("gold.auc"), st.just(">="), st.just(900_000), st.integers(0, 2), st.just(HERE)),
)
shares = st.sampled_from((0, 250_000, MICRO, MICRO, MICRO, 3 * MICRO))
profiles = st.tuples(*(shares for _ in GROUPS)).map(lambda drawn: Profile("p", drawn, HERE))


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    """Draw rules; a grant may override grants before it, which keeps `overrides` free of circles."""
    drawn: list[Rule] = []
    for number in range(draw(st.integers(1, 4))):
        admit = draw(profiles) if number == 0 or draw(st.booleans()) else None
        before = [rule.name for rule in drawn if rule.admit is not None]
        drawn.append(
            Rule(
                name=f"r{number}",
                title=draw(st.sampled_from((None, f"Title {number}"))),
                when=draw(conditions),
                admit=admit,
                restrictions=tuple(draw(st.lists(restrictions, min_size=0 if admit else 1, max_size=3))),
                overrides=(draw(st.sampled_from(before)),) if admit and before and draw(st.booleans()) else (),
                span=HERE,
                when_span=HERE,
                admit_span=HERE if admit else None,
            )
        )
    return tuple(drawn)


budgets = st.builds(
    Budget,
    name=st.just("b"),
    when=conditions,
    groups=names,
    within=st.none(),
    limits=st.sampled_from(
        (
            (),
            (Limit("surprisal", "epoch", 5 * MICRO, HERE), Limit("surprisal", "update", MICRO, HERE)),
            (Limit("surprisal", "phase", MICRO, HERE), Limit("drift", "run", MICRO, HERE)),
        )
    ),
    exposures=st.sampled_from((None, 4)),
    on_exhaust=st.just("deny"),
    span=st.just(HERE),
)


@st.composite
def whole_policies(draw: st.DrawFn) -> Policy:
    """Draw a policy."""
    owned, charged = draw(rules()), tuple(draw(st.lists(budgets, max_size=1)))
    used = set(_used(owned, charged))
    return Policy(
        name="drawn.policy",
        version="1.0.0",
        taxonomy=Taxonomy("drawn.labels", 1, ATTRIBUTES, HERE),
        origin="input",
        groups=tuple(DepthGroup(name, (), HERE) for name in GROUPS),
        rules=owned,
        budgets=charged,
        proofs=(),
        otherwise=Otherwise("no rule admits it", HERE),
        combine_min=draw(st.booleans()),
        span=HERE,
        derived=tuple(attribute for attribute in DERIVED if attribute.name in used),
    )


def _used(owned: tuple[Rule, ...], charged: tuple[Budget, ...]) -> Iterator[str]:
    """Yield the attributes that a policy compares or computes with."""
    asked = [part for rule in owned for part in rule.restrictions]
    whens = [*(rule.when for rule in owned), *(budget.when for budget in charged)]
    whens += [part.until for part in asked if isinstance(part, Defer)]
    yield from (atom.attribute for when in whens for atom in comparisons(when))
    yield from (part.attribute for part in asked if isinstance(part, LimitLinear))


def _values(attribute: Attribute) -> st.SearchStrategy[str | int]:
    kind = attribute.type
    if isinstance(kind, Category):
        return st.sampled_from(kind.values)
    near = {cut + step for cut in NUMBERS[attribute.name] for step in (-kind.step, 0, kind.step)}
    inside = st.integers(kind.low // kind.step, kind.high // kind.step).map(lambda count: count * kind.step)
    return st.one_of(st.sampled_from(sorted(value for value in near if kind.low <= value <= kind.high)), inside)


whole_observations = st.fixed_dictionaries(
    {attribute.name: _values(attribute) for attribute in (*ATTRIBUTES, *DERIVED)}
)
"""Values of all attributes, near the numbers that conditions compare with more often than chance would."""
