"""Which addresses of a policy reach which modules and parameters of a model.

Rules it keeps: what an address names includes everything below it; the narrower
address wins. Whether the claims that are left make sense is `binding`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from aqpolicy.compiler.description import ModelDescription, ParameterEntry
from aqpolicy.model.policy import DepthGroup, ModuleRange, Policy

_NARROWNESS: Final[Mapping[str, int]] = MappingProxyType({"modules": 0, "experts": 1, "adapters": 1, "parameters": 2})


@dataclass(frozen=True, slots=True)
class Claim:
    """An address, and the group that it stands in."""

    group: DepthGroup
    part: ModuleRange


class Claims:
    """All addresses of a policy, looked up in one model."""

    def __init__(self, policy: Policy, model: ModelDescription) -> None:
        """Look every address up once."""
        self._reach: dict[Claim, frozenset[str]] = {}
        for group in policy.groups:
            for part in group.modules:
                names = _parameters if part.kind == "parameters" else _modules
                self._reach[Claim(group, part)] = frozenset(names(part, model))
        self._parameters = {parameter.name: self._on_parameter(parameter) for parameter in model.parameters}

    def on_module(self, name: str) -> tuple[Claim, ...]:
        """Return the narrowest claims on a module."""
        by_module = (claim for claim in self._reach if claim.part.kind != "parameters")
        return _narrowest(claim for claim in by_module if name in self._reach[claim])

    def on_parameter(self, parameter: ParameterEntry) -> tuple[Claim, ...]:
        """Return the narrowest claims on a parameter, by any of its names."""
        return self._parameters[parameter.name]

    def homes(self, parameter: ParameterEntry) -> Mapping[str, str]:
        """Return the groups that a parameter belongs to, each with the name under which it lies there.

        A parameter that modules of several groups share lies in each of them. Empty where no
        group claims it, or several claim it by the same name.
        """
        claims, found = self._parameters[parameter.name], dict[str, str]()
        for name in parameter.names:
            groups = {claim.group.name for claim in claims if self._reaches(claim, name)}
            if len(groups) > 1:
                return {}
            for group in groups:
                found.setdefault(group, name)
        return found

    def idle(self, model: ModelDescription) -> Iterator[Claim]:
        """Yield the addresses that name nothing with parameters."""
        for claim in self._reach:
            if not any(self._names(claim, parameter) for parameter in model.parameters):
                yield claim

    def _on_parameter(self, parameter: ParameterEntry) -> tuple[Claim, ...]:
        return _narrowest(claim for claim in self._reach if self._names(claim, parameter))

    def _names(self, claim: Claim, parameter: ParameterEntry) -> bool:
        return any(self._reaches(claim, name) for name in parameter.names)

    def _reaches(self, claim: Claim, name: str) -> bool:
        """Say whether a claim names a parameter by this name, or the module that owns it under this name."""
        return (name if claim.part.kind == "parameters" else name.rpartition(".")[0]) in self._reach[claim]


def _narrowest(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    found = tuple(claims)
    level = max((_NARROWNESS[claim.part.kind] for claim in found), default=0)
    return tuple(claim for claim in found if _NARROWNESS[claim.part.kind] == level)


def _parameters(part: ModuleRange, model: ModelDescription) -> Iterable[str]:
    return _named(part, [name for parameter in model.parameters for name in parameter.names])


def _modules(part: ModuleRange, model: ModelDescription) -> Iterable[str]:
    """Return what an address of modules names, with everything below it."""
    names = [module.name for module in model.modules]
    # Only the last module of a stretch brings what is below it: a container in between may go on beyond the stretch.
    named = _named(part, names)
    found = _below(named if part.last is None else named[-1:], names).union(named)
    return (name for name in found if part.kind != "adapters" or _is_adapter(name))


def _named(part: ModuleRange, names: list[str]) -> list[str]:
    """Return the names that match a glob, or the stretch from one to another."""
    if part.last is None:
        return [name for name in names if fnmatchcase(name, part.first)]
    if part.first not in names or part.last not in names:
        return []
    return names[names.index(part.first) : names.index(part.last) + 1]


def _below(roots: Iterable[str], names: Iterable[str]) -> set[str]:
    wanted = set(roots)
    return {name for name in names if not wanted.isdisjoint(_lineage(name))}


def _lineage(name: str) -> Iterator[str]:
    """Yield a module's name and those of all modules that contain it."""
    yield name
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _is_adapter(name: str) -> bool:
    return any(part.startswith("lora_") or part in ("adapter", "adapters") for part in name.split("."))
