"""`aqpolicy log`: verify and show the lineage log of a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.units import micro_text

if TYPE_CHECKING:
    from aqpolicy.lineage import LineageReader, Row
    from aqpolicy.trust import Keyring


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("log", help="verify and show the lineage log of a run", description=__doc__)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    verify = verbs.add_parser(
        "verify",
        help="check every signed byte and every decision",
        description="Check every byte that was signed, then derive every decision, charge and budget again.",
    )
    show = verbs.add_parser(
        "show",
        help="print steps, or the rows of a step or an example",
        description="Print the steps of a run, or the rows of one step, or all rows of one example.",
    )
    for verb, function in ((verify, run_verify), (show, run_show)):
        verb.add_argument("run", metavar="RUN", help="the folder of a run")
        verb.add_argument("--keyring", metavar="K", help="the keys that are trusted (default: the one in RUN)")
        verb.set_defaults(func=function)
    verify.add_argument("--structure-only", action="store_true", help="do not derive the decisions again")
    show.add_argument("--step", type=int, metavar="N", help="only the rows of this step")
    show.add_argument("--example", metavar="ID", help="only the rows of this example")


def run_verify(args: argparse.Namespace) -> int:
    """Verify; exit status 1 where the run is not what was signed or not what the policy says, with the place."""
    from aqpolicy.errors import BundleError, CorruptLogError, ForkedLogError, ProvenanceError, SignatureError

    keyring = _keyring(args)
    try:
        _verify(args, keyring)
    except (CorruptLogError, ForkedLogError, SignatureError, BundleError, ProvenanceError) as error:
        print(f"damaged   {error}")
        return 1
    print("verified")
    return 0


def _verify(args: argparse.Namespace, keyring: Keyring) -> None:
    from aqpolicy.lineage import verify_log
    from aqpolicy.trust import digest_text

    report = verify_log(args.run, keyring, _progress("hashing"))
    head = report.checkpoint
    print(f"log       {report.entries} entries, {report.steps} steps, {report.rows} rows: every hash as signed")
    print(f"head      {head.origin}, size {head.size}, {report.heads} signed heads agree")
    print(f"root      {digest_text(head.root)}")
    if not report.ended:
        print("note      the run did not end properly: what is here is a prefix of it")
    if args.structure_only:
        return
    if not (Path(args.run) / "bundle.aqb").exists():
        print("note      the run has no bundle.aqb: its decisions were not derived again")
        return
    from aqpolicy.trace.audit import audit_run

    for line in audit_run(args.run, keyring, _progress("deriving")).lines():
        print(line)
    for line in _misuses(Path(args.run), keyring):
        print(line)


def _misuses(run: Path, keyring: Keyring) -> Iterator[str]:
    """Say what a run, now verified, learned within the reach of revocations."""
    from aqpolicy.lineage import LineageReader
    from aqpolicy.provenance import load_manifest
    from aqpolicy.trace.revocation import misuses

    found: dict[tuple[str, int], list[int]] = {}
    with LineageReader(run, keyring) as log:
        manifest = load_manifest(run / "manifest.aqm", keyring.within(log.checkpoint.origin))
        for misuse in misuses(log, manifest):
            found.setdefault((misuse.credential, misuse.revoked_at), []).append(misuse.rows)
    for (credential, entry), rows in found.items():
        yield (
            f"revoked   labels of `{credential}` came up {sum(rows)} times in {len(rows)} steps that its revocation "
            f"(entry {entry}) reaches; `aqpolicy revoke --dry-run` says what they taught"
        )


def run_show(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    from aqpolicy.errors import InputError
    from aqpolicy.lineage import LineageReader

    with LineageReader(args.run, _keyring(args)) as reader:
        lines = _steps(reader) if args.step is None and args.example is None else _chosen(reader, args)
        count = 0
        for count, line in enumerate(lines, start=1):  # noqa: B007 - the count is read below
            print(line)
    if not count:
        raise InputError(f"the log has no such row of example `{args.example}`")
    return 0


def _keyring(args: argparse.Namespace) -> Keyring:
    from aqpolicy.trust import load_keyring

    if args.keyring is None:
        print(
            "aqpolicy: no --keyring: using the one inside the run, which shows only that the run agrees with itself",
            file=sys.stderr,
        )
    return load_keyring(args.keyring or Path(args.run) / "keyring.json")


def _progress(what: str) -> Any:
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{what} step {done} of {total}", end=end, file=sys.stderr, flush=True)

    return show


def _steps(reader: LineageReader) -> Iterator[str]:
    yield f"{'step':>6} {'epoch':>5} {'rows':>5}  " + "  ".join(f"{'moved ' + n:>16}" for n in reader.genesis["groups"])
    for step in reader.steps():
        moved = "  ".join(
            f"{'closed':>16}" if closed else f"{value:>16.6g}"
            for value, closed in zip(step.book.movement, step.book.closed, strict=True)
        )
        yield f"{step.step:>6} {step.epoch:>5} {len(step.rows):>5}  {moved}"


def _chosen(reader: LineageReader, args: argparse.Namespace) -> Iterator[str]:
    from aqpolicy.trust import example_key

    groups, budgets = reader.genesis["groups"], reader.genesis["budgets"]
    key = None if args.example is None else example_key(args.example)
    for step in reader.steps() if args.step is None else [reader.step(args.step)]:
        prefix = f"step {step.step} epoch {step.epoch}  " if args.step is None else ""
        for row in step.rows:
            if key in (None, row.example_key):
                yield prefix + _row(row, groups, budgets)


_NORMS = {-1.0: "not finite", -2.0: "not measured"}
"""What stands in the log in place of a norm."""


def _row(row: Row, groups: list[str], budgets: list[str]) -> str:
    from aqpolicy.lineage import NO_SURPRISAL

    nats = "not finite" if row.surprisal == NO_SURPRISAL else f"{micro_text(row.surprisal)} nat"
    norms = " ".join(f"{name}=" + _NORMS.get(norm, f"{norm:.4g}") for name, norm in zip(groups, row.norms, strict=True))
    charges = " ".join(f"{name}={micro_text(c)}" for name, c in zip(budgets, row.charges, strict=True) if c)
    lowered = " ".join(
        f"{groups[group]}={micro_text(share)} ({_reason(code)})" for group, code, share in row.exceptions
    )
    parts = [
        f"{row.example_key.hex()} {row.effect:<8} {row.cause:<7} row {row.route:<4} surprisal {nats}",
        f"norms {norms}",
        f"charged {charges}" if charges else "",
        f"lowered to {lowered}" if lowered else "",
        f"because {_reason(row.reason_code)}" if row.reason_code else "",
    ]
    return "; ".join(part for part in parts if part)


def _reason(code: int) -> str:
    from aqpolicy.lineage import REASONS

    return REASONS[code].replace("_", " ") if code < len(REASONS) else f"reason {code}"
