"""The append-only lineage log: what the gate did, so that nobody can change it unnoticed.

Input: a `StepBlock` per training step, digests of published models, events about
credentials. Output: a run's folder that `verify_log` checks with public keys alone.
Entry functions: `LineageWriter.create`, `LineageReader`, `verify_log`.
Reads next: `record` (what is recorded), `entry` (what is signed), `store` (the only door to LMDB).
"""

from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.record import (
    NO_INDEX,
    NO_SURPRISAL,
    NOT_BOOKED,
    NOT_FINITE,
    REASONS,
    Book,
    Layout,
    Row,
    StepBlock,
)
from aqpolicy.lineage.verify import VerifyReport, verify_log
from aqpolicy.lineage.writer import LineageWriter

__all__ = [
    "NOT_BOOKED",
    "NOT_FINITE",
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
    "verify_log",
]
