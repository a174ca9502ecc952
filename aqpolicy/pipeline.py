"""From a policy's source to a signed bundle, step by step.

    source -> tree -> policy -> findings -> tables -> bundle

Each step is computed once, and none is skipped: a bundle is made only of a
policy that was proved free of findings, and only of tables on which the
evaluator, the solver and the tables themselves agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from aqpolicy.analysis import EFFORT, CheckResult, Prover, examine
from aqpolicy.bundle import NO_LIMIT, Bundle, encode_bundle
from aqpolicy.compiler import Compilation, ModelDescription, bind, compile_with_examples, parse_description
from aqpolicy.diagnostics import Source
from aqpolicy.errors import InternalError, PolicyError
from aqpolicy.model import resolve
from aqpolicy.model.policy import Category, Policy, Taxonomy
from aqpolicy.semantics import Decision, evaluate
from aqpolicy.shipped import grammar_text
from aqpolicy.syntax import Tree, parse
from aqpolicy.trust import canonical_json, digest_text, sha256


class Pipeline:
    """The steps for one source; every property raises what its step finds wrong."""

    def __init__(self, source: Source, effort: int = EFFORT) -> None:
        """Nothing is read yet; `effort` bounds the solver's steps per question."""
        self.source = source
        self._effort = effort

    @cached_property
    def tree(self) -> Tree:
        """The syntax tree."""
        return parse(self.source)

    @cached_property
    def policy(self) -> Policy:
        """The typed policy."""
        return resolve(self.tree, self.source)

    @cached_property
    def result(self) -> CheckResult:
        """What is wrong with the policy, and what is proved of it."""
        return examine(self.policy, self._effort)

    @cached_property
    def compilation(self) -> Compilation:
        """Validated mask tables.

        Raises:
            PolicyError: The policy has errors or open questions.
            InternalError: Tables, evaluator and solver disagree.
        """
        if any(finding.severity == "error" for finding in self.result.findings):
            raise PolicyError(self.result.findings)
        compilation = compile_with_examples(self.policy)
        validate(self.policy, compilation, self._effort)
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
        taxonomy = self.policy.taxonomy
        return Bundle(
            tables=self.compilation.tables,
            policy_name=self.policy.name,
            policy_version=self.policy.version,
            taxonomy=f"{taxonomy.name}@{taxonomy.version}",
            parameters=parameters,
            digests={
                "grammar": digest_text(sha256(grammar_text().encode())),
                "model": digest_text(sha256(description)),
                "source": digest_text(sha256(self.source.text.encode())),
                "taxonomy": digest_text(taxonomy_digest(taxonomy)),
            },
            source_map=self._source_map(),
            findings=tuple(f"proved: {claim}" for claim in self.result.proved),
        )

    def bound(self, model: ModelDescription) -> tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]:
        """Return each depth group's parameters in a model."""
        return bind(self.policy, model)

    def payload(self, description: bytes) -> bytes:
        """Return the bytes that are signed."""
        return encode_bundle(self.bundle(description))

    def _source_map(self) -> dict[str, str]:
        # The file's own name only: where it lay must not change the bundle.
        file = self.source.name.replace("\\", "/").rpartition("/")[2]
        rules = {rule.name: f"{file}:{rule.span.line}" for rule in self.policy.rules}
        return rules | {f"budget {budget.name}": f"{file}:{budget.span.line}" for budget in self.policy.budgets}


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
    tables, prover = compilation.tables, Prover(policy, effort)
    for vector, observation in compilation.examples.items():
        number = tables.row_of(observation)
        row, decision, solved = tables.rows[number], evaluate(policy, observation), prover.decide(observation)
        agree = (
            number == tables.row_of_vector[vector]
            and (row.effect, row.cause, row.rules, row.reason) == _words(decision)
            and (row.shares, row.norms, row.charged) == _numbers(decision)
            and (row.shares, row.norms, row.charged) == (solved.shares, solved.norms, solved.charged)
        )
        if not agree:
            shown = ", ".join(f"{name}={value}" for name, value in observation.items())
            raise InternalError(f"tables, evaluator and solver disagree on the observation {shown}")


def _words(decision: Decision) -> tuple[str, str, tuple[str, ...], str]:
    return decision.effect, decision.cause, decision.rules, decision.reason


def _numbers(decision: Decision) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    norms = tuple(NO_LIMIT if norm is None else norm for norm in decision.norms)
    return decision.shares, norms, decision.charged
