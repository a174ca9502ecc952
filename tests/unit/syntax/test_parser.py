"""From text to tree, and from slips to messages."""

from __future__ import annotations

import json

import pytest
from lark import Lark
from support.policy_text import RADIOLOGY

from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.errors import PolicyError
from aqpolicy.shipped import grammar_text, parse_tables_text
from aqpolicy.syntax import Tree, parse
from aqpolicy.syntax import tree as t
from aqpolicy.syntax.mistakes import STATEMENTS
from aqpolicy.syntax.tables import build_parser, parse_tables, policy_parser


def parsed(text: str) -> Tree:
    return parse(Source("policy.aqp", text))


def refused(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(PolicyError) as caught:
        parsed(text)
    return caught.value.diagnostics


def test_the_grammar_builds_without_conflict_or_collision() -> None:
    # Strict mode needs `interegular`, and refuses what plain LALR would settle in silence.
    assert Lark(grammar_text(), parser="lalr", strict=True, maybe_placeholders=True)


def test_the_statements_named_in_messages_are_those_of_the_grammar() -> None:
    rule = grammar_text().split("?statement:", 1)[1].split("\n\n", 1)[0]
    assert set(STATEMENTS) == {name.removesuffix("_") for name in rule.replace("|", " ").split()}


def test_every_statement_is_kept_in_the_order_written() -> None:
    kinds = [type(statement).__name__ for statement in parsed(RADIOLOGY).statements]
    assert kinds[:4] == ["PolicyDecl", "TaxonomyDecl", "DepthDecl", "DefineDecl"]
    assert len(kinds) == 16


def test_spans_point_at_the_very_words() -> None:
    rule = next(s for s in parsed(RADIOLOGY).statements if isinstance(s, t.RuleDecl))
    assert RADIOLOGY[rule.name.span.start : rule.name.span.end] == "board_truth"
    assert RADIOLOGY[rule.when.span.start : rule.when.span.end] == "authority >= attending and trustworthy"
    assert RADIOLOGY.split("\n")[rule.name.span.line - 1][rule.name.span.column - 1 :].startswith("board_truth")


def test_and_binds_tighter_than_or_and_not_tightest() -> None:
    (define,) = parsed("define d = a or not b and c").statements
    assert isinstance(define, t.DefineDecl)
    outer = define.condition
    assert isinstance(outer, t.Junction)
    assert outer.word == "or"
    inner = outer.terms[1]
    assert isinstance(inner, t.Junction)
    assert (inner.word, type(inner.terms[0])) == ("and", t.Negation)


def test_words_of_the_language_are_names_where_nothing_else_can_stand() -> None:
    (depth,) = parsed('depth from input { output = modules "x" run = modules "y" }').statements
    assert isinstance(depth, t.DepthDecl)
    assert [group.name.text for group in depth.groups] == ["output", "run"]


@pytest.mark.parametrize("separator", ["\n", " ", "\r\n", "\n\n# a comment\n\t"])
def test_layout_has_no_meaning(separator: str) -> None:
    words = ["rule", "r", "when", "anything", "deny", "all", "otherwise", "deny", "because", '"no"']
    assert len(parsed(separator.join(words)).statements) == 2


def test_several_errors_are_told_at_once_and_none_twice() -> None:
    text = "rule a wen x deny all\nrule b when x deny all\nprofile { all 1 }\nrule c when x denny all"
    found = [(d.code, d.labels[0].span.line) for d in refused(text)]
    assert found == [("AQ101", 1), ("AQ101", 3), ("AQ101", 4)]


def test_errors_are_counted_up_to_a_limit() -> None:
    assert len(refused("rule a wen x deny all\n" * 500)) == 20


def test_a_statement_without_its_name_is_told_at_the_word_taken_for_it() -> None:
    (found,) = refused("rule when authority is crowd deny all")
    assert (found.code, found.labels[0].span.column) == ("AQ104", 6)


WHOLE_LANGUAGE = [
    "extends org.base",
    'extends org.base from "base.aqp"',
    'import "shared/vocabulary.aqp"',
    "taxonomy t version 1 { attribute licensed : date 2020-01-01..2030-12-31 }",
    "bands of x { low < 1 nat; high }",
    "phases warm < main",
    "stages basic < advanced { advanced requires gold.accuracy >= 0.9 }",
    "evidence { weigh authority: crowd 0.25; board 4 one per session, model; at least 0; at most 8 }",
    'depth from output { protected head = modules "head", "pooler" to "out", experts "moe.*", "moe2.*" }',
    "define agreed(level, who) = consensus >= level and authority >= who",
    "profile p { from surface 1 to head 0.1 linear }",
    "profile p { surface to head 0.5 tapered over 2 groups; amplify tail 2 }",
    "rule r when agreed(0.9, board) until 2027-06-30 admit full",
    "rule r when band is settled and today < 2027-01-01 deny all",
    "rule r when x limit all share 1 - y limit head share 0.5 * y + 0.1 limit head share y",
    "rule r when x limit head frequency 1 per 10 steps",
    "rule r when x defer until y for at most 3 epochs then deny",
    "rule r when x verify gold.accuracy falls at most 0.01 within 200 steps else rollback",
    "rule r when x promote after gold.accuracy >= 0.9 witnessed by 2",
    "complete",
    "budget b on all movement at most 0.05 l2 per step drift at most 0.1 nat per phase",
    "assume epochs <= 3, steps <= 1000, examples <= 100",
    "prove admitted(head) rises with consensus",
    "prove never charged(b) > 0.5 and admitted(head) is 1",
    "prove spent(b) <= 3 nat given epochs <= 3, steps <= 10",
    'test "title" { given anything expect deny by r expect that admitted(head) is 0 }',
]


@pytest.mark.parametrize("text", WHOLE_LANGUAGE)
def test_every_construct_of_the_language_parses(text: str) -> None:
    assert len(parsed(text).statements) == 1


def test_a_word_of_the_language_may_be_a_name_where_it_opens_nothing() -> None:
    for word in ("movement", "drift", "date", "phase", "until", "linear", "given", "protected", "charged"):
        assert word not in STATEMENTS
        assert parsed(f"rule {word} when anything deny {word}")


def test_the_stored_parse_tables_are_those_of_the_grammar() -> None:
    stored, made = json.loads(parse_tables_text()), json.loads(parse_tables(grammar_text()))
    assert stored["made_of"]["grammar"] == made["made_of"]["grammar"], "run `make grammar`"


def test_the_parser_from_tables_reads_as_the_one_built_from_the_grammar() -> None:
    text = "\n".join(WHOLE_LANGUAGE)
    assert policy_parser().parse(text) == build_parser(grammar_text()).parse(text)


@pytest.mark.parametrize(("depth", "codes"), [(64, []), (65, ["AQ106"])])
def test_nesting_ends_at_a_limit(depth: int, codes: list[str]) -> None:
    text = f"define d = {'(' * depth}x{')' * depth}"
    if codes:
        assert [diagnostic.code for diagnostic in refused(text)] == codes
    else:
        assert parsed(text)


def test_a_text_that_is_too_large_is_not_parsed() -> None:
    (found,) = refused("#" * 1_000_001)
    assert found.code == "AQ108"


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\u202e", "\u200b", "\ud800", "\ufeff"])
def test_hidden_characters_are_refused_even_in_comments(character: str) -> None:
    (found,) = refused(f"# a comment{character}")
    assert (found.code, found.labels[0].span.column) == ("AQ107", 12)


def test_an_empty_text_parses_and_says_nothing() -> None:
    assert parsed("  # only a comment\n") == Tree(())


def test_a_statement_that_stands_where_another_is_unfinished_is_still_read() -> None:
    found = refused("rule a when x\nrule b wen y deny all")
    assert [(d.code, d.labels[0].span.line, d.labels[0].span.column) for d in found] == [
        ("AQ101", 2, 1),
        ("AQ101", 2, 8),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=", "a statement"),
        ("rule r when x =", "an action, a comparison, `and`, `or`, `until` or `(`"),
        ("rule r when x > 1 permit y", "an action, a unit, `and`, `or` or `until`"),
        ("rule r when anything admit full =", "a statement, an action or `overrides`"),
        ("budget b on all per update", "a statement or a clause"),
        ("budget b on all surprisal at most 1 per", "a unit"),
    ],
)
def test_words_that_are_expected_together_are_told_together(text: str, expected: str) -> None:
    (found,) = refused(text)
    assert found.message.startswith(f"expected {expected}, found ")


def test_a_word_that_nothing_is_near_is_answered_with_what_there_is() -> None:
    (found,) = refused("rule r when anything permit y")
    assert found.help == ("an action starts with `admit`, `deny`, `limit`, `defer`, `verify` or `promote`",)
    (found,) = refused("rule r when anything amdit y")
    assert found.help == ("did you mean `admit`?",)
    (found,) = refused("profile p { = }")
    assert found.help == ()
