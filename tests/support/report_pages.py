"""A report with one text everywhere, and a reader of pages that keeps elements in order."""

from __future__ import annotations

from html.parser import HTMLParser

from aqpolicy.diagnostics import Diagnostic, Label, Span
from aqpolicy.report import (
    Bars,
    BurnDown,
    Chapter,
    Comparison,
    HeatMap,
    LogPart,
    Measured,
    PolicyPart,
    Report,
    Table,
    TraceView,
    Why,
)

VOID = {"meta", "br", "input", "line", "rect"}


class Page(HTMLParser):
    """Elements, balance and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.bodies: dict[str, list[str]] = {"style": [], "script": []}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.bodies:
            self.bodies[self.open[-1]].append(data)


def a_report(text: str = "name") -> Report:
    span = Span("p.aqp", 0, 1, 1, 1)
    finding = Diagnostic("AQ301", "error", text, (Label(span, text),), (text,), (text,), {text: text})
    leaf = Why("signed observation", text, text, None, ((text, text),), text)
    return Report(
        title=text,
        subtitle=text,
        chapters=(Chapter(text, text, "planted"),),
        facts=((text, text),),
        policies=(PolicyPart(text, f'# {text}\npolicy {text} "{text}"', (finding,), text, text),),
        heat_maps=(HeatMap(text, text, (text,), (text, "b"), ((1.0, 0.0),), ((3.0, 0.0),)),),
        budgets=(BurnDown(text, text, 10.0, ((0, 10.0), (1, 4.0)), 2),),
        comparison=Comparison(text, (text,), ((text, (Measured((1.0, 2.0)),)),), (text,)),
        displacement=(Bars(text, text, text, (text,), ((text, (Measured((1.0, 3.0)),)),)),),
        traces=(
            TraceView(
                text,
                text,
                Why("behaviour", text, children=(leaf, leaf)),
                ((text, text),),
                Table(text, (text,), ((text,),)),
            ),
        ),
        footprint=Table(text, (text, text), ((text, text),), (0,), text),
        log=LogPart(text, ((text, text),), text),
        limits=(text,),
    )
