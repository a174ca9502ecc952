"""Small pieces of HTML: escaping, facts, tables. Everything that goes into a page goes through `text`."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from unicodedata import category

from aqpolicy.report.data import Measured, Table


def text(value: object) -> str:
    """Return a value as HTML text that is also safe between double quotes of an attribute.

    Control characters and bidirectional overrides are shown as U+FFFD: they could
    make a signed text read like another one.
    """
    return escape("".join(char if _is_plain(char) else "\ufffd" for char in str(value)), quote=True)


def number(value: float) -> str:
    """Return a number with three digits that matter, for reading."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    if size < 0.0005:
        return f"{value:.1e}"
    return f"{value:.{3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0}f}"


def measured(value: Measured | str) -> str:
    """Return mean and spread as text."""
    if isinstance(value, str):
        return value
    spread = f" ± {number(value.spread)}" if len(value.values) > 1 else ""
    return f"{number(value.mean)}{spread}"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and values, or nothing for none."""
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def table(data: Table) -> str:
    """Return a table whose first column names the rows."""
    head = "".join(f'<th scope="col"{_numeric(data, at)}>{text(name)}</th>' for at, name in enumerate(data.columns))
    body = "".join(_row(data, at, row) for at, row in enumerate(data.rows))
    note = f'<p class="note">{text(data.note)}</p>' if data.note else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(data.caption)}"><table>'
        f"<caption>{text(data.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def _row(data: Table, at: int, row: tuple[str, ...]) -> str:
    marked = ' class="marked"' if at in data.marked else ""
    cells = "".join(f"<td{_numeric(data, column)}>{text(cell)}</td>" for column, cell in enumerate(row[1:], start=1))
    return f'<tr{marked}><th scope="row">{text(row[0])}</th>{cells}</tr>'


def _numeric(data: Table, column: int) -> str:
    """Right-align a column all of whose cells begin like numbers."""
    cells = [row[column] for row in data.rows if row[column] not in {"", "–"}]
    return ' class="n"' if column and cells and all(cell[0] in "+-−.0123456789" for cell in cells) else ""


def _is_plain(char: str) -> bool:
    """Whether a character shows as itself: no control, no hidden or turning format, no half of a pair."""
    return char in "\n\t" or category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
