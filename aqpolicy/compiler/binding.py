"""Bind the depth groups of a policy to the parameters of one model.

Every parameter belongs to one group, or the policy does not fit the model; one
that modules of several groups share belongs to each of them. All that does not
fit is reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from math import prod

from aqpolicy.bundle import MIXING_MODULES, Parameter
from aqpolicy.compiler.claims import Claim, Claims
from aqpolicy.compiler.demands import Demand
from aqpolicy.compiler.description import ModelDescription, ModuleEntry, ParameterEntry
from aqpolicy.diagnostics import Diagnostic, Label, closest
from aqpolicy.errors import PolicyError
from aqpolicy.model.policy import ModuleRange, Policy

Binding = tuple[tuple[Parameter, ...], ...]
"""Per depth group its parameters, in the model's order."""


def bind(policy: Policy, model: ModelDescription) -> Binding:
    """Return each depth group's parameters.

    Raises:
        PolicyError: Groups and parameters do not match (AQ320), or a governed module
            mixes the examples of a batch (AQ321).
    """
    claims = Claims(policy, model)
    findings = (
        *_nothing_named(claims, model),
        *_nothing_left(policy, model, claims),
        *_without_a_home(policy, model, claims),
        *_mixing(model, claims),
    )
    if findings:
        raise PolicyError(findings)
    homes = [(claims.homes(parameter), parameter.shape) for parameter in model.parameters]
    return tuple(
        tuple((names[group.name], shape) for names, shape in homes if group.name in names) for group in policy.groups
    )


def parameter_counts(policy: Policy, model: ModelDescription) -> dict[str, int]:
    """Return how many numbers each depth group governs, those that it shares with another group among them."""
    claims, counts = Claims(policy, model), dict.fromkeys(policy.group_names, 0)
    for parameter in model.parameters:
        for group in claims.homes(parameter):
            counts[group] += prod(parameter.shape)
    return counts


def ties(policy: Policy, model: ModelDescription) -> tuple[Demand, ...]:
    """Return what binding a policy to a model asks of the gate beyond the policy's own demands."""
    claims = Claims(policy, model)
    tied = [parameter for parameter in model.parameters if parameter.also]
    across = [parameter for parameter in tied if len(claims.homes(parameter)) > 1]
    asked = [("tied parameters", parameter) for parameter in tied]
    asked += [("parameters tied across groups", parameter) for parameter in across]
    places = ((feature, claim.part.span) for feature, parameter in asked for claim in claims.on_parameter(parameter))
    return tuple(Demand(feature, span) for feature, span in dict.fromkeys(places))


# ---- AQ320: every parameter has its group, and every group its parameters


def _nothing_named(claims: Claims, model: ModelDescription) -> Iterator[Diagnostic]:
    """Yield a finding for every address that names no parameter."""
    for claim in claims.idle(model):
        of_parameters = claim.part.kind == "parameters"
        known = [name for p in model.parameters for name in p.names] if of_parameters else _names(model.modules)
        yield Diagnostic(
            code="AQ320",
            severity="error",
            message=f"depth group `{claim.group.name}` names {claim.part.kind} that "
            + ("the model does not have" if of_parameters else "hold no parameter of the model"),
            labels=(Label(claim.part.span, _why_nothing(claim.part, known)),),
            notes=(f"the model has the {'parameters' if of_parameters else 'modules'} {_some(known)}",),
            help=_near_names(claim.part, known),
        )


def _names(modules: tuple[ModuleEntry, ...]) -> list[str]:
    return [module.name for module in modules if module.name]


def _why_nothing(part: ModuleRange, names: list[str]) -> str:
    missing = [name for name in (part.first, part.last) if name is not None and name not in names]
    if part.kind == "adapters" and not (part.last and missing):
        return "no adapter with parameters is inside these modules"
    if part.last is None or missing:
        what = "parameter" if part.kind == "parameters" else "module"
        return f"no {what} is called " + " or ".join(f"`{name}`" for name in missing or [part.first])
    if names.index(part.first) > names.index(part.last):
        return f"`{part.last}` is defined before `{part.first}`: turn them round"
    return "these modules have no parameters"


def _near_names(part: ModuleRange, names: list[str]) -> tuple[str, ...]:
    wanted = [name for name in (part.first, part.last) if name is not None and name not in names]
    near = [(name, closest(name, names)) for name in wanted]
    return tuple(f"did you mean `{match}` for `{name}`?" for name, match in near if match is not None)


