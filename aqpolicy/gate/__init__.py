"""The gate: between loss and optimizer, per example and per depth group.

Input: a model, an optimizer, a sealed bundle, a signed manifest; output: a
trained model and the lineage of its training. Start at `attach`.
"""

from aqpolicy.gate.accountant import Reason
from aqpolicy.gate.attachment import attach
from aqpolicy.gate.describe import describe_model
from aqpolicy.gate.gate import Gate
from aqpolicy.gate.recorder import Totals
from aqpolicy.gate.sketch import SketchPlan

__all__ = ["Gate", "Reason", "SketchPlan", "Totals", "attach", "describe_model"]
