"""What a policy means, written to be read; every faster implementation answers to this package.

Input: a `Policy` and attributes; output: a `Decision` (`evaluate`). Input: the
judgments behind an observation; output: its `evidence` (`weigh`). Input: tables, a
`Run` and the visits of one step; output: a `Step` (`take_step`), in which budgets have
spent (`budget`). What a step may move is settled in `movement`, what is checked
afterwards in `verification`. Nothing is remembered.
"""

from aqpolicy.semantics.budget import (
    LARGEST_SURPRISAL,
    Ledger,
    Outcome,
    Spent,
    StepSpending,
    empty_ledger,
    spend,
    start_epoch,
    start_phase,
)
from aqpolicy.semantics.evaluator import NOTHING_LEFT, UNDECIDABLE, Decision, effect_of, evaluate, holds, is_value
from aqpolicy.semantics.evidence import Judgment, weigh
from aqpolicy.semantics.reasons import Reason
from aqpolicy.semantics.run import Run, Step, Visited, begin, take_step
from aqpolicy.semantics.state import RunState
from aqpolicy.semantics.visit import Visit

__all__ = [
    "LARGEST_SURPRISAL",
    "NOTHING_LEFT",
    "UNDECIDABLE",
    "Decision",
    "Judgment",
    "Ledger",
    "Outcome",
    "Reason",
    "Run",
    "RunState",
    "Spent",
    "Step",
    "StepSpending",
    "Visit",
    "Visited",
    "begin",
    "effect_of",
    "empty_ledger",
    "evaluate",
    "holds",
    "is_value",
    "spend",
    "start_epoch",
    "start_phase",
    "take_step",
    "weigh",
]
