"""`aqpolicy log check-fork`: check a proof that a log told two stories."""

from __future__ import annotations

import argparse
from typing import Any


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "check-fork",
        help="check a proof that a log told two stories",
        description="Check a proof of a fork that `aqpolicy log compare` wrote, without either run.",
        epilog="Exit status: 1 the log is forked, 2 the file does not prove it.",
    )
    verb.add_argument("file", metavar="FILE", help="the proof")
    verb.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Check; a proven fork is a finding."""
    from aqpolicy.lineage.fork import decode_fork, read_fork, verify_fork
    from aqpolicy.trust import digest_text, load_keyring

    keyring = load_keyring(args.keyring)
    shorter, longer = verify_fork(decode_fork(read_fork(args.file)), keyring.keys("log"))
    print(f"log       {shorter.origin}")
    for head in (shorter, longer):
        print(f"head      size {head.size}, root {digest_text(head.root)}")
    print("FORK      trusted keys signed both heads, and no one history has both")
    return 1
