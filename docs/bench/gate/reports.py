"""The tables and the curves that a run's numbers make; each says beside it what was promised and whether it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from draw import Chart, Line

from aqpolicy.report.data import Table

from . import targets
from .growth import AXES, DECIDING
from .peers import PEERS
from .results import Cell, Results
from .ways import TITLES

NONE = "–"
Verdict = tuple[str, str]
"""A target and whether it is met, as text."""


def tables(results: Results) -> Iterator[Table]:
    """Return every table, in the order in which they are read."""
    for device in results.devices:
        for key in results.titles:
            yield from _core(results, key, device)
        yield from _beside_peers(results, device)
        for key in results.titles:
            yield from _whole(results, key, device)
        for axis, (unit, _, _) in AXES.items():
            yield from _growth(results, axis, unit, device)
    for axis, (unit, _, _) in DECIDING.items():
        yield from _deciding(results, axis, unit)


def charts(results: Results) -> Iterator[Chart]:
    """Return two charts per axis: how many times plain training, and how many milliseconds more."""
    for device in results.devices:
        for axis, (unit, _, _) in AXES.items():
            cells = [cell for cell in results.of(axis, device) if cell.values and cell.mode != "plain"]
            modes = list(dict.fromkeys(cell.mode for cell in cells))
            if not cells:
                continue
            ratio, extra = (
                tuple(Line(TITLES[mode], _points(results, cells, mode, what)) for mode in modes)
                for what in ("cpu", "extra")
            )
            yield Chart(f"By {unit} ({device}): times plain training", unit, "CPU time, ratio", ratio, floor=0.9)
            yield Chart(f"By {unit} ({device}): more per step", unit, "milliseconds", extra)
    for axis, (unit, _, _) in DECIDING.items():
        points = tuple((float(cell.subject), cell.values["microseconds"]) for cell in results.of(axis))
        if points:
            line = Line("decide and spend, 256 examples", points)
            yield Chart(f"Decisions by {unit}", unit, "microseconds", (line,))


def unmet(results: Results) -> list[str]:
    """Return what failed under the gate, in words."""
    peers = {peer.key for peer in PEERS}
    return [
        f"{cell.part} {cell.subject}, {cell.mode}: {cell.error}"
        for cell in results.cells
        if cell.error and cell.mode not in peers
    ]


def _core(results: Results, key: str, device: str) -> Iterator[Table]:
    cells = [cell for cell in results.of("core", device) if cell.subject == key]
    if not cells:
        return
    family, plain = results.families[key], cells[0].values
    columns = ("forward, loss, backward", "ms", "cpu", "wall", "quartiles", "target", "met")
    columns += ("first MB", "peak MB", "target", "met", "gradients", "norms", "exact")
    rows = []
    for cell in cells:
        v, time = cell.values, targets.TIMES[family].get(cell.mode)
        most = targets.memory_target(family, cell.mode, plain.get("megabytes"))
        peak = v.get("megabytes")
        rows.append(
            (
                TITLES[cell.mode],
                *_times(cell),
                *_at_most(v.get("cpu"), time, "{:.2f}"),
                NONE if peak is None else f"{v['first']:.1f}",
                NONE if peak is None else f"{peak:.1f}",
                *_at_most(peak, most, "{:.1f}"),
                *_exact(cell),
            )
        )
    yield Table(_titled(results, key, device), columns, tuple(rows), note=_errors(cells))


def _times(cell: Cell) -> tuple[str, ...]:
    v = cell.values
    if "cpu" not in v:
        return (NONE,) * 4
    return (f"{v['milliseconds']:.2f}", f"{v['cpu']:.3f}", f"{v['wall']:.3f}", f"{v['low']:.3f}..{v['high']:.3f}")


def _exact(cell: Cell) -> tuple[str, ...]:
    """Return the relative errors, and whether those of the gate are as small as promised."""
    gradients, norms = cell.values.get("gradients"), cell.values.get("norms")
    said = tuple(NONE if value is None else f"{value:.1e}" for value in (gradients, norms))
    if gradients is None or cell.mode in {peer.key for peer in PEERS}:
        return (*said, NONE)
    kept = gradients <= targets.GRADIENTS and (norms is None or norms <= targets.NORMS)
    return (*said, "yes" if kept else "NO")


def _beside_peers(results: Results, device: str) -> Iterator[Table]:
    rows, marked = [], []
    for key, title in results.titles.items():
        own = results.find("core", key, "clip", device)
        for peer in PEERS:
            cell = results.find("core", key, peer.key, device)
            if own is None or cell is None:
                continue
            kind = (results.families[key], peer.key)
            times, room = _quotient(cell, own, "cpu"), _quotient(cell, own, "megabytes")
            if cell.error:
                marked.append(len(rows))
            rows.append(
                (
                    f"{title}: {peer.title}" + (" (weaker)" if peer.weaker else ""),
                    NONE if times is None else f"{times:.2f}",
                    *_at_least(times, targets.PEERS.get(kind)),
                    NONE if room is None else f"{room:.2f}",
                    *_at_least(room, targets.PEER_MEMORY.get(kind)),
                    f"fails: {cell.error}" if cell.error else "",
                )
            )
    if rows:
        caption = f"Peers on the same step, as multiples of the gate's clip by CPU time and by peak memory ({device})"
        columns = ("peer", "times", "target", "met", "memory", "target", "met", "")
        note = "Weaker: one limit for the whole gradient of an example, no shares, no groups."
        yield Table(caption, columns, tuple(rows), tuple(marked), note)


def _whole(results: Results, key: str, device: str) -> Iterator[Table]:
    cells = [cell for cell in results.of("whole", device) if cell.subject == key]
    if not cells:
        return
    goals, rows = targets.TIMES[results.families[key]], []
    for cell in cells:
        goal = None if cell.mode not in goals else goals[cell.mode] + targets.WHOLE_STEP
        rows.append((TITLES[cell.mode], *_times(cell), *_at_most(cell.values.get("cpu"), goal, "{:.2f}")))
    columns = ("everything on: optimizer, bundle, manifest, ledger, log", "ms", "cpu", "wall", "quartiles")
    yield Table(_titled(results, key, device), (*columns, "target", "met"), tuple(rows), note=_errors(cells))


def _growth(results: Results, axis: str, unit: str, device: str) -> Iterator[Table]:
    cells = list(results.of(axis, device))
    modes = list(dict.fromkeys(cell.mode for cell in cells if cell.mode != "plain"))
    rows = []
    for place in dict.fromkeys(cell.subject for cell in cells):
        here = {cell.mode: cell for cell in cells if cell.subject == place}
        base = here["plain"].values["milliseconds"]
        row = [place, f"{base:.1f}"]
        for mode in modes:
            v = here[mode].values
            row += [f"{v['cpu']:.3f}", f"{(v['wall'] - 1) * base:+.2f}"] if v else [NONE, NONE]
        rows.append(tuple(row))
    if rows:
        names = [name for mode in modes for name in (f"{mode} cpu", "more ms")]
        yield Table(f"By {unit} ({device})", (unit, "plain ms", *names), tuple(rows), note=_errors(cells))


def _deciding(results: Results, axis: str, unit: str) -> Iterator[Table]:
    cells = list(results.of(axis))
    rows = tuple((cell.subject, f"{cell.values['microseconds']:.0f}") for cell in cells)
    if rows:
        yield Table(f"Decide and spend for 256 examples, by {unit}", (unit, "microseconds"), rows)


def _points(results: Results, cells: Iterable[Cell], mode: str, what: str) -> tuple[tuple[float, float], ...]:
    points = []
    for cell in cells:
        if cell.mode != mode:
            continue
        plain = results.find(cell.part, cell.subject, "plain", cell.device)
        assert plain is not None
        more = (cell.values["wall"] - 1) * plain.values["milliseconds"]
        points.append((float(cell.subject), more if what == "extra" else cell.values[what]))
    return tuple(points)


def _at_most(value: float | None, most: float | None, form: str) -> Verdict:
    if most is None:
        return NONE, NONE
    return "<= " + form.format(most), NONE if value is None else "yes" if value <= most else "NO"


def _at_least(value: float | None, least: float | None) -> Verdict:
    if least is None:
        return NONE, NONE
    return f">= {least:.1f}", NONE if value is None else "yes" if value >= least else "NO"


def _quotient(cell: Cell, own: Cell, what: str) -> float | None:
    return cell.values[what] / own.values[what] if what in cell.values and own.values.get(what) else None


def _errors(cells: Iterable[Cell]) -> str:
    return "; ".join(f"{TITLES[cell.mode]}: {cell.error}" for cell in cells if cell.error)


def _titled(results: Results, key: str, device: str) -> str:
    return f"{results.titles[key]} ({device})"
