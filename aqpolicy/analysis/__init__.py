"""What can be proved about a policy before anything is trained.

Input: a typed `Policy`; output: diagnostics, each with a least witness that
replays in `aqpolicy.semantics`. Start at `check`; `Prover` answers single
questions. The solver is used nowhere else.
"""

from aqpolicy.analysis.checker import CheckResult, check, examine
from aqpolicy.analysis.prover import EFFORT, Prover, SolverDecision

__all__ = ["EFFORT", "CheckResult", "Prover", "SolverDecision", "check", "examine"]
