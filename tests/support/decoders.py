"""Every function that reads bytes of strangers, each with bytes that it takes.

What is signed is given twice: as the file, and as a payload that is signed after it was
changed, so that what lies behind the signature is reached, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from support import credentials as office
from support.attacking import Content, content, rich_run
from support.lineage_runs import KEY, KEYRING, LAYOUT
from support.proof_logs import ProofLog, steps_of_three_ranks
from support.resuming import AUTHOR, ISSUER, begin, go_on, make_net, write_inputs
from support.resuming import KEYRING as OF_RUNS

from aqpolicy.bundle.codec import decode_bundle
from aqpolicy.bundle.sealed import PAYLOAD_TYPE, open_bundle
from aqpolicy.compiler.description import parse_description
from aqpolicy.gate.describe import describe_model
from aqpolicy.gate.routing.factors import ALONG_ROWS, NOTHING, OUTER, WHOLE, Factored, FactorPlan, Piece
from aqpolicy.lineage import Layout
from aqpolicy.lineage.attempts import Resumption
from aqpolicy.lineage.block import cut_block, decode_blocks, encode_blocks, entry_of_block, key_of_row
from aqpolicy.lineage.book import decode_book, encode_book
from aqpolicy.lineage.entry import RESUME, STEP, decode_entry, decode_facts, decode_step, encode_entry, encode_step
from aqpolicy.lineage.fork import ForkProof, decode_fork, encode_fork
from aqpolicy.lineage.genesis import parse_genesis
from aqpolicy.lineage.leaf import cut_tail, decode_row, encode_row
from aqpolicy.lineage.proof import attempt_of, decode_row_proof, encode_row_proof
from aqpolicy.lineage.proved import Checker
from aqpolicy.lineage.prover import Prover
from aqpolicy.lineage.runs import EXAMPLE_RUN, GROUP_RUN, ROUTE_RUN, STEP_RUN
from aqpolicy.lineage.scan import scan_rows
from aqpolicy.lineage.segment import Segment
from aqpolicy.lineage.state import STATE_TYPE, State
from aqpolicy.lineage.tally import Tally
from aqpolicy.lineage.touched import decode_touched, encode_touched
from aqpolicy.provenance import decode_manifest
from aqpolicy.provenance.credential import CREDENTIAL_TYPE, peek_credential
from aqpolicy.provenance.evidence import label_evidence, verify_label
from aqpolicy.provenance.header import HEADER_TYPE, parse_context, parse_credentials
from aqpolicy.provenance.issue import LENGTH_BYTES, MAGIC
from aqpolicy.provenance.load import open_head
from aqpolicy.provenance.memorization import REPORT_TYPE, Class, Over, Report, open_report, seal_report
from aqpolicy.provenance.status import STATUS_TYPE, open_status_list, seal_status_list
from aqpolicy.provenance.taxonomy import TAXONOMY_TYPE, open_taxonomy, seal_taxonomy
from aqpolicy.report.live_form import parse_live
from aqpolicy.trace.factors import FactorShape
from aqpolicy.trace.index import Facts, Index, rounded
from aqpolicy.trace.index_file import MAGIC as INDEX_MAGIC
from aqpolicy.trace.index_file import load_index, write_index
from aqpolicy.trust import (
    Checkpoint,
    Frontier,
    SigningKey,
    VerifyKey,
    canonical_json,
    digest_text,
    open_checkpoint,
    parse_canonical,
    parse_keyring,
    seal,
    sha256,
    sign_checkpoint,
)
from aqpolicy.trust.base64text import decode_base64, encode_base64
from aqpolicy.trust.cursor import Cursor, read_path
from aqpolicy.trust.envelope import open_envelope, open_signed, peek
from aqpolicy.trust.tlog_proof import decode_tlog_proof, encode_tlog_proof

TYPE = "application/vnd.aqpolicy.test+json;version=1"
HALF = Layout(LAYOUT.groups, LAYOUT.budgets, LAYOUT.phases, LAYOUT.stages, "float16")


@dataclass(frozen=True)
class Decoder:
    """A function from bytes, what it takes, and its inverse where there is one."""

    name: str
    reads: tuple[str, ...]
    """The product's functions that this one reaches, as `module.function`."""
    decode: Callable[[bytes], Any]
    seeds: Sequence[bytes]
    encode: Callable[[Any], bytes] | None = None


