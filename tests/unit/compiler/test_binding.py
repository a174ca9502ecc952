"""Depth groups and parameters match one to one, or the author is told everything that does not."""

from __future__ import annotations

import pytest

from aqpolicy.compiler import bind, parse_description
from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError, PolicyError
from aqpolicy.model import load_policy
from aqpolicy.trust import canonical_json

MODULES = {
    "": "Net",
    "embed": "Embedding",
    "blocks": "ModuleList",
    "blocks.0": "Block",
    "blocks.0.conv": "Conv2d",
    "blocks.0.norm": "GroupNorm",
    "blocks.1": "Block",
    "blocks.1.conv": "Conv2d",
    "blocks.1.relu": "ReLU",
    "head": "Linear",
}
OWNERS = ("embed", "blocks.0.conv", "blocks.0.norm", "blocks.1.conv", "head")


def description(**types: str) -> bytes:
    modules = [{"name": name, "type": types.get(name.replace(".", "_"), kind)} for name, kind in MODULES.items()]
    parameters = [{"module": name, "name": f"{name}.weight", "shape": [2, 3]} for name in OWNERS]
    return canonical_json({"format": "aqpolicy model 1", "modules": modules, "parameters": parameters})


def bound(groups: str, data: bytes | None = None) -> list[list[str]]:
    text = f"""
        policy test version 1.0.0
        taxonomy t version 1 {{ attribute consensus : number 0..1 }}
        depth from input {{ {groups} }}
        profile full {{ all 1 }}
        rule r when consensus > 0.5 admit full
        otherwise deny because "no"
    """
    binding = bind(load_policy(Source("test.aqp", text)), parse_description(data or description()))
    return [[name.removesuffix(".weight") for name, _ in group] for group in binding]


def findings(groups: str, data: bytes | None = None) -> list[tuple[str, str]]:
    with pytest.raises(PolicyError) as stop:
        bound(groups, data)
    return [(finding.code, finding.message + " " + " ".join(finding.help)) for finding in stop.value.diagnostics]


def test_a_named_module_includes_everything_below_it() -> None:
    groups = 'low = modules "embed", "blocks.0"; high = modules "blocks.1", "head"'
    assert bound(groups) == [["embed", "blocks.0.conv", "blocks.0.norm"], ["blocks.1.conv", "head"]]


def test_a_range_follows_the_order_of_definition() -> None:
    groups = 'low = modules "embed" to "blocks.0"; high = modules "blocks.1" to "head"'
    assert bound(groups) == [["embed", "blocks.0.conv", "blocks.0.norm"], ["blocks.1.conv", "head"]]


def test_a_glob_names_all_that_it_matches() -> None:
    assert bound('norms = modules "*.norm"; rest = modules "embed", "*.conv", "head"')[0] == ["blocks.0.norm"]


def test_a_group_that_names_nothing_suggests_what_is_near() -> None:
    found = findings('all_of = modules "embed", "blocks", "hed"')
    assert [code for code, _ in found] == ["AQ320", "AQ320"]
    assert "did you mean `head` for `hed`?" in found[0][1]
    assert "`head.weight` belong to no depth group" in found[1][1]


def test_a_parameter_claimed_twice_is_refused() -> None:
    found = findings('low = modules "embed", "blocks"; high = modules "blocks.1", "head"')
    assert found == [("AQ320", found[0][1])]
    assert "`blocks.1.conv.weight` belong to 2 depth groups" in found[0][1]


def test_a_range_against_the_order_is_refused() -> None:
    assert {code for code, _ in findings('a = modules "head" to "embed"')} == {"AQ320"}


@pytest.mark.parametrize("kind", ["BatchNorm2d", "SyncBatchNorm", "LSTM"])
def test_modules_that_cannot_be_gated_are_refused(kind: str) -> None:
    found = findings('a = modules "embed", "blocks", "head"', description(blocks_0_norm=kind))
    assert [code for code, _ in found] == ["AQ321"]
    assert kind in found[0][1]


def test_a_mixing_module_without_parameters_is_refused_too() -> None:
    found = findings('a = modules "embed", "blocks", "head"', description(blocks_1_relu="BatchNorm1d"))
    assert [code for code, _ in found] == ["AQ321"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        description().replace(b"model 1", b"model 2"),
        description().replace(b"[2,3]", b"[2,-3]"),
        description().replace(b'"module":"head"', b'"module":"nowhere"'),
        description().replace(b'"name":"head"', b'"name":"embed"'),
    ],
)
def test_what_is_no_description_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="model description"):
        parse_description(data)
