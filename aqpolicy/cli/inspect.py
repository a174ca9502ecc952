"""`aqpolicy inspect`: show what a bundle admits."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aqpolicy.units import micro_text

if TYPE_CHECKING:
    from aqpolicy.bundle import BudgetTable, Bundle, Row


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
    yield ""
    yield "depth groups"
    width = max(len(name) for name in bundle.tables.groups)
    for name, parameters in zip(bundle.tables.groups, bundle.parameters, strict=True):
        yield f"  {name:<{width}}  {', '.join(parameter for parameter, _ in parameters)}"
    yield ""
    yield f"decisions ({len(bundle.tables.rows)} rows for {len(bundle.tables.row_of_vector)} kinds of observation)"
    for number, row in enumerate(bundle.tables.rows):
        yield from _row_lines(bundle, number, row)
    yield ""
    yield "budgets" if bundle.tables.budgets else "no budgets"
    for budget in bundle.tables.budgets:
        groups = ", ".join(bundle.tables.groups[group] for group in budget.groups)
        place = bundle.source_map.get(f"budget {budget.name}", "?")
        yield f"  {budget.name} on {groups}: {_budget_text(budget)}  [{place}]"
    yield ""
    yield from bundle.findings


def _row_lines(bundle: Bundle, number: int, row: Row) -> Iterator[str]:
    shares = ", ".join(
        f"{name} {micro_text(share)}" + (f" (norm at most {micro_text(norm)})" if norm >= 0 else "")
        for name, share, norm in zip(bundle.tables.groups, row.shares, row.norms, strict=True)
        if share
    )
    yield f"  {number:>4}  {row.effect}, {row.cause}: {shares or 'nothing'}"
    if row.rules:
        named = ", ".join(f"{rule} [{bundle.source_map.get(rule, '?')}]" for rule in row.rules)
        yield f"        by {named}"
    charged = [
        f"{budget.name} {micro_text(share)}"
        for budget, share in zip(bundle.tables.budgets, row.charged, strict=True)
        if share
    ]
    if charged:
        yield f"        charges per nat of surprisal: {', '.join(charged)}"
    yield f"        because {row.reason}"


def _budget_text(budget: BudgetTable) -> str:
    windows = (("epoch", budget.per_epoch), ("run", budget.per_run), ("update", budget.per_update))
    parts = [f"at most {micro_text(nats)} nat per {window}" for window, nats in windows if nats >= 0]
    if budget.exposures >= 0:
        parts.append(f"at most {budget.exposures} exposures per example")
    return f"{', '.join(parts) or 'no limit'}; on exhaust {budget.on_exhaust}"
