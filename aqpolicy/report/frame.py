"""The frame of every page: self-contained, navigable, and nothing in it runs or styles that is not named by digest."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from aqpolicy.report.markup import text


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a page; `body` is HTML."""

    anchor: str
    heading: str
    body: str
    tools: bool = False
    """Whether the page's script may sort its tables."""


def security_policy(style: str, script: str = "") -> str:
    """Return the content security policy of a page: nothing but its own style and script."""
    allowed = f"script-src {_digest(script)}; " if script else ""
    return f"default-src 'none'; style-src {_digest(style)}; {allowed}base-uri 'none'; form-action 'none'"


def render_page(
    title: str, subtitle: str, sections: Sequence[Section], footer: str, *, style: str, script: str = ""
) -> str:
    """Return a whole page; sections without a body are left out.

    Args:
        title: Plain text.
        subtitle: Plain text.
        sections: In order.
        footer: HTML.
        style: The style sheet.
        script: What runs on the page, or nothing.
    """
    shown = [section for section in sections if section.body]
    links = "".join(f'<li><a href="#{text(one.anchor)}">{text(one.heading)}</a></li>' for one in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{security_policy(style, script)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="generator" content="aqpolicy">'
        f"<title>{text(title)}</title><style>{style}</style></head>\n<body>"
        '<a class="skip" href="#main">Skip to the content</a>'
        f'<header><h1>{text(title)}</h1><p class="lead">{text(subtitle)}</p></header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        f'<main id="main" tabindex="-1">{"".join(map(_section, shown))}</main>\n'
        f"<footer>{footer}</footer>{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def _section(section: Section) -> str:
    anchor = text(section.anchor)
    heading = f'<h2 id="{anchor}-h">{text(section.heading)}</h2>'
    tools = " data-tools" if section.tools else ""
    return f'<section id="{anchor}"{tools} aria-labelledby="{anchor}-h">{heading}{section.body}</section>\n'


def _digest(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
