"""What the rows of a log refer to by number: routes of a bundle, labels of a manifest.

A step names bundle and manifest by digest. Only what has that digest explains its
rows; where it is not at hand, its columns stay empty.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aqpolicy.bundle import Bundle
from aqpolicy.errors import InputError
from aqpolicy.lineage.record import KEY_BYTES, Layout
from aqpolicy.provenance import Manifest
from aqpolicy.trust import example_key

Integers = npt.NDArray[np.integer[Any]]
Key: Final = np.dtype(f"V{KEY_BYTES}")


class Decisions:
    """The mask table of one bundle as arrays.

    Shapes:
        shares (g, routes): millionths.
    """

    def __init__(self, bundle: Bundle, layout: Layout) -> None:
        """Read the table.

        Raises:
            InputError: It is of other depth groups than the run.
        """
        if len(bundle.tables.groups) != layout.groups:
            raise InputError(f"the bundle `{bundle.policy_name}` is of other depth groups than the run; leave it out")
        rows = bundle.tables.rows
        self.digest = bundle.digest
        self.shares = np.array([row.shares for row in rows], np.uint32).reshape(len(rows), layout.groups).T.copy()
        self._rules = pa.array([", ".join(row.rules) for row in rows], pa.string())

    def rules(self, routes: Integers) -> pa.Array:
        """Return the rules that decided, by route."""
        return self._rules.take(pa.array(routes))


class Labels:
    """What a manifest says of the examples that rows name."""

    def __init__(self, manifest: Manifest) -> None:
        """Read names and sessions, and make the key of every example."""
        names = [manifest.example_id(index) for index in range(len(manifest))]
        sizes = [len(manifest.session_labels(session)) for session in range(manifest.sessions)]
        signers = [manifest.session_credential(session).id for session in range(manifest.sessions)]
        self.root = manifest.root
        self._names, self._signers = pa.array(names, pa.string()), pa.array(signers, pa.string())
        self._sessions = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
        self._keys = np.frombuffer(b"".join(map(example_key, names)), Key)

    def of(self, index: npt.NDArray[np.uint64], keys: npt.NDArray[np.void]) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Return ids, credentials and sessions of rows; none where the row's key is not that of the label.

        Args:
            index: Numbers of labels.
            keys: Keys of examples.

        Shapes:
            index, keys: (n).
        """
        inside = np.flatnonzero(index < len(self._keys))
        known = inside[self._keys[index[inside]] == keys[inside]]
        absent = np.ones(len(index), np.bool_)
        absent[known] = False
        place = np.zeros(len(index), np.int64)
        place[known] = index[known]
        sessions = np.zeros(len(index), np.uint32)
        sessions[known] = self._sessions[place[known]]
        names = self._names.take(pa.array(place, mask=absent))
        numbers = pa.array(sessions, mask=absent)
        return names, self._signers.take(numbers), numbers
