"""`aqpolicy inspect` shows everything that a bundle may hold, also what no gate enforces yet."""

from __future__ import annotations

from aqpolicy.bundle import Bundle
from aqpolicy.cli.inspect import lines
from aqpolicy.compiler import compile_with_examples
from aqpolicy.diagnostics import Source
from aqpolicy.model import load_policy

TEXT = """\
policy t version 1.0.0
taxonomy t version 1 { authority crowd < board  attribute doubt : number 0..1 }
depth from input { surface = modules "a"; head = modules "b" }
profile full { all 1 }
evidence { weigh authority: crowd 0.25; board 4 one per session, model at least 0.5 at most 8 }
rule r "All of it" when evidence >= 1 admit full limit head share 1 - 0.5 * doubt
rule watch when authority is board verify gold.accuracy falls at most 0.01 within 200 steps else rollback
rule wait when surprisal > 3 nat defer until doubt < 0.5 for at most 2 epochs then deny
budget b on all surprisal at most 9 nat per run, at most 1 nat per update
  movement at most 0.5 l2 per step on exhaust deny
otherwise deny because "no"
"""


def test_every_part_of_a_bundle_is_shown() -> None:
    tables = compile_with_examples(load_policy(Source("t.aqp", TEXT))).tables
    places = {"r": "t.aqp:6", "watch": "t.aqp:7", "wait": "t.aqp:8", "budget b": "t.aqp:9"}
    parameters = ((("a.weight", (1,)),), (("b.weight", (1,)),))
    shown = "\n".join(lines(Bundle(tables, "t", "1.0.0", "t@1", parameters, {}, places, ("proved: x",))))
    for part in (
        "requires  ",
        "linear share",
        "  doubt      signed in the manifest, ",
        "  evidence   weighed, ",
        "  surprisal  measured in the run, 2 kinds of value",
        "  by authority: crowd 0.25, board 4\n",
        "  judgments that share a session or model count once\n",
        "  from 0.5 to 8\n",
        "head at most 1 + -0.5 * doubt\n",
        "asks ",
        "waits for ",
        "(rule wait)  [t.aqp:8]",
        "movement at most 0.5 l2 per step",
        "proved: x",
    ):
        assert part in shown
