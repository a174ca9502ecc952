"""A policy as a page for people: its sentences, its shares, and that no text of its author's becomes markup."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.policy_text import RADIOLOGY, SMALL
from support.report_pages import Page

from aqpolicy.diagnostics import Source
from aqpolicy.errors import PolicyError
from aqpolicy.library import Files
from aqpolicy.model import load_policy
from aqpolicy.pipeline import Pipeline
from aqpolicy.report.policy_markdown import render_markdown
from aqpolicy.report.policy_page import render_sheet
from aqpolicy.report.policy_sheet import sheet_of
from aqpolicy.report.policy_words import Words, sentence
from aqpolicy.report.reach import reach_of
from aqpolicy.report.sheet import Matrix, Part, Sheet
from aqpolicy.semantics import evaluate
from aqpolicy.syntax import parse
from aqpolicy.syntax import tree as t
from aqpolicy.testing import observations, policies

WORDS = """\
taxonomy acme.clinical version 3 {
  authority crowd < resident < board; model
  review    draft < approved; rejected
  attribute tier : one of scraped, licensed
  attribute consensus : number 0..1
  attribute judgments : integer 0..1000
  attribute label_entropy : number 0..10 nat
  attribute prelabel_confidence : number 0..1
}
depth from input {
  surface = modules "embeddings", "encoder.layer.0" to "encoder.layer.1"
  protected semantic = experts "pooler*"
  head = adapters "classifier"
}
bands of label_entropy { settled < 0.3; contested < 0.9; unsettled }
define agreed(level) = consensus >= level and judgments >= 3
profile full { all 1 }
profile soft { from surface 1 to head 0.5 linear }
"""

BASE = """\
policy org.baseline version 1.0.0
import "words.aqp"
rule anyone "Whatever the projects below grant"
  when authority >= crowd and tier is licensed
  admit full
rule rejected
  when review is rejected
  deny all because "a reviewer rejected it"
budget all_learning
  on all
  surprisal at most 60000 nat per run, at most 20 nat per update
  movement at most 0.05 l2 per step
otherwise deny because "nobody said yes"
combine grants by min
"""

PROJECT = """\
policy radiology.triage version 2.1.0
extends org.baseline from "base.aqp"
import "words.aqp"

phases warmup < main
stages lab < clinic { clinic requires gold.accuracy >= 0.9 }
evidence { weigh authority: crowd 0.25; resident 1; board 4; one per session; at least 0; at most 8 }
define solid = agreed(0.8) and review is approved and not band is unsettled

rule truth "Ground truth | shapes <every> depth"
  when authority >= resident and solid and evidence >= 2 and (phase is main or stage is not clinic)
    and not tier is scraped
  until 2027-06-30
  admit full
  overrides hint
rule hint "Learn superficially"
  when authority >= crowd and tier is licensed and consensus < 0.9
  admit soft
rule echo "A model may not teach itself"
  when prelabel_confidence > 0.5 or judgments < 1
  limit all share 1 - 0.5 * prelabel_confidence
  limit surface norm 0.01
  limit surface, head frequency 1 per 10 steps
rule unsettled
  when band is unsettled
  defer until consensus >= 0.6 for at most 3 epochs then deny
  verify gold.accuracy falls at most 0.01 within 200 steps else rollback
  promote after gold.accuracy >= 0.95 witnessed by 2
rule crowd_stays
  when authority is crowd
  deny semantic because "crowd labels may not shape the middle"
  limit all share 0.5

budget crowd
  for authority is crowd
  on all
  within all_learning
  surprisal at most 500 nat per epoch, at most 6 nat per update
  exposures at most 4 per example
  on exhaust defer
assume epochs <= 3
otherwise deny because "no rule admits it"

prove never authority is crowd and admitted(semantic) > 0
prove admitted(surface) falls with prelabel_confidence
prove spent(crowd) <= 1500 nat given epochs <= 3

