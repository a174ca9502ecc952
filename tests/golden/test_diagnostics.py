"""What authors are shown, word for word.

A case is a file: a policy, further files of it, and behind a line the text expected.
Its first line may say what it is judged with: `# case: model=plain effort=1`. It is
named after the code that it shows, and holds all errors and all findings of this code.

`AQPOLICY_ACCEPT=1` writes the text that is shown now into the cases, to be read and
reviewed like any other change.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from support.judging import Written, judge

from aqpolicy.diagnostics import CODES, Diagnostic, render_all
from aqpolicy.diagnostics.levels import default_severity

CASES = sorted((Path(__file__).parent / "diagnostics").glob("*.golden"))
LINE = "\n======== expected ========\n"
FILE = re.compile(r"^======== file: (\S+)( unlocked)? ========\n", flags=re.MULTILINE)
OPTIONS = re.compile(r"# case: (.*)\n")
BY_LENGTH = sorted(CODES.values(), key=lambda code: -len(code.slug))
TOO_LARGE_FOR_A_FILE = {"AQ108"}
OTHER_LEVELS = {
    ("warning", "AQ306"),  # a limit where nothing is admitted may stand there as a safeguard
    ("error", "AQ316"),  # the policy says `complete`
}


def code_of(case: Path) -> str | None:
    """Return the code that a case is named after: its slug, perhaps with more words behind it."""
    return next((code.number for code in BY_LENGTH if f"{case.stem}-".startswith(f"{code.slug}-")), None)


def written(text: str) -> Written:
    """Read the files and options of a case."""
    own, *others = FILE.split(text)
    names, marks, texts = others[::3], others[1::3], others[2::3]
    options = OPTIONS.match(own)
    return Written(
        own,
        dict(zip(names, texts, strict=True)),
        frozenset(name for name, mark in zip(names, marks, strict=True) if mark),
        dict(option.split("=") for option in options[1].split()) if options else {},
    )


def shown(case: Path) -> tuple[str, tuple[Diagnostic, ...]]:
    """Return what a case shows, as text and as findings."""
    given = written(case.read_text(encoding="utf-8").split(LINE)[0])
    findings = tuple(each for each in judge(given) if each.severity == "error" or each.code == code_of(case))
    return render_all(findings, given.sources) + "\n", findings


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_diagnostics_are_drawn_as_expected(case: Path) -> None:
    text, (drawn, findings) = case.read_text(encoding="utf-8"), shown(case)
    if os.environ.get("AQPOLICY_ACCEPT"):
        case.write_text(text.split(LINE)[0] + LINE + drawn, encoding="utf-8")
    else:
        assert drawn == text.split(LINE)[1]
    assert code_of(case) in {None, *(each.code for each in findings)}


def test_every_code_has_a_case_named_after_it() -> None:
    assert {code_of(case) for case in CASES} - {None} == set(CODES) - TOO_LARGE_FOR_A_FILE


def test_a_finding_has_the_level_of_its_code_but_where_the_policy_makes_a_difference() -> None:
    drawn = "".join(case.read_text(encoding="utf-8").split(LINE)[1] for case in CASES)
    levels = set(re.findall(r"^(error|warning|note)\[(AQ\d+)\]", drawn, flags=re.MULTILINE))
    assert levels == OTHER_LEVELS | {(default_severity(code), code) for code in set(CODES) - TOO_LARGE_FOR_A_FILE}
