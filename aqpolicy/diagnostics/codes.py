"""The registry of diagnostic codes: number, slug, one-line title.

AQ1xx is syntax, AQ2xx names, types and units, AQ3xx what the checker proves,
AQ4xx style. A code never changes its meaning; a code that is dropped is not used again.
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
    Code("AQ220", "wrong-arguments", "a definition is used with another number of values than it has parameters"),
    Code("AQ221", "unreadable-import", "a file that is imported or extended cannot be found or read"),
    Code("AQ222", "import-cycle", "files import or extend each other in a circle"),
    Code("AQ223", "not-locked", "a file that is imported or extended is not the one in the lock"),
    Code(
        "AQ224",
        "misplaced-statement",
        "a statement that this kind of file may not hold, or that a layer below may not restate",
    ),
    Code("AQ225", "reserved-attribute", "a taxonomy declares an attribute that the language itself provides"),
    Code("AQ300", "not-proven", "the solver could not decide a question; this is never a pass"),
    Code("AQ301", "conflicting-grants", "two applicable grants differ on a group and neither overrides the other"),
    Code("AQ302", "unbounded", "an admitted observation reaches a group that no finite budget covers"),
    Code("AQ303", "conflicting-budgets", "budgets contradict each other"),
    Code("AQ304", "dead-budget", "a budget can never be charged, or its limit is below the least charge"),
    Code("AQ305", "dead-rule", "a rule's guard can never hold"),
    Code("AQ306", "shadowed-rule", "a rule never determines anything, because of the others together"),
    Code("AQ307", "bands-do-not-partition", "bands leave a gap, overlap, or hold nothing"),
    Code("AQ308", "refuted-proof", "a `prove` statement does not hold"),
    Code("AQ309", "vacuous-proof", "a `prove` statement holds only because what it speaks of never happens"),
    Code("AQ310", "widened-layer", "a policy admits what the policy that it extends does not"),
    Code("AQ311", "unreachable-release", "what a rule defers can never be released"),
    Code("AQ312", "opened-by-one-attribute", "one attribute alone opens a protected group"),
    Code("AQ313", "starved-group", "nothing can write a group above the stated share"),
    Code(
        "AQ314",
        "share-without-a-bound",
        "a share below 1 without a limit of norm or movement, under an adaptive optimizer",
    ),
    Code("AQ315", "beyond-capacity", "a budget exceeds the information that its groups can hold"),
    Code("AQ316", "left-to-otherwise", "observations that no rule admits or refuses"),
    Code("AQ317", "worst-case-spend", "the most that a budget can be charged over the declared run"),
    Code("AQ318", "admitted-by-entropy", "entropy or surprisal alone admits an observation"),
    Code("AQ319", "failed-case", "a test case does not hold"),
    Code("AQ320", "depth-does-not-fit", "a depth group and the model's parameters do not fit together"),
    Code("AQ321", "ungateable-module", "a governed module cannot be gated exactly"),
    Code("AQ322", "beyond-the-gate", "a promise of the language that the gate of this version cannot enforce"),
    Code("AQ401", "unused-declaration", "a definition or profile that nothing uses"),
    Code("AQ402", "untitled-grant", "a grant without a title, which is the reason that people will read"),
    Code("AQ403", "ignore-without-reason", "an ignore directive that is malformed or gives no reason"),
    Code("AQ404", "expired-ignore", "an ignore directive whose date has passed"),
    Code("AQ405", "unused-ignore", "an ignore directive that silences nothing"),
    Code("AQ406", "untested-policy", "a policy without a test case"),
)

CODES: Final = MappingProxyType({code.number: code for code in _ALL})
"""Every code by its number."""
