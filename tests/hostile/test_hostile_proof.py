"""Proofs that somebody made up or put together from true parts: each is refused, by its own error.

The names are those of the attacks that a transparency log has to stand. Where a
guard could be left out, the test first shows that the rest would have let it through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.lineage_runs import KEY, KEYRING, row
from support.proof_logs import TRUSTED, ProofLog, head_of, steps_of_three_ranks

from aqpolicy.cli.main import main
from aqpolicy.errors import CanonicalError, CorruptLogError, ProofError, SignatureError
from aqpolicy.lineage import LineageReader
from aqpolicy.lineage.entry import CKPT, STEP, decode_entry, decode_step, encode_entry, encode_facts, encode_step
from aqpolicy.lineage.proof import LoggedEntry, RowProof, decode_row_proof, encode_row_proof
from aqpolicy.lineage.proved import Checker
from aqpolicy.lineage.prover import Prover
from aqpolicy.trust import (
    Checkpoint,
    SigningKey,
    encode_base64,
    inclusion_path,
    leaf_hash,
    node_hash,
    open_checkpoint,
    root_of,
    sign_checkpoint,
    verify_inclusion,
)

SIZE = 8
"""Entries of the log: three before five steps."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LineageReader]:
    with ProofLog(tmp_path_factory.mktemp("plain")) as made:
        yield steps_of_three_ranks(made)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LineageReader]:
    """Return the log of another run with the same key, whose steps have other rows."""
    with ProofLog(tmp_path_factory.mktemp("other"), run_id="cd" * 16) as made:
        for step in range(5):
            made.step(*([row(1000 + step)] for _ in range(3)))
        yield made.read()


@pytest.fixture
def proof(reader: LineageReader) -> RowProof:
    """Return the proof of the second of three rows of rank 2 in step 1."""
    made = Prover(reader).prove(1, "e104")
    assert (made.rank, made.position, made.step.index) == (2, 1, 4)
    assert Checker(TRUSTED).check(made).row == row(104)
    return made


def refused(proof: RowProof, error: type[Exception], message: str) -> None:
    """Check that a proof is refused so, as a whole and as a file."""
    with pytest.raises(error, match=message):
        Checker(TRUSTED).check(proof)
    with pytest.raises(error, match=message):
        Checker(TRUSTED).check_file(encode_row_proof(proof))


NO_LEAF = "is not in the tree with this root"


def test_a05_two_steps_in_each_others_place(reader: LineageReader, proof: RowProof) -> None:
    other = Prover(reader).prove(2, "e204")
    refused(replace(proof, step=replace(proof.step, data=other.step.data)), ProofError, f"leaf 4 {NO_LEAF}")
    refused(replace(proof, step=replace(other.step, index=proof.step.index)), ProofError, f"leaf 4 {NO_LEAF}")
    refused(replace(other, step=proof.step), ProofError, f"leaf 1 {NO_LEAF}")


def test_a05_two_ranks_or_rows_in_each_others_place(reader: LineageReader, proof: RowProof) -> None:
    row_of_rank_1 = Prover(reader).prove(1, "e102")
    assert (row_of_rank_1.rank, row_of_rank_1.position) == (1, 1)
    refused(replace(row_of_rank_1, rank=2), ProofError, f"leaf 1 {NO_LEAF}")
    refused(replace(proof, rank=1), ProofError, "an inclusion proof is too long")
    neighbour = Prover(reader).prove(1, "e103")
    refused(replace(neighbour, position=1), ProofError, f"leaf 1 {NO_LEAF}")
    refused(replace(proof, leaf=neighbour.leaf), ProofError, f"leaf 1 {NO_LEAF}")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rank": 3}, "step 1 has no rank 3"), ({"position": 3}, "rank 2 of step 1 has no row 3")],
)
def test_a05_a_rank_or_row_that_the_step_does_not_have(proof: RowProof, change: dict[str, int], message: str) -> None:
    refused(replace(proof, **change), ProofError, message)


