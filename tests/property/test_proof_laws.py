"""Laws of row proofs: every row proves, no changed byte proves anything else, and no bytes do harm."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lineage_runs import KEYRING, row
from support.proof_logs import TRUSTED, ProofLog

from aqpolicy.cli.log.check_proof import check_label
from aqpolicy.errors import AqpolicyError, CanonicalError
from aqpolicy.lineage.compare import Side, compare
from aqpolicy.lineage.fork import decode_fork, encode_fork, verify_fork
from aqpolicy.lineage.proof import MAGIC, decode_row_proof, encode_row_proof
from aqpolicy.lineage.proved import Checker, ProvedRow
from aqpolicy.lineage.prover import Prover
from aqpolicy.trust import TlogProof, decode_base64, decode_tlog_proof, encode_base64, encode_tlog_proof

ROWS = st.builds(row, st.integers(0, 1000), lowered=st.booleans())
STEPS = st.lists(st.lists(st.lists(ROWS, max_size=5), min_size=1, max_size=3), min_size=1, max_size=9)
MODEST = settings(max_examples=60, deadline=None)
FEW = settings(max_examples=25, deadline=None)


@FEW
@given(STEPS)
def test_every_row_of_a_log_proves_and_says_what_was_logged(steps):
    checker = Checker(TRUSTED)
    with tempfile.TemporaryDirectory() as folder, ProofLog(Path(folder)) as log:
        for ranks in steps:
            log.step(*ranks)
        reader = log.read()
        prover = Prover(reader)
        for step, ranks in enumerate(steps):
            found = [checker.check_file(encode_row_proof(one)) for one in prover.proofs(reader.index_of_step(step))]
            assert [one.row for one in found] == [row for rows in ranks for row in rows]
            assert {one.entry.step for one in found} <= {step}


@FEW
@given(st.data())
def test_a_proof_says_of_every_step_whether_it_counts(data):
    """Against the plain rule: a step counts unless a later resumption goes on from it or from an earlier one."""
    with tempfile.TemporaryDirectory() as folder, ProofLog(Path(folder)) as log:
        models, logged, began = {0: -1}, list[tuple[int, int]](), [0]
        for _ in range(data.draw(st.integers(1, 8))):
            what = data.draw(st.sampled_from(["step", "step", "model", "back"]))
            if what == "step":
                logged.append((log.writer.steps, log.writer.attempt))
                log.step([row(1000 * log.writer.attempt + log.writer.steps)])
            elif what == "model":
                models[log.writer.steps] = log.model()
            else:
                start = data.draw(st.sampled_from(sorted(models)))
                log.back(models[start])
                began.append(start)
                models = {step: entry for step, entry in models.items() if step <= start}
        reader = log.read()
        prover, newest = Prover(reader), [(at, entry) for at, entry in reader.step_entries(superseded=True)][-1:]
        for step, attempt in logged:
            later = [number for number, start in enumerate(began) if number > attempt and start <= step]
            proof = prover.prove(step, f"e{1000 * attempt + step}", attempt=attempt)
            proved = Checker(TRUSTED).check_file(encode_row_proof(proof))
            assert proved.superseded_by == (later[0] if later else None)
            if not later and newest[0][0] > proved.index:
                assert proved.stands_until == newest[0][0]


@cache
def example() -> tuple[bytes, ProvedRow]:
    """Return a proof with everything in it but a label, and what it says."""
    with tempfile.TemporaryDirectory() as folder, ProofLog(Path(folder)) as log:
        for step in range(4):
            log.step([row(step), row(50 + step)], [row(90 + step, lowered=True)])
        log.back(log.model())
        log.step([row(7)])
        data = encode_row_proof(Prover(log.read()).prove(2, "e92"))
    return data, Checker(TRUSTED).check_file(data)


@cache
def forked() -> bytes:
    """Return the proof of a fork of two sizes."""
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder, "one"), Path(folder, "other")
        with ProofLog(one) as short, ProofLog(other) as long:
            short.step([row(1)])
            for step in range(6):
                long.step([row(10 + step)])
            found = compare(*(Side(each.note, each.checkpoint, each) for each in (short.read(), long.read()))).fork
    assert found is not None
    assert found.path
    return encode_fork(found)


def flips(data: bytes) -> Iterator[bytes]:
    """Return the bytes with every bit flipped in its turn."""
    for at in range(len(data)):
        for bit in range(8):
            yield data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


def checked(checker: Checker, data: bytes) -> ProvedRow:
    """Check a file as `aqpolicy log check-proof` does."""
    proof = decode_row_proof(data)
    proved = checker.check(proof)
    check_label(proof, proved, KEYRING)
    return proved


def test_every_flipped_bit_of_a_proof_is_refused():
    data, said = example()
    checker = Checker(TRUSTED)
    assert checked(checker, data) == said
    for changed in flips(data):
        with pytest.raises(AqpolicyError):
            checked(checker, changed)


def test_every_flipped_bit_of_the_proof_of_a_fork_is_refused():
    data = forked()
    verify_fork(decode_fork(data), TRUSTED)
    for changed in flips(data):
        with pytest.raises(AqpolicyError):
            verify_fork(decode_fork(changed), TRUSTED)


@MODEST
@given(st.data())
def test_a_piece_cut_out_put_in_or_exchanged_is_refused(data):
    proof, _ = example()
    start = data.draw(st.integers(0, len(proof) - 1))
    end = data.draw(st.integers(start, min(len(proof), start + 80)))
    new = data.draw(st.one_of(st.binary(max_size=80), st.just(proof[start:end][::-1]), st.just(proof[start:end] * 2)))
    changed = proof[:start] + new + proof[end:]
    if changed != proof:
        with pytest.raises(AqpolicyError):
            checked(Checker(TRUSTED), changed)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.binary(max_size=300).map(lambda data: MAGIC + data)))
def test_any_extra_bytes_are_refused_with_a_typed_error(extra):
    text = decode_tlog_proof(example()[0])
    with pytest.raises(AqpolicyError):
        Checker(TRUSTED).check_file(encode_tlog_proof(replace(text, extra=extra)))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_are_refused_with_a_typed_error(data):
    begun = b"c2sp.org/tlog-proof@v1\n" + data
    for decode in (decode_row_proof, decode_tlog_proof, decode_fork):
        for hostile in (data, begun):
            try:
                decode(hostile)
            except CanonicalError:
                continue
            assert decode is decode_tlog_proof
            assert encode_tlog_proof(decode_tlog_proof(hostile)) == hostile


@MODEST
@given(
    st.integers(0, 2**63 - 2),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.binary(max_size=200),
    st.binary(max_size=50),
)
def test_the_text_of_a_proof_gives_back_what_was_written(index, path, note, extra):
    proof = TlogProof(index, tuple(path), note, extra)
    assert decode_tlog_proof(encode_tlog_proof(proof)) == proof


@MODEST
@given(st.one_of(st.binary(min_size=32, max_size=32), st.binary(max_size=40)), st.integers(0, 43), st.integers(0, 127))
def test_a_hash_in_a_proof_is_read_exactly_as_any_base64_is(node, at, letter):
    """The quick way in `tlog_proof` beside `decode_base64`."""
    plain = encode_base64(node)
    for text in (plain, plain[:at] + chr(letter) + plain[at + 1 :]):
        data = f"c2sp.org/tlog-proof@v1\nindex 0\n{text}\n\nnote".encode()
        try:
            expected = decode_base64(text)
        except CanonicalError:
            expected = b""
        if len(expected) == 32:
            assert decode_tlog_proof(data).path == (expected,)
        elif "\n" not in text and text:
            with pytest.raises(CanonicalError):
                decode_tlog_proof(data)
