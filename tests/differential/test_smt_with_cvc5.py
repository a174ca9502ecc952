"""Another solver re-decides every proof obligation of every shipped policy, from the scripts that auditors get."""

from __future__ import annotations

from pathlib import Path

import pytest
from cvc5 import InputLanguage, InputParser, Solver, SymbolManager, TermManager

from aqpolicy.analysis import Obligation, smt2
from aqpolicy.library import Files, read_source
from aqpolicy.pipeline import Pipeline
from aqpolicy.shipped import shipped_folder

EXAMPLES = shipped_folder("policies") / "examples"
POLICIES = sorted(path for path in EXAMPLES.rglob("*.aqp") if "policy " in path.read_text(encoding="utf-8"))


def answer(script: str) -> str:
    """Return what cvc5 says of a script."""
    terms = TermManager()
    solver, symbols = Solver(terms), SymbolManager(terms)
    parser = InputParser(solver, symbols)
    parser.setStringInput(InputLanguage.SMT_LIB_2_6, script, "obligation.smt2")
    said = []
    while not (command := parser.nextCommand()).isNull():
        said.append(command.invoke(solver, symbols).strip())
    return "".join(said)


def differing(obligations: tuple[Obligation, ...]) -> set[str]:
    """Return the obligations that cvc5 does not find proved."""
    return {each.name for each in obligations if answer(smt2(each)) != each.expected}


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.relative_to(EXAMPLES).as_posix())
def test_cvc5_agrees_on_every_obligation(path: Path) -> None:
    result = Pipeline(read_source(path), Files(None, is_locking=True)).result
    assert result.obligations
    refuted = differing(result.obligations)
    assert refuted.isdisjoint(result.proved)
    found = {finding.code for finding in result.findings} - {"AQ317"}
    assert bool(refuted) is bool(found)


def test_the_same_obligation_is_the_same_script() -> None:
    source = read_source(EXAMPLES / "radiology" / "policy.aqp")
    first, second = (Pipeline(source).result.obligations for _ in range(2))
    assert [smt2(one) for one in first] == [smt2(one) for one in second]
