"""A clean policy that uses most of the language, and every defect that can be planted in it."""

from __future__ import annotations

from dataclasses import dataclass

CLEAN = """\
policy planted.clean version 1.0.0

taxonomy planted.labels version 1 {
  authority crowd < resident < board
  review draft < approved; rejected
  attribute consensus : number 0..1
  attribute judgments : integer 0..20
  attribute label_entropy : number 0..2 nat
  attribute confidence : number 0..1
}

bands of label_entropy { settled < 0.5; contested < 1; unsettled }

phases warm < main

evidence {
  weigh authority: crowd 0.25; resident 1; board 4
  one per session
  at least 0; at most 8
}

depth from input {
  surface = modules "stem"
  protected semantic = modules "blocks"
  head = modules "head"
}

define agreed(level) = consensus >= level and judgments >= 3

profile full { all 1 }
profile hint { surface 0.5; head 1 }

rule truth "What the board agrees on"
  when authority is board and agreed(0.75) and review is approved
  admit full

rule hinted "Learn superficially from residents"
  when authority is resident and agreed(0.5)
  admit hint

rule gentle
  when consensus < 0.9
  limit surface norm 0.5

rule soft
  when authority is resident
  limit surface norm 1

rule rejected
  when review is rejected
  deny all because "a reviewer rejected this label"

rule early
  when phase is warm and authority is resident
  deny head because "the head comes later"

rule doubtful
  when band is unsettled
  defer until judgments >= 5 for at most 3 epochs then deny

rule thin
  when evidence < 1
  deny semantic because "too little evidence"

budget everything
  on all
  surprisal at most 1000 nat per run, at most 100 nat per epoch, at most 6 nat per update
  on exhaust halt

budget residents
  for authority is resident
  on surface, head
  within everything
  surprisal at most 500 nat per run, at most 50 nat per epoch, at most 6 nat per update
  exposures at most 4 per example
  on exhaust deny

assume epochs <= 3, steps <= 1000, examples <= 100

otherwise deny because "nobody says so"

prove never authority is crowd and admitted(semantic) > 0
prove admitted(semantic) rises with judgments
prove spent(residents) <= 150 nat given epochs <= 3

test "the board teaches everything" {
  given authority is board and agreed(0.95) and review is approved and band is settled and evidence >= 4
  expect admit by truth
  expect that admitted(semantic) is 1
}
"""


@dataclass(frozen=True, slots=True)
class Defect:
    """A change of the clean policy that plants one kind of finding, whatever else it brings."""

    name: str
    code: str
    old: str
    new: str

    def planted(self) -> str:
        assert CLEAN.count(self.old) == 1, self.name
        return CLEAN.replace(self.old, self.new)


def _added(name: str, code: str, text: str) -> Defect:
    return Defect(name, code, "assume epochs", f"{text}\n\nassume epochs")


DEFECTS = (
    _added("another grant", "AQ301", 'rule clash "Clash" when authority is board and agreed(0.9) admit hint'),
    Defect("a wider grant", "AQ301", "when authority is resident and agreed(0.5)", "when agreed(0.5)"),
    Defect("a group without a budget", "AQ302", "  on all\n  surprisal", "  on surface, head\n  surprisal"),
    Defect("no bound on one update", "AQ302", "100 nat per epoch, at most 6 nat per update", "100 nat per epoch"),
    Defect("a child above its parent", "AQ303", "at most 500 nat per run", "at most 5000 nat per run"),
    Defect(
        "a child beyond its parent", "AQ303", "  on all\n  surprisal", "  for consensus > 0.1\n  on all\n  surprisal"
    ),
    Defect("a floor above the ceiling", "AQ303", "at least 0; at most 8", "at least 9; at most 8"),
    Defect("a limit of nothing", "AQ304", "50 nat per epoch, at most 6 nat", "50 nat per epoch, at most 0 nat"),
    _added(
        "a budget for nobody",
        "AQ304",
        "budget idle for authority is crowd on all surprisal at most 5 nat per run, at most 1 nat per update",
    ),
    Defect("a contradiction", "AQ305", "when consensus < 0.9\n", "when consensus < 0.9 and consensus > 0.95\n"),
    _added(
        "a union that leaves nothing",
        "AQ306",
        "rule covered when consensus < 0.9 or authority is resident limit surface norm 1",
    ),
    _added("a copy", "AQ306", 'rule copy when review is rejected deny semantic because "again"'),
    Defect("a gap between bands", "AQ307", "contested < 1; unsettled }", "contested < 1; unsettled < 1.5 }"),
    Defect("bands that overlap", "AQ307", "settled < 0.5; contested < 1;", "settled < 1; contested < 0.5;"),
    Defect("a broken promise", "AQ308", "prove never authority is crowd", "prove never authority is board"),
    Defect("a share that falls", "AQ308", "semantic) rises with judgments", "semantic) falls with judgments"),
    Defect("more is spent", "AQ308", "<= 150 nat given epochs <= 3", "<= 140 nat given epochs <= 3"),
    Defect(
        "a promise about nothing",
        "AQ309",
        "prove never authority is crowd and",
        "prove never consensus < 0.5 and consensus > 0.6 and",
    ),
    Defect("a release that never comes", "AQ311", "defer until judgments >= 5", "defer until judgments < 1"),
    _added("one attribute opens", "AQ312", 'rule alone "Alone" when authority is board admit full'),
    Defect("a starved group", "AQ313", "profile full { all 1 }", "profile full { surface 1; head 1 }"),
    Defect("no bound beside a share", "AQ314", "  limit surface norm 1\n", "  limit head share 0.5\n"),
    Defect("nothing is left over", "AQ316", "assume epochs", "complete\n\nassume epochs"),
    _added("entropy alone admits", "AQ318", 'rule settled "Settled" when band is settled admit full'),
    Defect("a case that fails", "AQ319", "expect admit by truth", "expect deny"),
    Defect(
        "a case of nothing",
        "AQ319",
        "given authority is board and agreed(0.95)",
        "given authority is board and consensus < 0.1 and agreed(0.95)",
    ),
)
"""All defects that need no model and no second file: AQ310, AQ315, AQ320 to AQ322 are planted where those are."""
