"""`aqpolicy log compare`: whether two histories of one log agree; where they do not, a proof of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aqpolicy.lineage.compare import Comparison


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "compare",
        help="compare two histories of one log; a fork is proved",
        description="Compare two histories of one log, each the folder of a run or a file with a signed head. Where "
        "they contradict each other, --out takes a proof that convinces anyone who has the log's public key.",
        epilog="Exit status: 0 the same, or one begins the other; 1 they contradict each other; 2 a file cannot be "
        "read; 3 the heads alone do not tell.",
    )
    verb.add_argument("first", metavar="A", help="the folder of a run, or a signed head")
    verb.add_argument("second", metavar="B", help="another")
    verb.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    verb.add_argument("--out", metavar="FILE.aqfork", help="where the proof of a fork goes")
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compare, and say how the two relate."""
    from aqpolicy.lineage.compare import compare, open_side
    from aqpolicy.lineage.fork import encode_fork, verify_fork
    from aqpolicy.trust import load_keyring, replace_file

    keyring = load_keyring(args.keyring)
    with open_side(args.first, keyring) as first, open_side(args.second, keyring) as second:
        found = compare(first, second)
    for line in _lines(found):
        print(line)
    if found.fork is not None:
        verify_fork(found.fork, keyring.keys("log"))
        if args.out is not None:
            replace_file(Path(args.out), encode_fork(found.fork))
            print(f"written   {args.out}: check it with `aqpolicy log check-fork`")
    return {"same": 0, "prefix": 0, "fork": 1, "open": 3}[found.relation]


def _lines(found: Comparison) -> list[str]:
    shorter, longer = found.shorter, found.longer
    lines = [f"log       {shorter.origin}, heads of size {shorter.size} and {longer.size}"]
    if found.relation == "same":
        return [*lines, "same      both heads are one"]
    if found.relation == "prefix":
        shown = f"shown by a consistency proof of {len(found.path)} hashes" if found.path else "nothing was logged yet"
        return [*lines, f"prefix    the longer history begins with the shorter one, {shown}"]
    if found.relation == "open":
        return [*lines, "open      the heads alone do not tell; give the folder of the longer history"]
    lines.append("FORK      the log signed two histories that contradict each other")
    if found.differs_at is not None:
        lines.append(f"differ    first at entry {found.differs_at}")
    return lines
