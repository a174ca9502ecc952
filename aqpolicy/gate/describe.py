"""Describe a model for the policy's author: modules and parameters, in definition order, without weights."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any, Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from aqpolicy.errors import InputError

FORMAT: Final = "aqpolicy model 2"


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Return the description that `aqpolicy compile` reads: all modules, and the parameters that are trained.

    A parameter that several modules share is there once, with its other names.
    """
    names: dict[int, list[str]] = {}
    shapes: dict[int, list[int]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            continue
        names.setdefault(id(parameter), []).append(name)
        shapes[id(parameter)] = list(parameter.shape)
    parameters = [
        {"name": first, "shape": shapes[key], "module": first.rpartition(".")[0], "also": also}
        for key, (first, *also) in names.items()
    ]
    modules = [
        {"name": name, "type": _type_of(module)} for name, module in model.named_modules(remove_duplicate=False) if name
    ]
    return {"format": FORMAT, "modules": modules, "parameters": parameters}


def _type_of(module: nn.Module) -> str:
    """Return what a module is called; a batch normalisation that mixes no examples, because it is frozen, says so."""
    frozen = isinstance(module, _BatchNorm) and not module.training and module.running_mean is not None
    return f"Frozen{type(module).__name__}" if frozen else type(module).__name__


def build_model(target: str) -> nn.Module:
    """Return the model that a function makes without arguments.

    Args:
        target: `FILE.py:FUNCTION` or `package.module:FUNCTION`.

    Raises:
        InputError: There is no such function, or it makes no module.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise InputError(f"`{target}` is not FILE.py:FUNCTION or package.module:FUNCTION")
    function = getattr(_load(place), name, None)
    if not callable(function):
        raise InputError(f"`{place}` has no function `{name}`")
    try:
        model = function()
    except Exception as error:
        raise InputError(f"`{target}` cannot be called without arguments: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"`{target}` returned a `{type(model).__name__}`, not a torch.nn.Module")
    return model


def _load(place: str) -> Any:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        if spec is None or spec.loader is None:
            raise InputError(f"`{place}` is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(spec.name, module)  # classes look their module up by name
        spec.loader.exec_module(module)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"cannot import `{place}`: {error}") from error
    return module
