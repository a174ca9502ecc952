"""The whole story on the real labels, with one seed: what it promises on its last lines works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from io import StringIO

import pytest

from aqpolicy.cli.main import main
from aqpolicy.demo.experiment import Job
from aqpolicy.demo.labels import STOLEN
from aqpolicy.demo.lidc import database_path
from aqpolicy.demo.screen import Screen
from aqpolicy.demo.story import Story, tell
from aqpolicy.errors import InputError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, str]:
    try:
        database_path()
    except InputError as error:
        pytest.skip(str(error))
    story = StringIO()
    out = tmp_path_factory.mktemp("demo") / "out"
    return tell(out, (0,), Screen(story, StringIO())), story.getvalue()


def test_it_says_what_is_real_what_is_assigned_and_what_is_planted(told: tuple[Story, str]) -> None:
    _, text = told
    for word in ("REAL:", "ASSIGNED:", "PLANTED:", "Armato et al. 2011", "CC BY 3.0"):
        assert word in text
    for number in range(1, 8):
        assert re.search(rf"^{number}\. ", text, flags=re.MULTILINE)


def test_the_stolen_credential_surfaces_in_the_ungoverned_trace_by_itself(told: tuple[Story, str]) -> None:
    story, _ = told
    assert story.surfaced
    first = story.views[0].ranking
    assert first is not None
    assert first.rows[0][0].startswith(STOLEN)


def test_low_consensus_labels_wrote_exactly_nothing_into_the_governed_depth(told: tuple[Story, str]) -> None:
    story, _ = told
    bars = story.displacement[0]
    governed, ungoverned = dict(bars.arms)["governed"], dict(bars.arms)["ungoverned"]
    for name in ("structure", "semantic"):
        assert governed[bars.groups.index(name)].mean == 0.0
        assert ungoverned[bars.groups.index(name)].mean > 1.0


def test_both_models_learned_to_rank(told: tuple[Story, str]) -> None:
    story, _ = told
    for kind in ("ungoverned", "governed"):
        result = next(found for job, found in story.results.items() if (job.kind, job.without) == (kind, ""))
        assert result.area > 0.9
    assert Job("filtered", 0) in story.results


def test_one_flipped_bit_was_found_in_its_row(told: tuple[Story, str]) -> None:
    assert re.search(r"found: step \d+, row 7 ", told[0].tampering)


def test_the_commands_of_the_last_lines_work_in_the_folder(
    told: tuple[Story, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    story, text = told
    monkeypatch.chdir(story.work.root)
    ending = text[text.index("What to try next:") :]
    commands = [line.strip() for line in ending.splitlines() if line.strip().startswith("aqpolicy ")]
    assert len(commands) == 7
    for command in commands:
        words = shlex.split(command)[1:]
        expected = 1 if "policies/broken.aqp" in words or "tampered" in words else 0
        assert main(words) == expected, command
    said = capsys.readouterr().out
    assert "revoked as entry" in said
    assert "damaged" in said
    assert (story.work.root / "governed.html").stat().st_size > 20_000


def test_the_footprint_lists_every_visit_of_the_stolen_credential(told: tuple[Story, str]) -> None:
    story, _ = told
    found = json.loads(story.work.path("footprint-ungoverned.json").read_bytes())
    stolen = {each.example_id for each in story.labels.training if each.credential == STOLEN}
    assert set(found["examples"]) == stolen
    assert {visit["example"] for visit in found["visits"]} == stolen


def test_a_real_browser_runs_the_pages_own_script_under_its_policy(told: tuple[Story, str]) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    page = told[0].work.path("report.html").as_uri()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([browser, *flags, page], capture_output=True, text=True, check=True, timeout=60)
    assert re.search(r'<html lang="en" class="js"', done.stdout)
    assert "Content Security Policy" not in done.stderr