def _nothing_left(policy: Policy, model: ModelDescription, claims: Claims) -> Iterator[Diagnostic]:
    """Yield a finding for every group all of whose parameters narrower addresses take."""
    idle = {claim.group.name for claim in claims.idle(model)}
    claimed = {claim.group.name for parameter in model.parameters for claim in claims.on_parameter(parameter)}
    for group in policy.groups:
        if group.name not in claimed | idle:
            yield Diagnostic(
                code="AQ320",
                severity="error",
                message=f"depth group `{group.name}` is left without parameters",
                labels=tuple(Label(part.span, "narrower addresses take all of this") for part in group.modules),
                help=("remove the group, or one of the narrower addresses",),
            )


def _without_a_home(policy: Policy, model: ModelDescription, claims: Claims) -> Iterator[Diagnostic]:
    """Yield a finding per run of parameters that no group claims, or several by one name, for the same reason."""

    def reason(parameter: ParameterEntry) -> tuple[tuple[str, ...], tuple[Claim, ...]]:
        return parameter.modules, claims.on_parameter(parameter)

    strays = [parameter for parameter in model.parameters if not claims.homes(parameter)]
    for (modules, found), run in groupby(strays, key=reason):
        parameters = list(run)
        yield _contested(parameters, found) if found else _unclaimed(policy, parameters, modules[0])


def _unclaimed(policy: Policy, parameters: list[ParameterEntry], module: str) -> Diagnostic:
    return Diagnostic(
        code="AQ320",
        severity="error",
        message=f"{_belong(parameters)} to no depth group",
        labels=tuple(Label(group.span, f"not in `{group.name}`") for group in policy.groups),
        help=(
            f"add module `{module}` to one of the groups"
            if module
            else f'it is the model\'s own: name it in one of the groups, `parameters "{parameters[0].name}"`',
        ),
    )


def _contested(parameters: list[ParameterEntry], claims: tuple[Claim, ...]) -> Diagnostic:
    groups = {claim.group.name for claim in claims}
    tied, kind = parameters[0].also, claims[0].part.kind
    what = f"module `{parameters[0].module}`" if not tied and kind != "parameters" else "it"
    shared = f", shared with {_some(list(tied))}," if tied else ""
    advice = "name each module in one group only" if kind != "parameters" else "name each parameter in one group only"
    return Diagnostic(
        code="AQ320",
        severity="error",
        message=f"{_belong(parameters, shared)} to {len(groups)} depth groups",
        labels=tuple(Label(claim.part.span, f"`{claim.group.name}` claims {what} here") for claim in claims),
        help=(f'name it in one group: `parameters "{parameters[0].name}"`',) if tied else (advice,),
    )


# ---- AQ321: what is governed looks at one example at a time


def _mixing(model: ModelDescription, claims: Claims) -> Iterator[Diagnostic]:
    """Yield a finding per governed module that mixes examples, which no share can undo."""
    for module in model.modules:
        own = [parameter for parameter in model.parameters if module.name in parameter.modules]
        places = dict.fromkeys((*claims.on_module(module.name), *(c for p in own for c in claims.on_parameter(p))))
        if places and module.type in MIXING_MODULES:
            yield _ungateable(module, tuple(places))


def _ungateable(module: ModuleEntry, places: tuple[Claim, ...]) -> Diagnostic:
    groups = ", ".join(f"`{name}`" for name in dict.fromkeys(claim.group.name for claim in places))
    return Diagnostic(
        code="AQ321",
        severity="error",
        message=f"module `{module.name}` in depth group {groups} is a `{module.type}`, "
        "which mixes the examples of a batch",
        labels=tuple(Label(claim.part.span, "governed here") for claim in places),
        notes=("with frozen statistics it looks at one example at a time, and its parameters can be trained",),
        help=(
            "freeze its statistics with `.eval()` where the model is built, and describe the model again",
            "or use `GroupNorm` or `LayerNorm` instead",
        ),
    )


def _belong(parameters: list[ParameterEntry], shared: str = "") -> str:
    """Return the beginning of a sentence about parameters."""
    noun, verb = ("parameter", "belongs") if len(parameters) == 1 else ("parameters", "belong")
    return f"{noun} {_some([parameter.name for parameter in parameters])}{shared} {verb}"


def _some(names: list[str]) -> str:
    """Return some names, and how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
