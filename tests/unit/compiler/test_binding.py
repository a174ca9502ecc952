"""Depth groups and parameters match one to one, or the author is told everything that does not."""

from __future__ import annotations

import pytest

from aqpolicy.compiler import bind, parameter_counts, parse_description, ties
from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError, PolicyError
from aqpolicy.model import Policy, load_policy
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
    parameters = [{"module": name, "name": f"{name}.weight", "shape": [2, 3], "also": []} for name in OWNERS]
    return canonical_json({"format": "aqpolicy model 2", "modules": modules, "parameters": parameters})


def policy_of(groups: str) -> Policy:
    text = f"""
        policy test version 1.0.0
        taxonomy t version 1 {{ attribute consensus : number 0..1 }}
        depth from input {{ {groups} }}
        profile full {{ all 1 }}
        rule r when consensus > 0.5 admit full
        otherwise deny because "no"
    """
    return load_policy(Source("test.aqp", text))


def bound(groups: str, data: bytes | None = None) -> list[list[str]]:
    binding = bind(policy_of(groups), parse_description(data or description()))
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
    assert "parameter `head.weight` belongs to no depth group" in found[1][1]


def test_a_parameter_claimed_twice_is_refused() -> None:
    found = findings('low = modules "embed", "blocks"; high = modules "blocks.1", "head"')
    assert found == [("AQ320", found[0][1])]
    assert "parameter `blocks.1.conv.weight` belongs to 2 depth groups" in found[0][1]


def test_a_range_against_the_order_is_refused() -> None:
    assert {code for code, _ in findings('a = modules "head" to "embed"')} == {"AQ320"}


@pytest.mark.parametrize("kind", ["BatchNorm2d", "SyncBatchNorm"])
def test_modules_that_mix_examples_are_refused(kind: str) -> None:
    found = findings('a = modules "embed", "blocks", "head"', description(blocks_0_norm=kind))
    assert [code for code, _ in found] == ["AQ321"]
    assert kind in found[0][1]


@pytest.mark.parametrize("kind", ["LSTM", "MyOwnLayer", "FrozenBatchNorm2d"])
def test_modules_of_any_other_type_are_bound(kind: str) -> None:
    groups = 'a = modules "embed", "blocks", "head"'
    assert bound(groups, description(blocks_0_norm=kind)) == [list(OWNERS)]


def test_a_mixing_module_without_parameters_is_refused_too() -> None:
    found = findings('a = modules "embed", "blocks", "head"', description(blocks_1_relu="BatchNorm1d"))
    assert [code for code, _ in found] == ["AQ321"]


MIXTURE = {
    "embed": ("Embedding", {"weight": ()}),
    "block": ("Block", {}),
    "block.router": ("Linear", {"weight": ()}),
    "block.experts": ("ModuleList", {}),
    "block.experts.0": ("Linear", {"weight": (), "bias": ()}),
    "block.experts.1": ("Linear", {"weight": ()}),
    "block.experts.1.lora_A": ("ModuleDict", {}),
    "block.experts.1.lora_A.default": ("Linear", {"weight": ()}),
    "head": ("Linear", {"weight": ()}),
    "head.adapter": ("Linear", {"weight": ()}),
}


def mixture(*, tied: bool = False) -> bytes:
    modules = [{"name": name, "type": kind} for name, (kind, _) in MIXTURE.items()]
    parameters = [
        {"module": module, "name": f"{module}.{name}", "shape": [2, 3], "also": []}
        for module, (_, own) in MIXTURE.items()
        for name in own
        if not (tied and f"{module}.{name}" == "head.weight")
    ]
    parameters[0]["also"] = ["head.weight"] if tied else []
    return canonical_json({"format": "aqpolicy model 2", "modules": modules, "parameters": parameters})


@pytest.mark.parametrize(
    ("groups", "narrow"),
    [
        ('e = experts "block.experts"; rest = modules "*"', ["0", "0.bias", "1", "1.lora_A.default"]),
        ('e = experts "block.experts.?"; rest = modules "*"', ["0", "0.bias", "1", "1.lora_A.default"]),
        ('e = experts "block.experts.0" to "block.experts.1"; rest = modules "*"', None),
        ('e = adapters "block.experts.*"; rest = modules "*"', ["1.lora_A.default"]),
        ('e = adapters "*"; rest = modules "*"', ["1.lora_A.default", "head.adapter"]),
        ('e = parameters "block.experts.1.w*"; rest = experts "*"', ["1"]),
        ('e = parameters "block.experts.0.weight" to "block.experts.0.bias"; rest = modules "*"', ["0", "0.bias"]),
    ],
)
def test_the_narrower_address_wins(groups: str, narrow: list[str] | None) -> None:
    narrow = ["0", "0.bias", "1", "1.lora_A.default"] if narrow is None else narrow
    everything = [name for group in bound('all_of = modules "*"', mixture()) for name in group]
    expected = [name if name.startswith("head") else f"block.experts.{name}" for name in narrow]
    first, rest = bound(groups, mixture())
    assert first == expected
    assert rest == [name for name in everything if name not in expected]


