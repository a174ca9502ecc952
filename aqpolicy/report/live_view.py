"""Draw how a run stands as lines of text: for a terminal, in colour or not, in any width.

Every drawing says in words what its colours say; `Look` knows what the terminal can show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from aqpolicy.report.live_bands import draw_bands
from aqpolicy.report.live_data import LiveBudget, LiveGroup, LiveRun
from aqpolicy.report.live_look import BAD, BANDS, BOLD, FAINT, GOOD, WARM, Look

NARROWEST: Final = 40
TALLEST_CHART: Final = 8
LOWEST_CHART: Final = 4
CHART_FRAME: Final = 2
"""Lines of the chart besides its rows."""
SHORTEST_SECTION: Final = 3

SILENT_AFTER: Final = 30.0
"""Seconds without a word from the training after which that is said."""

TIGHT: Final = 0.9
"""The part of a limit from which on it is marked."""

SHORTEST_NAME: Final = 6
SHORTEST_BAR, LONGEST_BAR = 4, 60


def frame(live: LiveRun, run: str, now: float, look: Look, *, columns: int, rows: int | None = None) -> list[str]:
    """Return the lines of one drawing.

    Args:
        live: How the run stands.
        run: What the run is called.
        now: Seconds since 1970.
        look: What the terminal can show.
        columns: How wide the lines may be.
        rows: How many there may be; None for as many as it takes.
    """
    width = max(columns, NARROWEST)
    head = [*_head(live, run, now, look, width)]
    lists = [_groups(live.groups, look, width), _budgets(live.budgets, look, width), _waiting(live, look, width)]
    sections = [section for section in (*lists, _slow(live, look, width)) if section]
    if rows is None:
        return _spaced([head, _chart(live, look, width, TALLEST_CHART), *sections])
    room = rows - len(head)
    height = min(max(room - sum(map(len, sections)) - CHART_FRAME, LOWEST_CHART), TALLEST_CHART)
    chart = _chart(live, look, width, height)
    whole = [head, chart, *_cut(sections, room - len(chart))]
    spaced = _spaced(whole)
    return spaced if len(spaced) <= rows else [line for section in whole for line in section][:rows]


def _spaced(sections: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of all sections, an empty one before each but the first."""
    return [line for section in sections for line in ("", *section)][1:]


def _cut(sections: Sequence[list[str]], room: int) -> list[list[str]]:
    """Shorten the longest sections until all fit; each says how much it leaves out."""
    sizes = [len(section) for section in sections]
    while sum(sizes) > room and max(sizes) > SHORTEST_SECTION:
        sizes[sizes.index(max(sizes))] -= 1
    return [
        section if len(section) == size else [*section[: size - 1], f"  and {len(section) - size + 1} more"]
        for section, size in zip(sections, sizes, strict=True)
    ]


def _head(live: LiveRun, run: str, now: float, look: Look, width: int) -> Iterator[str]:
    age = max(now - live.written, 0.0)
    said, style = _standing(live, age)
    title = clipped(f"{live.policy}  {run}" if live.policy else run, width - len(said) - 2)
    yield f"{look.paint(title, BOLD)}{' ' * (width - len(title) - len(said))}{look.paint(said, style)}"
    if live.ended.startswith("halted"):
        yield look.paint(clipped(live.ended, width), BAD)
    facts = [f"step {live.step}", f"epoch {live.epoch}"]
    facts += [f"{kind} {name}" for kind, name in (("phase", live.phase), ("stage", live.stage)) if name]
    speed = "" if live.rate is None else f"{live.rate:.3g} steps/s, "
    facts += [f"{speed}{duration(live.elapsed)}", f"{sum(live.visits)} visits", f"dated {live.today.isoformat()}"]
    yield from wrapped(facts, width)


def _standing(live: LiveRun, age: float) -> tuple[str, str]:
    """Return whether the run goes on, and how that is coloured."""
    if live.ended:
        halted = live.ended.startswith("halted")
        return f"{'halted' if halted else live.ended} {duration(age)} ago", BAD if halted else GOOD
    if age > SILENT_AFTER:
        return f"no word for {duration(age)}", WARM
    return f"running, seen {duration(age)} ago", GOOD


