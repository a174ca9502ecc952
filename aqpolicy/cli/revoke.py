"""`aqpolicy revoke`: show what a run learned from a credential, and put its revocation into the signed log.

It changes no model: a run is trained again under a policy that refuses the credential.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.cli.trace import open_for_reading, write_json
from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from aqpolicy.trace import Footprint

_LONGEST_REASON = 1000


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "revoke",
        help="show what a model learned from a source that is withdrawn",
        description="Verify a run, show exactly what depended on a credential, write it as a footprint file, and "
        "append the revocation to the run's signed log. The model is not changed.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument("--credential", required=True, metavar="ID", help="the credential that is withdrawn")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for the log")
    parser.add_argument("--key", metavar="FILE", type=Path, help="the private key that signs the run's log")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where the footprint goes; by default into RUN")
    parser.add_argument("--dry-run", action="store_true", help="show the footprint; write nothing, sign nothing")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Show the footprint, then write and sign, footprint first."""
    from aqpolicy.trace import footprint
    from aqpolicy.trace.text import footprint_lines

    if not 0 < len(args.reason) <= _LONGEST_REASON or not args.reason.isprintable():
        raise InputError(f"a reason is one line of at most {_LONGEST_REASON} letters")
    if not args.dry_run and args.key is None:
        raise InputError("a revocation is signed: give --key, the private key of the run's log, or --dry-run")
    opened = open_for_reading(args.run, args.keyring)
    if args.credential in opened.revoked:
        raise InputError(f"`{args.credential}` is revoked already: {opened.revoked[args.credential]}")
    found = footprint(opened, credential=args.credential)
    for line in footprint_lines(found):
        print(line)
    if not args.dry_run:
        _revoke(args, found)
    return 0


def _revoke(args: argparse.Namespace, found: Footprint) -> None:
    from aqpolicy.lineage import LineageWriter
    from aqpolicy.trust import digest_text, load_keyring, load_signing_key, sha256

    key = load_signing_key(args.key)
    keyring = load_keyring(args.keyring or args.run / "keyring.json")
    writer = LineageWriter.open_for_status(args.run, key, keyring)
    try:
        data = found.to_json()
        path = args.out or args.run / f"footprint-{sha256(args.credential.encode()).hex()[:16]}.json"
        write_json(path, data)
        index = writer.append_status(
            {
                "event": "revoked",
                "credential": args.credential,
                "reason": args.reason,
                "footprint": digest_text(sha256(data)),
                "examples": len(found.examples),
                "visits": len(found.visits),
                "steps": len(found.steps),
                "time_s": int(time.time()),
            }
        )
    finally:
        writer.close()
    print(f"revoked as entry {index} of the signed log; footprint in {path}")