@pytest.mark.parametrize(
    ("groups", "claimed"),
    [
        ('a = experts "*.0"; b = experts "block"; c = modules "*"', "`block.experts.0.bias` belong"),
        ('a = experts "*.1"; b = adapters "*.1"; c = modules "*"', "`block.experts.1.lora_A.default.weight` belongs"),
        ('a = parameters "embed*"; b = parameters "*d.weight"; c = modules "*"', "parameter `embed.weight` belongs"),
    ],
)
def test_two_groups_that_claim_by_equally_narrow_addresses_are_refused(groups: str, claimed: str) -> None:
    found = findings(groups, mixture())
    assert "AQ320" in {code for code, _ in found}
    assert f"{claimed} to 2 depth groups" in " ".join(message for _, message in found)


def test_a_group_that_narrower_addresses_empty_is_refused() -> None:
    found = findings('a = modules "head"; b = experts "*"', mixture())
    assert [code for code, _ in found] == ["AQ320"]
    assert "`a` is left without parameters" in found[0][1]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ('a = adapters "embed"; b = modules "*"', "names adapters that hold no parameter"),
        ('a = parameters "heed.weight"; b = modules "*"', "did you mean `head.weight` for `heed.weight`?"),
        ('a = experts "block.expert"; b = modules "*"', "did you mean `block.experts` for `block.expert`?"),
    ],
)
def test_a_narrow_address_that_names_nothing_is_refused(groups: str, words: str) -> None:
    found = findings(groups, mixture())
    assert [code for code, _ in found] == ["AQ320"]
    assert words in found[0][1]


def test_the_parameters_of_one_module_may_lie_in_several_groups() -> None:
    first, rest = bound('a = parameters "*.0.bias"; b = modules "*"', mixture())
    assert first == ["block.experts.0.bias"]
    assert "block.experts.0" in rest


def test_a_parameter_of_the_model_itself_is_named_by_its_own_address() -> None:
    data = description().replace(b'"module":"head","name":"head.weight"', b'"module":"","name":"token"')
    groups = 'a = modules "embed", "blocks"'
    assert 'it is the model\'s own: name it in one of the groups, `parameters "token"`' in findings(groups, data)[0][1]
    assert bound(groups + ', parameters "token"', data)[0][-1] == "token"


TIED_APART = 'a = modules "embed"; b = modules "block", "head"'


def test_a_tied_parameter_lies_in_each_group_that_claims_one_of_its_names() -> None:
    first, second = bound(TIED_APART, mixture(tied=True))
    assert first == ["embed"]
    assert "head" in second
    assert "embed" not in second


def test_a_tied_parameter_that_one_group_claims_by_both_names_is_there_once() -> None:
    assert bound('a = modules "*"', mixture(tied=True))[0].count("embed") == 1
    assert "head" not in bound('a = modules "*"', mixture(tied=True))[0]


def test_one_name_of_a_tied_parameter_that_two_groups_claim_is_refused() -> None:
    found = findings('a = modules "embed", "head"; b = modules "block", "head"', mixture(tied=True))
    assert {code for code, _ in found} == {"AQ320"}
    assert any("shared with `head.weight`, belongs to 2 depth groups" in message for _, message in found)


def test_a_tied_parameter_is_governed_by_the_group_that_names_it() -> None:
    groups = 'a = modules "embed"; b = parameters "head.weight", modules "block", "head"'
    assert "`a` is left without parameters" in findings(groups, mixture(tied=True))[0][1]
    groups = 'a = parameters "embed.weight"; b = modules "block", "head"'
    assert bound(groups, mixture(tied=True))[0] == ["embed"]


def test_tied_parameters_ask_for_a_gate_that_knows_them() -> None:
    policy = policy_of('a = modules "embed", "head"; b = modules "block"')
    assert ties(policy, parse_description(mixture())) == ()
    asked = ties(policy, parse_description(mixture(tied=True)))
    assert {demand.feature for demand in asked} == {"tied parameters"}
    assert [demand.span for demand in asked] == [part.span for part in policy.groups[0].modules]


def test_parameters_tied_across_groups_ask_for_a_gate_that_gives_them_the_least_share() -> None:
    asked = ties(policy_of(TIED_APART), parse_description(mixture(tied=True)))
    assert {demand.feature for demand in asked} == {"tied parameters", "parameters tied across groups"}


def test_parameters_are_counted_once_in_each_of_their_groups() -> None:
    counted = parameter_counts(policy_of('a = experts "*.0"; b = modules "*"'), parse_description(mixture()))
    assert counted == {"a": 12, "b": 36}
    tied = parse_description(mixture(tied=True))
    assert parameter_counts(policy_of('a = modules "*"'), tied) == {"a": 42}
    assert parameter_counts(policy_of(TIED_APART), tied) == {"a": 6, "b": 42}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        description().replace(b"model 2", b"model 1"),
        description().replace(b"[2,3]", b"[2,-3]"),
        description().replace(b'"module":"head"', b'"module":"nowhere"'),
        description().replace(b'"name":"head"', b'"name":"embed"'),
        description().replace(b'"also":[]', b'"also":["head.weight"]', 1),
        description().replace(b'"also":[]', b'"also":["nowhere.weight"]', 1),
        description().replace(b'"also":[]', b'"also":[1]', 1),
        description().replace(b'"also":[],', b"", 1),
    ],
)
def test_what_is_no_description_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="model description"):
        parse_description(data)
