"""Bind a bundle's parameters to the model's, by name and shape: every trained parameter in a group.

It reads the model and changes nothing. The gate's binding is as strict as the
compiler's, because the model may have changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from aqpolicy.errors import UngovernedParameterError, UnsupportedLayerError
from aqpolicy.gate.routing.layers import Rule, known_rule, rule_for

Binding = Sequence[Sequence[tuple[str, tuple[int, ...]]]]
"""Per group, name and shape of each parameter: `Bundle.parameters`."""


@dataclass(frozen=True, slots=True)
class Group:
    """One depth group and the trained parameters that it governs, in the bundle's order."""

    index: int
    name: str
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]

    @property
    def members(self) -> tuple[tuple[str, nn.Parameter], ...]:
        """Names and parameters."""
        return tuple(zip(self.names, self.parameters, strict=True))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the parameters."""
        return tuple(tuple(parameter.shape) for parameter in self.parameters)

    @property
    def numel(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters)


@dataclass(frozen=True, slots=True)
class Site:
    """One module that the gate computes; without a rule, its parameters are followed through its operations."""

    name: str
    module: nn.Module
    rule: Rule | None
    wanted: tuple[bool, ...] = ()
    """Per parameter of the rule, whether it is trained."""


def bind_groups(model: nn.Module, names: Sequence[str], binding: Binding) -> tuple[Group, ...]:
    """Return the groups with the model's own parameters in them; one that is tied across groups is in each of them.

    Raises:
        UngovernedParameterError: A parameter is missing, has another shape, or is in no group.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    bound: set[int] = set()
    groups = []
    for index, (name, members) in enumerate(zip(names, binding, strict=True)):
        held: dict[str, nn.Parameter] = {}
        for parameter_name, shape in members:
            parameter = _find(known, parameter_name, tuple(shape))
            bound.add(id(parameter))
            if parameter.requires_grad and all(parameter is not other for other in held.values()):
                held[parameter_name] = parameter
        groups.append(Group(index, name, tuple(held), tuple(held.values())))
    _refuse_strays(known, bound)
    return tuple(groups)


def find_sites(model: nn.Module) -> tuple[Site, ...]:
    """Return every module with trained parameters of its own.

    Raises:
        UnsupportedLayerError: A module cannot be gated exactly.
    """
    sites = []
    for name, module in model.named_modules():
        own = {key for key, value in module.named_parameters(recurse=False) if value.requires_grad}
        if not own:
            continue
        if "forward" in vars(module):
            raise UnsupportedLayerError(f"module `{name}` has a forward of its own; is another gate attached?")
        rule = None if known_rule(module) is None else rule_for(module, name)
        if rule is None or not own <= set(rule.parameters):
            sites.append(Site(name, module, None))
        else:
            sites.append(Site(name, module, rule, tuple(key in own for key in rule.parameters)))
    return tuple(sites)


def _find(known: dict[str, nn.Parameter], name: str, shape: tuple[int, ...]) -> nn.Parameter:
    parameter = known.get(name)
    if parameter is None:
        raise UngovernedParameterError(f"the bundle governs `{name}`, which the model does not have; compile it again")
    if tuple(parameter.shape) != shape:
        raise UngovernedParameterError(
            f"parameter `{name}` has shape {tuple(parameter.shape)}, the bundle says {shape}; compile it again"
        )
    return parameter


def _refuse_strays(known: dict[str, nn.Parameter], bound: set[int]) -> None:
    strays = [name for name, value in known.items() if value.requires_grad and id(value) not in bound]
    if strays:
        raise UngovernedParameterError(
            f"trained parameter `{strays[0]}` is in no depth group ({len(strays)} in all); "
            "name its module in the policy, or freeze it"
        )
