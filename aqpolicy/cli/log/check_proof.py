"""`aqpolicy log check-proof`: check the proof of a row without the run, and say what it proves."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aqpolicy.bundle import Bundle
    from aqpolicy.lineage.proof import RowProof
    from aqpolicy.lineage.proved import Names, ProvedRow
    from aqpolicy.provenance.evidence import ProvedLabel
    from aqpolicy.trust import Checkpoint, Keyring


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "check-proof",
        help="check such a proof without the run, and say what it proves",
        description="Check a proof that `aqpolicy log prove` wrote, offline and without the run, and say in words what "
        "it proves and what it leaves open.",
        epilog="Exit status: 0 proved, 1 not proved, 2 a file cannot be read.",
    )
    verb.add_argument("file", metavar="FILE", help="the proof")
    verb.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    verb.add_argument("--head", metavar="NOTE", help="the signed head that you know: a proof under another is refused")
    verb.add_argument(
        "--bundle",
        metavar="B",
        help="the bundle that the step was decided by: names the shares, and reads a short proof",
    )
    verb.add_argument("--group", metavar="G", help="only this depth group")
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Check; exit status 1 where something is not proved."""
    from aqpolicy.bundle import load_bundle
    from aqpolicy.cli.log.statement import statement
    from aqpolicy.errors import BundleError, LineageError, ProvenanceError, TrustError
    from aqpolicy.lineage.compare import read_note
    from aqpolicy.lineage.proof import decode_row_proof
    from aqpolicy.lineage.proved import Checker
    from aqpolicy.trust import load_keyring, open_checkpoint

    keyring, data = load_keyring(args.keyring), _read(args.file)
    trusted = keyring.keys("log")
    try:
        head: Checkpoint | None = None if args.head is None else open_checkpoint(read_note(args.head), trusted)
        proof = decode_row_proof(data)
        keyring = keyring.within(open_checkpoint(proof.note, trusted).origin)
        bundle = None if args.bundle is None else load_bundle(args.bundle, keyring)
        proved = Checker(trusted, head, {} if bundle is None else {bundle.digest: names_of(bundle)}).check(proof)
        label = check_label(proof, proved, keyring)
        lines = list(statement(proved, label, bundle, group=args.group, head=head))
    except (TrustError, LineageError, ProvenanceError, BundleError) as error:
        print(f"not proved  {error}")
        return 1
    for line in lines:
        print(line)
    print("proved")
    return 0


def names_of(bundle: Bundle) -> Names:
    """Return what a bundle calls what rows give by number."""
    from aqpolicy.lineage.proved import Names

    tables = bundle.tables
    budgets, stages = ((item.name for item in items) for items in (tables.budgets, tables.stages))
    return Names(tables.groups, tuple(budgets), tables.phases, tuple(stages))


def check_label(proof: RowProof, proved: ProvedRow, keyring: Keyring) -> ProvedLabel | None:
    """Return the label that a proof carries, checked against the manifest that the step names; None without one.

    Raises:
        AqpolicyError: The label is not under that manifest's root, not signed by those who should have, or of another
            example.
    """
    from aqpolicy.errors import ProofError
    from aqpolicy.provenance.evidence import verify_label
    from aqpolicy.trust import example_key

    if not proof.label:
        return None
    label = verify_label(proof.label, proved.entry.manifest_root, keyring)
    if example_key(label.example_id) != proved.row.example_key:
        raise ProofError("the label is that of another example than the row")
    return label


def _read(file: str) -> bytes:
    from pathlib import Path

    from aqpolicy.errors import InputError
    from aqpolicy.trust.tlog_proof import LARGEST_PROOF

    try:
        with Path(file).open("rb") as opened:
            return opened.read(LARGEST_PROOF + 1)
    except OSError as error:
        raise InputError(f"cannot read the proof `{file}`: {error.strerror}") from error
