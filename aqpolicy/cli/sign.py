"""`aqpolicy sign`: add signatures to a bundle; what it says stays as it is, byte for byte."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "sign",
        help="add a signature to a bundle",
        description="Add signatures to a bundle that `aqpolicy compile` wrote. Nothing is compiled again, and the "
        "signatures that are there stay. Look at what you sign with `aqpolicy inspect` first.",
        epilog="Exit status: 0 signed, 2 not: the key has signed already, or a file cannot be used.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle")
    parser.add_argument(
        "--key", required=True, action="append", metavar="KEYFILE", help="signing key; repeat for several signatures"
    )
    parser.add_argument("--out", metavar="OUT", help="where to write (default: in the place of BUNDLE)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Sign, and say what was signed."""
    from aqpolicy.bundle.sealed import add_signatures, read_bundle
    from aqpolicy.trust import digest_text, load_signing_key, replace_file

    keys = [load_signing_key(path) for path in args.key]
    signed, bundle = add_signatures(read_bundle(args.bundle), keys)
    out = args.out or args.bundle
    replace_file(Path(out), signed)
    print(f"{out}: {bundle.policy_name} {bundle.policy_version}, {digest_text(bundle.digest)}")
    for key in keys:
        print(f"signed by {key.verify_key.label}")
    return 0
