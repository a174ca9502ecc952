"""`aqpolicy revoke`: show what a run learned from a credential, and put its revocation into the signed log.

It changes no model: a run is trained again without the credential (`--status`).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.cli.trace import open_for_reading, write_json
from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from aqpolicy.provenance.status import Kind, Refused
    from aqpolicy.trace import Footprint
    from aqpolicy.trust import Keyring, SigningKey

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
    parser.add_argument(
        "--reason",
        required=True,
        metavar="TEXT",
        help="why; begins with `compromised`, `error` (both reach what was learned before), `left` or `superseded`",
    )
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="what is compromised or wrong is so from here on: `step:N`, or `entry:N` of the log (default: always)",
    )
    parser.add_argument("--superseded-by", default="", metavar="ID", help="the credential in the place of this one")
    parser.add_argument("--key", metavar="FILE", type=Path, help="the private key that signs the run's log")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where the footprint goes; by default into RUN")
    parser.add_argument(
        "--status", metavar="FILE", type=Path, help="also add it to this signed list, which the next training refuses"
    )
    parser.add_argument("--json", action="store_true", help="show the footprint as JSON")
    parser.add_argument("--dry-run", action="store_true", help="show the footprint; write nothing, sign nothing")
    parser.set_defaults(func=run)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is to be revoked, and from where on."""

    credential: str
    kind: Kind
    reason: str
    superseded_by: str
    entry: int
    step: int | None


def run(args: argparse.Namespace) -> int:
    """Show the footprint, then write and sign, footprint first."""
    from aqpolicy.trace import footprint
    from aqpolicy.trace.text import footprint_lines
    from aqpolicy.trust import load_keyring

    kind = _kind(args)
    if not args.dry_run and args.key is None:
        raise InputError("a revocation is signed: give --key, the private key of the run's log, or --dry-run")
    opened = open_for_reading(args.run, args.keyring)
    if args.credential in opened.revoked:
        raise InputError(f"`{args.credential}` is revoked already: {opened.revoked[args.credential]}")
    keyring = load_keyring(args.keyring or args.run / "keyring.json")
    request = _request(args, kind, keyring)
    found = footprint(opened, credential=args.credential, since=request.step)
    if args.json:
        sys.stdout.write(found.to_json().decode("utf-8"))
    else:
        for line in footprint_lines(found):
            print(line)
        print(_reach(request))
    if not args.dry_run:
        _revoke(args, request, found, keyring)
    return 0


def _kind(args: argparse.Namespace) -> Kind:
    """Return the kind that the reason begins with; refuse options that do not go with it."""
    from aqpolicy.provenance.status import KINDS, RETROACTIVE

    if not 0 < len(args.reason) <= _LONGEST_REASON or not args.reason.isprintable():
        raise InputError(f"a reason is one line of at most {_LONGEST_REASON} letters")
    word = args.reason.split(maxsplit=1)[0].rstrip(":,;.") if args.reason.strip() else ""
    kind: Kind | None = next((kind for kind in KINDS if kind == word), None)
    if kind is None:
        raise InputError(f"a reason begins with one of {', '.join(KINDS)}, such as `compromised: the key was stolen`")
    if args.since is not None and kind not in RETROACTIVE:
        raise InputError(f"`{kind}` ends a credential from its entry in the log on; leave out --since")
    if args.superseded_by and kind != "superseded":
        raise InputError("--superseded-by goes with a reason that begins with `superseded`")
    return kind


def _request(args: argparse.Namespace, kind: Kind, keyring: Keyring) -> _Request:
    from aqpolicy.lineage import LineageReader
    from aqpolicy.trace.revocation import entry_of_step, first_step_from

    entry, step = 0, None
    if args.since is not None:
        what, _, number = args.since.partition(":")
        if what not in {"step", "entry"} or not (number.isascii() and number.isdigit()) or len(number) > 15:
            raise InputError(f"`{args.since}` is no place in the log; give `step:N` or `entry:N`")
        with LineageReader(args.run, keyring) as log:
            entry = entry_of_step(log, int(number)) if what == "step" else int(number)
            step = first_step_from(log, entry)
            if step is None:
                raise InputError(f"the log has no step behind entry {entry}")
    return _Request(args.credential, kind, args.reason, args.superseded_by, entry, step)


def _reach(request: _Request) -> str:
    from aqpolicy.provenance.status import RETROACTIVE

    if request.kind not in RETROACTIVE:
        return f"{request.kind}: what was learned so far stands; what is labelled from now on is refused"
    since = (
        "all of this" if request.step is None else f"all of this, from step {request.step} (entry {request.entry}) on,"
    )
    return f"{request.kind}: {since} should not have been learned"


def _revoke(args: argparse.Namespace, request: _Request, found: Footprint, keyring: Keyring) -> None:
    from aqpolicy.lineage import LineageWriter
    from aqpolicy.trust import digest_text, load_signing_key, sha256

    key = load_signing_key(args.key)
    held = None if args.status is None else _held(args.status, keyring)
    writer = LineageWriter.open_for_status(args.run, key, keyring)
    try:
        data = found.to_json()
        path = args.out or args.run / f"footprint-{sha256(args.credential.encode()).hex()[:16]}.json"
        write_json(path, data)
        index = writer.append_status(
            {
                "event": "revoked",
                "credential": request.credential,
                "kind": request.kind,
                "reason": request.reason,
                "since_entry": request.entry,
                "superseded_by": request.superseded_by,
                "footprint": digest_text(sha256(data)),
                "examples": len(found.examples),
                "visits": len(found.visits),
                "steps": len(found.steps),
                "time_s": int(time.time()),
            }
        )
    finally:
        writer.close()
    told = sys.stderr if args.json else sys.stdout
    print(f"revoked as entry {index} of the signed log; footprint in {path}", file=told)
    if args.status is not None:
        print(_extend(args, held, index, keyring, key), file=told)


def _held(path: Path, keyring: Keyring) -> Any:
    """Return the list that is there, verified before anything is signed; None where there is none."""
    from aqpolicy.provenance.status import load_status_list

    return load_status_list(path, keyring) if path.exists() else None


def _extend(args: argparse.Namespace, held: Any, index: int, keyring: Keyring, key: SigningKey) -> str:
    from aqpolicy.lineage import LineageReader
    from aqpolicy.provenance.status import new_status_list, seal_status_list
    from aqpolicy.trace.revocation import refusal, revocations
    from aqpolicy.trust import replace_file

    with LineageReader(args.run, keyring) as log:
        entry: Refused = next(refusal(log, each) for each in revocations(log) if each.entry == index)
    today = datetime.now(UTC).date().isoformat()
    status = new_status_list(1, today, [entry]) if held is None else held.with_refused([entry], today)
    replace_file(args.status, seal_status_list(status, [key]) + b"\n")
    return f"{args.status} is list {status.serial}, of {len(status.refused)} refused credentials"
