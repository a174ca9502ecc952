"""Judge a policy that stands in a test or a page: all findings of `aqpolicy check` and `aqpolicy test`.

Nothing is read from disk.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from aqpolicy.compiler import ModelDescription, ModuleEntry, ParameterEntry, bind
from aqpolicy.compiler.binding import parameter_counts, ties
from aqpolicy.compiler.demands import beyond_the_gate, demands
from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.errors import InputError, PolicyError
from aqpolicy.lint import lint, parse_settings
from aqpolicy.lint.settings import Settings
from aqpolicy.model import gather, resolve_stack
from aqpolicy.model.policy import Policy
from aqpolicy.syntax import Tree, parse

TODAY = date(2026, 6, 30)
OWN = "policy.aqp"
"""What messages call the policy's own file."""


@dataclass(frozen=True, slots=True)
class Written:
    """A policy text, the other files that it may need, and what it is judged with."""

    text: str
    files: Mapping[str, str] = field(default_factory=dict)
    unlocked: frozenset[str] = frozenset()
    """Files that have changed since they were locked."""
    options: Mapping[str, str] = field(default_factory=dict)
    """`model` names a model (see `_model`); every other option is a setting, such as `effort`."""

    @property
    def source(self) -> Source:
        """The policy's own file."""
        return Source(OWN, self.text)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every file."""
        return (self.source, *(Source(name, text) for name, text in self.files.items()))

    @property
    def settings(self) -> Settings:
        """The settings among the options."""
        options = {name: value for name, value in self.options.items() if name != "model"}
        lines = (f"{name} = {value if value.isdigit() else repr(value)}" for name, value in options.items())
        return parse_settings("\n".join(lines).encode(), "aqpolicy.toml") or Settings()


def judge(written: Written) -> tuple[Diagnostic, ...]:
    """Return all findings in a policy, sorted by place."""
    tree = None
    try:
        tree = parse(written.source)
        found = _of_policy(written, tree)
    except PolicyError as error:
        found = error.diagnostics
    return lint(tree, written.source, found, written.settings, TODAY)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A library of files that exist only as texts."""

    written: Written

    def imported(self, text: str, near: Source) -> Source:
        """Return a file by its path relative to the one that names it."""
        name = posixpath.normpath(posixpath.join(posixpath.dirname(near.name), text))
        if name not in self.written.files:
            raise InputError(f"cannot read `{name}`: No such file or directory")
        return Source(name, self.written.files[name])

    def extended(self, name: str, file: str | None, near: Source) -> Source:
        """Return the file of a policy."""
        return self.imported(file or f"{name.rpartition('.')[2]}.aqp", near)

    def refusal(self, source: Source) -> str | None:
        """Refuse what has changed."""
        has_changed = source.name in self.written.unlocked
        return f"`{source.name}` is not the file that was locked: it has changed since" if has_changed else None


def _of_policy(written: Written, tree: Tree) -> tuple[Diagnostic, ...]:
    """Return the checker's findings; raise those before it."""
    policy = resolve_stack(gather(tree, written.source, Shelf(written)))
    model = _model(written)
    counts = None if model is None else parameter_counts(policy, model)
    return (*_checked(policy, written.settings, counts), *(() if model is None else _unfit(policy, model)))


def _checked(policy: Policy, settings: Settings, counts: Mapping[str, int] | None) -> tuple[Diagnostic, ...]:
    from aqpolicy.analysis import CheckSettings, examine, run_cases

    given = CheckSettings(settings.effort, "bits first", settings.optimizer, settings.starved_below, counts)
    cases = (finding for result in run_cases(policy, given) for finding in result.findings)
    return (*examine(policy, given).findings, *cases)


def _unfit(policy: Policy, model: ModelDescription) -> tuple[Diagnostic, ...]:
    """Return what does not fit the model, or else what the gate cannot enforce."""
    try:
        bind(policy, model)
    except PolicyError as error:
        return error.diagnostics
    return beyond_the_gate((*demands(policy), *ties(policy, model)))


def _model(written: Written) -> ModelDescription | None:
    """Return a model of two layers, `a` and `b`: `plain` ones, with `b` `mixing` examples, or `tied` to each other."""
    kind = written.options.get("model")
    if kind is None:
        return None
    second = "BatchNorm1d" if kind == "mixing" else "Linear"
    modules = (ModuleEntry("", "Net"), ModuleEntry("a", "Linear"), ModuleEntry("b", second))
    one, other = ParameterEntry("a.weight", (16, 16), "a"), ParameterEntry("b.weight", (16, 16), "b")
    if kind == "tied":
        return ModelDescription(modules, (ParameterEntry("a.weight", (16, 16), "a", ("b.weight",)),))
    return ModelDescription(modules, (one, other))
