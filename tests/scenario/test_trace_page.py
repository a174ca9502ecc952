"""The page of a trace: from the command line, in a real browser, and with names that would like to be markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gating import tables
from support.report_pages import Page
from support.tracing import Story, data_of, small_model, train, write_bundle
from torch import Tensor, nn

from aqpolicy.cli.main import main

EVIL = '<b onmouseover="x">mallory</b>'
OWNERS = {f"{1 + number % 2}-{number}": ("ann", "bob", "eve")[number % 3] for number in range(24)}
TABLE = tables([[1.0, 1.0], [0.5, 0.0]])
PLACE = str(Path(__file__))


def build() -> nn.Module:
    return small_model()


def behaviour(model: nn.Module, said: str) -> Tensor:
    return model(data_of([said]))[0, 0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("page")
    story = Story(OWNERS, TABLE, epochs=4, batch=8, record="factors", optimizer=torch.optim.AdamW)
    run = train(folder, story)
    other = folder / "other.aqb"
    write_bundle(other, Story(OWNERS, tables([[1.0, 0.0], [0.5, 0.5]])), small_model())
    asked = ["trace", str(run), "--model", f"{PLACE}:build", "--behaviour", f"{PLACE}:behaviour:{EVIL}"]
    assert main([*asked, "--json", str(folder / "trace.json"), "--html", str(folder / "trace.html")]) == 0
    assert main([*asked, "--what-if", str(other), "--html", str(folder / "foreseen.html")]) == 0
    assert main([*asked, "--level", "0", "--html", str(folder / "contributions.html")]) == 0
    return folder, json.loads((folder / "trace.json").read_text())


def test_the_page_is_whole_escaped_and_reaches_nowhere(told: tuple[Path, dict[str, Any]]) -> None:
    for name in ("trace.html", "foreseen.html", "contributions.html"):
        text = (told[0] / name).read_text("utf-8")
        page = Page(text)
        assert page.open == []
        assert not re.search(r"https?:|url\(|@import", text)
        assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
        assert EVIL not in text
        assert "mallory&lt;/b&gt;" in text
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert {attributes["data-narrow"] for _, attributes in page.elements if "data-narrow" in attributes} <= set(ids)


def test_every_field_and_picture_has_a_name(told: tuple[Path, dict[str, Any]]) -> None:
    text = (told[0] / "trace.html").read_text("utf-8")
    assert len(re.findall(r"<label[^>]*>[^<]*<input", text)) == text.count("<input") > 5
    for tag, attributes in Page(text).elements:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_what_a_policy_would_make_of_it_has_a_part_of_its_own(told: tuple[Path, dict[str, Any]]) -> None:
    heading = "What if the policy were another?"
    assert heading in (told[0] / "foreseen.html").read_text("utf-8")
    assert heading not in (told[0] / "trace.html").read_text("utf-8")


def test_contributions_are_not_offered_as_what_an_absence_would_change(told: tuple[Path, dict[str, Any]]) -> None:
    text = (told[0] / "contributions.html").read_text("utf-8")
    assert 'id="leave-out"' not in text
    assert 'id="leave-out"' in (told[0] / "trace.html").read_text("utf-8")


def test_a_page_is_of_a_behaviour(told: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    run = str(told[0] / "run")
    assert main(["trace", run, "--example", "1-0", "--html", str(told[0] / "none.html")]) != 0
    assert "--html shows where a behaviour comes from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--index", "i", "--replay", "ann", "--train", "t"], "two questions"),
        (["--what-if", "w", "--index", "i"], "two questions"),
        (["--replay", "ann"], "give --train"),
        (["--replay", "ann", "--train", "t", "--html", "h"], "text and --json"),
        (["--level", "1", "--html", "h"], "text and --json"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_opened(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["trace", "no such run", "--model", f"{PLACE}:build", "--behaviour", f"{PLACE}:behaviour:x"]
    assert main([*asked, *options]) == 2
    assert said in capsys.readouterr().err


def test_a_real_browser_adds_up_what_the_address_leaves_out(told: tuple[Path, dict[str, Any]]) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    folder, found = told
    entry = next(one for one in found["annotators"] if one["name"] == "bob")
    shown = [region["name"] for region in found["regions"]]
    kept = found["groups"].index(shown[0])
    part = sum(one["visits"] for one in found["annotators"] if one["name"] == "bob") / found["visits"]
    for address, change in (("#without=bob", sum(entry["groups"])), ("#without=bob;but=1", entry["groups"][kept])):
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
        page = (folder / "trace.html").as_uri() + address
        done = subprocess.run([browser, *flags, page], capture_output=True, text=True, check=True, timeout=60)
        said = re.search(r'<output[^>]*id="answer"[^>]*>([^<]*)<', done.stdout)
        assert said is not None
        numbers = said[1].replace("\u2212", "-")
        match = re.match(r"About (\S+) instead of (\S+) \(\+?(\S+)\), (\S+) %", numbers)
        assert match is not None, numbers
        expected = (found["value"] - change, found["value"], -change, 100 * part)
        assert [float(one) for one in match.groups()] == pytest.approx(expected, rel=2e-3, abs=1e-4)
        assert done.stdout.count('class="sort"') > 10
        assert "Content Security Policy" not in done.stderr
