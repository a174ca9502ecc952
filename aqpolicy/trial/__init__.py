"""A policy put to the test: its own cases, fixtures with single observations, and the account of one decision.

Input: a policy, files of fixtures, observations as people write them; output:
outcomes with findings (`run_fixtures`, `decide_cases`), coverage, or an `Account`.
What decides is `semantics` for one observation and `analysis` for all of them; this
package compares and explains, and decides nothing.
"""

from aqpolicy.trial.account import Account, account_of
from aqpolicy.trial.coverage import Coverage, RuleCoverage, coverage_of
from aqpolicy.trial.faults import Faults
from aqpolicy.trial.fixture import Expected, Fixture, read_fixtures
from aqpolicy.trial.inline import decide_cases
from aqpolicy.trial.observation import add_evidence, missing, parse_observation, read_observation
from aqpolicy.trial.outcome import Outcome, run_fixtures
from aqpolicy.trial.records import SUFFIXES, Records, read_records

__all__ = [
    "SUFFIXES",
    "Account",
    "Coverage",
    "Expected",
    "Faults",
    "Fixture",
    "Outcome",
    "Records",
    "RuleCoverage",
    "account_of",
    "add_evidence",
    "coverage_of",
    "decide_cases",
    "missing",
    "parse_observation",
    "read_fixtures",
    "read_observation",
    "read_records",
    "run_fixtures",
]
