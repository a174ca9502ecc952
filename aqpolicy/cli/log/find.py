"""`aqpolicy log find`: which steps an example, an annotator, a rule or a depth group took part in, by the index."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.cli.log.arguments import add_run, keyring_of, run_builder
from aqpolicy.cli.log.rows import group_number, row_facts, row_text
from aqpolicy.cli.log.sought import labels_of, routes_of

if TYPE_CHECKING:
    from aqpolicy.lineage import LineageReader
    from aqpolicy.lineage.lookup import Evidence, Index, StepVisits
    from aqpolicy.lineage.runs import RunBuilder
    from aqpolicy.lineage.segment import Visit
    from aqpolicy.trust import Keyring

Line = tuple[str, dict[str, Any]]
"""One thing to print: in words, and as JSON has it."""


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "find",
        help="find the steps that something took part in",
        description="Find the steps in which an example, the labels of an annotator or a session, a rule, or a depth "
        "group took part, or the rows of a step, by the index that the log commits to. Steps that a later attempt took "
        "again are left out. That the log is what was signed and its index complete is for `log verify` to say.",
    )
    add_run(verb)
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("--example", metavar="ID", help="the visits of this example")
    what.add_argument("--key", metavar="HEX", type=_key, help="the same, by the example key that the log has")
    what.add_argument("--annotator", metavar="NAME", help="the steps of all labels of this credential, or its holder")
    what.add_argument("--session", type=int, metavar="N", help="the steps of the labels of one session of the manifest")
    what.add_argument("--rule", metavar="NAME", help="the steps in which this rule decided about an example")
    what.add_argument("--route", type=int, metavar="N", help="the steps in which this row of the mask table was used")
    what.add_argument("--group", metavar="G", help="the steps in which this depth group moved")
    what.add_argument("--step", type=int, metavar="N", help="the rows of this step")
    verb.add_argument(
        "--top", type=int, metavar="K", help="with --group: the K visits that can have written most there"
    )
    verb.add_argument("--rows", action="store_true", help="with visits: what the log says of each")
    verb.add_argument("--superseded", action="store_true", help="also steps that a later attempt took again")
    verb.add_argument(
        "--evidence",
        action="store_true",
        help="with examples and labels: per seal the records that match, which shows that no other does",
    )
    verb.add_argument("--json", action="store_true", help="one JSON object per line")
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    from aqpolicy.lineage import LineageReader
    from aqpolicy.lineage.lookup import Index

    _refuse_what_does_not_fit(args)
    keyring = keyring_of(args)
    with LineageReader(args.run, keyring) as reader:
        for words, facts in _Question(args, keyring, reader, Index(reader, _builder)).lines():
            if not args.json:
                print(words)
            elif facts:
                print(json.dumps(facts, ensure_ascii=False, allow_nan=False))
    return 0


def _key(text: str) -> bytes:
    from aqpolicy.lineage.record import KEY_BYTES

    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError(text)
    return key


_key.__name__ = "example key of 32 hexadecimal digits"  # argparse says it


def _refuse_what_does_not_fit(args: argparse.Namespace) -> None:
    from aqpolicy.errors import InputError

    is_example = args.example is not None or args.key is not None
    is_label = args.annotator is not None or args.session is not None
    if args.top is not None and (args.group is None or args.top < 1):
        raise InputError("--top takes a number from 1 on, and goes with --group")
    if args.rows and not (is_example or args.step is not None or args.top is not None):
        raise InputError("--rows goes with --example, --key, --step, or --group with --top")
    if args.evidence and not (is_example or is_label):
        raise InputError("--evidence goes with --example, --key, --annotator or --session")


def _builder() -> RunBuilder:
    """Return what makes the index of steps that no seal covers; loaded where there are any."""
    return run_builder()()


class _Question:
    """What was asked, of which run."""

    def __init__(self, args: argparse.Namespace, keyring: Keyring, reader: LineageReader, index: Index) -> None:
        self.args, self.reader, self.index = args, reader, index
        self.keyring = keyring.within(reader.checkpoint.origin)
        self.superseded: bool = args.superseded

    def lines(self) -> Iterator[Line]:
        """Answer it."""
        args = self.args
        if args.example is not None or args.key is not None:
            return self._example()
        if args.group is not None:
            return self._group(args.group)
        if args.step is not None:
            return self._step(args.step)
        return self._labels() if args.rule is None and args.route is None else self._routes()

    def _example(self) -> Iterator[Line]:
        from aqpolicy.trust import example_key

        key = example_key(self.args.example) if self.args.key is None else self.args.key
        yield from self._visits(self.index.visits_of_example(key, superseded=self.superseded))
        if self.args.evidence:
            yield from map(_evidence, self.index.evidence_of_example(key))

    def _step(self, number: int) -> Iterator[Line]:
        visits = self.index.visits_of_step(number, superseded=self.superseded)
        if not visits:
            self.reader.index_of_step(number)  # which says so where there is no such step
        return self._visits(visits)

    def _labels(self) -> Iterator[Line]:
        from aqpolicy.provenance import load_manifest
        from aqpolicy.trust import example_key

        manifest = load_manifest(Path(self.args.run) / "manifest.aqm", self.keyring)
        self._refuse_other("manifest.aqm", manifest.root, {root for _, root in self.index.grounds})
        labels = (number for found in labels_of(manifest, self.args) for number in found)
        keys = [example_key(manifest.example_id(number)) for number in labels]
        yield from _steps(self.index.steps_of_examples(keys, root=manifest.root, superseded=self.superseded))
        if self.args.evidence:
            yield from (_evidence(found) for key in keys for found in self.index.evidence_of_example(key))

    def _routes(self) -> Iterator[Line]:
        from aqpolicy.bundle import load_bundle
        from aqpolicy.lineage.lookup import StepVisits

        bundle, visits = load_bundle(Path(self.args.run) / "bundle.aqb", self.keyring), Counter[tuple[int, int, int]]()
        self._refuse_other("bundle.aqb", bundle.digest, {digest for digest, _ in self.index.grounds})
        for route in routes_of(bundle, self.args):
            for found in self.index.steps_of_route(route, bundle=bundle.digest, superseded=self.superseded):
                visits[found.entry, found.step, found.attempt] += found.visits
        yield from _steps(
            StepVisits(step, attempt, entry, count) for (entry, step, attempt), count in sorted(visits.items())
        )

    def _refuse_other(self, name: str, digest: bytes, in_force: set[bytes]) -> None:
        """Refuse a file that no step was taken under, and say it where some were taken under another one."""
        from aqpolicy.errors import InputError

        if in_force and digest not in in_force:
            raise InputError(f"`{name}` is not the one that the steps of the run were taken under")
        if in_force - {digest}:
            said = f"some steps were taken under another one than `{name}`; they are not looked at"
            print(f"aqpolicy: {said}", file=sys.stderr)

    def _group(self, name: str) -> Iterator[Line]:
        group = group_number(self.reader.genesis["groups"], name) or 0
        if self.args.top is None:
            moved = self.index.steps_of_group(group, superseded=self.superseded)
            for place in moved:
                facts = {"step": place.step, "attempt": place.attempt, "entry": place.entry}
                yield f"step {place.step} attempt {place.attempt} entry {place.entry}", facts
            yield f"{len(moved)} steps", {}
            return
        for top in self.index.top(group, self.args.top, superseded=self.superseded):
            words, facts = self._visit(top.visit)
            key = self.index.key(top.visit).hex()
            yield f"{top.mass:<12.6g} {key}  {words}", {"mass": top.mass, "example": key, **facts}

    def _visits(self, visits: list[Visit]) -> Iterator[Line]:
        yield from map(self._visit, visits)
        yield f"{len(visits)} visits in {len({visit.entry for visit in visits})} steps", {}

    def _visit(self, visit: Visit) -> Line:
        from aqpolicy.lineage.leaf import decode_row

        words = f"step {visit.step} attempt {visit.attempt} entry {visit.entry} rank {visit.rank} row {visit.row}"
        facts: dict[str, Any] = {
            "step": visit.step,
            "attempt": visit.attempt,
            "entry": visit.entry,
            "rank": visit.rank,
            "row": visit.row,
        }
        if self.args.rows:
            row = decode_row(self.index.leaf(visit), self.reader.layout)
            names = (self.reader.genesis["groups"], self.reader.genesis["budgets"])
            return f"{words}  {row_text(row, *names)}", {**facts, "says": row_facts(row, *names)}
        return words, facts


def _steps(found: Iterable[StepVisits]) -> Iterator[Line]:
    steps = visits = 0
    for step in found:
        words = f"step {step.step} attempt {step.attempt} entry {step.entry}  {step.visits} visits"
        yield words, {"step": step.step, "attempt": step.attempt, "entry": step.entry, "visits": step.visits}
        steps, visits = steps + 1, visits + step.visits
    yield f"{visits} visits in {steps} steps", {}


def _evidence(found: Evidence) -> Line:
    if found.start == found.end:
        says = f"no record, the gap is before record {found.start}"
    else:
        says = f"records {found.start} to {found.end - 1}"
    where = "not sealed yet" if found.seal < 0 else f"seal {found.seal}"
    facts = {"seal": found.seal, "run": found.run, "digest": found.digest, "start": found.start, "end": found.end}
    return f"{where} run {found.run} {found.digest}  {says}", {"evidence": facts}