def test_a05_the_book_is_no_row(reader: LineageReader) -> None:
    first = Prover(reader).prove(1, "e100")
    book = reader.rank_leaves(decode_step(decode_entry(first.step.data)[1]), 0)[1]
    path, root = (leaf_hash(first.leaf),), reader.step_entry(1).ranks[0].inner_root
    verify_inclusion(1, 2, leaf_hash(book), path, root)  # it is in the tree
    refused(replace(first, position=1, leaf=book, inner_path=path), ProofError, "rank 0 of step 1 has no row 1")


def test_a06_a_row_of_another_run(proof: RowProof, stranger: LineageReader) -> None:
    other = Prover(stranger).prove(1, "e1001", visit=2)
    refused(replace(proof, leaf=other.leaf, inner_path=other.inner_path, position=0), ProofError, f"leaf 0 {NO_LEAF}")
    refused(replace(proof, step=other.step), ProofError, f"leaf 4 {NO_LEAF}")
    refused(replace(proof, genesis=other.genesis), ProofError, f"leaf 0 {NO_LEAF}")


def test_a06_a_step_of_another_run_under_a_head_with_this_ones_name(reader: LineageReader, proof: RowProof) -> None:
    other = Checkpoint("aqpolicy.local/run/" + "cd" * 16, SIZE, reader.checkpoint.root)
    note = sign_checkpoint(other, KEY).encode()
    verify_inclusion(4, other.size, leaf_hash(proof.step.data), proof.step.path, open_checkpoint(note, TRUSTED).root)
    refused(replace(proof, note=note), ProofError, "the head is that of another log than the step")


def test_a06_a_first_entry_of_another_run_in_this_ones_tree(
    reader: LineageReader, stranger: LineageReader, proof: RowProof
) -> None:
    data = [data for _, data in reader.raw_entries()]
    data[0] = stranger.entry(0)
    hashes = [leaf_hash(entry) for entry in data]
    head = Checkpoint(reader.checkpoint.origin, SIZE, root_of(hashes))
    paths = {at: inclusion_path(hashes, at) for at in (0, 4)}
    forged = replace(
        proof,
        note=sign_checkpoint(head, KEY).encode(),
        genesis=LoggedEntry(0, data[0], paths[0]),
        step=replace(proof.step, path=paths[4]),
        later=(),
    )
    refused(forged, ProofError, "the head is that of another log than the first entry")


def test_a06_a_row_of_another_attempt(tmp_path: Path) -> None:
    with ProofLog(tmp_path) as log:
        log.step([row(1), row(2)])
        log.back()
        log.step([row(3), row(4)])
        prover = Prover(log.read())
        old, new = prover.prove(0, "e1", attempt=0), prover.prove(0, "e3")
    refused(replace(new, leaf=old.leaf, inner_path=old.inner_path), ProofError, f"leaf 0 {NO_LEAF}")
    refused(replace(old, later=new.later or (new.step,)), ProofError, "do not show whether the step counts")


def test_a09_a_node_as_a_row(reader: LineageReader, proof: RowProof) -> None:
    leaves = [leaf_hash(leaf) for leaf in reader.rank_leaves(reader.step_entry(1), 2)]
    node = b"\x01" + leaves[0] + leaves[1]
    root = reader.step_entry(1).ranks[2].inner_root
    verify_inclusion(0, 2, hashlib.sha256(node).digest(), proof.inner_path[1:], root)  # were leaves hashed as nodes are
    refused(replace(proof, position=0, leaf=node, inner_path=proof.inner_path[1:]), ProofError, f"leaf 0 {NO_LEAF}")


