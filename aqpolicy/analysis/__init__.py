"""What can be proved about a policy before anything is trained.

Input: a typed `Policy`; output: diagnostics, each with a least witness that
replays in `aqpolicy.semantics`. Start at `examine`; `run_cases` decides test cases,
`compare` two policies, `nearest` what would be admitted. `Prover` answers single
questions. Bit sets answer first; the solver is imported only for what they leave open.
"""

from aqpolicy.analysis.checker import CaseResult, CheckResult, check, examine, run_cases
from aqpolicy.analysis.compare import Change, Comparison, compare
from aqpolicy.analysis.nearest import nearest
from aqpolicy.analysis.prover import EFFORT, Deciders, Obligation, Prover, SolverDecision, smt2
from aqpolicy.analysis.settings import CheckSettings

__all__ = [
    "EFFORT",
    "CaseResult",
    "Change",
    "CheckResult",
    "CheckSettings",
    "Comparison",
    "Deciders",
    "Obligation",
    "Prover",
    "SolverDecision",
    "check",
    "compare",
    "examine",
    "nearest",
    "run_cases",
    "smt2",
]
