"""A small policy with something of everything that tests of `test`, `why` and `diff` ask about."""

from __future__ import annotations

from pathlib import Path

from support.policy_text import SMALL

CLINIC = (
    SMALL
    + """\
define agreed(level) = consensus >= level and judgments >= 3
rule truth "Agreed by qualified readers" when authority >= expert and agreed(0.9) admit full overrides hint
rule hint "Only a hint" when authority >= expert admit weak
rule rejected when review is rejected deny all because "the label was rejected"
rule gentle when consensus < 0.5 limit surface norm 0.1 limit head share 0.125
budget everything on all surprisal at most 100 nat per run, at most 6 nat per update on exhaust deny
test "boards that agree shape everything" {
  given authority is board and review is approved and consensus >= 0.95 and judgments >= 5
  expect admit by truth
}
"""
)

BOARD = "authority=board, review=approved, consensus=0.95, judgments=5"


def write_policy(folder: Path, text: str = CLINIC, name: str = "clinic.aqp") -> str:
    """Write a policy and return its path."""
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)
