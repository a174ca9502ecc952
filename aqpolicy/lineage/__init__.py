"""The append-only lineage log: what the gate did, so that nobody can change it unnoticed.

Input: a `Step` per training step, events between them, digests of published models,
events about credentials. Output: a run's folder that `verify_log` checks with public keys alone.
Entry functions: `LineageWriter.create`, `LineageReader`, `verify_log`.
Reads next: `record` (what is recorded), `leaf`, `block` and `entry` (its bytes), `store` (the only door to LMDB).
"""

from aqpolicy.lineage.block import StepBlock
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.record import (
    CAUSES,
    EFFECTS,
    NO_ENTROPY,
    NO_INDEX,
    NO_SURPRISAL,
    NOT_BOOKED,
    NOT_FINITE,
    NOT_MEASURED,
    REASONS,
    Book,
    Layout,
    Row,
)
from aqpolicy.lineage.resume import logged_models
from aqpolicy.lineage.verify import VerifyReport, verify_log
from aqpolicy.lineage.writer import LineageWriter

__all__ = [
    "CAUSES",
    "EFFECTS",
    "NOT_BOOKED",
    "NOT_FINITE",
    "NOT_MEASURED",
    "NO_ENTROPY",
    "NO_INDEX",
    "NO_SURPRISAL",
    "REASONS",
    "Book",
    "Layout",
    "LineageReader",
    "LineageWriter",
    "Row",
    "StepBlock",
    "VerifyReport",
    "logged_models",
    "verify_log",
]
