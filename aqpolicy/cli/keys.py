"""`aqpolicy keys`: make and rotate keys, sign keyrings, show who is trusted for what.

A private key is never printed, never given as an argument, and its file never overwritten.
"""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from aqpolicy.trust import Keyring, SigningKey, VerifyKey

_A_YEAR: Final = timedelta(days=365)


def register(subparsers: Any) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser("keys", help="make signing keys and keyrings")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    new = verbs.add_parser("new", help="write a new private key and print its public half")
    new.add_argument("name", metavar="NAME", help="the key's name: ASCII without spaces and `+`")
    new.add_argument("--out", type=Path, metavar="FILE", help="where the private key goes (default: NAME.key)")
    new.add_argument("--keyring", type=Path, metavar="K", help="list the public key in this keyring")
    new.add_argument("--role", metavar="ROLE", help="what the keyring trusts the key for, such as `policy-author`")
    _add_signing(new)
    new.set_defaults(func=run_new)
    rotate = verbs.add_parser("rotate", help="put a new key in the place of an old one")
    rotate.add_argument("old", metavar="OLD", help="the old key: its name, `name+hash`, or a file that holds it")
    rotate.add_argument("--out", required=True, type=Path, metavar="FILE", help="where the new private key goes")
    rotate.add_argument("--keyring", required=True, type=Path, metavar="K", help="the keyring that lists the old key")
    rotate.add_argument(
        "--run",
        action="append",
        default=[],
        type=Path,
        metavar="RUN",
        help="a run whose log goes on counting up to its present head, with all that its first entry names; repeat",
    )
    rotate.add_argument(
        "--compromised", action="store_true", help="no dated statement of the old key counts, however old it says it is"
    )
    _add_signing(rotate)
    rotate.set_defaults(func=run_rotate)
    sign = verbs.add_parser("sign", help="sign the next version of a keyring with a root key")
    sign.add_argument("keyring", type=Path, metavar="K", help="the keyring; K.next waits beside it for signatures")
    sign.add_argument(
        "--threshold", action="append", default=[], metavar="ROLE=N", help="so many keys of a role must sign; repeat"
    )
    _add_signing(sign)
    sign.set_defaults(func=run_sign)
    show = verbs.add_parser("show", help="show a key's public half, or whom a keyring trusts for what")
    show.add_argument("file", type=Path, metavar="FILE", help="a public or private key, or a keyring")
    show.set_defaults(func=run_show)


def _add_signing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", action="append", default=[], metavar="FILE", help="a private root key that signs the keyring; repeat"
    )
    parser.add_argument("--expires", metavar="DATE", help="last day of a signed keyring, YYYY-MM-DD (default: a year)")


def run_new(args: argparse.Namespace) -> int:
    """Write the key; then, where one is named, the keyring with its public half."""
    from aqpolicy.trust import SigningKey

    key = SigningKey.generate(args.name)
    out = args.out or Path(f"{args.name.replace('/', '-')}.key")
    # Made before the key is written: a mistake about the keyring leaves no key behind.
    change = _listing(args, key)
    key.save(out)
    if change is not None:
        change.publish()
    print(key.verify_key.text)
    return 0


def run_rotate(args: argparse.Namespace) -> int:
    """Retire the old key within its bounds and list a new one of its name in its place."""
    from aqpolicy.cli.keyring_change import Change, replaced
    from aqpolicy.trust import Retired, SigningKey, load_keyring

    keyring = load_keyring(args.keyring)
    old = _find(keyring, args.old)
    until = "" if args.compromised else _today().isoformat()
    bound = Retired(until, tuple(_head_of(run, keyring) for run in args.run))
    new = SigningKey.generate(old.name)
    draft = keyring.revised(replaced(keyring, old, new.verify_key, bound), _date(args.expires))
    change = Change.of(
        args.keyring, keyring, draft, _roots(args, new if new.verify_key in draft.keys("root") else None)
    )
    new.save(args.out)
    change.publish()
    print(f"retired {old.label}")
    print(new.verify_key.text)
    return 0


