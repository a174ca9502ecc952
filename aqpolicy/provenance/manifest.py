"""Read a manifest and believe none of it before everything is verified.

Rules: the bytes that were verified are the bytes that are used (the file is
read once); every byte is covered by a signature, by a tree that a signature
covers, or has only one legal value; an example is there at most once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Final

from aqpolicy.errors import (
    InputError,
    MalformedManifestError,
    ManifestSignatureError,
    ProvenanceError,
    SignatureError,
    TrustError,
)
from aqpolicy.provenance.codec import EVENT, FIXED, UNKNOWN_CATEGORY, LabelCodec, is_example_id, leaf_bytes
from aqpolicy.provenance.header import (
    HEADER_TYPE,
    SESSION_TYPE,
    Header,
    manifest_root,
    parse_header,
)
from aqpolicy.provenance.issue import HEADER_LENGTH, LARGEST_MANIFEST, MAGIC
from aqpolicy.provenance.observation import Credential, Observation, example_digest, label_digest
from aqpolicy.provenance.proof import LabelProof
from aqpolicy.trust import (
    Keyring,
    VerifyKey,
    decode_base64,
    digest_text,
    example_key,
    inclusion_path,
    leaf_hash,
    pre_authentication,
    root_of,
    sha256,
)

ISSUER_ROLE: Final = "manifest-issuer"


class Manifest:
    """Signed observations, verified. Made by `load_manifest` and `decode_manifest` only.

    `root` covers all sessions and through them all labels, `size` counts the
    labels, `digest` is the SHA-256 of the file, `taxonomy` is `name@version`.
    """

    def __init__(self, header: Header, codec: LabelCodec, body: _Body, digest: bytes) -> None:
        """Keep what was verified."""
        self.name = header.name
        self.taxonomy = header.taxonomy
        self.size = header.size
        self.root = bytes.fromhex(header.root.removeprefix("sha256:"))
        self.digest = digest
        self.schema = header.schema_fields()
        self.credentials: dict[str, Credential] = header.credential_map()
        self._header = header
        self._codec = codec
        self._body = body
        self._ends = list(accumulate(session.size for session in header.sessions))

    def __len__(self) -> int:
        """Return the number of observations."""
        return self.size

    def index_of(self, example_id: str) -> int | None:
        """Return the number of the observation of an example, or None where there is none."""
        return self._body.index.get(example_id)

    def index_of_key(self, key: bytes) -> int | None:
        """Return the number of the observation of the example that the log calls `key`, or None."""
        return self._index_of_key.get(key)

    def example_id(self, index: int) -> str:
        """Return the id of an observation's example.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        return self._body.example_id(index).decode("ascii")

    def attributes(self, index: int) -> dict[str, str | int]:
        """Return the attributes that are known of an observation.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        return self._codec.attributes(self._codec.record.unpack(self._body.record(index)))

    def observation(self, index: int) -> Observation:
        """Return an observation.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        members = self._codec.record.unpack(self._body.record(index))
        return Observation(
            example_id=self._body.example_id(index).decode("ascii"),
            example_digest=members[0],
            label_digest=members[1],
            credential=self._header.sessions[self._session_of(index)].credential,
            observed_at=members[2],
            attributes=self._codec.attributes(members),
            history=self._codec.history(self._body.event_bytes(index)),
        )

    def leaf(self, index: int) -> bytes:
        """Return the leaf hash of an observation: 32 bytes that commit to all of it.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        return self._body.leaf(index)

    def prove(self, index: int) -> LabelProof:
        """Return a proof that an observation is in this manifest, for `verify_label_proof`.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        session = self._session_of(index)
        first = self._ends[session] - self._header.sessions[session].size
        leaves = [self._body.leaf(number) for number in range(first, self._ends[session])]
        statements = self._header.statements()
        body = self._body
        return LabelProof(
            leaf=leaf_bytes(body.record(index), body.example_id(index), body.event_bytes(index)),
            index=index - first,
            path=inclusion_path(leaves, index - first),
            statement=statements[session],
            session=session,
            sessions=len(statements),
            session_path=inclusion_path([leaf_hash(statement) for statement in statements], session),
        )

    def mismatched(self, examples: Iterable[tuple[str, bytes, bytes]]) -> list[str]:
        """Return the ids of examples whose bytes are not those that were signed, or that are not in here.

        Args:
            examples: Id, bytes of the example, bytes of its label.
        """
        wrong = []
        for name, example, label in examples:
            index = self.index_of(name)
            signed = None if index is None else self._codec.record.unpack(self._body.record(index))[:2]
            if signed != (example_digest(example), label_digest(name, label)):
                wrong.append(name)
        return wrong

    def _check(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise ProvenanceError(f"the manifest `{self.name}` has no observation {index}")

    def _session_of(self, index: int) -> int:
        return next(session for session, end in enumerate(self._ends) if index < end)

    @cached_property
    def _index_of_key(self) -> dict[bytes, int]:
        return {example_key(name): index for name, index in self._body.index.items()}


class _Body:
    """The labels of a manifest: records, ids and events, and where each begins.

    Raises:
        MalformedManifestError: The bytes do not divide as the records say, an
            id is ill-formed or there twice, or a number has no meaning.
    """

    def __init__(self, data: bytes, size: int, codec: LabelCodec) -> None:
        """Divide the bytes and hash every leaf, in one pass."""
        self._width = codec.record.size
        if size > LARGEST_MANIFEST or size * self._width > len(data):
            raise MalformedManifestError("the manifest is shorter than its header says")
        self._data = data
        self._ids = array("Q", [size * self._width])
        self._events = array("Q")
        self.index: dict[str, int] = {}
        self._divide(list(codec.record.iter_unpack(data[: size * self._width])), codec)
        self._leaves = b"".join(map(self._hash, range(size)))

    def record(self, index: int) -> bytes:
        return self._data[index * self._width : (index + 1) * self._width]

    def example_id(self, index: int) -> bytes:
        return self._data[self._ids[index] : self._ids[index + 1]]

    def event_bytes(self, index: int) -> bytes:
        return self._data[self._events[index] : self._events[index + 1]]

    def leaf(self, index: int) -> bytes:
        return self._leaves[index * 32 : index * 32 + 32]

    def root(self, first: int, end: int) -> bytes:
        return root_of([self.leaf(index) for index in range(first, end)])

    def _hash(self, index: int) -> bytes:
        return leaf_hash(leaf_bytes(self.record(index), self.example_id(index), self.event_bytes(index)))

    def _divide(self, members: list[tuple[int, ...]], codec: LabelCodec) -> None:
        columns = list(zip(*members, strict=True))
        if min(columns[2]) < 0:
            raise MalformedManifestError("an observation has a time before 1970")
        for field, column in zip(codec.fields, columns[FIXED:], strict=True):
            if field.kind == "category" and any(len(field.values) <= code != UNKNOWN_CATEGORY for code in set(column)):
                raise MalformedManifestError(f"an observation has a value of `{field.name}` that the schema lacks")
        self._ids = array("Q", accumulate(columns[3], initial=self._ids[0]))
        self._events = array("Q", accumulate((count * EVENT.size for count in columns[4]), initial=self._ids[-1]))
        if self._events[-1] != len(self._data):
            raise MalformedManifestError("the manifest is not as long as its records say")
        for source, _, _, observed_at in EVENT.iter_unpack(self._data[self._events[0] :]):
            if source >= len(codec.sources) or observed_at < 0:
                raise MalformedManifestError("an event of a history has a source or a time that does not exist")
        self._index_ids(len(members))

    def _index_ids(self, size: int) -> None:
        for index in range(size):
            name = self.example_id(index)
            if not is_example_id(name):
                raise MalformedManifestError(f"observation {index} has an ill-formed example id")
            self.index[name.decode("ascii")] = index
        if len(self.index) != size:
            raise MalformedManifestError("one example is there twice")


def load_manifest(path: Path | str, keyring: Keyring) -> Manifest:
    """Read a manifest file and verify all of it.

    Raises:
        InputError: The file cannot be read.
        MalformedManifestError: The bytes are no manifest, or were altered.
        ManifestSignatureError: The issuer is not trusted, or a signature fails.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the manifest `{path}`: {error.strerror}") from error
    return decode_manifest(data, keyring)


def decode_manifest(data: bytes, keyring: Keyring) -> Manifest:
    """Verify the bytes of a manifest and return it.

    (1) As many issuers signed the header as the keyring asks for. (2) Each session's statement, derived from
    the header, is signed by the key of its credential, and the root covers the
    statements. (3) The labels have the roots that the sessions say.

    Trust:
        data is untrusted; keyring comes from the operator.

    Raises:
        MalformedManifestError: The bytes are no manifest, or were altered.
        ManifestSignatureError: The issuer is not trusted, too few signed, or a signature fails.
    """
    start = len(MAGIC) + HEADER_LENGTH.size
    if len(data) < start or not data.startswith(MAGIC):
        raise MalformedManifestError("the bytes are not a manifest that this version reads")
    (length,) = HEADER_LENGTH.unpack_from(data, len(MAGIC))
    if length > len(data) - start:
        raise MalformedManifestError("the manifest is shorter than its header")
    header = _open_header(data[start : start + length], keyring)  # (1)
    _verify_sessions(header)  # (2)
    codec = LabelCodec(header.schema_fields(), header.sources)
    body = _Body(data[start + length :], header.size, codec)
    _verify_labels(header, body)  # (3)
    return Manifest(header, codec, body, sha256(data))


def _open_header(envelope: bytes, keyring: Keyring) -> Header:
    try:
        return parse_header(keyring.open(envelope, HEADER_TYPE, ISSUER_ROLE).payload)
    except SignatureError as error:
        raise ManifestSignatureError(f"the issuer of the manifest: {error}") from error
    except TrustError as error:
        raise MalformedManifestError(f"the header of the manifest: {error}") from error


def _verify_sessions(header: Header) -> None:
    statements = header.statements()
    keys = {part.id: _credential_key(part.id, part.key) for part in header.credentials}
    for number, (part, statement) in enumerate(zip(header.sessions, statements, strict=True)):
        try:
            signature = decode_base64(part.signature)
            keys[part.credential].verify(signature, pre_authentication(SESSION_TYPE, statement))
        except TrustError as error:
            raise ManifestSignatureError(
                f"session {number} is not signed under its credential `{part.credential}`: {error}",
            ) from error
    if digest_text(manifest_root(statements)) != header.root:
        raise MalformedManifestError("the root of the manifest does not cover its sessions")


def _credential_key(name: str, text: str) -> VerifyKey:
    try:
        return VerifyKey.parse(text)
    except TrustError as error:
        raise MalformedManifestError(f"the key of the credential `{name}`: {error}") from error


def _verify_labels(header: Header, body: _Body) -> None:
    first = 0
    for number, part in enumerate(header.sessions):
        if digest_text(body.root(first, first + part.size)) != part.root:
            raise MalformedManifestError(
                f"the labels of session {number} (credential `{part.credential}`) are not those that were signed",
            )
        first += part.size
