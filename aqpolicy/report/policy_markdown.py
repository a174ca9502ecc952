"""Render a sheet as Markdown, for where a page is read beside code.

Everything that Markdown or HTML would act on is escaped; a text is always one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from aqpolicy.diagnostics.words import visible
from aqpolicy.report.data import Table
from aqpolicy.report.sheet import Block, Card, Facts, Items, Matrix, Paragraph, Part, Shares, Sheet, Signatures
from aqpolicy.units import micro_text

_ACTIVE: Final = re.compile(r"([\\`*_{}\[\]<>#|~&!])")
_LINE_START: Final = re.compile(r"^(\s*|\s*\d+)(?:(?<!\d)([-+=])|(?<=\d)([.)])(?=\s|$))")
"""What would begin a list or underline a heading."""


def render_markdown(sheet: Sheet) -> str:
    """Return the whole document."""
    lines = [f"# {_text(sheet.title)}", "", _text(sheet.subtitle), ""]
    for part in sheet.parts:
        lines += _part(part)
    return "\n".join([*lines, "---", "", _text(sheet.footer), ""])


def _part(part: Part) -> Iterator[str]:
    yield from (f"## {_text(part.heading)}", "")
    for block in part.blocks:
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            yield from (_text(block.text), "")
        case Items():
            yield from ([_text(block.lead), ""] if block.lead else [])
            yield from (*(f"- {_text(item)}" for item in block.items), "")
        case Facts():
            yield from (*(f"- {_text(name)}: {_text(value)}" for name, value in block.pairs), "")
        case Table():
            yield from (f"**{_text(block.caption)}**", "", *_grid(block.columns, block.rows))
            yield from ([_text(block.note), ""] if block.note else [])
        case Shares():
            rows = ((group, micro_text(share)) for group, share in block.rows)
            yield from (_text(block.lead), "", *_grid(("depth group", "share"), rows))
        case Matrix():
            shares = ((name, *map(micro_text, row)) for name, row in block.rows)
            yield from (_text(block.caption), "", *_grid((block.corner, *block.groups), shares))
        case Signatures():
            yield from _signatures(block)
        case Card():
            tags = f" ({_text(', '.join(block.tags))})" if block.tags else ""
            yield from (f"### {_text(block.title)}{tags}", "")
            for inner in block.blocks:
                yield from _block(inner)


def _signatures(block: Signatures) -> Iterator[str]:
    yield from (_text(block.statement), "")
    yield from (*(f"- {_text(name)}: {_text(value)}" for name, value in block.digests), "")
    columns = ("Name", "Role", "Date", "Signature")
    yield from _grid(columns, [("",) * len(columns)] * block.places)


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(columns)
    yield _row(["---"] * len(columns), escaped=True)
    yield from map(_row, rows)
    yield ""


def _row(cells: Sequence[str], *, escaped: bool = False) -> str:
    return f"| {' | '.join(cells if escaped else map(_text, cells))} |"


def _text(value: str) -> str:
    """Return a text as one line that Markdown shows as it is."""
    escaped = _ACTIVE.sub(r"\\\1", visible(value))
    return _LINE_START.sub(r"\1\\\2\3", escaped)