@cache
def decoders(folder: Path) -> tuple[Decoder, ...]:
    """Return all of them; what the seeds are made from lies in a folder."""
    held = content(rich_run(folder / "rich"))
    return (*_texts(), *_entries(held), *_blocks(held), *_indexes(held), *_proofs(folder), *_signed(folder, held))


def _payload(kind: str, key: SigningKey, open_it: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return what signs a payload and opens it."""
    return lambda payload: open_it(seal(kind, payload, [key]))


def _texts() -> tuple[Decoder, ...]:
    key, keyring = VerifyKey.parse(KEY.verify_key.text), KEYRING.to_bytes()
    documents = [
        canonical_json(value) for value in ({"a": [1, "x", None, True], "b": {"c": -5}}, [], "text", 2**53 - 1)
    ]
    envelopes = [seal(TYPE, b'{"a":1}', keys) for keys in ([KEY], [KEY, office.CA])]
    note = sign_checkpoint(Checkpoint("origin/log", 7, bytes(range(32))), KEY).encode()
    trusted = [KEY.verify_key, office.CA.verify_key]
    edges = [_edge(size) for size in (0, 1, 5, 1000)]
    return (
        Decoder("canonical JSON", ("trust.canonical.parse_canonical",), parse_canonical, documents, canonical_json),
        Decoder(
            "envelope", ("trust.envelope.open_envelope",), lambda data: open_envelope(data, TYPE, trusted), envelopes
        ),
        Decoder(
            "signatures",
            ("trust.envelope.open_signed",),
            lambda data: open_signed(data, TYPE, trusted, 2),
            envelopes[1:],
        ),
        Decoder("unverified envelope", ("trust.envelope.peek",), lambda data: peek(data, TYPE), envelopes),
        Decoder("keyring", ("trust.keyring_file.parse_keyring",), parse_keyring, [keyring]),
        Decoder("public key", ("trust.keys.parse",), lambda data: VerifyKey.parse(_text(data)), [key.text.encode()]),
        Decoder(
            "private key",
            ("trust.keys.parse",),
            lambda data: SigningKey.parse(_text(data)),
            [KEY.private_text.encode()],
        ),
        Decoder(
            "base64",
            ("trust.base64text.decode_base64",),
            lambda data: decode_base64(_text(data)),
            [b"", b"AAAA", b"/+8=", b"AQ=="],
            lambda made: encode_base64(made).encode(),
        ),
        Decoder("checkpoint", ("trust.note.open_checkpoint",), lambda data: open_checkpoint(data, trusted), [note]),
        Decoder("frontier", ("trust.merkle.from_bytes",), Frontier.from_bytes, edges, Frontier.to_bytes),
        Decoder("path", ("trust.cursor.read_path",), read_path, [b"", bytes(64)], b"".join),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _edge(size: int) -> bytes:
    frontier = Frontier()
    for number in range(size):
        frontier.append(sha256(bytes([number % 256])))
    return frontier.to_bytes()


def _entries(held: Content) -> tuple[Decoder, ...]:
    entries = [*held[b"entry"].values()]
    payloads = {data: decode_entry(data) for data in entries}
    steps = [payload for kind, payload in payloads.values() if kind == STEP]
    facts = [payload for kind, payload in payloads.values() if kind != STEP]
    going_back = [payload for kind, payload in payloads.values() if kind == RESUME]
    return (
        Decoder("entry", ("lineage.entry.decode_entry",), decode_entry, entries, lambda made: encode_entry(*made)),
        Decoder("first entry", ("lineage.genesis.parse_genesis",), parse_genesis, entries[:1]),
        Decoder("facts", ("lineage.entry.decode_facts",), decode_facts, facts, canonical_json),
        Decoder("step", ("lineage.entry.decode_step",), decode_step, steps, encode_step),
        Decoder("going back", (), Resumption.of, going_back, lambda made: canonical_json(made.facts)),
        Decoder("attempt", ("lineage.proof.attempt_of",), lambda data: attempt_of(STEP, data), steps),
    )


def _blocks(held: Content) -> tuple[Decoder, ...]:
    blocks = [*held[b"blk"].values()]
    cut = [cut_block(data, LAYOUT) for data in blocks]
    rows = [row for block in cut for row in block.rows]
    halves = [encode_row(decode_row(row, LAYOUT), HALF) for row in rows]
    books = [block.leaves[-1] for block in cut if block.rank == 0]
    touched = [encode_touched(decode_book(book, LAYOUT).touched, LAYOUT) for book in books]
    sums = [value for key, value in held[b"meta"].items() if key.startswith(b"model")]

    def whole(data: bytes) -> Any:
        return decode_blocks([cut_block(data, LAYOUT)], LAYOUT)

    def one_rank(step: Any) -> bytes:
        return encode_blocks(step, LAYOUT, entry)[0].data

    single = [data for data, block in zip(blocks, cut, strict=True) if block.rank == 0 and block.step == 0]
    entry = entry_of_block(single[0])
    return (
        Decoder("block", ("lineage.block.cut_block",), lambda data: cut_block(data, LAYOUT), blocks),
        Decoder("entry of a block", ("lineage.block.entry_of_block",), entry_of_block, blocks),
        Decoder("key of a row", ("lineage.block.key_of_row",), lambda data: key_of_row(data, 1, LAYOUT), blocks),
        Decoder("step of one rank", ("lineage.block.decode_blocks",), whole, single[:1]),
        Decoder(
            "row",
            ("lineage.leaf.decode_row",),
            lambda data: decode_row(data, LAYOUT),
            rows,
            lambda made: encode_row(made, LAYOUT),
        ),
        Decoder(
            "row of float16",
            ("lineage.leaf.decode_row",),
            lambda data: decode_row(data, HALF),
            halves,
            lambda made: encode_row(made, HALF),
        ),
        Decoder("tail of a row", ("lineage.leaf.cut_tail",), lambda data: cut_tail(data, LAYOUT), rows),
        Decoder("rows", ("lineage.scan.scan_rows",), lambda data: scan_rows([rows[0], data], LAYOUT), rows),
        Decoder(
            "book",
            ("lineage.book.decode_book",),
            lambda data: decode_book(data, LAYOUT),
            books,
            lambda made: encode_book(made, LAYOUT),
        ),
        Decoder(
            "touched rows",
            ("lineage.touched.decode_touched",),
            lambda data: decode_touched(data, LAYOUT),
            touched,
            lambda made: encode_touched(made, LAYOUT),
        ),
        Decoder("sums", ("lineage.tally.from_bytes",), lambda data: Tally.from_bytes(data, 1), sums, Tally.to_bytes),
    )


def _indexes(held: Content) -> tuple[Decoder, ...]:
    seals = sorted({key[:8] for key in held[b"run"]})
    runs = {
        name: [held[b"run"][seal + name.encode()] for seal in seals]
        for name in (STEP_RUN, EXAMPLE_RUN, ROUTE_RUN, GROUP_RUN)
    }

    def searched(changed: str) -> Callable[[bytes], Any]:
        def search(data: bytes) -> Any:
            segment = Segment(9, lambda name: data if name == changed else runs[name][0])
            found = [segment.example(0), segment.route(1), segment.moved(0), segment.largest(0)]
            return found, [segment.visit(place) for step in segment.steps() for place in step.places[:20]]

        return search

    return tuple(
        Decoder(f"run {name}", ("lineage.runs_codec.decode_run",), searched(name), seeds)
        for name, seeds in runs.items()
    )


def _proofs(folder: Path) -> tuple[Decoder, ...]:
    with ProofLog(folder / "proved") as log:
        reader = steps_of_three_ranks(log)
        rows = [Prover(reader).prove(step, example) for example, step in (("e0", 0), ("e303", 3))]
    files = [encode_row_proof(proof) for proof in (*rows, replace(rows[0], genesis=None))]
    checker = Checker(KEYRING.keys("log"))
    notes = [sign_checkpoint(Checkpoint("o", size, bytes([size]) * 32), KEY).encode() for size in (3, 5)]
    forks = [encode_fork(ForkProof(*notes, bytes(32), (bytes(32),))), encode_fork(ForkProof(*notes, b"", ()))]
    tlog = [encode_tlog_proof(decode_tlog_proof(data)) for data in files]
    return (
        Decoder("row proof", ("lineage.proof.decode_row_proof",), decode_row_proof, files, encode_row_proof),
        Decoder("checked row proof", (), lambda data: checker.check(decode_row_proof(data)), files[:2]),
        Decoder("log proof", ("trust.tlog_proof.decode_tlog_proof",), decode_tlog_proof, tlog, encode_tlog_proof),
        Decoder("fork", ("lineage.fork.decode_fork",), decode_fork, forks, encode_fork),
    )


def _signed(folder: Path, held: Content) -> tuple[Decoder, ...]:
    inputs = folder / "inputs"
    inputs.mkdir()
    write_inputs(inputs)
    bundle, labels = (inputs / "policy.aqb").read_bytes(), (inputs / "labels.aqm").read_bytes()
    manifest = decode_manifest(labels, OF_RUNS)
    evidence = [label_evidence(manifest, index) for index in (0, 7)]
    inner = open_envelope(bundle, PAYLOAD_TYPE, [AUTHOR.verify_key])
    cursor = Cursor(labels, "manifest")
    cursor.take(len(MAGIC))
    head, context, credentials = (cursor.sized(LENGTH_BYTES) for _ in range(3))
    net = make_net()
    gate = begin(inputs, net)
    go_on(gate, net, 2)
    gate.close()
    live, model = (inputs / "run" / "live.json").read_bytes(), canonical_json(describe_model(net))
    taxonomy, status = (
        seal_taxonomy(office.clinic(), [office.OFFICER]),
        seal_status_list(office.listing(), [office.LOG]),
    )
    credential, state = office.sealed(office.granted("a")), held[b"meta"][b"state"]
    office_keys, kept = office.KEYRING, _report()

    def payload_of(data: bytes, kind: str, key: SigningKey) -> bytes:
        return open_envelope(data, kind, [key.verify_key])

    def told(data: bytes) -> State:
        return State.opened(data, KEYRING)

    return (
        Decoder("bundle", ("bundle.sealed.open_bundle",), lambda data: open_bundle(data, OF_RUNS), [bundle]),
        Decoder("signed bundle", ("bundle.codec.decode_bundle", "bundle.form.decode_tables"), decode_bundle, [inner]),
        Decoder(
            "manifest", ("provenance.load.decode_manifest",), lambda data: decode_manifest(data, OF_RUNS), [labels]
        ),
        Decoder("head of a manifest", ("provenance.load.open_head",), lambda data: open_head(data, OF_RUNS), [head]),
        Decoder(
            "signed head of a manifest",
            (),
            _payload(HEADER_TYPE, ISSUER, lambda data: open_head(data, OF_RUNS)),
            [payload_of(head, HEADER_TYPE, ISSUER)],
        ),
        Decoder("live", ("report.live_form.parse_live",), parse_live, [live]),
        Decoder("model", ("compiler.description.parse_description",), parse_description, [model]),
        Decoder(
            "context", ("provenance.header.parse_context", "provenance.parts.parse"), _named(parse_context), [context]
        ),
        Decoder("credentials", ("provenance.header.parse_credentials",), _named(parse_credentials), [credentials]),
        Decoder(
            "label evidence",
            ("provenance.evidence.verify_label",),
            lambda data: verify_label(data, manifest.root, OF_RUNS),
            evidence,
        ),
        Decoder(
            "taxonomy",
            ("provenance.taxonomy.open_taxonomy",),
            lambda data: open_taxonomy(data, office_keys),
            [taxonomy],
        ),
        Decoder(
            "signed taxonomy",
            ("provenance.signed_form.parse",),
            _payload(TAXONOMY_TYPE, office.OFFICER, lambda data: open_taxonomy(data, office_keys)),
            [payload_of(taxonomy, TAXONOMY_TYPE, office.OFFICER)],
        ),
        Decoder(
            "status list",
            ("provenance.status.open_status_list",),
            lambda data: open_status_list(data, office_keys),
            [status],
        ),
        Decoder(
            "signed status list",
            (),
            _payload(STATUS_TYPE, office.LOG, lambda data: open_status_list(data, office_keys)),
            [payload_of(status, STATUS_TYPE, office.LOG)],
        ),
        Decoder("credential", ("provenance.credential.peek_credential",), peek_credential, [credential]),
        Decoder(
            "signed credential",
            (),
            _payload(CREDENTIAL_TYPE, office.CA, peek_credential),
            [payload_of(credential, CREDENTIAL_TYPE, office.CA)],
        ),
        Decoder("state", ("lineage.state.opened",), told, [state]),
        Decoder("factors", (), _factors(8), [_record(8)]),
        Decoder(
            "memorization report",
            ("provenance.memorization.open_report",),
            lambda data: open_report(data, KEYRING),
            [kept],
        ),
        Decoder(
            "signed memorization report",
            (),
            _payload(REPORT_TYPE, KEY, lambda data: open_report(data, KEYRING)),
            [payload_of(kept, REPORT_TYPE, KEY)],
        ),
        Decoder("factors of 4 bits", (), _factors(4), [_record(4)]),
        Decoder("trace index", (), _index(folder), [_index_bytes(folder)]),
        Decoder("header of a trace index", (), _under_header(folder), [_index_header(folder)]),
        Decoder("signed state", (), _payload(STATE_TYPE, KEY, told), [payload_of(state, STATE_TYPE, KEY)]),
    )


SHAPES = (((3, 4), (3,)), ((2, 3), (3,)))
"""Of the trained parameters of two groups."""


def _report() -> bytes:
    """Return a signed memorization report."""
    digest = f"sha256:{bytes(32).hex()}"
    over = Over.of(
        example="e", credential="c", kind="all", visits=3, exposures=2, influence=5, norm=4, loss=3, last=2,
        retained=-1, by_group=(5, 0),
    )  # fmt: skip
    report = Report.of(
        format="aqpolicy memorization 1", origin="o", size=9, root=digest, model=digest, bundle=digest,
        manifest=digest, optimizer="SGD", signal="influence", within="", quantile=900_000, examples=1,
        groups=("a", "b"), agreement=None, over=(over,),
        classes=(Class.of(kind="all", examples=1, threshold=4, over=1),),
    )  # fmt: skip
    return seal_report(report, [KEY])


def _record(bits: int) -> bytes:
    """Return the factors of one visit, every kind of them."""
    torch.manual_seed(0)
    rows, columns = torch.randn(1, 2, 3), torch.randn(1, 2, 4)
    outer = Piece(OUTER, rows, columns), Piece(ALONG_ROWS, beside=0)
    other = Piece(WHOLE, values=torch.randn(1, 6)), Piece(NOTHING)
    (record,) = FactorPlan((2, 2), bits).encode([Factored(torch.ones(1), outer), Factored(torch.ones(1) / 3, other)])
    return record


def _factors(bits: int) -> Callable[[bytes], Any]:
    return lambda data: FactorShape(SHAPES, bits).read([data])


def _index_bytes(folder: Path) -> bytes:
    """Return a trace index of two examples."""
    shapes = (((2, 1), (2,)),)
    facts = Facts("r", "p", "00", 2.0, ("a",), ((("w", (2, 1)), ("b", (2,))),), shapes, None, ("c",), ("x", "y"), 0.5)
    levels, scales = rounded(torch.ones(2, 3))
    sums, visits = torch.ones(1, 1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.int64)
    path = folder / "seed.index"
    write_index(path, Index(facts, torch.eye(3, 4), levels, scales, torch.zeros(2, dtype=torch.int32), sums, visits))
    return path.read_bytes()


def _index_header(folder: Path) -> bytes:
    data = _index_bytes(folder)
    start = len(INDEX_MAGIC) + 8
    return data[start : start + int.from_bytes(data[start - 8 : start], "little")]


def _index(folder: Path) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        path = folder / "some.index"
        path.write_bytes(data)
        return load_index(path)

    return decode


def _under_header(folder: Path) -> Callable[[bytes], Any]:
    """Return what reads an index with another header, under the digest that this has."""
    data, own = _index_bytes(folder), _index_header(folder)
    behind = len(INDEX_MAGIC) + 8 + len(own) + 32
    rest, read = data[behind + -behind % 64 :], _index(folder)

    def decode(header: bytes) -> Any:
        front = INDEX_MAGIC + len(header).to_bytes(8, "little") + header + sha256(header)
        return read(front + b"\0" * (-len(front) % 64) + rest)

    return decode


def _named(parse: Callable[[bytes, str], Any]) -> Callable[[bytes], Any]:
    """Return what reads a part under the digest that it has."""
    return lambda data: parse(data, digest_text(sha256(data)))