test "a crowd label" {
  given authority is crowd and tier is licensed and review is approved
    and band is settled and prelabel_confidence is 0 and judgments >= 1 and consensus is 0.5
  expect modulate by hint
  expect that admitted(surface) is 0.5
}
"""

BUDGET = "budget b on all surprisal at most 9 nat per run, at most 3 nat per update on exhaust deny\n"
PLAIN = SMALL + BUDGET


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return layered(tmp_path_factory.mktemp("project"))


def layered(folder: Path) -> Pipeline:
    for name, text in {"words": WORDS, "base": BASE, "project": PROJECT}.items():
        (folder / f"{name}.aqp").write_text(text, encoding="utf-8")
    library = Files(None, (), is_locking=True)
    return Pipeline(Source(str(folder / "project.aqp"), PROJECT), library)


def sheet(text: str) -> Sheet:
    return sheet_of(Pipeline(Source("policy.aqp", text)))


def test_everything_that_a_policy_says_is_said_in_sentences(project: Pipeline) -> None:
    page = render_markdown(sheet_of(project))
    for said in (
        "# Policy radiology.triage",
        "- narrows: org.baseline, version 1.0.0",
        "### Ground truth \\| shapes \\<every\\> depth (truth, admits)",
        "- evidence is at least 2\n- phase is main or stage is not clinic\n",
        "Applies until 2027-06-30, that day included.",
        "Takes precedence over hint, where they apply too.",
        "| semantic | 0.75 |",
        "Admits to every depth group at most a share of 1 \u2212 0.5 \u00d7 prelabel\\_confidence.",
        "Lets one example change the gradient of surface by at most 0.01 in the l2 norm.",
        "Writes surface and head in at most 1 of any 10 steps in a row.",
        "until consensus is at least 0.6, for at most 3 epochs; after that it is denied.",
        "gold.accuracy falls by at most 0.01 within 200 steps; otherwise what was learned is rolled back.",
        "only after gold.accuracy is at least 0.95, before 2 witnesses.",
        "Closes semantic: \u201ccrowd labels may not shape the middle\u201d.",
        "### rejected (restricts, of org.baseline)",
        "Where several rules admit something, the least share of them counts.",
        "What no rule admits is refused: \u201cno rule admits it\u201d.",
        "### all\\_learning (of org.baseline)",
        "It is a part of the budget all\\_learning.",
        "| surprisal per epoch | 500 nat |",
        "| movement per step | 0.05 l2 |",
        "| exposures per example | 4 |",
        "held back until there is room again.",
        "A run is taken to have at most 3 epochs.",
        "- Never: authority is crowd and something is admitted to semantic.",
        "- The share admitted to surface never rises where prelabel\\_confidence alone grows.",
        "- Budget crowd is charged at most 1500 nat in a run of at most 3 epochs.",
        "| it is admitted in part by hint; the share admitted to surface is exactly 0.5 |",
        "| authority | crowd \\< resident \\< board; outside the order: model |",
        "| agreed (level) | consensus is at least level and judgments is at least 3 |",
        "| contested | below 0.9 |",
        "By authority, one judgment counts 0.25 (crowd), 1 (resident) and 4 (board).",
        "The run may enter the stage clinic once gold.accuracy \\>= 0.9.",
        "| semantic | experts pooler\\* | no single attribute may open it |",
    ):
        assert said in page


def test_a_policy_that_the_gate_does_not_enforce_is_said_to_be_unready(project: Pipeline) -> None:
    assert "### Not ready for training" in render_markdown(sheet_of(project))
    assert "Not ready" not in render_markdown(sheet(RADIOLOGY))


def test_the_digests_are_those_that_a_bundle_names(project: Pipeline) -> None:
    page = render_sheet(sheet_of(project))
    for name, digest in project.digests().items():
        assert f"<dt>{name}</dt><dd>{digest}</dd>" in page
    assert f"sha256:{sha256(PROJECT.encode()).hexdigest()}" in page
    assert f"sha256:{sha256(BASE.encode()).hexdigest()}" in page


def test_the_same_sources_make_the_same_bytes_wherever_they_lie(project: Pipeline, tmp_path: Path) -> None:
    again = sheet_of(layered(tmp_path))
    assert render_sheet(again) == render_sheet(sheet_of(project))
    assert str(tmp_path) not in render_sheet(again) + render_markdown(again)


def test_a_policy_with_errors_has_no_page() -> None:
    with pytest.raises(PolicyError) as caught:
        sheet(PLAIN + "rule r when anything admit full\nprove never admitted(head) > 0\n")
    assert "AQ308" in {finding.code for finding in caught.value.diagnostics}
    with pytest.raises(PolicyError):
        sheet(PLAIN + 'rule r when anything admit full\ntest "x" { given anything expect deny }\n')


# ---- The page ---------------------------------------------------------------------------------------


def test_the_page_reaches_out_for_nothing_and_runs_nothing(project: Pipeline) -> None:
    text = render_sheet(sheet_of(project))
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?:|url\(|@import", text)
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "img", "iframe", "object", "form", "base"}
        assert not {"src", "style", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")
        assert tag != "svg" or attributes.get("aria-hidden") == "true"
    (style,) = page.bodies["style"]
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in text


def test_every_link_leads_to_a_part_and_ids_are_unique(project: Pipeline) -> None:
    page = Page(render_sheet(sheet_of(project)))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for tag, a in page.elements if tag == "a"} <= set(ids)


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "' onmouseover='alert(1)",
        "</style><script>alert(1)</script>",
        "<!-- --><svg onload=alert(1)>",
        "&lt;script&gt;",
    ],
)
def test_no_text_becomes_markup(attack: str) -> None:
    def elements(text: str) -> list[str]:
        source = PLAIN.replace("no rule admits it", text) + f'rule r "{text}" when anything admit full\n'
        source += f'test "{text}" {{ given anything expect admit }}\n'
        return [tag for tag, _ in Page(render_sheet(sheet(source))).elements]

    assert elements(attack) == elements("x" * len(attack))


@pytest.mark.parametrize(
    "text", ["| a | b |", "**bold** _it_ `code`", "<b>x</b> &amp; [a](b) ![c](d)", "# head", "~~no~~"]
)
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    source = PLAIN + f'rule r "{text}" when anything admit full\n'
    (line,) = [line for line in render_markdown(sheet(source)).splitlines() if line.endswith("(r, admits)")]
    shown = line.removeprefix("### ").removesuffix(" (r, admits)")
    assert re.sub(r"\\(.)", r"\1", shown) == text
    assert not re.search(r"(?<!\\)[|*_`<>&\[\]!#~]", shown)


@pytest.mark.parametrize(
    ("text", "shown"), [("- a", "\\- a"), ("12. a", "12\\. a"), ("0.5", "0.5"), ("2027-06-30", "2027-06-30")]
)
def test_markdown_lines_begin_no_list(text: str, shown: str) -> None:
    empty = Sheet(title="t", subtitle=text, parts=(), footer="f")
    assert f"\n{shown}\n" in render_markdown(empty)


# ---- Who may teach what -----------------------------------------------------------------------------


def test_classes_that_a_policy_does_not_tell_apart_all_reach_the_most() -> None:
    policy = load_policy(Source("policy.aqp", PLAIN + "rule r when authority is not board admit weak\n"))
    reach = reach_of(policy)
    assert reach.attribute == "authority"
    low, none = (500_000, 0, 250_000), (0, 0, 0)
    assert reach.rows == (("crowd", low), ("expert", low), ("board", none))


def test_a_linear_limit_counts_at_its_most_generous() -> None:
    text = PLAIN + "rule r when consensus >= 0.5 admit full limit head share 1 - consensus\n"
    policy = load_policy(Source("policy.aqp", text))
    rows = dict(reach_of(policy).rows)
    assert rows["crowd"] == (1_000_000, 1_000_000, 500_000)


def test_without_an_order_there_is_one_class() -> None:
    text = PLAIN.replace("authority crowd < expert < board", "attribute kind : one of a, b")
    text = text.replace("review draft < approved; rejected", "attribute state : one of c, d")
    policy = load_policy(Source("policy.aqp", text + "rule r when kind is a admit weak\n"))
    reach = reach_of(policy)
    assert (reach.attribute, reach.rows) == (None, (("every observation", (500_000, 0, 250_000)),))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_observation_is_admitted_more_than_its_class(data: st.DataObject) -> None:
    policy = data.draw(policies())
    reach = reach_of(policy)
    rows = dict(reach.rows)
    for _ in range(5):
        observation = data.draw(observations(policy))
        name = "every observation" if reach.attribute is None else observation.get(reach.attribute)
        most = rows.get(str(name), (0,) * len(policy.groups))
        shares = evaluate(policy, observation).shares
        assert all(share <= limit for share, limit in zip(shares, most, strict=True))


def test_shares_are_named_beside_their_colours() -> None:
    matrix = Matrix("caption", "authority", ("a", "b", "c", "d"), (("x", (0, 1, 1_000_000, 2_000_000)),))
    page = render_sheet(Sheet(title="t", subtitle="s", parts=(Part("p", "P", (matrix,)),), footer="f"))
    cells = re.findall(r'<td class="h(\d+)"><b>([^<]*)</b><span>([^<]*)</span>', page)
    assert cells == [("0", "0", "closed"), ("1", "0.000001", "in part"), ("10", "1", "open"), ("10", "2", "amplified")]


# ---- Words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("anything", "it is any observation"),
        ("solid", "solid holds"),
        ("not solid", "solid does not hold"),
        ("agreed(0.9, 2)", "agreed with 0.9 and 2 holds"),
        ("not agreed(0.9)", "agreed with 0.9 does not hold"),
        ("review is approved", "review is approved"),
        ("review is not approved", "review is not approved"),
        ("review is one of a, b, c", "review is a, b or c"),
        ("review is not one of a, b", "review is neither a nor b"),
        ("not review is one of a, b", "review is neither a nor b"),
        ("not review is not a", "review is a"),
        ("authority >= board", "authority is board or above"),
        ("authority < board", "authority is below board"),
        ("consensus > 0.5 nat", "consensus is more than 0.5 nat"),
        ("consensus <= 0.5", "consensus is at most 0.5"),
        ("not consensus <= 0.5", "it is not so that consensus is at most 0.5"),
        ("seen >= 2026-01-31", "seen is 2026-01-31 or later"),
        ("seen < 2026-01-31", "seen is before 2026-01-31"),
        ("admitted(g) > 0", "something is admitted to g"),
        ("admitted(g) is 0.5", "the share admitted to g is exactly 0.5"),
        ("charged(b) is 0", "budget b is not charged"),
        ("charged(b) >= 0.1", "the share charged to budget b is at least 0.1"),
        ("a and (b or c)", "a holds and (b holds or c holds)"),
        ("a and b or c", "a holds and b holds, or c holds"),
        ("not (a and b)", "it is not so that (a holds and b holds)"),
    ],
)
def test_conditions_in_words(written: str, words: str) -> None:
    (decl,) = parse(Source("p.aqp", f"prove never {written}")).statements
    assert isinstance(decl, t.ProveNever)
    assert Words({"authority", "review"}).condition(decl.never) == words


@pytest.mark.parametrize(
    ("words", "shown"),
    [("no rule", "No rule."), ("admitted(x) > 0", "admitted(x) > 0."), ("`r` can", "`r` can."), ("", ".")],
)
def test_sentences_leave_names_alone(words: str, shown: str) -> None:
    assert sentence(words) == shown
