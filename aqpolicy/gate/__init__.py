"""The gate: between loss and optimizer, per example and per depth group.

Input: a model, an optimizer, a sealed bundle, a signed manifest; output: a
trained model and the lineage of its training. Start at `attach`.
"""

from aqpolicy.gate.accounts.queue import Waiting
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Reason
from aqpolicy.gate.attachment import attach
from aqpolicy.gate.describe import describe_model
from aqpolicy.gate.gate import Gate
from aqpolicy.gate.records.recorder import Totals
from aqpolicy.gate.routing.layout import per_example_sum
from aqpolicy.gate.routing.sketch import SketchPlan
from aqpolicy.gate.view.explanation import Explanation

__all__ = [
    "Explanation",
    "Gate",
    "Reason",
    "RunState",
    "SketchPlan",
    "Totals",
    "Waiting",
    "attach",
    "describe_model",
    "per_example_sum",
]
