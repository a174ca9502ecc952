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
from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.record import KEY_BYTES
from aqpolicy.provenance import Manifest
from aqpolicy.trust import example_key

Integers = npt.NDArray[np.integer[Any]]
Key: Final = np.dtype(f"V{KEY_BYTES}")


class Decisions:
    """The mask table of one bundle as arrays."""

    def __init__(self, bundle: Bundle) -> None:
        """Read the table."""
        rows = bundle.tables.rows
        self._shares = np.array([row.shares for row in rows], np.uint32).reshape(len(rows), -1).T.copy()
        self._rules = pa.array([", ".join(row.rules) for row in rows], pa.string())

    def of(self, routes: Integers, groups: int) -> tuple[pa.Array, npt.NDArray[np.uint32]]:
        """Return the rules that decided, and the shares that they left.

        Args:
            routes: Rows of the mask table.
            groups: Depth groups of the run.

        Shapes:
            routes (n); shares (groups, n), millionths.

        Raises:
            CorruptLogError: The table has no such rows, or is of other depth groups.
        """
        if self._shares.shape[0] != groups or int(routes.max(initial=0)) >= self._shares.shape[1]:
            raise CorruptLogError("the rows do not fit the bundle that their steps name")
        return self._rules.take(pa.array(routes)), self._shares[:, routes]


class Labels:
    """What a manifest says of the examples that rows name."""

    def __init__(self, manifest: Manifest) -> None:
        """Read names and sessions, and make the key of every example."""
        names = [manifest.example_id(index) for index in range(len(manifest))]
        sizes = [len(manifest.session_labels(session)) for session in range(manifest.sessions)]
        signers = [manifest.session_credential(session).id for session in range(manifest.sessions)]
        self._names, self._signers = pa.array(names, pa.string()), pa.array(signers, pa.string())
        self._sessions = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
        self._keys = np.frombuffer(b"".join(map(example_key, names)), Key)

    def of(self, index: Integers, keys: npt.NDArray[np.void]) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Return ids, credentials and sessions of rows; none where the row's key is not that of the label.

        Args:
            index: Numbers of labels.
            keys: Keys of examples.

        Shapes:
            index, keys: (n).
        """
        inside = np.flatnonzero(index < len(self._keys))
        known = inside[self._keys[index[inside]] == keys[inside]]
        place, absent = np.zeros(len(index), np.int64), np.ones(len(index), np.bool_)
        place[known], absent[known] = index[known], False
        sessions = np.zeros(len(index), np.uint32)
        sessions[known] = self._sessions[place[known]]
        numbers = pa.array(sessions, mask=absent)
        return self._names.take(pa.array(place, mask=absent)), self._signers.take(numbers), numbers
