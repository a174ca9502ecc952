"""Open a finished run: log, bundle and manifest, each verified and pinned to the others.

It relies on the keyring given by the caller and on nothing inside the folder.
It judges no decision; `audit` does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aqpolicy.bundle import Bundle, load_bundle, refuse_unenforced
from aqpolicy.bundle.tables import NO_LIMIT, Tables
from aqpolicy.errors import CorruptLogError, TraceError
from aqpolicy.lineage import NO_INDEX, LineageReader, Row, StepBlock, VerifyReport, verify_log
from aqpolicy.provenance import Manifest, load_manifest
from aqpolicy.trace.book import EXACT, Impulse, Terms, impulse
from aqpolicy.trust import Keyring, digest_text
from aqpolicy.units import MICRO

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps there are."""

SKETCH: Final = "sketch"
"""What `record` says where the log holds sketches."""

_FLOAT: Final = struct.Struct("<f")


@dataclass(frozen=True)
class Run:
    """A run whose signatures and digests all hold."""

    folder: Path
    bundle: Bundle
    manifest: Manifest
    genesis: dict[str, Any]
    verified: VerifyReport
    blocks: tuple[StepBlock, ...]
    models: tuple[dict[str, Any], ...]
    statuses: tuple[dict[str, Any], ...]

    @property
    def tables(self) -> Tables:
        """The mask tables of the run's policy."""
        return self.bundle.tables

    @property
    def rows(self) -> Iterator[tuple[StepBlock, Row]]:
        """Every visit of an example, in order of the log, with its step."""
        return ((block, row) for block in self.blocks for row in block.rows)

    @property
    def run_id(self) -> str:
        """The run's id, as the log's first entry gives it."""
        return str(self.genesis["run"])

    @property
    def revoked(self) -> dict[str, str]:
        """Revoked credentials, each with the reason that was given."""
        return {
            str(status["credential"]): str(status.get("reason", ""))
            for status in self.statuses
            if status.get("event") == "revoked" and "credential" in status
        }

    def impulses(self) -> tuple[Impulse, ...] | None:
        """Return every group's impulse response; None where an optimizer has no exact one."""
        if any(block.book.optimizer != EXACT for block in self.blocks):
            return None
        return tuple(impulse(self._terms(group)) for group in range(len(self.tables.groups)))

    def applied(self, row: Row) -> tuple[int, ...]:
        """Return the share that every group received: the table's, but for the recorded exceptions."""
        shares = list(self.tables.rows[row.route].shares)
        for group, _, share in row.exceptions:
            shares[group] = share
        return tuple(shares)

    def masses(self, row: Row) -> tuple[float, ...]:
        """Return the norm of what every group received of an example: share, times what its norm limit left of it."""
        limits = self.tables.rows[row.route].norms
        return tuple(map(_mass, self.applied(row), row.norms, limits))

    def name_of(self, row: Row) -> str:
        """Return the example's id, or its key where the manifest does not hold it."""
        if row.manifest_index == NO_INDEX:
            return f"(unknown {row.example_key.hex()})"
        return self.manifest.example_id(row.manifest_index)

    def _terms(self, group: int) -> list[Terms]:
        return [
            Terms(
                block.book.lr,
                block.book.momentum,
                block.book.dampening,
                block.book.weight_decay,
                block.book.nesterov,
                block.book.closed[group],
            )
            for block in self.blocks
        ]


def _mass(share: int, norm: float, limit: int) -> float:
    cut = norm if limit == NO_LIMIT else min(norm, limit / MICRO)
    return share / MICRO * max(cut, 0.0)


def open_run(folder: Path | str, keyring: Keyring, progress: Progress | None = None) -> Run:
    """Verify a run's log, bundle and manifest, and that they belong together.

    Trust:
        Everything in the folder is untrusted, its own keyring included; `keyring` comes from the operator.

    Raises:
        CorruptLogError: Something is not what was signed, or parts of different runs lie in one folder.
        AqpolicyError: A file is missing, malformed, or not signed by a trusted key.
    """
    folder = Path(folder)
    verified = verify_log(folder, keyring, progress)
    bundle = load_bundle(folder / "bundle.aqb", keyring)
    refuse_unenforced(bundle.tables.requires)  # what was not enforced cannot be derived again
    manifest = load_manifest(folder / "manifest.aqm", keyring)
    with LineageReader(folder, keyring) as reader:
        genesis = reader.genesis
        _pin(genesis, bundle, manifest)
        for index, entry in reader.step_entries():
            if (entry.bundle, entry.manifest_root) != (bundle.digest, manifest.root):
                raise CorruptLogError("the step names another bundle or manifest", f"entry {index}, step {entry.step}")
        blocks = tuple(reader.steps())
        models, statuses = tuple(reader.models), tuple(reader.statuses)
    for block in blocks:
        with located(f"step {block.step}"):
            _check_ranges(block, bundle.tables, manifest.size)
    return Run(folder, bundle, manifest, genesis, verified, blocks, models, statuses)


