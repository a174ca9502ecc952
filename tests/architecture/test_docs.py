"""Documents that name things are held to what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aqpolicy.diagnostics import Source
from aqpolicy.model import load_policy

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "policies").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
PATH = re.compile(r"`((?:aqpolicy|tests|docs|grammar|policies)/[A-Za-z0-9_./-]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / target for target in LINK.findall(text)]
    paths = [ROOT / target for target in PATH.findall(text)]
    assert [str(target) for target in links + paths if not target.exists()] == []


def test_the_map_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (ROOT / "aqpolicy").glob("*/__init__.py")}
    assert packages == set(re.findall(r"^\| `([a-z]+)/` \|", text, flags=re.MULTILINE))


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert records
    assert [name for name in records if f"({name})" not in index] == []


def test_the_commands_page_is_what_the_commands_say() -> None:
    done = subprocess.run(
        [sys.executable, "docs/write_commands.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/language.md"])
def test_policies_shown_in_the_docs_resolve(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = [block for block in re.findall(r"```aqp\n(.*?)```", text, flags=re.DOTALL) if block.startswith("policy ")]
    assert shown
    for block in shown:
        load_policy(Source(page, block))
