from __future__ import annotations

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import AqpolicyError, CanonicalError, KeyFormatError, ProofError
from aqpolicy.trust import (
    Checkpoint,
    Frontier,
    SigningKey,
    VerifyKey,
    canonical_json,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    open_checkpoint,
    open_envelope,
    parse_canonical,
    parse_keyring,
    root_of,
    seal,
    sign_checkpoint,
    verify_consistency,
    verify_inclusion,
)

KEY = SigningKey.from_seed("example.org/key", bytes(range(32)))
TRUSTED = [KEY.verify_key]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53 - 1), 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
SIZES = st.integers(1, 70)
MODEST = settings(max_examples=80, deadline=None)


@MODEST
@given(VALUES)
def test_canonical_json_is_that_of_another_implementation(value):
    assert canonical_json(value) == rfc8785.dumps(value)


@MODEST
@given(VALUES)
def test_parsing_inverts_writing(value):
    assert parse_canonical(canonical_json(value)) == value


@MODEST
@given(st.binary(max_size=60) | TEXT.map(str.encode))
def test_whatever_parses_is_canonical_and_nothing_else_is_raised(data):
    try:
        value = parse_canonical(data)
    except CanonicalError:
        return
    assert canonical_json(value) == data


def recursive_root(leaves):
    """Definition of RFC 6962, 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


def leaves_of(size):
    return [leaf_hash(number.to_bytes(4, "little")) for number in range(size)]


@MODEST
@given(SIZES)
def test_roots_are_those_of_the_definition(size):
    leaves, frontier = leaves_of(size), Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    assert root_of(leaves) == frontier.root() == recursive_root(leaves)


@MODEST
@given(SIZES, st.data())
def test_every_leaf_has_a_proof_and_at_its_place_only(size, data):
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1))
    leaves = leaves_of(size)
    path, root = inclusion_path(leaves, index), root_of(leaves)
    verify_inclusion(index, size, leaves[index], path, root)
    if other != index:
        with pytest.raises(ProofError):
            verify_inclusion(other, size, leaves[index], path, root)
        with pytest.raises(ProofError):
            verify_inclusion(index, size, leaves[other], path, root)


@MODEST
@given(SIZES, st.data())
def test_every_prefix_has_a_consistency_proof(size, data):
    old = data.draw(st.integers(1, size))
    leaves = leaves_of(size)
    path = consistency_path(leaves, old)
    verify_consistency(old, size, root_of(leaves[:old]), root_of(leaves), path)
    if path:
        broken = [*path[:-1], bytes(32)]
        with pytest.raises(ProofError):
            verify_consistency(old, size, root_of(leaves[:old]), root_of(leaves), broken)


@MODEST
@given(TEXT, st.binary(max_size=80))
def test_an_envelope_gives_back_its_payload(kind, payload):
    assert open_envelope(seal(kind, payload, [KEY]), kind, TRUSTED) == payload


@MODEST
@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_survives_its_note(size, root):
    checkpoint = Checkpoint("example.org/log", size, root)
    assert open_checkpoint(sign_checkpoint(checkpoint, KEY), TRUSTED) == checkpoint


NOTE = sign_checkpoint(Checkpoint("example.org/log", 12, bytes(32)), KEY).encode()
ENVELOPE = seal("t", b"payload", [KEY])


def mutations(data):
    """Bytes near `data`: one stretch replaced by other bytes, never the same as before."""
    return (
        st.tuples(st.integers(0, len(data)), st.integers(0, 3), st.binary(max_size=3))
        .map(lambda cut: data[: cut[0]] + cut[2] + data[cut[0] + cut[1] :])
        .filter(lambda changed: changed != data)
    )


@MODEST
@given(mutations(NOTE))
def test_an_altered_note_never_opens(data):
    with pytest.raises(AqpolicyError):
        open_checkpoint(data, TRUSTED)


@MODEST
@given(mutations(ENVELOPE))
def test_an_altered_envelope_never_opens(data):
    with pytest.raises(AqpolicyError):
        open_envelope(data, "t", TRUSTED)


@MODEST
@given(st.text(max_size=60) | mutations(KEY.verify_key.text.encode()).map(lambda data: data.decode("latin-1")))
def test_texts_that_are_no_key_raise_the_one_error(text):
    with pytest.raises(KeyFormatError):
        VerifyKey.parse(text)
    with pytest.raises(KeyFormatError):
        SigningKey.parse("PRIVATE+KEY+" + text)


@MODEST
@given(st.binary(max_size=60))
def test_bytes_that_are_no_keyring_raise_the_one_error(data):
    with pytest.raises(KeyFormatError):
        parse_keyring(data)
