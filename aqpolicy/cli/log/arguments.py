"""What the verbs of `aqpolicy log` share: the run, the keyring, progress on a terminal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aqpolicy.lineage.runs import RunBuilder
    from aqpolicy.trust import Keyring


def add_run(verb: argparse.ArgumentParser) -> None:
    """Add the run and the keyring to a verb's arguments."""
    verb.add_argument("run", metavar="RUN", help="the folder of a run")
    verb.add_argument("--keyring", metavar="K", help="the keys that are trusted (default: the one in RUN)")


def keyring_of(args: argparse.Namespace) -> Keyring:
    """Return the keyring that was named, or the run's own, with a warning."""
    from aqpolicy.trust import load_keyring

    if args.keyring is None:
        print(
            "aqpolicy: no --keyring: using the one inside the run, which shows only that the run agrees with itself",
            file=sys.stderr,
        )
    return load_keyring(args.keyring or Path(args.run) / "keyring.json")


def run_builder() -> type[RunBuilder]:
    """Return what makes the index again: quickly where numpy is at hand, which an auditor need not have."""
    from aqpolicy.lineage.runs import RunBuilder

    try:
        from aqpolicy.scribe.index import FastRunBuilder
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        return RunBuilder
    return FastRunBuilder


def progress(what: str) -> Any:
    """Return a function that shows progress on a terminal, or None where there is none."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{what} step {done} of {total}", end=end, file=sys.stderr, flush=True)

    return show