def test_a09_a_node_as_an_entry(reader: LineageReader, proof: RowProof) -> None:
    pair = [leaf_hash(reader.entry(index)) for index in (4, 5)]
    node, path = b"\x01" + pair[0] + pair[1], proof.step.path[1:]
    verify_inclusion(2, SIZE // 2, node_hash(*pair), path, reader.checkpoint.root)
    refused(replace(proof, step=LoggedEntry(2, node, path)), ProofError, f"leaf 2 {NO_LEAF}")


def test_a09_the_last_of_an_odd_number_of_rows_twice(reader: LineageReader, proof: RowProof) -> None:
    last = Prover(reader).prove(1, "e105")
    assert last.position == 2
    refused(replace(last, position=3), ProofError, "rank 2 of step 1 has no row 3")
    twice = replace(last, inner_path=(leaf_hash(last.leaf), *last.inner_path))
    refused(twice, ProofError, "an inclusion proof is too long")


@pytest.mark.parametrize("what", ["step", "genesis", "inner_path", "later"])
@pytest.mark.parametrize("cut", ["shorter", "longer", "empty", "doubled"])
def test_a10_paths_of_another_length(proof: RowProof, what: str, cut: str) -> None:
    def changed(path: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return {"shorter": path[:-1], "longer": (*path, bytes(32)), "empty": (), "doubled": (path[0], *path)}[cut]

    part = getattr(proof, what)
    if what == "inner_path":
        part = changed(part)
    elif what == "later":
        assert len(part) == 1
        part = (replace(part[0], path=changed(part[0].path)),)
    else:
        part = replace(part, path=changed(part.path))
    refused(replace(proof, **{what: part}), ProofError, "inclusion proof is too long|is not in the tree")


@pytest.mark.parametrize("length", [31, 33, 64])
def test_a10_something_of_another_length_than_a_hash(proof: RowProof, length: int) -> None:
    wrong = (bytes(length), *proof.inner_path[1:])
    with pytest.raises(ProofError, match="something that is not a hash"):
        Checker(TRUSTED).check(replace(proof, inner_path=wrong))
    error, message = (ProofError, "too long") if length == 64 else (CanonicalError, "not made of hashes")
    with pytest.raises(error, match=message):
        Checker(TRUSTED).check_file(encode_row_proof(replace(proof, inner_path=wrong)))
    wrong = (bytes(length), *proof.step.path[1:])
    with pytest.raises(CanonicalError, match="not a hash"):
        decode_row_proof(encode_row_proof(replace(proof, step=replace(proof.step, path=wrong))))


def test_a10_more_hashes_than_any_tree_needs(proof: RowProof) -> None:
    many = (bytes(32),) * 64
    with pytest.raises(CanonicalError, match="more hashes than any tree needs"):
        decode_row_proof(encode_row_proof(replace(proof, step=replace(proof.step, path=many))))
    with pytest.raises(CanonicalError, match="not made of hashes"):
        decode_row_proof(encode_row_proof(replace(proof, inner_path=many)))


@pytest.mark.parametrize("index", [SIZE, SIZE + 1, 2**62, 2**63 - 2])
def test_a10_an_index_behind_the_head(proof: RowProof, index: int) -> None:
    message = f"there is no leaf {index} in a tree of {SIZE}"
    refused(replace(proof, step=replace(proof.step, index=index)), ProofError, message)
    refused(replace(proof, later=(replace(proof.later[0], index=index),)), ProofError, message)


@pytest.mark.parametrize(
    "index", ["9223372036854775807", "9223372036854775808", "-1", "+4", "04", "4 ", "0x4", "\u0664", ""]
)
def test_a10_an_index_that_no_tree_has_or_spelt_otherwise(proof: RowProof, index: str) -> None:
    data = encode_row_proof(proof).replace(b"index 4\n", f"index {index}\n".encode())
    with pytest.raises(CanonicalError, match=r"names the index|is ASCII"):
        decode_row_proof(data)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "there is no leaf 4 in a tree of 0"),
        (4, "there is no leaf 4 in a tree of 4"),
        (7, "there is no leaf 7 in a tree of 7"),
        (16, f"leaf 4 {NO_LEAF}"),
        (2**63 - 1, f"leaf 4 {NO_LEAF}"),
    ],
)
def test_a10_a_head_of_another_size_with_the_same_root(
    reader: LineageReader, proof: RowProof, size: int, message: str
) -> None:
    note = sign_checkpoint(replace(reader.checkpoint, size=size), KEY).encode()
    refused(replace(proof, note=note), ProofError, message)


def signed(text: str, key: SigningKey = KEY, name: str = "") -> bytes:
    """Return a note over any text, with a signature that holds."""
    public = key.verify_key
    signature = encode_base64(public.key_id + key.sign(text.encode()))
    return f"{text}\n— {name or public.name} {signature}\n".encode()


