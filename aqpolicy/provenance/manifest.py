"""A manifest: signed observations of which every byte was verified before anybody sees one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Final

from aqpolicy.errors import ProvenanceError
from aqpolicy.provenance.codec import LabelCodec
from aqpolicy.provenance.header import Header
from aqpolicy.provenance.labels import Labels
from aqpolicy.provenance.observation import Credential, Observation, example_digest, label_digest
from aqpolicy.provenance.proof import LabelProof, SessionProof
from aqpolicy.trust import Tree, example_key, leaf_hash, sha256

_SESSIONS_KEPT: Final = 4096
"""Sessions whose tree is kept once a proof was asked for: 64 bytes a label."""


class Manifest:
    """Signed observations, verified. Made by `load_manifest` and `decode_manifest` only.

    `root` covers all sessions and through them all labels, `size` counts the
    labels, `taxonomy` is `name@version`.
    `purpose` is what it may be used for, `serial` only rises, `supersedes` is the
    root of the manifest whose place it takes. `head` is what its issuer signed.
    """

    def __init__(self, header: Header, codec: LabelCodec, labels: Labels, data: bytes) -> None:
        """Keep what was verified."""
        head = header.head
        self.name, self.purpose, self.serial = head.name, head.purpose, head.serial
        self.supersedes = bytes.fromhex(head.supersedes.removeprefix("sha256:")) if head.supersedes else None
        self.taxonomy = header.context.taxonomy
        self.size = head.size
        self.root = head.root_bytes
        self.schema = codec.fields
        self.credentials: dict[str, Credential] = header.credential_map()
        self.head, self.context = header.envelope, header.context_bytes
        self._header = header
        self._codec = codec
        self._labels = labels
        self._data = data
        self._ends = list(accumulate(session.size for session in header.sessions))
        self._tree = lru_cache(_SESSIONS_KEPT)(self._session_tree)
        self._session_proof = lru_cache(_SESSIONS_KEPT)(self._prove_session)

    def __len__(self) -> int:
        """Return the number of observations."""
        return self.size

    def index_of(self, example_id: str) -> int | None:
        """Return the number of the observation of an example, or None where there is none."""
        return self._labels.index.get(example_id.encode("utf-8", "surrogatepass"))

    def index_of_key(self, key: bytes) -> int | None:
        """Return the number of the observation of the example that the log calls `key`, or None."""
        return self._index_of_key.get(key)

    def example_id(self, index: int) -> str:
        """Return the id of an observation's example.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        return self._labels.example_id(index).decode("ascii")

    def attributes(self, index: int) -> dict[str, str | int]:
        """Return the attributes that are known of an observation.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        return self._codec.attributes(self._codec.record.unpack(self._labels.record(index)))

    def observation(self, index: int) -> Observation:
        """Return an observation.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        members = self._codec.record.unpack(self._labels.record(index))
        return Observation(
            example_id=self._labels.example_id(index).decode("ascii"),
            example_digest=members[0],
            label_digest=members[1],
            credential=self.session_credential(self._session_of(index)).id,
            observed_at=members[2],
            attributes=self._codec.attributes(members),
            history=self._codec.history(self._labels.events(index)),
        )

    def leaf(self, index: int) -> bytes:
        """Return the leaf hash of an observation: 32 bytes that commit to all of it.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        return leaf_hash(self._labels.leaf(index))

    def prove(self, index: int) -> LabelProof:
        """Return a proof that an observation is in this manifest, for `verify_label_proof`.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        session = self._session_of(index)
        at = index - self._first(session)
        path = self._tree(session).inclusion_path(at)
        return LabelProof(self._labels.leaf(index), at, path, self._session_proof(session))

    def session_signature(self, index: int) -> bytes:
        """Return the annotator's signature over the statement of the session that an observation is in.

        Raises:
            ProvenanceError: There is no such observation.
        """
        self._check(index)
        return self._header.sessions[self._session_of(index)].signature

    @cached_property
    def digest(self) -> bytes:
        """The SHA-256 of the file."""
        return sha256(self._data)

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._ends)

    def session_credential(self, session: int) -> Credential:
        """Return the credential that signed a session."""
        part = self._header.credentials[self._header.sessions[session].credential]
        return self.credentials[part.id]

    def session_labels(self, session: int) -> range:
        """Return the numbers of a session's observations."""
        return range(self._first(session), self._ends[session])

    def session_times(self, session: int) -> Sequence[int]:
        """Return the times that a session's observations declare, in seconds since 1970."""
        return self._labels.times(self._first(session), self._ends[session])

    def observed_between(self) -> dict[str, tuple[int, int]]:
        """Return the earliest and the latest time that is declared under each credential."""
        spans: dict[str, tuple[int, int]] = {}
        for session in range(self.sessions):
            times = self.session_times(session)
            name = self.session_credential(session).id
            first, last = spans.get(name, (times[0], times[0]))
            spans[name] = min(first, *times), max(last, *times)
        return spans

    def refuse_unless_after(self, older: Manifest) -> None:
        """Return if this manifest may take the place of another one.

        Raises:
            ProvenanceError: It is of another name or purpose, its serial is not higher, or it does not name the other.
        """
        if (self.name, self.purpose) != (older.name, older.purpose):
            raise ProvenanceError(
                f"the manifest `{self.name}` for `{self.purpose}` cannot take the place of `{older.name}` for "
                f"`{older.purpose}`"
            )
        if self.serial <= older.serial or self.supersedes != older.root:
            raise ProvenanceError(
                f"the manifest `{self.name}` number {self.serial} does not take the place of number {older.serial}; "
                "its issuer gives it a higher number and names the root of the other"
            )

    def mismatched(self, examples: Iterable[tuple[str, bytes, bytes]]) -> list[str]:
        """Return the ids of examples whose bytes are not those that were signed, or that are not in here.

        Args:
            examples: Id, bytes of the example, bytes of its label.
        """
        wrong = []
        for name, example, label in examples:
            index = self.index_of(name)
            signed = None if index is None else self._codec.record.unpack(self._labels.record(index))[:2]
            if signed != (example_digest(example), label_digest(name, label)):
                wrong.append(name)
        return wrong

    def _check(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise ProvenanceError(f"the manifest `{self.name}` has no observation {index}")

    def _session_of(self, index: int) -> int:
        return bisect_right(self._ends, index)

    def _first(self, session: int) -> int:
        return self._ends[session - 1] if session else 0

    def _session_tree(self, session: int) -> Tree:
        return Tree(self._labels.leaf_hashes(self._first(session), self._ends[session]))

    def _prove_session(self, session: int) -> SessionProof:
        path = self._sessions.inclusion_path(session)
        return SessionProof(self._header.statements[session], session, self.sessions, path)

    @cached_property
    def _sessions(self) -> Tree:
        return Tree([leaf_hash(statement) for statement in self._header.statements])

    @cached_property
    def _index_of_key(self) -> dict[bytes, int]:
        return {example_key(name.decode("ascii")): index for name, index in self._labels.index.items()}