def run_sign(args: argparse.Namespace) -> int:
    """Sign the version that waits, or make one with another end or other thresholds and sign that."""
    from aqpolicy.cli.keyring_change import Change, cosign
    from aqpolicy.trust import load_keyring

    keyring = load_keyring(args.keyring)
    if not keyring.version:
        raise InputError(
            f"`{args.keyring}` has no root keys; list one with `aqpolicy keys new NAME --role root --keyring K`"
        )
    roots = _roots(args, None)
    if not args.threshold and args.expires is None:
        cosign(args.keyring, keyring, roots)
        return 0
    thresholds = {**keyring.thresholds, **dict(map(_threshold, args.threshold))}
    draft = keyring.revised(expires=_date(args.expires), thresholds=thresholds)
    Change.of(args.keyring, keyring, draft, roots).publish()
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print the public half of a key, or all of a keyring."""
    from aqpolicy.cli.keyring_change import waiting
    from aqpolicy.cli.keyring_text import key_lines, keyring_lines
    from aqpolicy.trust import load_keyring, load_verify_key

    if not _is_keyring(args.file):
        for line in key_lines(load_verify_key(args.file)):
            print(line)
        return 0
    keyring = load_keyring(args.file)
    for line in (*keyring_lines(keyring, _today()), *waiting(args.file, keyring)):
        print(line)
    return 0


def _listing(args: argparse.Namespace, key: SigningKey) -> Any:
    """Return the change of the keyring that lists a new key; None where no keyring is named."""
    from aqpolicy.cli.keyring_change import Change
    from aqpolicy.trust import ROLES, Keyring, load_keyring

    if args.keyring is None and args.role is None:
        return None
    if args.keyring is None or args.role is None:
        raise InputError("`--keyring` and `--role` go together; give both or neither")
    if args.role not in ROLES:
        raise InputError(f"`{args.role}` is not a role; the roles are {', '.join(ROLES)}")
    old = load_keyring(args.keyring) if args.keyring.exists() else None
    public, expires = key.verify_key, _date(args.expires)
    if args.role == "root" and (old is None or not old.version):
        roles = {**({} if old is None else old.roles), "root": (public,)}
        draft = Keyring(roles, 1, expires or (_today() + _A_YEAR).isoformat())
    elif old is None:
        draft = Keyring.of([(args.role, public)])
    else:
        draft = old.with_key(args.role, public).revised(expires=expires)
    return Change.of(args.keyring, old, draft, _roots(args, key if args.role == "root" else None))


def _roots(args: argparse.Namespace, new: SigningKey | None) -> list[SigningKey]:
    from aqpolicy.trust import load_signing_key

    return [*map(load_signing_key, args.root), *([] if new is None else [new])]


def _find(keyring: Keyring, wanted: str) -> VerifyKey:
    """Return the one key in use that a name, a label or a file stands for."""
    from aqpolicy.trust import load_verify_key

    active = {key for keys in keyring.roles.values() for key in keys if key.retired is None}
    found = [key for key in active if wanted in {key.name, key.label}]
    if not found and Path(wanted).is_file():
        public = load_verify_key(wanted).public
        found = [key for key in active if key.public == public]
    if len(found) != 1:
        raise InputError(
            f"the keyring lists {len(found) or 'no'} keys in use as `{wanted}`; `aqpolicy keys show` names them all"
        )
    return found[0]


def _head_of(run: Path, keyring: Keyring) -> tuple[str, int]:
    from aqpolicy.cli.output import read_bytes
    from aqpolicy.trust import open_checkpoint

    head = open_checkpoint(read_bytes(str(run / "head.note")), keyring.keys("log"))
    return head.origin, head.size


def _is_keyring(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(1) == b"{"
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error


def _threshold(text: str) -> tuple[str, int]:
    role, _, count = text.partition("=")
    if not role or not count.isascii() or not count.isdigit() or len(count) > 3:
        raise InputError(f"`{text}` is no threshold; it has the form ROLE=N, such as `policy-author=2`")
    return role, int(count)


def _date(text: str | None) -> str | None:
    from aqpolicy.trust import is_date

    if text is not None and not is_date(text):
        raise InputError(f"`{text}` is no date of the form YYYY-MM-DD")
    return text


def _today() -> date:
    return datetime.now(UTC).date()