def test_a18_signatures_by_strangers_are_passed_over_and_a_failing_one_condemns(proof: RowProof) -> None:
    line = proof.note[proof.note.rindex(b"\n\n") + 2 :]
    text = proof.note[: -len(line) - 1].decode()
    other = signed(text, SigningKey.from_seed("witness", bytes(32)))[len(text.encode()) + 1 :]
    assert Checker(TRUSTED).check(replace(proof, note=proof.note + other)).row == row(104)
    forged = signed(text, SigningKey.from_seed("log", bytes(32)))
    refused(replace(proof, note=forged), SignatureError, "no trusted key signed this checkpoint; it is signed by `log`")
    bad = f"— log {encode_base64(KEY.verify_key.key_id + bytes(64))}\n".encode()
    refused(replace(proof, note=proof.note + bad), SignatureError, r"said to be by `.*` is not")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda note: note.replace(b"\n", b"\r\n"), "control character"),
        (lambda note: note[:-1], "signature lines"),
        (lambda note: note.replace(b"\n\n", b"\n\n\n"), "three lines|signature"),
        (lambda note: note + b"\n", "ill-formed|signature lines"),
        (lambda note: note.replace(b"\n\n", b"\n"), "signature lines"),
        (lambda note: note.replace("— ".encode(), b"- "), "ill-formed"),
        (lambda note: note + b"\x00", "control character"),
        (lambda note: note + note[note.rindex(b"\n\n") + 2 :] * 16, "at most 16 signatures"),
        (lambda note: note + "— log AAAA\n".encode(), "too short"),
        (lambda note: note + "— log ****\n".encode(), "ill-formed"),
        (lambda note: b"\xff" + note, "not UTF-8"),
        (lambda note: b"", "signature lines"),
    ],
)
def test_a18_a_note_of_another_form(proof: RowProof, change, message: str) -> None:
    refused(replace(proof, note=change(proof.note)), (CanonicalError, SignatureError), f"{message}|no trusted key")


@pytest.mark.parametrize(
    "lines",
    [
        ("{origin}", "08", "{root}"),
        ("{origin}", "+8", "{root}"),
        ("{origin}", "-8", "{root}"),
        ("{origin}", " 8", "{root}"),
        ("{origin}", "8_0", "{root}"),
        ("{origin}", "\u0668", "{root}"),
        ("{origin}", "9223372036854775808", "{root}"),
        ("{origin}", "8", "{spare}"),
        ("{origin}", "8", "{urlsafe}"),
        ("{origin}", "8", "{root} "),
        ("{origin}", "8", ""),
        ("", "8", "{root}"),
        ("a b", "8", "{root}"),
        ("a+b", "8", "{root}"),
        ("{origin}", "8", "{root}", "more"),
        ("8", "{root}"),
    ],
)
def test_a19_a_head_that_is_signed_and_spelt_otherwise(
    reader: LineageReader, proof: RowProof, lines: tuple[str, ...]
) -> None:
    root = encode_base64(bytes([0xFB]) * 32)
    spare = root[:42] + chr(ord(root[42]) + 1) + "="
    words = {"origin": reader.checkpoint.origin, "root": root, "spare": spare, "urlsafe": root.replace("+", "-")}
    assert len({root, spare, words["urlsafe"]}) == 3
    note = signed("".join(line.format(**words) + "\n" for line in lines))
    refused(replace(proof, note=note), CanonicalError, "checkpoint|base64")


def test_a19_the_same_head_in_its_one_spelling_is_taken(reader: LineageReader, proof: RowProof) -> None:
    head = reader.checkpoint
    note = signed(f"{head.origin}\n{head.size}\n{encode_base64(head.root)}\n")
    assert note == proof.note
    assert Checker(TRUSTED).check(replace(proof, note=note)).head == head


def test_a19_the_name_of_a_trusted_key_with_another_key(reader: LineageReader, proof: RowProof) -> None:
    head = reader.checkpoint
    text = f"{head.origin}\n{head.size}\n{encode_base64(head.root)}\n"
    refused(replace(proof, note=signed(text, name="witness")), SignatureError, "signed by `witness`")


