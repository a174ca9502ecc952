"""`aqpolicy log stats`: count what a log holds, and what it takes on disk."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aqpolicy.cli.log.arguments import add_run, keyring_of, progress
from aqpolicy.cli.log.rows import shown
from aqpolicy.units import micro_text

if TYPE_CHECKING:
    from aqpolicy.lineage.stats import LogStats


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "stats",
        help="count entries, rows, effects, charges and bytes",
        description="Count what a log holds: entries by kind, steps and attempts, rows and cells (an example in a "
        "depth group), effects and causes, charges, exceptions, models, and the bytes that it takes on disk.",
    )
    add_run(verb)
    verb.add_argument("--json", action="store_true", help="as one JSON object; charges in millionths")
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Count and print."""
    from aqpolicy.lineage import LineageReader
    from aqpolicy.lineage.stats import collect

    with LineageReader(args.run, keyring_of(args)) as reader:
        stats = collect(reader, progress("counting"))
    if args.json:
        print(json.dumps(stats.facts(), ensure_ascii=False, allow_nan=False))
        return 0
    for name, text in _lines(stats):
        print(f"{name:<10} {text}")
    return 0


def _lines(stats: LogStats) -> Iterator[tuple[str, str]]:
    yield "log", stats.origin
    yield "entries", f"{sum(stats.entries.values())}: {_counts(stats.entries)}"
    yield (
        "steps",
        f"{stats.steps}, of {stats.attempts} attempt{'s' * (stats.attempts != 1)}; {stats.superseded_steps} superseded",
    )
    yield "rows", f"{stats.rows}, of {stats.ranks} rank{'s' * (stats.ranks != 1)}; {stats.cells} cells"
    yield "disk", f"{stats.bytes} bytes, {stats.bytes_per_cell:.2f} per cell"
    yield "effects", _counts(stats.effects)
    yield "causes", _counts(stats.causes)
    yield "reasons", _counts(stats.reasons)
    yield "exceptions", _counts(stats.exceptions)
    for name, text in (("rows", stats.charges), ("movement", stats.movement_charges), ("drift", stats.drift_charges)):
        charged = ", ".join(f"{budget} {micro_text(spent)}" for budget, spent in text.items() if spent)
        yield "charged", f"by {name}: {charged or 'nothing'}"
    for model in stats.models:
        yield "model", f"after {shown(model['step'])} steps, sha256:{shown(model['model'])}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
