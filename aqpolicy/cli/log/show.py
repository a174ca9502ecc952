"""`aqpolicy log show`: print the steps of a run, rows, ranks, models or events."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aqpolicy.cli.log.arguments import add_run, keyring_of
from aqpolicy.cli.log.rows import group_number, row_facts, row_text, shown

if TYPE_CHECKING:
    from aqpolicy.lineage import LineageReader, StepBlock
    from aqpolicy.lineage.entry import StepEntry

Line = tuple[str, dict[str, Any]]
"""One thing to print: in words, and as JSON has it."""


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "show",
        help="print steps, rows, ranks, models or events",
        description="Print the steps of a run, the rows of one step or of one example, its ranks, models or events. "
        "Steps whose place a later attempt took are left out, unless --attempt names theirs.",
    )
    add_run(verb)
    verb.add_argument("--step", type=int, metavar="N", help="only the rows of this step")
    verb.add_argument("--example", metavar="ID", help="only the rows of this example")
    verb.add_argument("--group", metavar="G", help="only this depth group")
    verb.add_argument("--attempt", type=int, metavar="A", help="what this attempt did, whether it counts or not")
    what = verb.add_mutually_exclusive_group()
    what.add_argument("--ranks", action="store_true", help="the ranks of each step instead of its rows")
    what.add_argument("--models", action="store_true", help="the models that were published")
    what.add_argument("--events", action="store_true", help="what happened between steps, and to credentials since")
    verb.add_argument("--json", action="store_true", help="one JSON object per line")
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    from aqpolicy.errors import InputError
    from aqpolicy.lineage import LineageReader

    with LineageReader(args.run, keyring_of(args)) as reader:
        count = 0
        for count, (words, facts) in enumerate(_lines(reader, args), start=1):  # noqa: B007 - the count is read below
            if not args.json:
                print(words)
            elif facts:
                print(json.dumps(facts, ensure_ascii=False, allow_nan=False))
    if not count and args.example is not None:
        raise InputError(f"the log has no such row of example `{args.example}`")
    return 0


def _lines(reader: LineageReader, args: argparse.Namespace) -> Iterator[Line]:
    group = group_number(reader.genesis["groups"], args.group)
    if args.models:
        return _models(reader, args)
    if args.events:
        return _events(reader, args)
    if args.ranks:
        return _ranks(reader, args)
    if args.step is None and args.example is None:
        return _steps(reader, args, group)
    return _rows(reader, args, group)


def _entries(reader: LineageReader, args: argparse.Namespace) -> Iterator[tuple[int, StepEntry]]:
    """Return the steps that were asked for: those that count, or those of one attempt."""
    from aqpolicy.errors import LineageError

    found = 0
    entries = reader.step_entries() if args.attempt is None else reader.step_entries(superseded=True)
    for index, entry in entries:
        if args.step in (None, entry.step) and args.attempt in (None, entry.attempt):
            found += 1
            yield index, entry
    if not found and (args.step, args.attempt) != (None, None):
        of = "" if args.attempt is None else f" of attempt {args.attempt}"
        raise LineageError(f"the log has no step{of}" if args.step is None else f"the log has no step {args.step}{of}")


def _steps(reader: LineageReader, args: argparse.Namespace, group: int | None) -> Iterator[Line]:
    names = [(at, name) for at, name in enumerate(reader.genesis["groups"]) if group in (None, at)]
    yield f"{'step':>6} {'epoch':>5} {'rows':>5}  " + "  ".join(f"{'moved ' + name:>16}" for _, name in names), {}
    for _, entry in _entries(reader, args):
        step = reader.block(entry)
        moved = {name: None if step.book.closed[at] else step.book.movement[at] for at, name in names}
        shown = "  ".join(f"{'closed':>16}" if value is None else f"{value:>16.6g}" for value in moved.values())
        facts = {**_place(step), "phase": step.phase, "stage": step.stage, "rows": len(step.rows), "moved": moved}
        yield f"{step.step:>6} {step.epoch:>5} {len(step.rows):>5}  {shown}", facts


def _rows(reader: LineageReader, args: argparse.Namespace, group: int | None) -> Iterator[Line]:
    from aqpolicy.trust import example_key

    groups, budgets = reader.genesis["groups"], reader.genesis["budgets"]
    key = None if args.example is None else example_key(args.example)
    for _, entry in _entries(reader, args):
        step = reader.block(entry)
        prefix = f"step {step.step} epoch {step.epoch}  " if args.step is None else ""
        for row in step.rows:
            if key in (None, row.example_key):
                facts = {**_place(step), **row_facts(row, groups, budgets, group)}
                yield prefix + row_text(row, groups, budgets, group), facts


def _ranks(reader: LineageReader, args: argparse.Namespace) -> Iterator[Line]:
    for index, entry in _entries(reader, args):
        for rank in entry.ranks:
            place = {"step": entry.step, "attempt": entry.attempt, "entry": index, "rank": rank.rank}
            facts = {**place, "rows": rank.rows, "cells": rank.cells, "root": rank.inner_root.hex()}
            words = f"rank {rank.rank:<3} {rank.rows:>6} rows {rank.cells:>9} cells  root {rank.inner_root.hex()}"
            yield f"step {entry.step} entry {index}  {words}", facts


def _models(reader: LineageReader, args: argparse.Namespace) -> Iterator[Line]:
    for model in reader.models if args.attempt is None else _models_of(reader, args.attempt):
        name, digest = shown(model.get("name", "model")), shown(model.get("model"))
        yield f"after {shown(model.get('step'))} steps  {name}  sha256:{digest}", model


def _models_of(reader: LineageReader, attempt: int) -> Iterator[dict[str, Any]]:
    """Return the models of one attempt, whether they count or not."""
    from aqpolicy.lineage.entry import CKPT

    for index, facts in reader.facts(CKPT):
        if facts.get("attempt") == attempt:
            yield {**reader.body(index, facts), **facts, "entry": index}


def _events(reader: LineageReader, args: argparse.Namespace) -> Iterator[Line]:
    for steps, facts in reader.events:
        if args.step in (None, steps):
            said = "  ".join(
                f"{shown(name)} {shown(value)}"
                for name, value in sorted(facts.items())
                if name != "event" and value != ""
            )
            event = shown(facts.get("event", "status"))
            yield f"after {steps} steps  {event}  {said}".rstrip(), {"steps": steps, **facts}


def _place(step: StepBlock) -> dict[str, Any]:
    return {"step": step.step, "attempt": step.attempt, "epoch": step.epoch}