def test_a33_what_is_not_under_the_signature_is_compared_with_what_is(proof: RowProof) -> None:
    refused(replace(proof, example="e103"), ProofError, "that of another example than the proof names")
    refused(replace(proof, leaf=proof.leaf + b"\0"), ProofError, f"leaf 1 {NO_LEAF}")
    refused(replace(proof, step=proof.genesis), ProofError, "entry 0 of the log is not of the kind")
    with pytest.raises(ProofError, match="not the first one of a log"):
        Checker(TRUSTED).check(replace(proof, genesis=proof.step))
    with pytest.raises(ProofError, match=f"leaf 0 {NO_LEAF}"):
        Checker(TRUSTED).check_file(encode_row_proof(replace(proof, genesis=proof.step)))
    model = encode_entry(CKPT, encode_facts({"step": 1}))
    refused(replace(proof, step=replace(proof.step, data=model)), ProofError, f"leaf 4 {NO_LEAF}")


def test_a33_the_file_is_read_once(
    proof: RowProof, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, opened = tmp_path / "row.aqproof", list[Path]()
    file.write_bytes(encode_row_proof(proof))
    KEYRING.save(tmp_path / "keyring.json")
    plain = Path.open

    def watched(path: Path, *args: object, **more: object) -> object:
        opened.append(path)
        return plain(path, *args, **more)

    monkeypatch.setattr(Path, "open", watched)
    assert main(["log", "check-proof", str(file), "--keyring", str(tmp_path / "keyring.json")]) == 0
    assert opened.count(file) == 1
    assert capsys.readouterr().out.endswith("proved\n")


def test_a34_bytes_moved_from_one_field_to_the_next(proof: RowProof) -> None:
    last = proof.inner_path[-1]
    moved = replace(proof, inner_path=proof.inner_path[:-1], leaf=last + proof.leaf)
    assert b"".join((*proof.inner_path, proof.leaf)) == b"".join((*moved.inner_path, moved.leaf))
    refused(moved, ProofError, f"leaf 1 {NO_LEAF}")
    refused(replace(proof, leaf=proof.leaf[:-1], label=proof.leaf[-1:]), ProofError, f"leaf 1 {NO_LEAF}")
    genesis, step = proof.genesis, proof.step
    assert genesis is not None
    moved = replace(
        proof,
        genesis=replace(genesis, data=genesis.data + step.data[:8]),
        step=replace(step, data=step.data[8:]),
    )
    refused(moved, ProofError, f"leaf 4 {NO_LEAF}")


def test_a34_an_entry_that_is_also_a_row_is_neither(proof: RowProof) -> None:
    refused(replace(proof, leaf=proof.step.data), ProofError, f"leaf 1 {NO_LEAF}")
    refused(replace(proof, step=replace(proof.step, data=proof.leaf)), ProofError, f"leaf 4 {NO_LEAF}")
    with pytest.raises(CorruptLogError):
        decode_entry(proof.leaf)


def test_a_signed_row_of_another_width_than_the_steps_cells_is_refused(reader: LineageReader, proof: RowProof) -> None:
    """The signer itself cannot say two things: cells of the entry, and norms of its row."""
    entry = decode_step(decode_entry(proof.step.data)[1])
    ranks = tuple(replace(rank, cells=rank.cells + (rank.rank == 2)) for rank in entry.ranks)
    data = encode_entry(STEP, encode_step(replace(entry, ranks=ranks)))
    hashes = [leaf_hash(data if index == 4 else own) for index, own in reader.raw_entries()]
    head = Checkpoint(reader.checkpoint.origin, SIZE, root_of(hashes))
    forged = replace(
        proof,
        note=sign_checkpoint(head, KEY).encode(),
        genesis=LoggedEntry(0, reader.entry(0), inclusion_path(hashes, 0)),
        step=LoggedEntry(4, data, inclusion_path(hashes, 4)),
        later=(),
    )
    refused(forged, ProofError, "the row has other depth groups than the step")


def test_a_head_that_is_known_is_the_only_one(reader: LineageReader, proof: RowProof) -> None:
    _, older = head_of(reader, 6)
    with pytest.raises(ProofError, match="not under the one that was given, of size 6"):
        Checker(TRUSTED, older).check(proof)
    other = replace(reader.checkpoint, root=bytes(32))
    with pytest.raises(ProofError, match="not under the one that was given, of size 8"):
        Checker(TRUSTED, other).check(proof)
