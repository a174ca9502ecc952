"""The observation that would be admitted and differs least from one that is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from aqpolicy.analysis.linear import at_most
from aqpolicy.analysis.observation import Observation, Value
from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.query import And, Holds, Query, open_somewhere
from aqpolicy.analysis.reading import conditions, linear_limits
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.model.policy import Atom, Attribute, Category, Condition, Policy
from aqpolicy.space.partition import comparisons


def nearest(
    policy: Policy, observation: Mapping[str, Value], settings: CheckSettings | None = None
) -> Observation | None:
    """Return the nearest observation that something is admitted of, or None if there is none at all.

    Nearest is what differs in the fewest attributes; among those, in attributes declared
    first and then by the least step in the order in which values are declared or ascend.

    Args:
        policy: The policy.
        observation: A complete, well-typed observation.
        settings: How hard to try.

    Raises:
        AnalysisError: A question was not decided.
    """
    chosen = settings or CheckSettings()
    prover = Prover(policy, effort=chosen.effort, solver=chosen.solver)
    return _Neighbourhood(prover, dict(observation)).nearest()


class _Neighbourhood:
    """Observations around one, by how many attributes are changed."""

    def __init__(self, prover: Prover, observation: Observation) -> None:
        self._prover, self._observation = prover, observation
        self._policy = prover.policies[0]
        self._admitted = open_somewhere(self._policy)
        cuts = list(_cuts(self._policy))
        self._values = {a.name: _by_distance(a, observation[a.name], cuts) for a in self._policy.attributes}
        values = ((name, value) for name, near in self._values.items() for value in near)
        self._is = {pair: Holds(Atom(pair[0], "=", pair[1], self._policy.span)) for pair in values}
        prover.learn(self._is.values())

    def nearest(self) -> Observation | None:
        if not self._prover.possible(self._admitted):
            return None
        names = [attribute.name for attribute in self._policy.attributes]
        subsets = (subset for size in range(len(names) + 1) for subset in combinations(names, size))
        changed = next(subset for subset in subsets if self._prover.possible(self._with(subset, {})))
        found: Observation = {}
        for name in changed:
            found[name] = self._first(changed, found, name)
        return self._observation | found

    def _first(self, changed: Sequence[str], found: Observation, name: str) -> Value:
        """Return the nearest value of an attribute with which the others can still be chosen."""
        near = self._values[name]
        return next(value for value in near if self._prover.possible(self._with(changed, found | {name: value})))

    def _with(self, changed: Sequence[str], found: Mapping[str, Value]) -> Query:
        """Ask for something admitted where only some attributes may change, of which some are found already."""
        kept = {
            name: value for name, value in self._observation.items() if name in self._values and name not in changed
        }
        return And((self._admitted, *(self._is[pair] for pair in (kept | dict(found)).items())))


def _cuts(policy: Policy) -> Iterator[Condition]:
    """Yield the conditions that decide whether something is admitted."""
    yield from conditions(policy)
    yield from (at_most(limit, 0) for group in policy.group_names for _, limit in linear_limits(policy, group))


def _by_distance(attribute: Attribute, here: Value, conditions: Sequence[Condition]) -> list[Value]:
    """Return the value itself and then, by distance, the nearest of every stretch that is decided alike."""
    kind = attribute.type
    if isinstance(kind, Category):
        place = kind.values.index(str(here))
        return [value for _, _, value in sorted((abs(n - place), n, value) for n, value in enumerate(kind.values))]
    at, step = int(here), kind.step
    atoms = (atom for condition in conditions for atom in comparisons(condition) if atom.attribute == attribute.name)
    starts = {-(-start // step) * step for atom in atoms for start in (int(atom.value), int(atom.value) + 1)}
    near = {at, *starts, *(start - step for start in starts)}
    inside = [value for value in near if kind.low <= value <= kind.high]
    return [value for _, value in sorted((abs(value - at), value) for value in inside)]
