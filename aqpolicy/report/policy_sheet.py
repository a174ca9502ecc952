"""Gather what the people who sign a policy should read: what it says in sentences, what it admits, what is proved.

It computes nothing that a decision depends on; sentences come from the trees,
shares and verdicts from the checked policy. Same sources, same sheet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aqpolicy.compiler.demands import unenforceable
from aqpolicy.diagnostics import Diagnostic
from aqpolicy.errors import PolicyError
from aqpolicy.library.lock import relative_name, source_digest
from aqpolicy.model.policy import Budget, Rule
from aqpolicy.pipeline import Pipeline
from aqpolicy.report.data import Table
from aqpolicy.report.policy_book import Book
from aqpolicy.report.policy_vocabulary import governed, vocabulary
from aqpolicy.report.policy_words import (
    bounds_text,
    groups_text,
    listed,
    number_text,
    quoted,
    sentence,
)
from aqpolicy.report.reach import reach_of
from aqpolicy.report.sheet import Block, Card, Facts, Items, Matrix, Paragraph, Part, Shares, Sheet, Signatures
from aqpolicy.syntax import tree as t

PLACES: Final = 3
"""Lines for signatures."""

_EXHAUSTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "deny": "what it no longer covers is denied",
        "defer": "what it no longer covers is held back until there is room again",
        "attenuate": "what it no longer covers in full is admitted in part",
        "halt": "the run is halted",
    }
)
_METERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "surprisal": "information, as the labels' surprisal",
        "movement": "movement of the parameters, after the optimizer",
        "drift": "drift of the representation",
    }
)
_FOOTER: Final = (
    "Made by aqpolicy from the files that are named above, and only from them. The page itself proves nothing: "
    "its claims can be proved again with `aqpolicy check`."
)


def sheet_of(pipeline: Pipeline) -> Sheet:
    """Return the sheet of a policy that is proved.

    One that the gate of this version does not enforce is proved all the same; the sheet says so.

    Raises:
        PolicyError: The policy has errors, or questions that stay open.
        AnalysisError: A question was not decided.
    """
    book, policy = Book(pipeline), pipeline.policy
    if any(finding.severity == "error" for finding in pipeline.findings):
        raise PolicyError(pipeline.findings)
    parts = (
        Part("glance", "At a glance", tuple(_glance(book))),
        Part("who", "Who may teach what", tuple(_who(book))),
        Part("rules", "What is admitted, and what never is", tuple(_rules(book))),
        Part("budgets", "How much may be learned", tuple(_budgets(book))),
        Part("promises", "What is promised, and proved", tuple(_promises(book))),
        Part("remarks", "What the checker remarks", tuple(_remarks(pipeline.findings))),
        Part("cases", "Test cases", tuple(_cases(book))),
        Part("vocabulary", "What the words mean", tuple(vocabulary(book))),
        Part("model", "What is governed", tuple(governed(policy))),
        Part("files", "What it is made of", tuple(_files(book))),
        Part("signatures", "Signatures", tuple(_signatures(book))),
    )
    subtitle = f"Version {policy.version}. What a label may teach a model, at which depth, and within which limits."
    return Sheet(f"Policy {policy.name}", subtitle, tuple(part for part in parts if part.blocks), _FOOTER)


# ---- At a glance ------------------------------------------------------------------------------------


def _glance(book: Book) -> Iterator[Block]:
    policy = book.policy
    own = book.pipeline.source
    pairs = [
        ("policy", f"{policy.name}, version {policy.version}"),
        ("digest of its source", source_digest(own)),
        ("narrows", f"{policy.extends.name}, version {policy.extends.version}" if policy.extends else ""),
        ("vocabulary", f"{policy.taxonomy.name}, version {policy.taxonomy.version}"),
        ("governs", listed([group.name for group in policy.groups])),
        ("says", f"{_count(policy.rules, 'rule')} and {_count(policy.budgets, 'budget')}"),
        ("proved", f"{_count(book.pipeline.result.proved, 'claim')}, {_count(policy.proofs, 'promise')} among them"),
    ]
    yield Facts(tuple(pair for pair in pairs if pair[1]))
    missing = tuple(sentence(finding.message) for finding in unenforceable(policy, "warning"))
    if missing:
        lead = "A policy is enforced as a whole or not at all. This one can be checked and tested all the same."
        yield Card("Not ready for training", (Items("", missing), Paragraph(lead, is_quiet=True)))
    yield Paragraph(
        "An observation is one label of one example, with what is known about how it came to be. The policy says "
        "for each observation how much of it reaches each depth group of the model: nothing (0), all (1), or a share "
        "between. What no rule admits is refused. Restrictions always win over what other rules admit."
    )


def _count(items: tuple[object, ...], name: str) -> str:
    return f"{len(items)} {name}{'' if len(items) == 1 else 's'}"


def _who(book: Book) -> Iterator[Block]:
    reach = reach_of(book.policy)
    by = f"By {reach.attribute}: the" if reach.attribute else "The"
    caption = f"{by} most that may be admitted, whatever else is known of the observation."
    yield Matrix(caption, reach.attribute or "", book.policy.group_names, reach.rows)
    yield Paragraph(
        "No observation of a class is admitted more than this. What a single one is admitted depends on the rules.",
        is_quiet=True,
    )


# ---- Rules ------------------------------------------------------------------------------------------


def _rules(book: Book) -> Iterator[Block]:
    for rule, decl in book.rules:
        yield Card(rule.title or decl.name.text, tuple(_rule(book, rule, decl)), tuple(_tags(book, rule)))
    if book.policy.combine_min:
        yield Paragraph("Where several rules admit something, the least share of them counts.")
    if book.policy.complete is not None:
        yield Paragraph("Every observation is admitted or refused by a rule; none is left over. This is proved.")
    yield Paragraph(f"What no rule admits is refused: {quoted(book.policy.otherwise.because)}.")


def _tags(book: Book, rule: Rule) -> Iterator[str]:
    if rule.title is not None:
        yield rule.name
    yield "admits" if rule.admit else "restricts"
    origin = book.origin(rule.span.file)
    if origin:
        yield f"of {origin}"


def _rule(book: Book, rule: Rule, decl: t.RuleDecl) -> Iterator[Block]:
    how, terms = book.words.terms(decl.when)
    if len(terms) > 2:
        yield Items(f"Applies when {how} of this holds:", terms)
    else:
        yield Paragraph(f"Applies when {book.words.condition(decl.when)}.")
    if decl.until is not None:
        yield Paragraph(f"Applies until {decl.until.text}, that day included.")
    if rule.admit is not None:
        shares = tuple(zip(book.policy.group_names, rule.admit.shares, strict=True))
        yield Shares(f"Admits at most the profile {rule.admit.name}:", shares)
    actions = tuple(book.words.action(a) for a in decl.actions if not isinstance(a, t.AdmitClause))
    if actions:
        yield Items("", actions)
    if rule.overrides:
        yield Paragraph(f"Takes precedence over {listed(rule.overrides)}, where they apply too.")


# ---- Budgets ----------------------------------------------------------------------------------------


def _budgets(book: Book) -> Iterator[Block]:
    if book.policy.budgets:
        yield Paragraph(
            "A nat measures how much an admitted label tells the model that it did not expect. Budgets are charged "
            "before anything is learned.",
            is_quiet=True,
        )
    for budget, decl in book.budgets:
        origin = book.origin(budget.span.file)
        yield Card(budget.name, tuple(_budget(book, budget, decl)), (f"of {origin}",) if origin else ())
    for assumed in book.all_of(t.AssumeDecl):
        yield Paragraph(f"A run is taken to have {bounds_text(assumed.bounds)}.")


def _budget(book: Book, budget: Budget, decl: t.BudgetDecl) -> Iterator[Block]:
    scope = next((clause for clause in decl.clauses if isinstance(clause, t.ForClause)), None)
    covered = next((groups_text(clause.groups) for clause in decl.clauses if isinstance(clause, t.OnClause)), "")
    charged = "every observation"
    if scope is not None and not isinstance(scope.condition, t.Anything):
        charged = f"every observation where {book.words.condition(scope.condition)}"
    part = f" It is a part of the budget {budget.within}." if budget.within else ""
    yield Paragraph(f"Charged by {charged}, for what reaches {covered}.{part}")
    rows = [
        (f"{clause.meter} per {cap.per}", number_text(cap.amount), _METERS[clause.meter])
        for clause in decl.clauses
        if isinstance(clause, t.MeterClause)
        for cap in clause.caps
    ]
    if budget.exposures is not None:
        rows.append(("exposures per example", str(budget.exposures), "how often one example may be charged in a run"))
    yield Table("At most", ("limit", "amount", "of what"), tuple(rows))
    yield Paragraph(f"When it is exhausted, {_EXHAUSTED[budget.on_exhaust]}.")


# ---- Promises ---------------------------------------------------------------------------------------


def _promises(book: Book) -> Iterator[Block]:
    promises = tuple(book.words.promise(each) for each in book.statements if isinstance(each, t.ProveDecl))
    if promises:
        yield Items("The author promises, and it is proved for every possible observation:", promises)
    claims = tuple(sentence(claim) for claim in book.pipeline.result.proved)
    if claims:
        yield Items("In full, this is proved:", claims)


def _remarks(findings: tuple[Diagnostic, ...]) -> Iterator[Block]:
    for finding in findings:
        notes = tuple(Paragraph(sentence(note)) for note in finding.notes)
        pairs = tuple((finding.witness or {}).items())
        witness = (Paragraph("For example:", is_quiet=True), Facts(pairs)) if pairs else ()
        yield Card(sentence(finding.message), (*notes, *witness), (f"{finding.severity} {finding.code}",))


def _cases(book: Book) -> Iterator[Block]:
    words = book.words
    rows = tuple(
        (
            case.title.text,
            words.condition(case.given),
            "; ".join(words.expectation(expectation) for expectation in case.expectations),
        )
        for case in book.all_of(t.TestDecl)
    )
    if rows:
        yield Table("Proved for every observation that is given", ("case", "given that", "then"), rows)


# ---- What is signed ---------------------------------------------------------------------------------


def _files(book: Book) -> Iterator[Block]:
    stack = book.pipeline.stack
    folder = Path(book.pipeline.source.name).parent
    imported = {layer.source.name for layer in stack.imports}
    rows = []
    for name, source in stack.sources().items():
        role = "imported" if name in imported else "extended"
        rows.append((relative_name(source, folder), "the policy" if name == stack.own.source.name else role))
    digests = [source_digest(source) for source in stack.sources().values()]
    table = tuple((*row, digest) for row, digest in zip(rows, digests, strict=True))
    yield Table("Files, by the SHA-256 of their bytes", ("file", "role", "digest"), table)


def _signatures(book: Book) -> Iterator[Block]:
    policy = book.policy
    statement = (
        f"I have read version {policy.version} of the policy {policy.name}, as it is identified by these digests, "
        "and I approve that training follows it. A bundle made of it names the same digests."
    )
    yield Signatures(statement, tuple(book.pipeline.digests().items()), PLACES)
