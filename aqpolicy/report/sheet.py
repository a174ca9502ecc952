"""A document for people as plain data: parts with headings, made of a few kinds of blocks.

Nothing here knows HTML or Markdown; every text is untrusted and is escaped by
whoever renders it. Shares are millionths.
"""

from __future__ import annotations

from dataclasses import dataclass

from aqpolicy.report.data import Table


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph; a quiet one is an aside."""

    text: str
    is_quiet: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list, with the words that lead into it."""

    lead: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with values."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Shares:
    """What is admitted to each group."""

    lead: str
    rows: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Shares by class of observation and by group."""

    caption: str
    corner: str
    groups: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Signatures:
    """Room for people to sign what is named by digests."""

    statement: str
    digests: tuple[tuple[str, str], ...]
    places: int


@dataclass(frozen=True, slots=True)
class Card:
    """Blocks that belong together, under a title; the tags are a word or two each."""

    title: str
    blocks: tuple[Block, ...]
    tags: tuple[str, ...] = ()


Block = Paragraph | Items | Facts | Shares | Matrix | Table | Signatures | Card


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the document; `anchor` is unique in it."""

    anchor: str
    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The whole document."""

    title: str
    subtitle: str
    parts: tuple[Part, ...]
    footer: str
