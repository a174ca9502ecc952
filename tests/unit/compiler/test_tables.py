"""Mask tables say what the policy says, in the least space."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aqpolicy.bundle import ERROR_ROW, NO_LIMIT, Row, StageTable, Tables
from aqpolicy.compiler import compile_tables, compile_with_examples, tabulate
from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError
from aqpolicy.model import Policy, load_policy

HEAD = """
policy test version 1.0.0
taxonomy t version 1 {
  authority crowd < expert < board
  review draft < approved; rejected
  attribute consensus : number 0..1
  attribute judgments : integer 0..10
}
depth from input { surface = modules "a"; head = modules "b" }
profile full { all 1 }
profile weak { surface 0.5 }
otherwise deny because "no rule admits it"
"""
BUDGET = """
budget crowd for authority is crowd on surface
  surprisal at most 10 nat per epoch, at most 100 nat per run, at most 6 nat per update
  exposures at most 4 per example
  on exhaust attenuate
"""


def policy_of(text: str) -> Policy:
    return load_policy(Source("test.aqp", HEAD + text))


def tables_of(text: str) -> Tables:
    return compile_tables(policy_of(text))


def observed(**changes: object) -> dict[str, object]:
    return {"authority": "expert", "review": "approved", "consensus": 900_000, "judgments": 3_000_000, **changes}


def row_of(tables: Tables, **changes: object) -> Row:
    return tables.rows[tables.row_of(observed(**changes))]


def test_a_grant_admits_exactly_where_its_guard_holds() -> None:
    tables = tables_of("rule r when consensus >= 0.5 and judgments > 2 admit full")
    assert row_of(tables, consensus=500_000).effect == "admit"
    assert row_of(tables, consensus=499_999).cause == "default"
    assert row_of(tables, judgments=2_000_000).cause == "default"


def test_a_value_outside_the_order_satisfies_no_comparison() -> None:
    tables = tables_of("rule r when review >= draft admit full")
    assert row_of(tables, review="draft").effect == "admit"
    assert row_of(tables, review="rejected").effect == "deny"


@pytest.mark.parametrize(
    "changes",
    [
        {"authority": None},
        {"authority": "nobody"},
        {"authority": 1},
        {"consensus": 1_000_001},
        {"consensus": -1},
        {"consensus": 0.5},
        {"consensus": True},
        {"judgments": 500_000},
        {"judgments": "3"},
    ],
    ids=str,
)
def test_what_is_missing_or_ill_typed_is_an_error(changes: dict[str, object]) -> None:
    tables = tables_of("rule r when consensus >= 0 admit full")
    assert tables.row_of(observed(**changes)) == ERROR_ROW
    assert tables.rows[ERROR_ROW].shares == (0, 0)


def test_restrictions_lower_shares_and_norms() -> None:
    tables = tables_of("""
        rule r when consensus >= 0 admit full
        rule cap when judgments < 5 limit head share 0.25
        rule soft when judgments < 5 limit surface norm 0.5
        rule softer when judgments < 4 limit all norm 0.25
    """)
    row = row_of(tables)
    assert (row.shares, row.norms) == ((1_000_000, 250_000), (250_000, 250_000))
    assert row.effect == "modulate"
    assert row_of(tables, judgments=5_000_000).norms == (NO_LIMIT, NO_LIMIT)


def test_a_budget_is_charged_the_largest_share_it_covers() -> None:
    tables = tables_of("rule r when consensus >= 0 admit weak" + BUDGET)
    assert row_of(tables, authority="crowd").charged == (500_000,)
    assert row_of(tables, authority="board").charged == (0,)
    (budget,) = tables.budgets
    assert (budget.groups, budget.per_epoch, budget.per_run) == ((0,), 10_000_000, 100_000_000)
    assert (budget.per_update, budget.exposures, budget.on_exhaust) == (6_000_000, 4, "attenuate")


def test_neighbouring_intervals_that_nothing_tells_apart_are_one() -> None:
    tables = tables_of("rule r when consensus >= 0.5 or consensus < 0.5 and judgments >= 0 admit full")
    judgments = next(table for table in tables.attributes if table.name == "judgments")
    assert judgments.breaks == (0,)


def test_equal_decisions_share_a_row() -> None:
    compilation = compile_with_examples(policy_of("rule r when consensus >= 0.5 or judgments >= 5 admit full"))
    assert len(compilation.examples) == 4
    assert len(compilation.tables.rows) == 3


def test_the_order_of_rules_changes_no_decision() -> None:
    a, b = "rule a when consensus >= 0.5 admit full\n", "rule b when judgments >= 5 deny head\n"
    one, other = tables_of(a + b), tables_of(b + a)
    for consensus in (0, 600_000):
        for judgments in (0, 6_000_000):
            rows = [row_of(tables, consensus=consensus, judgments=judgments) for tables in (one, other)]
            assert rows[0].shares == rows[1].shares


def test_compiling_twice_gives_the_same_tables() -> None:
    text = "rule r when consensus >= 0.5 and not (authority is crowd or judgments < 3) admit full" + BUDGET
    assert tables_of(text) == tables_of(text)


def test_examples_have_the_vectors_that_they_stand_for() -> None:
    compilation = compile_with_examples(policy_of("rule r when consensus >= 0.5 or judgments >= 5 admit full" + BUDGET))
    numbers = {vector: compilation.tables.row_of(example) for vector, example in compilation.examples.items()}
    assert numbers == dict(compilation.tables.row_of_vector)


def test_many_rules_on_many_attributes_stay_linear() -> None:
    rules = "".join(f"rule r{n} when consensus >= 0.{n:02} and judgments >= {n % 10} deny head\n" for n in range(1, 60))
    tables = tables_of(rules)
    assert sum(len(table.vectors) for table in tables.attributes) < 100


def test_too_many_kinds_of_observation_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabulate, "LARGEST_TABLE", 3)
    with pytest.raises(InputError, match="kinds of observation"):
        tables_of("rule r when consensus >= 0.5 admit full rule s when judgments >= 5 deny head")


def test_a_guard_that_unfolds_without_end_is_refused() -> None:
    pairs = " and ".join(f"(consensus is not 0.{n:02} or judgments is not {n % 10})" for n in range(1, 30))
    with pytest.raises(InputError, match="alternatives"):
        tables_of(f"rule r when {pairs} admit full")


# ---- What only the whole language has

GRANT = "rule r when anything admit full "


def test_a_linear_limit_is_left_for_the_value_and_cut_where_it_closes() -> None:
    tables = tables_of(GRANT + "limit head share 0.5 - consensus" + BUDGET)
    row = row_of(tables, consensus=200_000)
    assert (row.shares, row.linear) == ((1_000_000, 1_000_000), ((1, 2, 500_000, -1_000_000),))
    assert row_of(tables, consensus=499_999).linear
    assert row_of(tables, consensus=500_000).shares == (1_000_000, 0)
    assert row_of(tables, consensus=500_000).linear == ()
    decided = tables.decide(observed(consensus=200_000, authority="crowd"))
    assert (decided.shares, decided.charged, decided.linear) == ((1_000_000, 300_000), (1_000_000,), ())


def test_a_decision_follows_from_the_lowered_shares() -> None:
    tables = tables_of(GRANT + "limit all share consensus" + BUDGET)
    assert tables.decide(observed(consensus=1_000_000)).effect == "admit"
    decided = tables.decide(observed(consensus=250_001, authority="crowd"))
    assert (decided.effect, decided.shares, decided.charged) == ("modulate", (250_001, 250_001), (250_001,))
    assert tables.decide(observed(consensus=0)).cause == "denied"
    assert tables.decide(observed(consensus=None)) == tables.rows[ERROR_ROW]


def test_a_table_that_closes_without_saying_so_denies_all_the_same() -> None:
    tables = tables_of(GRANT + "limit all share consensus")
    number = tables.row_of(observed())
    wrong = replace(tables.rows[number], linear=((0, 2, 0, 0), (1, 2, -1, 0)), obligations=(0,))
    rows = (*tables.rows[:number], wrong, *tables.rows[number + 1 :])
    decided = replace(tables, rows=rows).decide(observed())
    assert (decided.effect, decided.cause, decided.reason) == ("deny", "denied", "nothing is left")
    assert decided.obligations == ()


def test_a_pending_deferral_is_a_row_of_its_own() -> None:
    tables = tables_of(GRANT + "defer until consensus >= 0.6 for at most 3 epochs then deny")
    waiting = row_of(tables, consensus=599_999)
    assert (waiting.effect, waiting.cause, waiting.shares, waiting.obligations) == ("defer", "denied", (0, 0), (0,))
    assert (row_of(tables, consensus=600_000).effect, row_of(tables, consensus=600_000).obligations) == ("admit", ())
    (obligation,) = tables.obligations
    assert (obligation.kind, obligation.rule, obligation.parameters) == ("defer", "r", {"epochs": 3})
    assert obligation.text == "defer until consensus >= 0.6 for at most 3 epochs then deny"


def test_obligations_are_listed_as_declared_with_exact_parameters() -> None:
    tables = tables_of(
        GRANT + "limit head frequency 1 per 10 steps "
        "verify gold.accuracy falls at most 0.01 within 200 steps else rollback "
        "promote after gold.auc >= 0.9 witnessed by 2 promote after gold.f1 > -1"
    )
    assert [(one.text, dict(one.parameters)) for one in tables.obligations] == [
        ("limit head frequency 1 per 10 steps", {"groups": (1,), "steps": 10, "updates": 1}),
        (
            "verify gold.accuracy falls at most 0.01 within 200 steps else rollback",
            {"amount": 10_000, "direction": "falls", "metric": "gold.accuracy", "remedy": "rollback", "steps": 200},
        ),
        (
            "promote after gold.auc >= 0.9 witnessed by 2",
            {"metric": "gold.auc", "op": ">=", "value": 900_000, "witnesses": 2},
        ),
        ("promote after gold.f1 > -1", {"metric": "gold.f1", "op": ">", "value": -1_000_000, "witnesses": 0}),
    ]
    assert row_of(tables).obligations == (0, 1, 2, 3)


def test_limits_without_a_column_stand_among_the_meters() -> None:
    text = "budget b on all movement at most 0.05 l2 per step surprisal at most 3 nat per run, at most 1 nat per step"
    (budget,) = tables_of(GRANT + text + " on exhaust deny").budgets
    assert budget.meters == (("movement", "step", 50_000), ("surprisal", "step", 1_000_000))
    assert (budget.per_run, budget.per_epoch, budget.per_update) == (3_000_000, NO_LIMIT, NO_LIMIT)


def test_attributes_of_the_run_and_evidence_follow_the_taxonomy() -> None:
    evidence = "evidence { weigh authority: board 1; expert 0.5; one per session; at most 3 }"
    tables = tables_of(evidence + "rule r when evidence >= 1 and surprisal < 3 admit full")
    assert [(table.name, table.origin) for table in tables.attributes[-2:]] == [
        ("evidence", "evidence"),
        ("surprisal", "run"),
    ]
    assert {table.origin for table in tables.attributes[:-2]} == {"manifest"}
    assert tables.evidence is not None
    assert tables.evidence.weights == (("authority", (("board", 1_000_000), ("expert", 500_000))),)
    assert (tables.evidence.independent_by, tables.evidence.ceiling) == (("session",), 3_000_000)
    assert row_of(tables, evidence=1_000_000, surprisal=2_999_999).effect == "admit"


COURSE = """
phases warm < main < cool
stages basic < advanced < open {
  advanced requires gold.auc >= 0.9
  open requires gold.auc > 0.95
  open requires harm <= 0
}
rule r when consensus >= 0.5 admit full
"""


def test_phases_and_stages_are_in_the_tables_whether_or_not_a_condition_asks_for_them() -> None:
    tables = tables_of(COURSE)
    assert tables.phases == ("warm", "main", "cool")
    assert tables.stages == (
        StageTable("basic"),
        StageTable("advanced", (("gold.auc", ">=", 900_000),)),
        StageTable("open", (("gold.auc", ">", 950_000), ("harm", "<=", 0))),
    )
    assert not {"phase", "stage"} & {table.name for table in tables.attributes}
    asked = tables_of(COURSE + "rule s when phase >= main and stage is basic deny head")
    assert {table.values for table in asked.attributes} >= {tables.phases, ("basic", "advanced", "open")}
    assert (asked.phases, asked.stages) == (tables.phases, tables.stages)


def test_a_policy_without_phases_and_stages_has_none_in_its_tables() -> None:
    tables = tables_of("rule r when consensus >= 0.5 admit full")
    assert (tables.phases, tables.stages) == ((), ())


def test_an_amplified_share_is_in_its_row() -> None:
    tables = tables_of("profile loud { amplify all 100 } rule r when anything admit loud")
    assert row_of(tables).shares == (100_000_000, 100_000_000)
