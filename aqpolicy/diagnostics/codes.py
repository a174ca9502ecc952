"""The registry of diagnostic codes: number, slug, one-line title.

AQ1xx is syntax, AQ2xx names, types and units, AQ3xx what the checker proves. A
code never changes its meaning; a code that is dropped is not used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of diagnostic."""

    number: str
    slug: str
    title: str


_ALL: Final = (
    Code("AQ101", "unexpected-word", "something stands where the grammar asks for something else"),
    Code("AQ102", "unexpected-character", "a character that the language does not use"),
    Code("AQ103", "unclosed-text", "a text in quotes does not end on its line"),
    Code("AQ104", "reserved-word", "a word of the language stands where a name should"),
    Code("AQ105", "unexpected-end", "the file ends inside a statement"),
    Code("AQ106", "nested-too-deep", "parentheses are nested deeper than 64"),
    Code("AQ107", "hidden-character", "a character that cannot be seen, or reorders the text around it"),
    Code("AQ108", "source-too-large", "the file is larger than a policy may be"),
    Code("AQ110", "not-in-this-version", "part of the language, but not of this version"),
    Code("AQ201", "unknown-name", "a name that nothing declares"),
    Code("AQ202", "duplicate-name", "two things of one kind have the same name"),
    Code("AQ203", "wrong-type", "a value or comparison does not fit the attribute's type"),
    Code("AQ204", "out-of-domain", "a value outside what the attribute can be"),
    Code("AQ205", "share-range", "a share is not between 0 and 1"),
    Code("AQ206", "inexact-number", "a number has more than six decimals, or is too large"),
    Code("AQ207", "unit-mismatch", "a number has another unit than what it is compared with"),
    Code("AQ208", "reference-cycle", "rules override, or budgets lie within, each other in a circle"),
    Code("AQ209", "override-of-non-grant", "`overrides` relates rules that do not both admit something"),
    Code("AQ210", "missing-statement", "a statement that every policy needs is not there"),
    Code("AQ211", "repeated-statement", "a statement or clause that may stand only once stands twice"),
    Code("AQ212", "unordered-comparison", "an order is asked of values that have none"),
    Code("AQ213", "budget-without-limit", "a budget limits nothing"),
    Code("AQ214", "admitted-outside-prove", "`admitted(...)` stands outside a `prove` statement"),
    Code("AQ215", "empty-policy", "a policy has no rules"),
    Code("AQ216", "definition-cycle", "a definition uses itself"),
    Code("AQ217", "missing-clause", "a budget lacks a clause that it needs"),
    Code("AQ218", "condition-too-large", "a condition is too large once its definitions are filled in"),
    Code("AQ219", "empty-range", "a range or block holds nothing"),
    Code("AQ300", "not-proven", "the solver could not decide a question; this is never a pass"),
    Code("AQ301", "conflicting-grants", "two applicable grants differ on a group and neither overrides the other"),
    Code("AQ302", "unbounded", "an admitted observation reaches a group that no finite budget covers"),
    Code("AQ303", "conflicting-budgets", "budgets contradict each other"),
    Code("AQ305", "dead-rule", "a rule's guard can never hold"),
    Code("AQ308", "refuted-proof", "a `prove` statement does not hold"),
    Code("AQ320", "depth-does-not-fit", "a depth group and the model's parameters do not fit together"),
    Code("AQ321", "ungateable-module", "a governed module cannot be gated exactly"),
)

CODES: Final = MappingProxyType({code.number: code for code in _ALL})
"""Every code by its number."""
