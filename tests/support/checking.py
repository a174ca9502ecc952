"""A small policy to put statements into, and what the checker says of it."""

from __future__ import annotations

from aqpolicy.analysis import CheckResult, CheckSettings, examine
from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.model import Policy, load_policy

HEAD = """
policy test version 1.0.0
taxonomy t version 1 {
  authority crowd < expert < board
  review draft < approved; rejected
  attribute consensus : number 0..1
  attribute judgments : integer 0..10
}
depth from input { surface = modules "a"; head = modules "b" }
profile full { all 1 }
profile weak { surface 0.5 }
otherwise deny because "no rule admits it"
"""
ANY = """
budget any for anything on all
  surprisal at most 100 nat per run, at most 6 nat per update
  on exhaust deny
"""
EXPERTS = "rule experts when authority >= expert admit full\n"

PLAIN = CheckSettings(optimizer="plain")


def a_policy(text: str, budgets: str = ANY, head: str = HEAD) -> Policy:
    """Return the small policy with statements."""
    return load_policy(Source("test.aqp", head + text + budgets))


def examined(text: str, budgets: str = ANY, settings: CheckSettings = PLAIN) -> CheckResult:
    """Return what the checker says of the small policy with statements."""
    return examine(a_policy(text, budgets), settings)


def coded(result: CheckResult, code: str) -> list[Diagnostic]:
    """Return the findings of one code."""
    return [finding for finding in result.findings if finding.code == code]


def errors(result: CheckResult) -> list[str]:
    """Return the codes of all errors."""
    return [finding.code for finding in result.findings if finding.severity == "error"]


def the_error(text: str, budgets: str = ANY, settings: CheckSettings = PLAIN) -> Diagnostic:
    """Return the only error of the small policy with statements."""
    found = [finding for finding in examined(text, budgets, settings).findings if finding.severity == "error"]
    assert len(found) == 1, [finding.message for finding in found]
    return found[0]


def marked(finding: Diagnostic, text: str, budgets: str = ANY) -> list[str]:
    """Return the words that the labels of a finding point at."""
    source = HEAD + text + budgets
    return [source[label.span.start : label.span.end] for label in finding.labels]
