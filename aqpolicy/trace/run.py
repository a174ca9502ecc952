"""Open a finished run: log, bundle and manifest, each verified and pinned to the others.

It relies on the keyring given by the caller and on nothing inside the folder.
It judges no decision; `audit` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aqpolicy.bundle import Bundle, load_bundle, refuse_unenforced
from aqpolicy.bundle.tables import NO_LIMIT, Tables
from aqpolicy.errors import CorruptLogError, TraceError
from aqpolicy.lineage import (
    NO_INDEX,
    NOT_MEASURED,
    Book,
    LineageReader,
    Row,
    StepBlock,
    VerifyReport,
    verify_log,
)
from aqpolicy.provenance import Credentials, Manifest, load_manifest
from aqpolicy.trace.book import ADAPTIVE, EXACT, Impulse, Terms, impulse
from aqpolicy.trust import Keyring, digest_text, example_key
from aqpolicy.units import MICRO

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps there are."""

FACTORS: Final = "factors"
"""What `record` says where the log holds factors."""


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
    """Those that were published; checkpoints are for going on only."""
    events: tuple[tuple[int, dict[str, Any]], ...]
    """What happened between steps, and to credentials since; each with the number of steps before it."""
    unentitled: frozenset[bytes] = frozenset()
    """Keys of the examples whose label no valid credential signed, where the run asked for one."""

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
    def statuses(self) -> tuple[dict[str, Any], ...]:
        """The events, without their places."""
        return tuple(facts for _, facts in self.events)

    @property
    def published(self) -> dict[str, Any] | None:
        """What the log says of the model in `model.pt`: the last one that may bear this name; None without one."""
        states = {str(event.get("candidate")): event for event in self.statuses if event.get("event") == "promotion"}
        model: dict[str, Any]
        for model in reversed(self.models):
            event = states.get(f"sha256:{model['model']}", {})
            if (
                event.get("state", "executed") == "executed"
                and event.get("name", model.get("name", "model")) == "model"
            ):
                return model
        return None

    @property
    def first_step(self) -> int:
        """Number of the first step in this log; above 0 where the run was resumed."""
        return int(self.genesis["first_step"])

    @property
    def revoked(self) -> dict[str, str]:
        """Revoked credentials, each with the reason that was given."""
        return {
            str(status["credential"]): str(status.get("reason", ""))
            for status in self.statuses
            if status.get("event") == "revoked" and "credential" in status
        }

    @property
    def inexact(self) -> str:
        """Why the run is not linear in its recorded gradients; empty where it is."""
        if self.first_step:
            return f"it was resumed at step {self.first_step}, and what was before is in another log"
        known = {EXACT, *(ADAPTIVE if self.genesis.get("record") == FACTORS else ())}
        others = sorted({block.book.optimizer for block in self.blocks} - known)
        if others:
            more = ' and were not recorded with `record="factors"`' if others[0] in ADAPTIVE else ""
            return f"it was optimized with `{others[0]}`, whose steps have no exact scalar response{more}"
        if any(block.book.mixed for block in self.blocks):
            return "the optimizer's parameter groups had different settings, of which the log holds one"
        if any(block.book.loss_scale != 1.0 for block in self.blocks):
            return "its losses were scaled for short floating point, and steps may have been left out"
        if any(event.get("event") == "verification" and event.get("remedy") == "rollback" for event in self.statuses):
            return "it was rolled back to an earlier state"
        return ""

    def impulses(self) -> tuple[Impulse, ...] | None:
        """Return every group's impulse response; None where the run has no exact one (`inexact`)."""
        if self.inexact or any(block.book.optimizer != EXACT for block in self.blocks):
            return None
        return tuple(impulse(self._terms(group)) for group in range(len(self.tables.groups)))

    def applied(self, row: Row) -> tuple[int, ...]:
        """Return the share that every group received: the table's, but for the recorded exceptions."""
        shares = list(self.tables.rows[row.route].shares)
        for group, _, share in row.exceptions:
            shares[group] = share
        return tuple(shares)

    def masses(self, row: Row, book: Book | None = None) -> tuple[float, ...]:
        """Return the norm of what every group received of an example: share, times what its norm limit left of it.

        Args:
            row: The visit.
            book: The book of its step, to count what became of it afterwards too: clipped with the whole gradient,
                scaled or put back with the whole step. Without it, what was admitted.

        Raises:
            TraceError: The run did not measure a norm that this needs.
        """
        limits = self.tables.rows[row.route].norms
        masses = tuple(map(_mass, self.applied(row), row.norms, limits))
        if book is None:
            return masses
        return tuple(mass * clip * factor for mass, clip, factor in zip(masses, book.clip, book.factors, strict=True))

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
                block.book.factors[group],
                block.book.clip[group],
            )
            for block in self.blocks
        ]


def _mass(share: int, norm: float, limit: int) -> float:
    if share and norm == NOT_MEASURED:
        raise TraceError('the run recorded decisions only; train with record="norms" to count what was learned')
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
    keyring = keyring.within(verified.checkpoint.origin)  # the run names both in its first entry
    bundle = load_bundle(folder / "bundle.aqb", keyring)
    refuse_unenforced(bundle.tables.requires)  # what was not enforced cannot be derived again
    manifest = load_manifest(folder / "manifest.aqm", keyring)
    with LineageReader(folder, keyring) as reader:
        genesis = reader.genesis
        _pin(genesis, bundle, manifest)
        unentitled = _unentitled(folder, genesis, manifest, keyring)
        for index, entry in reader.step_entries():
            if (entry.bundle, entry.manifest_root) != (bundle.digest, manifest.root):
                raise CorruptLogError("the step names another bundle or manifest", f"entry {index}, step {entry.step}")
        blocks = tuple(reader.steps())
        models = tuple(model for model in reader.models if model.get("kind") != "checkpoint")
        events = tuple(reader.events)
    for block in blocks:
        with located(f"step {block.step}"):
            _check_ranges(block, bundle.tables, manifest.size)
    return Run(folder, bundle, manifest, genesis, verified, blocks, models, events, unentitled)


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
        ("phases", list(bundle.tables.phases)),
        ("stages", [stage.name for stage in bundle.tables.stages]),
    )
    for name, value in said:
        if genesis.get(name) != value:
            raise CorruptLogError(f"the log was not written with this `{name}`", "entry 0")


def _unentitled(folder: Path, genesis: dict[str, Any], manifest: Manifest, keyring: Keyring) -> frozenset[bytes]:
    """Judge the credentials behind all labels again, by the files that the run kept."""
    facts = genesis.get("credentials")
    if not facts:
        return frozenset()
    if not isinstance(facts, dict):
        raise CorruptLogError("the log does not say what credentials are judged by", "entry 0")
    return frozenset(map(example_key, Credentials.of_run(folder, facts).unentitled(manifest, keyring)))


def _check_ranges(block: StepBlock, tables: Tables, size: int) -> None:
    """Refuse numbers that point outside the tables, so that nothing behind meets them."""
    for number, row in enumerate(block.rows):
        numbered = row.manifest_index == NO_INDEX or row.manifest_index < size
        groups = [group for group, _, _ in row.exceptions]
        fits = all(group < len(tables.groups) for group in groups) and len(set(groups)) == len(groups)
        if not numbered or row.route >= len(tables.rows) or not fits:
            raise CorruptLogError("the row points outside bundle or manifest", f"step {block.step}, row {number}")
