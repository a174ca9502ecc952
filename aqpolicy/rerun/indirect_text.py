"""How far closed groups move through other examples, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from aqpolicy.rerun.indirect import Indirect
from aqpolicy.trace.text import plain


def indirect_lines(found: Indirect) -> Iterator[str]:
    """Yield the measurement, with the claim that it stands beside."""
    yield f"run          {found.run}, {found.trainings} trainings, exchange {found.seed}"
    yield "depth group       examples      moved  displacement    part  denied everywhere"
    for one in found.groups:
        portion = "-" if one.part is None else f"{one.part:.3f}"
        yield (
            f"  {plain(one.group):<16} {one.examples:>7}  {one.moved:>9.4g}  {one.displacement:>12.4g}  {portion:>6}"
            f"  {one.control:>17g}"
        )
        if one.opened:
            yield f"    not only indirect: with other contents, {one.opened} visits of theirs were let into this group"
    if found.everywhere:
        yield f"  closed to nobody who wrote elsewhere: {', '.join(map(plain, found.everywhere))}"
    yield f"claim        {found.claim}"
    if not found.control_holds:
        yield "WRONG        denied examples moved a group: the recipe uses contents in other ways than through the gate"
