"""`aqpolicy promote`: witness a model that waits for its promotion, execute the promotion, or abort it.

Witnesses need no key of the log: they sign the candidate's digest. Executing
and aborting are recorded in the signed log, by whoever holds its key.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import CanonicalError, CorruptLogError, ForkedLogError, InputError, SignatureError

if TYPE_CHECKING:
    from aqpolicy.gate.records.witnesses import Candidate
    from aqpolicy.trust import Keyring, SigningKey


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "promote",
        help="witness, publish or abort a model that waits for it",
        description="Verify a run's log and show the model that waits there for its promotion. With --key, sign its "
        "digest as a witness. With --log-key, publish it under its name once enough witnesses have signed; with "
        "--abort as well, record that it never will be.",
        epilog="Exit status: 0 done, 1 refused: something is not what was signed, too few witnesses have signed, or "
        "the promotion has ended, 2 usage or input error.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    parser.add_argument("--name", default="model", metavar="NAME", help="which model (default: model)")
    parser.add_argument("--key", metavar="WITNESS.key", help="sign as a witness, with this private key")
    parser.add_argument("--log-key", metavar="LOG.key", help="execute or abort, with the private key of the run's log")
    parser.add_argument("--abort", action="store_true", help="end the promotion without a model; needs --log-key")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Show the candidate, then sign, execute or abort as asked."""
    from aqpolicy.gate.records.witnesses import open_candidate
    from aqpolicy.trust import load_keyring, load_signing_key

    if args.abort and (args.log_key is None or args.key is not None):
        raise InputError("--abort goes with --log-key, the private key of the run's log, and without --key")
    keyring = load_keyring(args.keyring)
    witness, log = (None if path is None else load_signing_key(path) for path in (args.key, args.log_key))
    try:
        candidate = open_candidate(args.run, keyring, args.name)
        print(f"candidate {candidate.name}, {candidate.digest}: {candidate.stage}")
        if not candidate.is_open:
            return _ended(candidate, asked=witness is not None or log is not None, finish=log is not None)
        if args.abort and log is not None:
            candidate.abort(log, keyring)
            print(f"aborted   {candidate.name}: it can no longer be published")
            return 0
        return _promote(candidate, keyring, witness, log)
    except (CorruptLogError, ForkedLogError, SignatureError, CanonicalError) as error:
        print(f"refused   {error}")
        return 1


def _promote(candidate: Candidate, keyring: Keyring, witness: SigningKey | None, log: SigningKey | None) -> int:
    candidate.data()  # nothing is shown of a candidate that is not the log's
    if witness is not None:
        candidate.sign(witness, keyring)
    signers = candidate.signers(keyring)
    for signer in signers:
        print(f"witness   {signer.label}")
    print(f"witnessed by {len(signers)} of {candidate.witnesses}")
    if log is not None:
        print(f"executed  {candidate.execute(log, keyring)}")
    return 0


def _ended(candidate: Candidate, *, asked: bool, finish: bool) -> int:
    """Complete an execution that was interrupted; refuse all else that is asked of a promotion that has ended."""
    path = candidate.finish() if finish else None
    if path is not None:
        print(f"executed  {path}")
    elif asked:
        print(f"refused   the promotion was {candidate.stage} before; train again for another candidate")
        return 1
    return 0
