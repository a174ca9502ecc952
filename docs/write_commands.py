"""Write docs/commands.md from the commands' own help texts; `--check` only compares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from aqpolicy.cli.main import COMMANDS

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# Commands

Every command as it describes itself (`make docs` rewrites this page).
Exit status: 0 clean, 1 findings, 2 usage or input error, 3 not proven.
"""


def help_of(words: list[str]) -> str:
    """Return the help text of a command at a fixed width."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own words
        [sys.executable, "-m", "aqpolicy", *words, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace("__main__.py", "aqpolicy").rstrip()


def page() -> str:
    """Return the whole page."""
    sections = [["aqpolicy"], *([["aqpolicy", name] for name in COMMANDS])]
    blocks = [f"## `{' '.join(words)}`\n\n```text\n{help_of(words[1:])}\n```\n" for words in sections]
    return HEAD + "\n" + "\n".join(blocks)


def main() -> int:
    """Write the page, or say whether it is fresh."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
    if not fresh:
        print("docs/commands.md is stale: run `make docs`")
    return 0 if fresh else 1


if __name__ == "__main__":
    sys.exit(main())
