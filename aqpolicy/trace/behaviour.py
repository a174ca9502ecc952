"""A behaviour: any differentiable number that a model makes, and its gradient at the published weights.

Functions are named `FILE.py:FUNCTION` or `package.module:FUNCTION`; they are the
caller's own code and run as such. The weights are read as plain tensors only.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

from aqpolicy.errors import AqpolicyError, InputError, TraceError
from aqpolicy.gate.routing.groups import Binding, bind_groups
from aqpolicy.trace.visits import Visits

_FORM: Final = "`FILE.py:FUNCTION` or `package.module:FUNCTION`"


@dataclass(frozen=True)
class Behaviour:
    """A number that the published model makes, and its gradient.

    Shapes:
        gradient: per group (width), in the space that the run recorded.
    """

    name: str
    value: float
    gradient: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A function, and the argument that was written behind its name."""

    text: str
    call: Callable[..., Any]
    argument: str | None


def find_function(text: str) -> Named:
    """Return the function that a text names, with what follows a second colon as its argument.

    Raises:
        InputError: There is no such file, module or function.
    """
    place, _, rest = text.partition(":")
    function, colon, argument = rest.partition(":")
    if not place or not function:
        raise InputError(f"`{text}` names no function; write {_FORM}")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    call = getattr(module, function, None)
    if not callable(call):
        raise InputError(f"`{place}` has no function `{function}`")
    return Named(text, call, argument if colon else None)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"there is no file `{path}`")
    name = f"_traced_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"`{path}` cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    return _executed(str(path), lambda: spec.loader.exec_module(module) or module)  # type: ignore[union-attr]  # checked


def _import_module(name: str) -> ModuleType:
    return _executed(name, lambda: importlib.import_module(name))


def _executed(name: str, load: Callable[[], Any]) -> ModuleType:
    try:
        module: ModuleType = load()
    except AqpolicyError:
        raise
    except Exception as error:
        raise InputError(f"`{name}` cannot be imported: {type(error).__name__}: {error}") from error
    return module


def build_model(named: Named, state: dict[str, Any]) -> nn.Module:
    """Build the model and give it the published weights, in evaluation mode.

    Raises:
        InputError: The function fails or returns no module.
        TraceError: The published weights do not fit the model.
    """
    model = _called(named)
    if not isinstance(model, nn.Module):
        raise InputError(f"`{named.text}` returned a {type(model).__name__}, not a torch module")
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise TraceError(f"the published weights do not fit the model of `{named.text}`: {error}") from error
    return model.eval()


def measure(visits: Visits, model: nn.Module, named: Named) -> Behaviour:
    """Return a behaviour of the published model: its value, and its gradient in the space that the run recorded.

    Raises:
        InputError: The function fails, or returns no single finite number that depends on the model.
        GateError: The model's parameters are not those that the bundle governs.
    """
    run, space = visits.run, visits.space
    return measure_in(model, named, run.tables.groups, run.bundle.parameters, space.shapes, space.image)


def measure_in(  # noqa: PLR0917 - what a run says of its space
    model: nn.Module,
    named: Named,
    names: Sequence[str],
    parameters: Binding,
    shapes: Sequence[Sequence[tuple[int, ...]]],
    image: Callable[[int, Tensor], Tensor],
) -> Behaviour:
    """Return the same, given what there is to know of the run.

    Args:
        model: The published model.
        named: The behaviour.
        names: The depth groups.
        parameters: Per group, what the bundle governs.
        shapes: Per group, the shapes of what was trained.
        image: From a group's number and flat gradient to what it is in the space that the run recorded.
    """
    groups = bind_groups(model, names, parameters)
    if tuple(group.shapes for group in groups) != tuple(shapes):
        raise TraceError("the model trains other parameters than the run did; freeze what the run froze")
    value = _called(named, model)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad or not bool(value.isfinite()):
        raise InputError(f"`{named.text}` must return one finite number that depends on the model's parameters")
    trained = [parameter for group in groups for parameter in group.parameters]
    found = iter(torch.autograd.grad(value.reshape(()), trained, allow_unused=True))
    gradient = []
    for group in groups:
        parts = [_flat(parameter, next(found)) for parameter in group.parameters]
        flat = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        gradient.append(image(group.index, flat))
    return Behaviour(named.text, value.item(), tuple(gradient))


def _flat(parameter: nn.Parameter, gradient: Tensor | None) -> Tensor:
    found = torch.zeros_like(parameter) if gradient is None else gradient
    return found.detach().reshape(-1).to("cpu", torch.float64)


def _called(named: Named, *first: Any) -> Any:
    """Call the caller's function; its failures are said in one line."""
    arguments = [*first, *([] if named.argument is None else [named.argument])]
    try:
        return named.call(*arguments)
    except AqpolicyError:
        raise
    except Exception as error:
        raise InputError(f"`{named.text}` failed: {type(error).__name__}: {error}") from error
