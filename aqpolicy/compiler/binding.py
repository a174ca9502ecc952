"""Bind the depth groups of a policy to the parameters of one model.

Every parameter belongs to exactly one group, or the policy does not fit the
model. All that does not fit is reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from aqpolicy.bundle import MIXING_MODULES, SUPPORTED_MODULES, Parameter
from aqpolicy.compiler.description import ModelDescription, ParameterEntry
from aqpolicy.diagnostics import Diagnostic, Label, closest
from aqpolicy.errors import PolicyError
from aqpolicy.model.policy import DepthGroup, ModuleRange, Policy

Binding = tuple[tuple[Parameter, ...], ...]
"""Per depth group its parameters, in the model's order."""


def bind(policy: Policy, model: ModelDescription) -> Binding:
    """Return each depth group's parameters.

    Raises:
        PolicyError: Groups and parameters do not match one to one (AQ320), or a
            governed module cannot be gated exactly (AQ321).
    """
    reach = {group.name: _modules_of_group(group, model) for group in policy.groups}
    findings = (
        *_nothing_matched(policy, model),
        *_not_in_one_group(policy, model, reach),
        *_cannot_be_gated(policy, model, reach),
    )
    if findings:
        raise PolicyError(findings)
    return tuple(
        tuple((p.name, p.shape) for p in model.parameters if p.module in reach[group.name]) for group in policy.groups
    )


def _lineage(name: str) -> Iterator[str]:
    """Yield a module's name and those of all modules that contain it."""
    yield name
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _below(roots: Iterable[str], model: ModelDescription) -> set[str]:
    wanted = set(roots)
    return {module.name for module in model.modules if not wanted.isdisjoint(_lineage(module.name))}


def _modules_of_range(part: ModuleRange, model: ModelDescription) -> set[str]:
    """Return what a range names, with everything below it."""
    names = [module.name for module in model.modules]
    if part.last is None:
        return _below((name for name in names if fnmatchcase(name, part.first)), model)
    if part.first not in names or part.last not in names:
        return set()
    # Only the last module brings what is below it: a container in between may go on beyond the range.
    return {*names[names.index(part.first) : names.index(part.last) + 1], *_below([part.last], model)}


def _modules_of_group(group: DepthGroup, model: ModelDescription) -> set[str]:
    return {name for part in group.modules for name in _modules_of_range(part, model)}


def _nothing_matched(policy: Policy, model: ModelDescription) -> Iterator[Diagnostic]:
    """Yield a finding for every named stretch of modules that holds no parameter."""
    owners = {parameter.module for parameter in model.parameters}
    names = [module.name for module in model.modules if module.name]
    for group in policy.groups:
        for part in group.modules:
            if owners.isdisjoint(_modules_of_range(part, model)):
                yield Diagnostic(
                    code="AQ320",
                    severity="error",
                    message=f"depth group `{group.name}` names modules that hold no parameter of the model",
                    labels=(Label(part.span, _why_nothing(part, names)),),
                    notes=("the model has the modules " + _some(names),),
                    help=_near_names(part, names),
                )


def _why_nothing(part: ModuleRange, names: list[str]) -> str:
    missing = [name for name in (part.first, part.last) if name is not None and name not in names]
    if part.last is None or missing:
        return "no module is called " + " or ".join(f"`{name}`" for name in missing or [part.first])
    if names.index(part.first) > names.index(part.last):
        return f"`{part.last}` is defined before `{part.first}`: turn them round"
    return "these modules have no parameters"


def _near_names(part: ModuleRange, names: list[str]) -> tuple[str, ...]:
    wanted = [name for name in (part.first, part.last) if name is not None and name not in names]
    near = [(name, closest(name, names)) for name in wanted]
    return tuple(f"did you mean `{match}` for `{name}`?" for name, match in near if match is not None)


def _not_in_one_group(policy: Policy, model: ModelDescription, reach: dict[str, set[str]]) -> Iterator[Diagnostic]:
    """Yield a finding per module whose parameters are in no group or in several."""
    by_module: dict[str, list[ParameterEntry]] = {}
    for parameter in model.parameters:
        by_module.setdefault(parameter.module, []).append(parameter)
    for module, parameters in by_module.items():
        claims = [group for group in policy.groups if module in reach[group.name]]
        names = _some([parameter.name for parameter in parameters])
        if not claims:
            yield Diagnostic(
                code="AQ320",
                severity="error",
                message=f"parameters {names} belong to no depth group",
                labels=tuple(Label(group.span, f"not in `{group.name}`") for group in policy.groups),
                help=(f"add module `{module}` to one of the groups",),
            )
        elif len(claims) > 1:
            yield Diagnostic(
                code="AQ320",
                severity="error",
                message=f"parameters {names} belong to {len(claims)} depth groups",
                labels=tuple(
                    Label(part.span, f"`{group.name}` claims module `{module}` here")
                    for group in claims
                    for part in group.modules
                    if module in _modules_of_range(part, model)
                ),
                help=("name each module in one group only",),
            )


def _cannot_be_gated(policy: Policy, model: ModelDescription, reach: dict[str, set[str]]) -> Iterator[Diagnostic]:
    """Yield a finding per governed module of a type that the gate cannot route exactly."""
    owners = {parameter.module for parameter in model.parameters}
    for group in policy.groups:
        for module in model.modules:
            mixes = module.type in MIXING_MODULES
            foreign = module.name in owners and module.type not in SUPPORTED_MODULES
            if module.name in reach[group.name] and (mixes or foreign):
                why = "mixes the examples of a batch" if mixes else "has parameters that cannot be gated exactly"
                yield Diagnostic(
                    code="AQ321",
                    severity="error",
                    message=f"module `{module.name}` in depth group `{group.name}` is a `{module.type}`, which {why}",
                    labels=tuple(
                        Label(part.span, "governed here")
                        for part in group.modules
                        if module.name in _modules_of_range(part, model)
                    ),
                    notes=("the gate supports " + ", ".join(sorted(SUPPORTED_MODULES)),),
                    help=("use `GroupNorm` or `LayerNorm` instead",) if mixes else (),
                )


def _some(names: list[str]) -> str:
    """Return some names, and how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
