"""Render a sheet as one self-contained HTML page that prints well.

No request leaves it and no script runs in it. Every text is escaped; a digest names
the style sheet.
"""

from __future__ import annotations

import re
from typing import Final

from aqpolicy.report.data import Table
from aqpolicy.report.frame import Section, render_page
from aqpolicy.report.heatmap import LEVELS
from aqpolicy.report.markup import facts, table, text
from aqpolicy.report.sheet import Block, Card, Facts, Items, Matrix, Paragraph, Part, Shares, Sheet, Signatures
from aqpolicy.report.style import STYLE
from aqpolicy.units import MICRO, micro_text

_BAR: Final = 220
"""Pixels of a bar for a share of 1."""

_QUIET: Final = ' class="note"'

_LONG: Final = ' class="long"'
_MANY: Final = 12
"""Items of a list that still stand in one column."""

_CODE: Final = re.compile(r"`([^`]+)`")

_STYLE: Final = (
    STYLE
    + """
.card>h3{margin-top:.1rem;display:flex;flex-wrap:wrap;gap:.3rem .6rem;align-items:baseline}
.card>p:last-child,.card>ul:last-child{margin-bottom:.2rem}
.card ul{padding-left:1.2rem;margin:.4rem 0}.card li{margin:.15rem 0}
ul.long{columns:2;column-gap:2.5rem;font-size:.92rem}ul.long li{break-inside:avoid}
table.shares td,table.shares th{border:0;padding:.15rem 1rem .15rem 0;vertical-align:middle}
svg .track{fill:var(--faint)}
table.heat td{min-width:6.5rem;text-align:center}table.heat thead td{border:0}
.sign{border:1px solid var(--soft);border-radius:8px;padding:1.2rem 1.4rem;margin:1rem 0;break-inside:avoid}
.sign table{width:100%}.sign td{height:3.4rem;border-bottom:1px solid var(--ink);padding-right:1.2rem}
.sign th{border-bottom:0;color:var(--soft);font-weight:500}.sign td+td{border-left:1rem solid transparent}
td:last-child{overflow-wrap:anywhere}
@page{margin:17mm 15mm}
@media(max-width:40rem){ul.long{columns:1}}
@media print{header{padding-top:0}h2{margin-top:1.8rem}main,header,footer{max-width:none;padding-left:0;padding-right:0}
tr,.scroll{break-inside:avoid}footer{padding:1.5rem 0 0}
table.heat td,svg{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
)


def render_sheet(sheet: Sheet) -> str:
    """Return the whole page."""
    parts = [_part(part) for part in sheet.parts]
    return render_page(sheet.title, sheet.subtitle, parts, _prose(sheet.footer), style=_STYLE)


def _part(part: Part) -> Section:
    return Section(part.anchor, part.heading, _blocks(part.blocks))


def _blocks(blocks: tuple[Block, ...]) -> str:
    return "".join(map(_block, blocks))


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return f"<p{_QUIET if block.is_quiet else ''}>{_prose(block.text)}</p>"
        case Items():
            return _items(block)
        case Facts():
            return facts(block.pairs)
        case Table():
            return table(block)
        case Shares():
            return _shares(block)
        case Matrix():
            return _matrix(block)
        case Signatures():
            return _signatures(block)
        case Card():
            tags = "".join(f' <span class="tag plain">{text(tag)}</span>' for tag in block.tags)
            heading = f"<h3><span>{_prose(block.title)}</span>{tags}</h3>"
            return f'<article class="card">{heading}{_blocks(block.blocks)}</article>'


def _prose(words: str) -> str:
    """Return text with what stands between backticks shown as code."""
    return _CODE.sub(r"<code>\1</code>", text(words))


def _items(block: Items) -> str:
    lead = f"<p>{_prose(block.lead)}</p>" if block.lead else ""
    items = "".join(f"<li>{_prose(item)}</li>" for item in block.items)
    return f"{lead}<ul{_LONG if len(block.items) > _MANY else ''}>{items}</ul>"


def _shares(block: Shares) -> str:
    top = max(MICRO, *(share for _, share in block.rows))
    rows = "".join(
        f'<tr><th scope="row">{text(group)}</th><td>{_bar(share, top)}</td><td class="n">{micro_text(share)}</td></tr>'
        for group, share in block.rows
    )
    return f'<p>{text(block.lead)}</p><table class="shares"><tbody>{rows}</tbody></table>'


def _bar(share: int, top: int) -> str:
    filled = share * _BAR // top
    return (
        f'<svg width="{_BAR}" height="10" viewBox="0 0 {_BAR} 10" aria-hidden="true">'
        f'<rect class="track" width="{_BAR}" height="10" rx="3"/>'
        f'<rect class="a" width="{filled}" height="10" rx="3"/></svg>'
    )


def _matrix(block: Matrix) -> str:
    head = "".join(f'<th scope="col">{text(group)}</th>' for group in block.groups)
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(map(_cell, shares))}</tr>' for name, shares in block.rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(block.caption)}"><table class="heat">'
        f"<caption>{text(block.caption)}</caption><thead><tr><td>{text(block.corner)}</td>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(share: int) -> str:
    # A little is never shown as nothing, and not quite all never as all.
    level = min(max(share * LEVELS // MICRO, 1), LEVELS - 1) if 0 < share < MICRO else LEVELS * (share > 0)
    words = "closed" if share == 0 else "open" if share == MICRO else "amplified" if share > MICRO else "in part"
    return f'<td class="h{level}"><b>{micro_text(share)}</b><span>{words}</span></td>'


def _signatures(block: Signatures) -> str:
    columns = ("Name", "Role", "Date", "Signature")
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    places = f"<tr>{'<td></td>' * len(columns)}</tr>" * block.places
    return (
        f'<div class="sign"><p>{text(block.statement)}</p>{facts(block.digests)}'
        f"<table><thead><tr>{head}</tr></thead><tbody>{places}</tbody></table></div>"
    )
