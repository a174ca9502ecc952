"""`aqpolicy log prove`: write the proof of what one example did in one step."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aqpolicy.cli.log.arguments import add_run, keyring_of

if TYPE_CHECKING:
    from aqpolicy.lineage.proof import RowProof
    from aqpolicy.lineage.proved import ProvedRow
    from aqpolicy.trust import Keyring

LONG: Final = 4096
"""Bytes of a proof above which a shorter form is pointed at."""


def register(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser(
        "prove",
        help="write the proof of what one example did in one step",
        description="Write a proof that anyone can check with public keys alone, without the run: what one example did "
        "in one step, in every depth group, and whether that step counts or a later attempt took its place. With the "
        "manifest at hand it also carries the signed label.",
        epilog="Check it anywhere with `aqpolicy log check-proof FILE.aqproof --keyring K`.",
    )
    add_run(verb)
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("--example", metavar="ID", help="the example")
    what.add_argument(
        "--row", metavar="RANK:POSITION", type=_place, help="the row at this place; the proof does not name the example"
    )
    verb.add_argument("--step", type=int, metavar="N", required=True, help="the step")
    verb.add_argument("--out", metavar="FILE.aqproof", required=True, help="where the proof goes")
    verb.add_argument("--group", metavar="G", help="say what is proved of this depth group only; the proof is of all")
    verb.add_argument("--manifest", metavar="M", help="the manifest that the run was trained by, for the signed label")
    verb.add_argument("--attempt", type=int, metavar="A", help="the attempt (default: the one that counts)")
    verb.add_argument("--visit", type=int, metavar="K", help="which of the example's rows in the step, from 1")
    verb.add_argument("--head", metavar="NOTE", help="prove it under this signed head instead of the newest")
    verb.add_argument(
        "--short", action="store_true", help="leave out what the bundle also says; checking then needs --bundle"
    )
    verb.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Make the proof, check the bytes as their reader would, and only then write them."""
    from aqpolicy.cli.log.check_proof import check_label
    from aqpolicy.cli.log.statement import statement
    from aqpolicy.lineage.proof import decode_row_proof, encode_row_proof
    from aqpolicy.lineage.proved import Checker
    from aqpolicy.trust import replace_file

    keyring = keyring_of(args)
    trusted = keyring.keys("log")
    whole = _proof(args, keyring)
    proved = Checker(trusted).check(whole)
    if args.manifest is not None:
        whole = replace(whole, label=_label(args, keyring, proved))
    data = encode_row_proof(replace(whole, genesis=None) if args.short else whole)
    written = decode_row_proof(data)
    proved = Checker(trusted, policies={proved.entry.bundle: proved.names}).check(written)
    label = check_label(written, proved, keyring.within(proved.head.origin))
    lines = list(statement(proved, label, group=args.group))
    replace_file(Path(args.out), data)
    for line in lines:
        print(line)
    print(f"written   {args.out}: {len(data)} bytes{_hint(whole, data, short=args.short)}")
    return 0


def _hint(whole: RowProof, data: bytes, *, short: bool) -> str:
    """Say how the file could be smaller, or what its reader needs since it is."""
    from aqpolicy.lineage.proof import encode_row_proof

    if short:
        return "; its reader also needs the bundle"
    less = len(encode_row_proof(replace(whole, genesis=None)))
    return f" ({less} with --short, for a reader who has the bundle)" if len(data) > LONG else ""


def _proof(args: argparse.Namespace, keyring: Keyring) -> RowProof:
    from aqpolicy.errors import InputError
    from aqpolicy.lineage import LineageReader
    from aqpolicy.lineage.compare import read_note
    from aqpolicy.lineage.prover import Prover
    from aqpolicy.trust import open_checkpoint

    note = None if args.head is None else read_note(args.head)
    head = None if note is None else open_checkpoint(note, keyring.keys("log"))
    if args.row is not None and args.visit is not None:
        raise InputError("--row says which row is meant; leave --visit out")
    visit = None if args.visit is None else args.visit - 1
    with LineageReader(args.run, keyring) as reader:
        prover = Prover(reader, note, head)
        if args.row is None:
            return prover.prove(args.step, args.example, attempt=args.attempt, visit=visit)
        proofs = prover.proofs(reader.index_of_step(args.step, args.attempt))
        proof = next((proof for proof in proofs if (proof.rank, proof.position) == args.row), None)
    if proof is None:
        raise InputError(f"step {args.step} has no row {args.row[0]}:{args.row[1]}")
    return proof


def _place(text: str) -> tuple[int, int]:
    rank, position = map(int, text.split(":"))
    return rank, position


_place.__name__ = "place RANK:POSITION"  # argparse says it


def _label(args: argparse.Namespace, keyring: Keyring, proved: ProvedRow) -> bytes:
    from aqpolicy.errors import InputError
    from aqpolicy.provenance import load_manifest
    from aqpolicy.provenance.evidence import label_evidence
    from aqpolicy.trust import digest_text

    manifest = load_manifest(args.manifest, keyring.within(proved.head.origin))
    if manifest.root != proved.entry.manifest_root:
        raise InputError(
            f"step {proved.entry.step} was decided by another manifest than `{args.manifest}`; give the one with the "
            f"root {digest_text(proved.entry.manifest_root)}"
        )
    index = manifest.index_of_key(proved.row.example_key)
    if index is None:
        named = f"`{args.example}`" if args.example else f"key {proved.row.example_key.hex()}"
        raise InputError(f"the manifest has no label of example {named}; leave --manifest out")
    return label_evidence(manifest, index)
