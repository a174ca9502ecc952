"""Resolve a tree to a typed policy, or report everything that is wrong with it.

It decides names, types, units and shapes. Whether the rules make sense together
is the checker's question (`analysis`), not this module's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeVar

from aqpolicy.diagnostics import Label, Source, Span
from aqpolicy.errors import PolicyError
from aqpolicy.model.budgets import check_parents, resolve_bounds, resolve_budget
from aqpolicy.model.conditions import Conditions, Vocabulary
from aqpolicy.model.layers import Alone, Gathering, Library, Stack
from aqpolicy.model.policy import (
    Assumption,
    Bands,
    Budget,
    Category,
    Certification,
    DepthGroup,
    Evidence,
    Otherwise,
    Policy,
    Profile,
    Rule,
    Taxonomy,
)
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.profiles import resolve_profile
from aqpolicy.model.promises import PromiseResolver
from aqpolicy.model.rules import RuleResolver, check_overrides
from aqpolicy.model.run_attributes import ALWAYS, ORDER, evidence_attribute
from aqpolicy.model.text import Texts
from aqpolicy.model.vocabulary import (
    resolve_bands,
    resolve_course,
    resolve_depth,
    resolve_evidence,
    resolve_taxonomy,
)
from aqpolicy.syntax import Tree, parse
from aqpolicy.syntax import tree as t

S = TypeVar("S", bound=t.Statement)


def load_policy(source: Source, library: Library | None = None) -> Policy:
    """Parse and resolve a policy text; `library` finds what it imports and extends.

    Raises:
        PolicyError: With every syntax error, or else every error of names, types and units.
    """
    return resolve(parse(source), source, library)


def resolve(tree: Tree, source: Source, library: Library | None = None) -> Policy:
    """Return the typed policy of a tree.

    Raises:
        PolicyError: With all diagnostics AQ2xx, in the order of the text.
    """
    return resolve_stack(gather(tree, source, library))


def gather(tree: Tree, source: Source, library: Library | None = None) -> Stack:
    """Return a policy's file with all that it imports and extends.

    Raises:
        PolicyError: A file is missing, is not the one that was locked, has syntax errors, or leads back to itself.
    """
    problems = Problems()
    stack = Gathering(library or Alone(), problems).stack(tree, source)
    if problems.found:
        raise PolicyError(problems.found)
    return stack


def resolve_stack(stack: Stack) -> Policy:
    """Return the typed policy of gathered files.

    Raises:
        PolicyError: With all diagnostics AQ2xx of the first layer that has any, in the order of the text.
    """
    above = None if stack.parent is None else resolve_stack(stack.parent)
    return _Resolution(stack, above).policy()


class _Resolution:
    """One run over the statements of all layers; its tables of names fill in the order that they are needed."""

    def __init__(self, stack: Stack, above: Policy | None) -> None:
        self._own = stack.own
        self._above = above
        self._statements = [statement for layer in stack.layers() for statement in layer.tree.statements]
        self._problems = Problems()
        self._texts = Texts(stack.sources())
        self._words = Vocabulary(self._problems)
        self._profiles: Names[Profile] = Names("profile", self._problems)
        self._rules: Names[Rule] = Names("rule", self._problems)
        self._conditions = Conditions(self._words, self._problems)

    def policy(self) -> Policy:
        """Return the policy, or raise with everything found."""
        header, taxonomy = self._header(), self._taxonomy()
        self._at_most_one_own(t.ExtendsDecl, "extends")
        origin, groups = self._depth()
        otherwise, evidence = self._otherwise(), self._evidence()
        certifications, bands = self._course(), self._bands()
        self._definitions()
        rules, budgets = self._all_rules(), self._all_budgets()
        promises = PromiseResolver(self._words, self._conditions, self._rules, self._texts, self._problems)
        proofs = [promises.proof(item) for item in self._statements if isinstance(item, t.ProveDecl)]
        cases = tuple(promises.case(decl) for decl in self._own_only(t.TestDecl))
        combine_min = self._at_most_one(t.CombineDecl, "combine") is not None
        assumptions, complete = self._assumptions(), self._all(t.CompleteDecl)
        if header is None or otherwise is None or taxonomy is None or self._problems.found:
            raise PolicyError(self._problems.found)
        return Policy(
            name=header.name.text,
            version=header.version,
            taxonomy=taxonomy,
            origin=origin,
            groups=groups,
            rules=rules,
            budgets=budgets,
            proofs=tuple(proof for proof in proofs if proof is not None),
            otherwise=Otherwise(otherwise.because.text, otherwise.span),
            combine_min=combine_min,
            span=header.name.span,
            derived=tuple(self._words.derived[name] for name in ORDER if name in self._words.used),
            bands=bands,
            evidence=evidence,
            phases=self._declared("phase"),
            stages=self._declared("stage"),
            certifications=certifications,
            complete=complete[0].span if complete else None,
            assumptions=assumptions,
            cases=cases,
            extends=self._extended(),
        )

    def _extended(self) -> Policy | None:
        """Return the policy above, over the same attributes as this one, so that the two can be compared."""
        if self._above is None:
            return None
        derived = tuple(self._words.derived[name] for name in ORDER if name in self._words.used)
        return replace(self._above, derived=derived)

    # ---- Statements that stand once

    def _all(self, *kinds: type[S]) -> tuple[S, ...]:
        return tuple(statement for statement in self._statements if isinstance(statement, kinds))

    def _own_only(self, kind: type[S]) -> tuple[S, ...]:
        return tuple(statement for statement in self._own.tree.statements if isinstance(statement, kind))

    def _at_most_one(self, kind: type[S], word: str) -> S | None:
        """Return the one statement of its kind in all layers; report further ones."""
        found = self._all(kind)
        for again in found[1:]:
            self._again(again, found[0], word)
        return found[0] if found else None

    def _again(self, again: t.Statement, first: t.Statement, word: str) -> None:
        labels = (Label(_head(again, word), "again"), Label(_head(first, word), "first"))
        if again.span.file == first.span.file:
            self._problems.add("AQ211", f"a policy has one `{word}` statement", *labels)
        else:
            message = f"`{word}` is stated by what this policy imports or extends, and cannot be restated"
            self._problems.add("AQ224", message, *labels)

    def _at_most_one_own(self, kind: type[S], word: str) -> S | None:
        found = self._own_only(kind)
        for again in found[1:]:
            self._again(again, found[0], word)
        return found[0] if found else None

    def _missing(self, word: str) -> None:
        start = Span(self._own.source.name, 0, 0, 1, 1)
        message, advice = f"the policy has no `{word}` statement", f"write it: `{_MODELS[word]}`"
        self._problems.add("AQ210", message, Label(start, "missing from this file"), help=(advice,))

    def _header(self) -> t.PolicyDecl | None:
        found = self._at_most_one_own(t.PolicyDecl, "policy")
        if found is None:
            self._missing("policy")
        return found

    def _otherwise(self) -> t.OtherwiseDecl | None:
        """Return the own `otherwise`, or the nearest above."""
        found = self._at_most_one_own(t.OtherwiseDecl, "otherwise") or next(
            iter(reversed(self._all(t.OtherwiseDecl))), None
        )
        if found is None:
            self._missing("otherwise")
        return found

    def _taxonomy(self) -> Taxonomy | None:
        decl = self._at_most_one(t.TaxonomyDecl, "taxonomy")
        if decl is None:
            self._missing("taxonomy")
        self._words.attributes.is_known = decl is not None
        self._words.derived.update(ALWAYS)
        return resolve_taxonomy(decl, self._words.attributes, self._problems) if decl else None

    def _depth(self) -> tuple[Literal["input", "output"], tuple[DepthGroup, ...]]:
        decl = self._at_most_one(t.DepthDecl, "depth")
        if decl is None:
            self._missing("depth")
        self._words.groups.is_known = decl is not None
        return (decl.origin, resolve_depth(decl, self._words.groups, self._problems)) if decl else ("input", ())

    def _evidence(self) -> Evidence | None:
        decl = self._at_most_one(t.EvidenceDecl, "evidence")
        if decl is None:
            return None
        evidence = resolve_evidence(decl, self._words, self._problems)
        self._words.derived["evidence"] = evidence_attribute(evidence)
        return evidence

    def _assumptions(self) -> tuple[Assumption, ...]:
        """Return how long the run is, as the nearest layer says."""
        found = self._own_only(t.AssumeDecl) or self._all(t.AssumeDecl)
        return resolve_bounds(tuple(bound for decl in found for bound in decl.bounds), self._problems)

    # ---- Statements that stand many times

    def _course(self) -> tuple[Certification, ...]:
        found: list[Certification] = []
        first: dict[str, t.CourseDecl] = {}
        for decl in self._all(t.CourseDecl):
            if decl.kind in first:
                self._again(decl, first[decl.kind], f"{decl.kind}s")
                continue
            first[decl.kind] = decl
            found.extend(resolve_course(decl, self._words, self._problems)[1])
        return tuple(found)

    def _declared(self, kind: str) -> tuple[str, ...]:
        """Return the names that `phases` or `stages` declare."""
        attribute = self._words.derived.get(kind)
        return attribute.type.values if attribute is not None and isinstance(attribute.type, Category) else ()

    def _bands(self) -> tuple[Bands, ...]:
        used = set(self._words.used)
        found = [resolve_bands(decl, self._words, self._problems) for decl in self._all(t.BandsDecl)]
        self._words.used = used  # naming bands does not ask for the attribute; using one does
        return tuple(bands for bands in found if bands is not None)

    def _definitions(self) -> None:
        for decl in self._all(t.DefineDecl):
            self._words.defines.declare(decl.name, decl)
            if decl.name.text in self._words.attributes:
                first = Label(self._words.attributes.span(decl.name.text), "the attribute")
                message = f"`{decl.name.text}` is an attribute already"
                self._problems.add("AQ202", message, Label(decl.name.span, "defined here"), first)
            elif decl.name.text in self._words.derived:
                message = f"`{decl.name.text}` is an attribute that the language provides"
                self._problems.add("AQ202", message, Label(decl.name.span, "defined here"))
        self._conditions.check_definitions()
        for budget in self._all(t.BudgetDecl):
            self._words.budgets.declare(budget.name, budget)

    def _all_rules(self) -> tuple[Rule, ...]:
        for profile in self._all(t.ProfileDecl):
            self._profiles.declare(profile.name, resolve_profile(profile, self._words.groups, self._problems))
        decls = self._all(t.RuleDecl)
        resolver = RuleResolver(self._words, self._conditions, self._profiles, self._texts, self._problems)
        for decl in decls:
            self._rules.declare(decl.name, resolver.rule(decl))
        check_overrides(decls, self._rules, self._problems)
        if not decls:
            label = Label(Span(self._own.source.name, 0, 0, 1, 1), "no `rule` in this file")
            self._problems.add("AQ215", "the policy has no rules", label)
        return self._rules.values()

    def _all_budgets(self) -> tuple[Budget, ...]:
        found = tuple(
            resolve_budget(decl, self._conditions, self._words.groups, self._problems)
            for decl in self._words.budgets.values()
        )
        check_parents(found, self._words.budgets, self._problems)
        return found


_MODELS = {
    "policy": "policy NAME version 1.0.0",
    "taxonomy": "taxonomy NAME version 1 { ... }",
    "depth": "depth from input { NAME = modules ... }",
    "otherwise": 'otherwise deny because "..."',
}


def _head(statement: t.Statement, word: str) -> Span:
    """Return the opening word of a statement."""
    span = statement.span
    return Span(span.file, span.start, span.start + len(word), span.line, span.column)
