"""The description of a model: its modules and parameters, as `aqpolicy describe` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from aqpolicy.errors import CanonicalError, InputError
from aqpolicy.trust import parse_canonical

FORMAT: Final = "aqpolicy model 2"


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """A module and the name of its type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class ParameterEntry:
    """A parameter and the module that owns it; where several modules share it, `also` holds its other names."""

    name: str
    shape: tuple[int, ...]
    module: str
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the parameter."""
        return (self.name, *self.also)

    @property
    def modules(self) -> tuple[str, ...]:
        """All modules that own it."""
        return (self.module, *(name.rpartition(".")[0] for name in self.also))


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model's modules, in the order of definition, and its parameters."""

    modules: tuple[ModuleEntry, ...]
    parameters: tuple[ParameterEntry, ...]


def parse_description(data: bytes) -> ModelDescription:
    """Read the bytes of a model description.

    Raises:
        InputError: They are no model description.
    """
    try:
        value = parse_canonical(data.removesuffix(b"\n"))
    except CanonicalError as error:
        _refuse(str(error))
    members = _members(value, "format modules parameters")
    if members["format"] != FORMAT:
        _refuse(f"its format is not `{FORMAT}`")
    modules = tuple(_module(item) for item in _items(members["modules"]))
    parameters = tuple(_parameter(item) for item in _items(members["parameters"]))
    known = {module.name for module in modules}
    owners = known | {""}  # the model itself, which a description does not list
    names = [name for parameter in parameters for name in parameter.names]
    if len(known) != len(modules) or len(set(names)) != len(names):
        _refuse("a module or a parameter is there twice")
    for parameter in parameters:
        if not owners.issuperset(parameter.modules):
            _refuse(f"parameter `{parameter.name}` belongs to no module")
    return ModelDescription(modules, parameters)


def _module(value: object) -> ModuleEntry:
    members = _members(value, "name type")
    return ModuleEntry(_text(members["name"]), _text(members["type"]))


def _parameter(value: object) -> ParameterEntry:
    members = _members(value, "also module name shape")
    shape = tuple(size for size in _items(members["shape"]) if isinstance(size, int) and size >= 0)
    if len(shape) != len(_items(members["shape"])):
        _refuse("a shape is a list of sizes")
    also = tuple(_text(name) for name in _items(members["also"]))
    return ParameterEntry(_text(members["name"]), shape, _text(members["module"]), also)


def _members(value: object, names: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or sorted(value) != names.split():
        _refuse(f"an object with the members {names} is expected")
    return value


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        _refuse("a list is expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        _refuse("a text is expected")
    return value


def _refuse(problem: str) -> NoReturn:
    raise InputError(f"this is no model description, make one with `aqpolicy describe`: {problem}")