@contextmanager
def located(where: str) -> Iterator[None]:
    """Put a place in front of a discrepancy that does not know its own."""
    try:
        yield
    except CorruptLogError as error:
        if error.where:
            raise
        raise CorruptLogError(str(error), where) from error


def _pin(genesis: dict[str, Any], bundle: Bundle, manifest: Manifest) -> None:
    """Compare the files with what the log's first entry says of them."""
    said: Sequence[tuple[str, object]] = (
        ("bundle", digest_text(bundle.digest)),
        ("manifest", digest_text(manifest.digest)),
        ("manifest_root", digest_text(manifest.root)),
        ("groups", list(bundle.tables.groups)),
        ("budgets", [budget.name for budget in bundle.tables.budgets]),
    )
    for name, value in said:
        if genesis.get(name) != value:
            raise CorruptLogError(f"the log was not written with this `{name}`", "entry 0")


def _check_ranges(block: StepBlock, tables: Tables, size: int) -> None:
    """Refuse numbers that point outside the tables, so that nothing behind meets them."""
    for number, row in enumerate(block.rows):
        numbered = row.manifest_index == NO_INDEX or row.manifest_index < size
        groups = [group for group, _, _ in row.exceptions]
        fits = all(group < len(tables.groups) for group in groups) and len(set(groups)) == len(groups)
        if not numbered or row.route >= len(tables.rows) or not fits:
            raise CorruptLogError("the row points outside bundle or manifest", f"step {block.step}, row {number}")


@dataclass(frozen=True, slots=True)
class SketchShape:
    """How the log lays out a sketch: per group a float32 scale and `width` signed bytes."""

    sizes: tuple[int, ...]
    k: int
    seed: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers per group."""
        return tuple(min(self.k, size) for size in self.sizes)

    @property
    def length(self) -> int:
        """Bytes of one visit's sketches."""
        return sum(self.widths) + _FLOAT.size * len(self.sizes)

    def scale(self, record: bytes, group: int) -> float:
        """Return what one level of a group's sketch stands for."""
        scale: float = _FLOAT.unpack_from(record, sum(self.widths[:group]) + _FLOAT.size * group)[0]
        return scale

    def norms(self, record: bytes) -> tuple[float, ...]:
        """Return the l2 norm of every group's sketch.

        Raises:
            CorruptLogError: The record has another length, or a scale that is not finite.
        """
        if len(record) != self.length:
            raise CorruptLogError(f"a sketch of {len(record)} bytes does not fit the run's sketch plan")
        norms, at = [], 0
        for width in self.widths:
            levels = memoryview(record)[at + _FLOAT.size : at + _FLOAT.size + width].cast("b")
            scale = _FLOAT.unpack_from(record, at)[0]
            if not 0.0 <= scale < float("inf"):
                raise CorruptLogError("a sketch has a scale that is no finite number")
            norms.append(scale * sum(level * level for level in levels) ** 0.5)
            at += _FLOAT.size + width
        return tuple(norms)


def sketch_shape(run: Run) -> SketchShape:
    """Return how a run's sketches are laid out.

    Raises:
        TraceError: The run recorded none.
        CorruptLogError: The first entry describes none that could be.
    """
    facts = run.genesis
    if facts.get("record") != SKETCH:
        raise TraceError('the run recorded norms only; train with `record="sketch"` to trace behaviours')
    sizes, k, seed = facts.get("sizes"), facts.get("sketch_k"), facts.get("sketch_seed")
    if isinstance(sizes, list) and isinstance(k, int) and isinstance(seed, int):
        whole = all(type(size) is int and size >= 0 for size in sizes)
        if whole and k > 0 and len(sizes) == len(run.tables.groups):
            return SketchShape(tuple(sizes), k, seed)
    raise CorruptLogError("the first entry describes no sketch", "entry 0")
