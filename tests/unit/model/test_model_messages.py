"""What authors are told about names and files: the right place, sound sentences, a way out, and each thing once."""

from __future__ import annotations

import pytest
from support.judging import Shelf, Written
from support.policy_text import SMALL

from aqpolicy.diagnostics import Diagnostic
from aqpolicy.errors import PolicyError
from aqpolicy.model import load_policy
from aqpolicy.model.layers import MAX_LAYERS

RULE = "rule base when anything admit full\n"


def told(text: str, **files: str) -> tuple[Diagnostic, ...]:
    written = Written(text, {f"{name}.aqp": content for name, content in files.items()})
    with pytest.raises(PolicyError) as caught:
        load_policy(written.source, Shelf(written))
    return caught.value.diagnostics


def test_missing_statements_are_told_in_the_order_in_which_a_policy_is_written() -> None:
    found = [finding.message for finding in told(RULE.replace("admit full", "deny all"))]
    assert found == [f"the policy has no `{word}` statement" for word in ("policy", "taxonomy", "depth", "otherwise")]


def test_a_circle_of_budgets_starts_at_the_first_that_is_declared() -> None:
    budget = "budget {} on all within {} surprisal at most 1 nat per run\n"
    (found,) = told(SMALL + RULE + budget.format("one", "two") + budget.format("two", "one"))
    assert found.message == "budget `one` lies within itself"
    assert [label.text for label in found.labels] == ["lies within `two`", "lies within `one`"]


def test_a_budget_with_a_name_that_it_cannot_have_is_told_once() -> None:
    assert [finding.code for finding in told(SMALL + RULE + "budget all on all exposures at most 1 per example")] == [
        "AQ104"
    ]


@pytest.mark.parametrize(
    ("parameters", "said"), [("", "takes no values"), ("(x)", "takes 1 value"), ("(x, y)", "takes 2 values")]
)
def test_values_of_a_definition_are_counted_in_words(parameters: str, said: str) -> None:
    (found,) = told(f"{SMALL}{RULE}define d{parameters} = consensus > 0.5\nrule r when d(1, 2, 3) deny all\n")
    assert found.message == f"`d` {said}, not 3"


@pytest.mark.parametrize(
    ("statement", "pointed_at", "way_out"),
    [
        ('import "no/x.aqp"', '"no/x.aqp"', "a path is relative to the folder of the file that names it"),
        ('extends org.base from "no/x.aqp"', '"no/x.aqp"', "a path is relative to the folder of the file that names"),
        ("extends org.none", "org.none", 'to name its file, write `extends org.none from "PATH"`'),
        ("extends org.base", "org.base", "write `extends org.other`, or name the file that holds `org.base`"),
    ],
)
def test_a_file_that_is_not_there_is_told_with_where_it_was_looked_for(
    statement: str, pointed_at: str, way_out: str
) -> None:
    text = f"{SMALL}{RULE}{statement}\n"
    (found,) = told(text, base="policy org.other version 1.0.0")
    assert found.code == "AQ221"
    assert text[found.labels[0].span.start : found.labels[0].span.end] == pointed_at
    assert way_out in found.help[0]


@pytest.mark.parametrize(("more", "codes"), [(0, ["AQ201"]), (1, ["AQ222"])])
def test_files_that_lead_too_far_are_no_circle(more: int, codes: list[str]) -> None:
    last = MAX_LAYERS - 1 + more
    files = {f"f{n}": f'import "f{n + 1}.aqp"\n' for n in range(1, last)} | {f"f{last}": "define d = nobody > 1\n"}
    found = told(f'{SMALL}{RULE}import "f1.aqp"\n', **files)
    assert [finding.code for finding in found] == codes
    if more:
        assert found[0].message == f"more than {MAX_LAYERS} files lead to one another"
        assert found[0].labels[0].text == "one file too many"
