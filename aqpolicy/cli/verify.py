"""`aqpolicy verify`: who signed a bundle, and whether it was made from the files at hand.

Nothing is compiled again: only digests are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import BundleError, PolicyError

if TYPE_CHECKING:
    from aqpolicy.bundle import Bundle
    from aqpolicy.diagnostics import Source
    from aqpolicy.trust import Keyring, Opened


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "verify",
        help="check the signatures of a bundle",
        description="Check who signed a bundle, and with --source and --model whether it was made from these files. "
        "Nothing is compiled again.",
        epilog="Exit status: 0 trusted and the same, 1 not trusted or different, 2 a file cannot be read.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle written by `aqpolicy compile`")
    parser.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    parser.add_argument(
        "--threshold", type=int, default=1, metavar="N", help="how many trusted keys must have signed (default: 1)"
    )
    parser.add_argument("--source", metavar="POLICY", help="compare with this policy, and with all that it stands on")
    parser.add_argument("--model", metavar="MODEL.json", help="compare with this model description")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Verify, then compare; say every difference."""
    from aqpolicy.bundle.sealed import open_signed_bundle, read_bundle
    from aqpolicy.cli.output import read_source, show
    from aqpolicy.trust import load_keyring

    if args.threshold < 1:
        args.refuse("--threshold must be at least 1")
    keyring, data = load_keyring(args.keyring), read_bundle(args.bundle)
    try:
        bundle, opened = open_signed_bundle(data, keyring, args.threshold)
    except BundleError as error:
        print(f"refused   {error}")
        return 1
    for line in _heading(bundle, opened, keyring):
        print(line)
    try:
        found = dict(_digests(args))
    except PolicyError as error:
        return show(error.diagnostics, read_source(args.source))
    return _compare(bundle, found)


def _compare(bundle: Bundle, found: Mapping[str, str]) -> int:
    """Print for each digest whether it is the bundle's; return the exit status."""
    for name, digest in found.items():
        recorded = bundle.digests.get(name, "none")
        told = "the same" if digest == recorded else f"differs: {digest} here, {recorded} in the bundle"
        print(f"{name:<9} {told}")
    if all(bundle.digests.get(name) == digest for name, digest in found.items()):
        print("verified")
        return 0
    print("different: the bundle was made from other files; compile these, or find the ones that it was made from")
    return 1


def _heading(bundle: Bundle, opened: Opened, keyring: Keyring) -> Iterator[str]:
    from aqpolicy.bundle import ROLE
    from aqpolicy.trust import digest_text

    yield f"policy    {bundle.policy_name} {bundle.policy_version}, taxonomy {bundle.taxonomy}"
    yield f"bundle    {digest_text(bundle.digest)}"
    for key in opened.signers:
        yield f"signed    {key.label} as {ROLE}"
    roles = {key.label: role for role, keys in keyring.roles.items() for key in keys}
    for label in opened.strangers:
        yield f"stranger  {label}: {f'trusted as {roles[label]} only' if label in roles else 'not in the keyring'}"


def _digests(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield the digests of the files that were named, as a bundle records them."""
    from aqpolicy.cli.output import read_bytes, read_source
    from aqpolicy.trust import digest_text, sha256

    if args.source is not None:
        yield from _source_digests(read_source(args.source))
    if args.model is not None:
        yield "model", digest_text(sha256(read_bytes(args.model)))


def _source_digests(source: Source) -> Iterator[tuple[str, str]]:
    from aqpolicy.library import Files
    from aqpolicy.lint import find_settings
    from aqpolicy.pipeline import Pipeline

    # The lock is not asked: what counts here is what the bundle was made from.
    pipeline = Pipeline(source, Files(None, find_settings().policy_roots, is_locking=True))
    yield from sorted(pipeline.digests().items())
