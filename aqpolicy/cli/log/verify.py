"""`aqpolicy log verify`: check every signed byte and every decision of a run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aqpolicy.cli.log.arguments import add_run, keyring_of, run_builder
from aqpolicy.cli.log.meter import Meter

if TYPE_CHECKING:
    from aqpolicy.trust import Keyring

_MOST_WORKERS: Final = 256


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "verify",
        help="check every signed byte and every decision",
        description="Check every byte that was signed, then derive every decision, charge and budget again.",
        epilog="Exit status: 0 verified, 1 the run is not what was signed or not what the policy says, 2 it cannot be "
        "looked at.",
    )
    add_run(verb)
    verb.add_argument("--structure-only", action="store_true", help="do not derive the decisions again")
    verb.add_argument(
        "--remember",
        metavar="FILE",
        help="keep the newest head of this log in a file of yours; a log that does not extend it is refused",
    )
    verb.add_argument(
        "--state",
        metavar="FILE",
        help="keep in a file of yours how far this came; after an interruption the same command goes on from there",
    )
    verb.add_argument(
        "--workers",
        metavar="N",
        type=_count,
        default=0,
        help="processes that compare rows (default: as many as pay, up to 8)",
    )
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Verify; exit status 1 where the run is not what was signed or not what the policy says, with the place."""
    from aqpolicy.errors import BundleError, CorruptLogError, ForkedLogError, ProvenanceError, SignatureError

    keyring = keyring_of(args)
    try:
        _verify(args, keyring)
    except CorruptLogError as error:
        print(f"damaged   {error}")
        return 1
    except (ForkedLogError, SignatureError, BundleError, ProvenanceError) as error:
        print(f"refused   {error}")
        return 1
    print("verified")
    return 0


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MOST_WORKERS:
        raise ValueError(text)
    return number


_count.__name__ = f"number from 1 to {_MOST_WORKERS}"  # argparse says it


def _verify(args: argparse.Namespace, keyring: Keyring) -> None:
    from aqpolicy.errors import InputError
    from aqpolicy.lineage import verify_log
    from aqpolicy.trust import digest_text

    with Meter("hashing") as meter:
        report = verify_log(
            args.run,
            keyring,
            meter,
            workers=args.workers,
            remembered=args.remember,
            state=args.state,
            index=run_builder(),
        )
    head = report.checkpoint
    print(f"log       {report.entries} entries, {report.steps} steps, {report.rows} rows: every hash as signed")
    if report.attempts > 1:
        print(f"attempts  {report.attempts}; {report.superseded} steps were computed, then superseded")
    if report.believed:
        print(f"note      the rows of {report.believed} steps were checked by an earlier run, says `{args.state}`")
    print(f"head      {head.origin}, size {head.size}, {report.heads} signed heads agree")
    print(f"root      {digest_text(head.root)}")
    if not report.ended:
        print("note      the run did not end properly: what is here is a prefix of it")
    if args.structure_only:
        return
    if not (Path(args.run) / "bundle.aqb").exists():
        raise InputError(
            f"`{args.run}` has no bundle.aqb, so its decisions cannot be derived again; put it back, or give "
            "--structure-only to look at the log alone"
        )
    from aqpolicy.trace.auditing.audit import audit_run

    with Meter("deriving") as meter:
        audited = audit_run(args.run, keyring, meter)
    for line in audited.lines():
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
            f"(entry {entry}) reaches; `aqpolicy trace --from-annotator` says what they taught"
        )
