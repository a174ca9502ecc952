"""From a policy's source to a signed bundle, step by step.

    source -> tree -> stack -> policy -> findings -> tables -> bundle

Each step is computed once, and none is skipped: a bundle is made only of a
policy that was proved free of findings, and only of tables on which the
evaluator, the solver and the tables themselves agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from aqpolicy.analysis import EFFORT, CheckResult, CheckSettings, Prover, examine, run_cases
from aqpolicy.bundle import NO_LIMIT, Bundle, encode_bundle
from aqpolicy.compiler import Compilation, ModelDescription, bind, compile_with_examples, parse_description
from aqpolicy.compiler.binding import ties
from aqpolicy.compiler.demands import beyond_the_gate, features, unenforceable
from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.errors import InternalError, PolicyError
from aqpolicy.library.lock import relative_name, source_digest
from aqpolicy.lint.linter import leveled
from aqpolicy.lint.settings import Level
from aqpolicy.model import Alone, Library, Stack, gather, resolve_stack
from aqpolicy.model.policy import Category, Policy, Taxonomy
from aqpolicy.semantics import Decision, evaluate
from aqpolicy.shipped import grammar_text
from aqpolicy.syntax import Tree, parse
from aqpolicy.trust import canonical_json, digest_text, sha256


class Pipeline:
    """The steps for one source; every property raises what its step finds wrong."""

    def __init__(
        self,
        source: Source,
        library: Library | None = None,
        settings: CheckSettings | None = None,
        levels: Mapping[str, Level] | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            source: The policy's own file.
            library: Finds what it imports and extends; without one it stands alone.
            settings: What the checker may be told beside the policy.
            levels: The level of each code that a project does not leave at its own.
        """
        self.source = source
        self._library = _Remembering(library or Alone())
        self.settings = settings or CheckSettings()
        self._levels = levels or {}

    @cached_property
    def tree(self) -> Tree:
        """The syntax tree."""
        return parse(self.source)

    @cached_property
    def stack(self) -> Stack:
        """The policy's file with all that it imports and extends."""
        return gather(self.tree, self.source, self._library)

    @property
    def sources(self) -> Mapping[str, Source]:
        """The texts read so far, by name: what diagnostics point into."""
        return {self.source.name: self.source, **self._library.opened}

    @cached_property
    def policy(self) -> Policy:
        """The typed policy."""
        return resolve_stack(self.stack)

    @cached_property
    def result(self) -> CheckResult:
        """What is wrong with the policy, and what is proved of it."""
        return examine(self.policy, self.settings)

    @cached_property
    def findings(self) -> tuple[Diagnostic, ...]:
        """Everything that is to be said of the policy, failed test cases among it, at the levels of the project."""
        failed = (finding for case in run_cases(self.policy, self.settings) for finding in case.findings)
        return tuple(leveled((*self.result.findings, *failed), self._levels))

    @cached_property
    def compilation(self) -> Compilation:
        """Validated mask tables.

        Raises:
            PolicyError: The policy has errors or open questions.
            InternalError: Tables, evaluator and solver disagree.
        """
        findings = (*self.findings, *unenforceable(self.policy))
        if any(finding.severity == "error" for finding in findings):
            raise PolicyError(findings)
        compilation = compile_with_examples(self.policy)
        validate(self.policy, compilation, self.settings.effort)
        return compilation

    def bundle(self, description: bytes) -> Bundle:
        """Return the policy bound to a model.

        Args:
            description: The bytes of a model description.

        Raises:
            PolicyError: The policy has errors or does not fit the model.
            InputError: The bytes are no model description.
        """
        model = parse_description(description)
        parameters = self.bound(model)
        tied = ties(self.policy, model)
        refused = beyond_the_gate(tied)
        if refused:
            raise PolicyError(refused)
        tables = self.compilation.tables
        return Bundle(
            tables=replace(tables, requires=tuple(sorted({*tables.requires, *features(tied)}))),
            policy_name=self.policy.name,
            policy_version=self.policy.version,
            taxonomy=f"{self.policy.taxonomy.name}@{self.policy.taxonomy.version}",
            parameters=parameters,
            digests={**self.digests(), "model": digest_text(sha256(description))},
            source_map=self._source_map(),
            findings=tuple(f"proved: {claim}" for claim in self.result.proved),
        )

    def digests(self) -> dict[str, str]:
        """Return what the policy is made from, by name, as bundles record it."""
        return {
            "grammar": digest_text(sha256(grammar_text().encode())),
            "layers": self._layers_digest(),
            "source": source_digest(self.source),
            "taxonomy": digest_text(taxonomy_digest(self.policy.taxonomy)),
        }

    def bound(self, model: ModelDescription) -> tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]:
        """Return each depth group's parameters in a model."""
        return bind(self.policy, model)

    def payload(self, description: bytes) -> bytes:
        """Return the bytes that are signed."""
        return encode_bundle(self.bundle(description))

    def _layers_digest(self) -> str:
        """Return the digest of all files that the policy stands on beside its own, whatever their folder is called."""
        folder = Path(self.source.name).parent
        others = [source for source in self.stack.sources().values() if source != self.source]
        files = {relative_name(source, folder): source_digest(source) for source in others}
        return digest_text(sha256(canonical_json(files)))

    def _source_map(self) -> dict[str, str]:
        # Names relative to the policy's folder: where that lay must not change the bundle.
        folder = Path(self.source.name).parent
        names = {name: relative_name(source, folder) for name, source in self.stack.sources().items()}
        rules = {rule.name: f"{names[rule.span.file]}:{rule.span.line}" for rule in self.policy.rules}
        budgets = self.policy.budgets
        return rules | {f"budget {b.name}": f"{names[b.span.file]}:{b.span.line}" for b in budgets}


