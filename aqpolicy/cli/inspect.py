"""`aqpolicy inspect`: show what a bundle admits."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aqpolicy.units import micro_text

if TYPE_CHECKING:
    from aqpolicy.bundle import AttributeTable, BudgetTable, Bundle, EvidenceTable, ObligationTable, Row


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what a bundle admits",
        description="Verify a bundle's signature and show its decisions, budgets and parameters.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle written by `aqpolicy compile`")
    parser.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the bundle."""
    from aqpolicy.bundle import load_bundle
    from aqpolicy.trust import load_keyring

    bundle = load_bundle(args.bundle, load_keyring(args.keyring))
    for line in lines(bundle):
        print(line)
    return 0


def lines(bundle: Bundle) -> Iterator[str]:
    """Yield the bundle as lines of text."""
    from aqpolicy.trust import digest_text

    yield f"policy    {bundle.policy_name} {bundle.policy_version}, taxonomy {bundle.taxonomy}"
    yield f"bundle    {digest_text(bundle.digest)}"
    for name, digest in sorted(bundle.digests.items()):
        yield f"{name:<9} {digest}"
    if bundle.tables.requires:
        yield f"requires  {', '.join(bundle.tables.requires)}"
    yield from _section("depth groups", _group_lines(bundle))
    yield from _section("attributes", _attribute_lines(bundle.tables.attributes))
    if bundle.tables.evidence is not None:
        yield from _section("evidence", _evidence_lines(bundle.tables.evidence))
    kinds = len(bundle.tables.row_of_vector)
    rows = (line for number, row in enumerate(bundle.tables.rows) for line in _row_lines(bundle, number, row))
    yield from _section(f"decisions ({len(bundle.tables.rows)} rows for {kinds} kinds of observation)", rows)
    if bundle.tables.obligations:
        yield from _section("obligations", _obligation_lines(bundle))
    yield from _section("budgets" if bundle.tables.budgets else "no budgets", _budget_lines(bundle))
    yield ""
    yield from bundle.findings


def _section(title: str, body: Iterable[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from (f"  {line}" for line in body)


def _group_lines(bundle: Bundle) -> Iterator[str]:
    width = max(len(name) for name in bundle.tables.groups)
    for name, parameters in zip(bundle.tables.groups, bundle.parameters, strict=True):
        yield f"{name:<{width}}  {', '.join(parameter for parameter, _ in parameters)}"


def _attribute_lines(attributes: Sequence[AttributeTable]) -> Iterator[str]:
    """Yield where each attribute comes from, and how finely decisions tell its values apart."""
    width = max((len(table.name) for table in attributes), default=0)
    for table in attributes:
        origin = {"manifest": "signed in the manifest", "evidence": "weighed", "run": "measured in the run"}
        kinds = len(table.vectors)
        yield f"{table.name:<{width}}  {origin[table.origin]}, {kinds} {'kind' if kinds == 1 else 'kinds'} of value"


def _evidence_lines(evidence: EvidenceTable) -> Iterator[str]:
    for attribute, weights in evidence.weights:
        yield f"by {attribute}: {', '.join(f'{value} {micro_text(weight)}' for value, weight in weights)}"
    if evidence.independent_by:
        yield f"judgments that share a {' or '.join(evidence.independent_by)} count once"
    yield f"from {micro_text(evidence.floor)} to {micro_text(evidence.ceiling)}"


def _row_lines(bundle: Bundle, number: int, row: Row) -> Iterator[str]:
    shares = ", ".join(
        f"{name} {micro_text(share)}" + (f" (norm at most {micro_text(norm)})" if norm >= 0 else "")
        for name, share, norm in zip(bundle.tables.groups, row.shares, row.norms, strict=True)
        if share
    )
    yield f"{number:>4}  {row.effect}, {row.cause}: {shares or 'nothing'}"
    yield from (f"      {line}" for line in _row_remarks(bundle, row))


def _row_remarks(bundle: Bundle, row: Row) -> Iterator[str]:
    tables = bundle.tables
    for group, attribute, intercept, slope in row.linear:
        limit = f"{micro_text(intercept)} + {micro_text(slope)} * {tables.attributes[attribute].name}"
        yield f"{tables.groups[group]} at most {limit}"
    if row.rules:
        named = ", ".join(f"{rule} [{bundle.source_map.get(rule, '?')}]" for rule in row.rules)
        yield f"by {named}"
    charged = [
        f"{budget.name} {micro_text(share)}" for budget, share in zip(tables.budgets, row.charged, strict=True) if share
    ]
    if charged:
        yield f"charges per nat of surprisal: {', '.join(charged)}"
    for number in row.obligations:
        yield f"{'waits for' if row.effect == 'defer' else 'asks'} {_obligation_text(tables.obligations[number])}"
    yield f"because {row.reason}"


def _obligation_text(obligation: ObligationTable) -> str:
    return f"{obligation.text} (rule {obligation.rule})"


def _obligation_lines(bundle: Bundle) -> Iterator[str]:
    for obligation in bundle.tables.obligations:
        yield f"{_obligation_text(obligation)}  [{bundle.source_map.get(obligation.rule, '?')}]"


def _budget_lines(bundle: Bundle) -> Iterator[str]:
    for budget in bundle.tables.budgets:
        groups = ", ".join(bundle.tables.groups[group] for group in budget.groups)
        place = bundle.source_map.get(f"budget {budget.name}", "?")
        yield f"{budget.name} on {groups}: {_budget_text(budget)}  [{place}]"


def _budget_text(budget: BudgetTable) -> str:
    windows = (("epoch", budget.per_epoch), ("run", budget.per_run), ("update", budget.per_update))
    parts = [f"at most {micro_text(nats)} nat per {window}" for window, nats in windows if nats >= 0]
    for meter, window, amount in budget.meters:
        unit = "l2" if meter == "movement" else "nat"
        parts.append(f"{meter} at most {micro_text(amount)} {unit} per {window}")
    if budget.exposures >= 0:
        parts.append(f"at most {budget.exposures} exposures per example")
    return f"{', '.join(parts) or 'no limit'}; on exhaust {budget.on_exhaust}"
