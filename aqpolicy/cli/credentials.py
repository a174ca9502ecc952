"""`aqpolicy credentials`: sign a taxonomy, grant credentials under it, show and check them.

Nothing here trains or reads a log; `aqpolicy revoke` withdraws a credential.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from aqpolicy.provenance.credential import AnnotatorCredential


def register(subparsers: Any) -> None:
    """Add the command and its verbs."""
    parser = subparsers.add_parser("credentials", help="grant and check credentials of annotators")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_taxonomy(verbs.add_parser("taxonomy", help="sign a taxonomy of authority that was written as JSON"))
    _add_issue(verbs.add_parser("issue", help="grant a credential"))
    show = verbs.add_parser("show", help="show what a credential says; nothing is verified")
    show.add_argument("file", type=Path, metavar="FILE", help="a credential")
    show.set_defaults(func=run_show)
    _add_check(
        verbs.add_parser(
            "check",
            help="check what a credential is worth",
            epilog="Exit status: 0 valid, 1 not, 2 a file cannot be used.",
        )
    )


def _add_taxonomy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="FILE.json",
        help='`{"name", "version", "scopes": [...], "classes": [{"name", "scopes", "delegates"}]}`',
    )
    parser.add_argument("--key", required=True, metavar="FILE", help="a private key of the role `taxonomy`")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where the signed taxonomy goes")
    parser.set_defaults(func=run_taxonomy)


def _add_issue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="what the credential is called; manifests and logs name it so")
    parser.add_argument("--pseudonym", required=True, metavar="NAME", help="stands for the person; never a real name")
    parser.add_argument("--taxonomy", required=True, metavar="FILE", help="the signed taxonomy")
    parser.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    parser.add_argument("--authority", required=True, metavar="CLASS", help="a class of the taxonomy")
    parser.add_argument("--scope", required=True, action="append", metavar="SCOPE", help="what it is for; repeat")
    parser.add_argument("--holder", required=True, metavar="FILE", help="the annotator's public key")
    parser.add_argument("--from", dest="start", metavar="DATE", help="first day, YYYY-MM-DD (default: today)")
    parser.add_argument("--until", required=True, metavar="DATE", help="last day, YYYY-MM-DD")
    parser.add_argument("--key", required=True, metavar="FILE", help="the issuer's private key")
    parser.add_argument("--issuer", metavar="FILE", help="the issuer's credential (default: role `annotator-ca`)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where the credential goes")
    parser.set_defaults(func=run_issue)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a credential")
    parser.add_argument("--taxonomy", required=True, metavar="FILE", help="the signed taxonomy")
    parser.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    parser.add_argument("--at", metavar="DATE", help="the day of what it signed, YYYY-MM-DD (default: today)")
    parser.add_argument("--scope", action="append", default=[], metavar="SCOPE", help="what it attests; repeat")
    parser.add_argument("--issuer", action="append", default=[], metavar="FILE", help="credential of an issuer; repeat")
    parser.add_argument("--status", metavar="FILE", help="the signed list of refused credentials")
    parser.set_defaults(func=run_check)


def run_taxonomy(args: argparse.Namespace) -> int:
    """Read the plain JSON, check it, sign it."""
    from aqpolicy.cli.output import read_bytes
    from aqpolicy.provenance.taxonomy import Taxonomy, seal_taxonomy
    from aqpolicy.trust import canonical_json, load_signing_key, write_new

    try:
        written = json.loads(read_bytes(args.source))
        if not isinstance(written, dict):
            raise InputError(f"`{args.source}` holds no JSON object")
        taxonomy = Taxonomy.parse(canonical_json({"format": "aqpolicy taxonomy 1", **written}))
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{args.source}` is no JSON: {error}") from error
    write_new(args.out, seal_taxonomy(taxonomy, [load_signing_key(args.key)]) + b"\n")
    print(f"{args.out}: {taxonomy.ref}, {len(taxonomy.classes)} classes, {len(taxonomy.scopes)} scopes")
    return 0


def run_issue(args: argparse.Namespace) -> int:
    """Grant a credential, after checking that it will be worth something."""
    from aqpolicy.provenance.credential import CA_ROLE, new_credential, peek_credential, seal_credential
    from aqpolicy.provenance.signed_form import read_document
    from aqpolicy.provenance.standing import Presented, check_credentials
    from aqpolicy.provenance.taxonomy import load_taxonomy
    from aqpolicy.trust import load_keyring, load_signing_key, load_verify_key, write_new

    keyring = load_keyring(args.keyring)
    taxonomy = load_taxonomy(args.taxonomy, keyring)
    issuers = [] if args.issuer is None else [read_document(args.issuer)]
    today = datetime.now(UTC).date().isoformat()
    credential = new_credential(
        id=args.id,
        pseudonym=args.pseudonym,
        authority=args.authority,
        taxonomy=taxonomy.ref,
        scopes=tuple(args.scope),
        key=load_verify_key(args.holder).text,
        issued_by=CA_ROLE if not issuers else peek_credential(issuers[0])[0].id,
        issued_on=today,
        valid_from=args.start or today,
        valid_until=args.until,
    )
    data = seal_credential(credential, [load_signing_key(args.key)])
    shown = Presented(credential.id, credential.key, credential.authority, data)
    first = _seconds(credential.valid_from)
    standing = check_credentials([shown], taxonomy, keyring, first, scopes=credential.scopes, issuers=issuers)[args.id]
    if not standing.is_valid:
        raise InputError(f"the credential would be worth nothing ({standing.reason}): {standing.detail}")
    write_new(args.out, data + b"\n")
    _print(credential)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print what a credential claims, and who is said to have signed it."""
    from aqpolicy.provenance.credential import peek_credential
    from aqpolicy.provenance.signed_form import read_document

    credential, labels = peek_credential(read_document(args.file))
    _print(credential)
    for label in labels:
        print(f"signed     {ascii(label)[1:-1]:.80} (not verified: `aqpolicy credentials check`)")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Make the four checks, say how far they came."""
    from aqpolicy.provenance.credential import peek_credential
    from aqpolicy.provenance.signed_form import read_document
    from aqpolicy.provenance.standing import CHECKS, Presented, check_credentials
    from aqpolicy.provenance.status import load_status_list
    from aqpolicy.provenance.taxonomy import load_taxonomy
    from aqpolicy.trust import load_keyring

    keyring, data = load_keyring(args.keyring), read_document(args.file)
    taxonomy = load_taxonomy(args.taxonomy, keyring)
    status = None if args.status is None else load_status_list(args.status, keyring)
    credential, _ = peek_credential(data)
    standing = check_credentials(
        [Presented(credential.id, credential.key, credential.authority, data)],
        taxonomy,
        keyring,
        _seconds(args.at or datetime.now(UTC).date().isoformat()),
        scopes=args.scope,
        issuers=[read_document(file) for file in args.issuer],
        status=status,
    )[credential.id]
    for check in CHECKS:
        made = check in standing.checks
        failed = made and not standing.is_valid and check == standing.checks[-1]
        print(
            f"{check:<11}{'not made' if not made else f'{standing.reason}: {standing.detail}' if failed else 'passed'}"
        )
    print("valid" if standing.is_valid else f"not valid: {standing.reason}")
    return 0 if standing.is_valid else 1


def _print(credential: AnnotatorCredential) -> None:
    print(f"credential {credential.id}, of {credential.pseudonym}")
    print(f"authority  {credential.authority} of {credential.taxonomy}, for {', '.join(credential.scopes)}")
    print(f"valid      {credential.valid_from} to {credential.valid_until}")
    print(f"key        {credential.verify_key.label}, sha256 {credential.verify_key.fingerprint}")
    print(f"issued     on {credential.issued_on} by {credential.issued_by}")


def _seconds(day: str) -> int:
    """Return noon of a day."""
    from aqpolicy.trust import is_date

    if not is_date(day):
        raise InputError(f"`{ascii(day)[1:-1]:.40}` is no date of the form YYYY-MM-DD")
    return int(datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()) + 43_200
