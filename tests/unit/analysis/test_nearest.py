"""The nearest observation that would be admitted, against all that differ in as few attributes."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.checking import EXPERTS, a_policy

from aqpolicy.analysis import nearest
from aqpolicy.analysis.nearest import _by_distance, _cuts
from aqpolicy.model import Policy
from aqpolicy.semantics import evaluate
from aqpolicy.testing import observations, policies

HERE: dict[str, str | int] = {"authority": "crowd", "review": "draft", "consensus": 250_000, "judgments": 2_000_000}
POLICY = a_policy(
    "rule boards when authority is board admit full\n"
    "rule agreed when authority is expert and consensus >= 0.75 admit full\n"
    "rule many when judgments > 7 and consensus >= 0.5 admit full\n"
    "rule no when review is draft and authority is board deny all\n"
    "combine grants by min\n"
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"authority": "board"}, {"authority": "board", "review": "approved"}),
        ({"authority": "expert"}, {"consensus": 750_000}),
        ({"consensus": 600_000}, {"judgments": 8_000_000}),
        ({}, {"authority": "board", "review": "approved"}),
        ({"review": "approved"}, {"authority": "board"}),
    ],
)
def test_the_fewest_attributes_change_and_each_as_little_as_it_can(
    change: dict[str, str | int], expected: dict[str, str | int]
) -> None:
    assert nearest(POLICY, HERE | change) == HERE | change | expected


def test_what_is_admitted_is_nearest_to_itself() -> None:
    observation = HERE | {"authority": "expert", "consensus": 900_000}
    assert nearest(POLICY, observation) == observation


def test_the_step_goes_to_the_near_end_of_a_stretch() -> None:
    policy = a_policy("rule some when consensus < 0.5 admit full")
    assert nearest(policy, HERE | {"consensus": 900_000}) == HERE | {"consensus": 499_999}


def test_where_nothing_is_ever_admitted_there_is_none() -> None:
    assert nearest(a_policy(EXPERTS + "rule no when anything deny all"), HERE) is None


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_nothing_nearer_is_admitted(data: st.DataObject) -> None:
    policy: Policy = data.draw(policies())
    observation = data.draw(observations(policy))
    found = nearest(policy, observation)
    cuts = list(_cuts(policy))
    values = {a.name: _by_distance(a, observation[a.name], cuts) for a in policy.attributes}
    changed = [name for name in values if found is not None and found[name] != observation[name]]
    if found is not None:
        assert any(evaluate(policy, found).shares)
    for size in range(len(changed) if found is not None else 2):
        for names in combinations(values, size):
            for chosen in product(*(values[name] for name in names)):
                assert not any(evaluate(policy, observation | dict(zip(names, chosen, strict=True))).shares)
