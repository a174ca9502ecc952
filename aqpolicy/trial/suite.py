"""All tests of one policy, run: its own cases, the fixtures about it, and what they cover."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aqpolicy.analysis import CheckSettings
from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.model.policy import Policy
from aqpolicy.trial.coverage import Coverage, coverage_of
from aqpolicy.trial.fixture import read_fixtures
from aqpolicy.trial.inline import decide_cases
from aqpolicy.trial.outcome import Outcome, run_fixtures
from aqpolicy.trial.records import Records


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of the tests of one policy."""

    source: Source
    sources: tuple[Source, ...]
    """Every text that findings may point into."""
    outcomes: tuple[Outcome, ...] = ()
    faults: tuple[Diagnostic, ...] = ()
    """Why the policy could not be tested at all."""
    coverage: Coverage | None = None

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        """Everything that is wrong."""
        return (*self.faults, *(finding for outcome in self.outcomes for finding in outcome.findings))

    def count(self, word: str) -> int:
        """Return how many tests passed, failed, or were left undecided."""
        return sum(outcome.word == word for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class Suite:
    """The tests of one policy."""

    policy: Policy
    records: Sequence[Records]
    settings: CheckSettings
    is_chosen: Callable[[str], bool]
    """Whether the test of a title is run."""

    def run(self, *, covers: bool) -> tuple[tuple[Outcome, ...], Coverage | None]:
        """Return what came of each test, and what they cover if that is asked.

        Raises:
            InputError: A file of fixtures cannot be read; the message says all that is wrong with it.
            AnalysisError: A question of coverage was not decided.
        """
        cases = tuple(case for case in self.policy.cases if self.is_chosen(case.title))
        read = [fixture for records in self.records for fixture in read_fixtures(self.policy, records)]
        fixtures = [fixture for fixture in read if self.is_chosen(fixture.name)]
        decided = decide_cases(replace(self.policy, cases=cases), self.settings)
        checked = run_fixtures(self.policy, fixtures)
        if not covers:
            return (*decided, *checked), None
        held = [case for case, outcome in zip(cases, decided, strict=True) if outcome.word == "passed"]
        met = [fixture for fixture, outcome in zip(fixtures, checked, strict=True) if outcome.word == "passed"]
        return (*decided, *checked), coverage_of(self.policy, held, met, self.settings)
