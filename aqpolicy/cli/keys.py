"""`aqpolicy keys`: make a key, list its public half in a keyring, show what a key file holds.

A private key is never printed and a key file never overwritten.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from aqpolicy.trust import Keyring, VerifyKey


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its two verbs."""
    parser = subparsers.add_parser("keys", help="make and show signing keys")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = verbs.add_parser("new", help="write a new private key and print its public half")
    new.add_argument("name", metavar="NAME", help="the key's name: ASCII without spaces and `+`")
    new.add_argument("--out", required=True, type=Path, metavar="FILE", help="where the private key goes")
    new.add_argument("--keyring", type=Path, metavar="FILE", help="list the public key in this keyring")
    new.add_argument("--role", metavar="ROLE", help="what the keyring trusts the key for, such as `policy-author`")
    new.set_defaults(func=run_new)
    show = verbs.add_parser("show", help="print the public key and key id of a key file")
    show.add_argument("file", type=Path, metavar="FILE", help="a public or private key")
    show.set_defaults(func=run_show)


def run_new(args: argparse.Namespace) -> int:
    """Write the key; then, where one is named, the keyring with its public half."""
    from aqpolicy.trust import SigningKey

    key = SigningKey.generate(args.name)
    # Made before the key is written: a mistake about the keyring leaves no key behind.
    keyring = _extended_keyring(args.keyring, args.role, key.verify_key)
    key.save(args.out)
    if keyring is not None:
        keyring.save(args.keyring)
    print(key.verify_key.text)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print the public half of whatever key the file holds."""
    from aqpolicy.trust import load_verify_key

    key = load_verify_key(args.file)
    print(key.text)
    print(f"key id {key.key_id.hex()}")
    return 0


def _extended_keyring(path: Path | None, role: str | None, key: VerifyKey) -> Keyring | None:
    from aqpolicy.trust import ROLES, Keyring, load_keyring

    if path is None and role is None:
        return None
    if path is None or role is None:
        raise InputError("`--keyring` and `--role` go together; give both or neither")
    if role not in ROLES:
        raise InputError(f"`{role}` is not a role; the roles are {', '.join(ROLES)}")
    return load_keyring(path).with_key(role, key) if path.exists() else Keyring.of([(role, key)])
