"""A description names every module and parameter in order, and bad targets are refused in words."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from torch import nn

from aqpolicy.cli import describe
from aqpolicy.compiler import parse_description
from aqpolicy.errors import InputError
from aqpolicy.gate import describe_model
from aqpolicy.gate.describe import build_model
from aqpolicy.trust import canonical_json, parse_canonical

SOURCE = """
from torch import nn
SIZE = 3
def build():
    return nn.Sequential(nn.Linear(SIZE, 4), nn.Sequential(nn.Conv2d(1, 2, 3, bias=False)))
def greedy(x):
    return x
def number():
    return 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    describe.register(parser.add_subparsers())
    return parser.parse_args(["describe", *arguments])


def test_the_command_writes_modules_and_parameters_in_order(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.json"
    args = parsed(f"{file}:build", "--out", str(out))
    assert args.func(args) == 0
    assert parse_canonical(out.read_bytes()) == {
        "format": "aqpolicy model 2",
        "modules": [
            {"name": "0", "type": "Linear"},
            {"name": "1", "type": "Sequential"},
            {"name": "1.0", "type": "Conv2d"},
        ],
        "parameters": [
            {"name": "0.weight", "shape": [4, 3], "module": "0", "also": []},
            {"name": "0.bias", "shape": [4], "module": "0", "also": []},
            {"name": "1.0.weight", "shape": [2, 1, 3, 3], "module": "1.0", "also": []},
        ],
    }
    assert "3 modules, 3 parameters" in capsys.readouterr().out


def test_a_module_path_works_too() -> None:
    assert isinstance(build_model("torch.nn:Identity"), nn.Identity)
    assert describe_model(nn.Identity()) == {"format": "aqpolicy model 2", "modules": [], "parameters": []}


def test_a_shared_parameter_is_there_once_with_all_its_names() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    assert describe_model(model)["parameters"] == [
        {"name": "0.weight", "shape": [5, 3], "module": "0", "also": ["1.weight"]}
    ]


def test_a_shared_module_is_there_by_all_its_names() -> None:
    shared = nn.Linear(2, 2, bias=False)
    described = describe_model(nn.Sequential(shared, nn.ReLU(), shared))
    assert [module["name"] for module in described["modules"]] == ["0", "1", "2"]
    assert [(one["name"], one["also"]) for one in described["parameters"]] == [("0.weight", ["2.weight"])]


def test_a_description_is_what_the_compiler_reads() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5))
    model[1].weight = model[0].weight
    read = parse_description(canonical_json(describe_model(model)))
    assert [parameter.names for parameter in read.parameters] == [("0.weight", "1.weight"), ("1.bias",)]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing", "is not FILE.py:FUNCTION"),
        ("{file}:", "is not FILE.py:FUNCTION"),
        ("{file}:missing", "has no function `missing`"),
        ("{file}:SIZE", "has no function `SIZE`"),
        ("{file}:greedy", "cannot be called without arguments"),
        ("{file}:number", "returned a `int`"),
        ("{file}x.py:build", "cannot import"),
        ("no.such.package:build", "cannot import"),
    ],
)
def test_targets_that_make_no_model_are_refused(file: Path, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_model(target.format(file=file))


def test_a_place_that_cannot_be_written_is_refused(file: Path, tmp_path: Path) -> None:
    args = parsed(f"{file}:build", "--out", str(tmp_path / "no" / "model.json"))
    with pytest.raises(InputError, match="cannot write"):
        args.func(args)