def _chart(live: LiveRun, look: Look, width: int, height: int) -> list[str]:
    """Return what became of the visits, over the steps."""
    if not live.history or live.history[0].step == live.history[-1].step:
        return ["No step yet"]
    first, last = live.history[0], live.history[-1]
    sums = [after - before for before, after in zip(first.amounts, last.amounts, strict=True)]
    whole = sum(sums) or 1.0
    what = "Gradient mass of the visits" if live.by_mass else "Visits (norms are not recorded)"
    rows = zip(_axis(height), draw_bands(live.history, look, width - 6, height), strict=True)
    legend = (
        f"{look.paint(look.mark(band), band.style)} {band.word} {sums[band.effect] / whole:.0%}" for band in BANDS
    )
    return [
        _titled(what, f"steps {first.step} to {last.step}", look, width),
        *(f"{label:>4}  {line}" for label, line in rows),
        f"      {'   '.join(legend)}",
    ]


def _axis(height: int) -> list[str]:
    labels = [""] * height
    labels[0], labels[-1] = "100%", "0%"
    if height > 4:
        labels[height // 2] = "50%"
    return labels


def _groups(groups: Sequence[LiveGroup], look: Look, width: int) -> list[str]:
    if not any(group.admitted is not None for group in groups):
        return []
    names = _column([group.name for group in groups], width // 3)
    room = min(width - names - 12, LONGEST_BAR)
    lines = [_titled("Depth groups", "gradient mass admitted", look, width)]
    for group in groups:
        part = group.admitted or 0.0
        said = "" if group.admitted is None else f"{part:.0%}"
        lines.append(f"  {clipped(group.name, names):<{names}}  {look.bar(part, room, GOOD)} {said:>5}")
    return lines


def _budgets(budgets: Sequence[LiveBudget], look: Look, width: int) -> list[str]:
    if not budgets:
        return []
    windows = max(len(_window(budget)) for budget in budgets)
    amounts = max(len(_amount(budget)) for budget in budgets)
    thens = max(len(budget.on_exhaust) for budget in budgets)
    room = width - windows - amounts - thens - 17
    names = _column([budget.name for budget in budgets], room - SHORTEST_BAR)
    room = max(min(room - names, LONGEST_BAR), SHORTEST_BAR)
    lines = [_titled("Budgets", "spent of limit, and what happens then", look, width)]
    for budget in budgets:
        tight = budget.part > TIGHT
        style = BAD if tight else GOOD
        said = "" if budget.spent is None else f"{budget.part:.0%}"
        row = f"  {clipped(budget.name, names):<{names}}  {_window(budget):<{windows}}  "
        row += f"{look.bar(budget.part, room, style)} {look.paint(f'{said:>4}', style if tight else '')}"
        row += f"{look.paint('!', style) if tight else ' '} {_amount(budget):>{amounts}}  {budget.on_exhaust}"
        lines.append(row)
    return lines


def _window(budget: LiveBudget) -> str:
    return f"{budget.meter} per {budget.window}"


def _amount(budget: LiveBudget) -> str:
    spent = "?" if budget.spent is None else f"{budget.spent:.4g}"
    return f"{spent} of {budget.limit:.4g} {budget.unit}"


def _waiting(live: LiveRun, look: Look, width: int) -> list[str]:
    if not live.waiting:
        return []
    said = (f"  {wait.example}  since step {wait.step}, epoch {wait.epoch}: {wait.why}" for wait in live.oldest)
    number = "1 example" if live.waiting == 1 else f"{live.waiting} examples, the oldest first"
    return [_titled("Waiting", number, look, width), *(clipped(line, width) for line in said)]


def _slow(live: LiveRun, look: Look, width: int) -> list[str]:
    if not live.slow:
        return []
    lines = wrapped(live.slow, width - 2)
    return [_titled("Slow layers", "exact, one example at a time", look, width), *(f"  {line}" for line in lines)]


def _titled(title: str, said: str, look: Look, width: int) -> str:
    return f"{look.paint(title, BOLD)}  {look.paint(clipped(said, width - len(title) - 2), FAINT)}"


def _column(names: Sequence[str], room: int) -> int:
    """Return how wide a column of names is."""
    return min(max(map(len, names)), max(room, SHORTEST_NAME))


def clipped(text: str, width: int) -> str:
    """Return a text that is no wider; two dots stand for what is missing."""
    return text if len(text) <= width else f"{text[: max(width - 2, 0)]}.."


def wrapped(facts: Sequence[str], width: int) -> Iterator[str]:
    """Yield facts side by side, in as many lines as it takes."""
    line = ""
    for fact in facts:
        longer = f"{line}   {fact}" if line else fact
        if line and len(longer) > width:
            yield clipped(line, width)
            longer = fact
        line = longer
    yield clipped(line, width)


def duration(seconds: float) -> str:
    """Return a stretch of time in its largest unit."""
    for name, length in (("day", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            count = int(seconds // length)
            return f"{count} {name}{'s' if name == 'day' else ''}"
    return f"{int(seconds)} s"