class _Remembering:
    """A library that keeps what it has opened, so that messages can point into it even where gathering fails."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.opened: dict[str, Source] = {}

    def imported(self, text: str, near: Source) -> Source:
        return self._kept(self._library.imported(text, near))

    def extended(self, name: str, file: str | None, near: Source) -> Source:
        return self._kept(self._library.extended(name, file, near))

    def refusal(self, source: Source) -> str | None:
        return self._library.refusal(source)

    def _kept(self, source: Source) -> Source:
        return self.opened.setdefault(source.name, source)


def taxonomy_digest(taxonomy: Taxonomy) -> bytes:
    """Return the digest of what a taxonomy means, wherever and however it is written."""
    attributes = []
    for attribute in taxonomy.attributes:
        kind = attribute.type
        if isinstance(kind, Category):
            meaning: Mapping[str, object] = {"ordered": kind.ordered, "values": kind.values}
        else:
            meaning = {"high": kind.high, "kind": kind.kind, "low": kind.low, "unit": kind.unit}
        attributes.append({"name": attribute.name, **meaning})
    return sha256(canonical_json({"attributes": attributes, "name": taxonomy.name, "version": taxonomy.version}))


def validate(policy: Policy, compilation: Compilation, effort: int = EFFORT) -> None:
    """Compare tables, evaluator and solver on an observation of every kind that the policy tells apart.

    Raises:
        InternalError: They disagree; the message names the observation.
        AnalysisError: The solver gave up.
    """
    tables, prover = compilation.tables, Prover(policy, effort=effort)
    for vector, observation in compilation.examples.items():
        row, decision, solved = tables.decide(observation), evaluate(policy, observation), prover.decide(observation)
        agree = (
            tables.row_of(observation) == tables.row_of_vector[vector]
            and (row.effect, row.cause, row.rules, row.reason) == _words(decision)
            and (row.shares, row.norms, row.charged, row.obligations) == _numbers(decision)
            and (row.shares, row.norms, row.charged, row.obligations)
            == (solved.shares, solved.norms, solved.charged, solved.obligations)
        )
        if not agree:
            shown = ", ".join(f"{name}={value}" for name, value in observation.items())
            raise InternalError(f"tables, evaluator and solver disagree on the observation {shown}")


def _words(decision: Decision) -> tuple[str, str, tuple[str, ...], str]:
    return decision.effect, decision.cause, decision.rules, decision.reason


def _numbers(decision: Decision) -> tuple[tuple[int, ...], ...]:
    norms = tuple(NO_LIMIT if norm is None else norm for norm in decision.norms)
    return decision.shares, norms, decision.charged, decision.obligations
