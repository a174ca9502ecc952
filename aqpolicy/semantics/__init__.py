"""What a policy means, written to be read; every faster implementation answers to this package.

Input: a `Policy` and attributes; output: a `Decision` (`evaluate`). Input: the
judgments behind an observation; output: its `evidence` (`weigh`). Input: budgets, a
ledger and a batch; output: a `StepSpending` (`spend`). Nothing is remembered.
"""

from aqpolicy.semantics.budget import (
    LARGEST_SURPRISAL,
    Ledger,
    Outcome,
    Reason,
    Spent,
    StepSpending,
    empty_ledger,
    spend,
    start_epoch,
)
from aqpolicy.semantics.evaluator import NOTHING_LEFT, UNDECIDABLE, Decision, effect_of, evaluate, holds, is_value
from aqpolicy.semantics.evidence import Judgment, weigh

__all__ = [
    "LARGEST_SURPRISAL",
    "NOTHING_LEFT",
    "UNDECIDABLE",
    "Decision",
    "Judgment",
    "Ledger",
    "Outcome",
    "Reason",
    "Spent",
    "StepSpending",
    "effect_of",
    "empty_ledger",
    "evaluate",
    "holds",
    "is_value",
    "spend",
    "start_epoch",
    "weigh",
]
