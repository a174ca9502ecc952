"""What the commands about policies share: reading files, finding policies in folders, printing findings.

It decides nothing about policies; a status is only counted from the findings.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from aqpolicy.analysis import CheckSettings
    from aqpolicy.diagnostics import Diagnostic, Severity, Source, Sources
    from aqpolicy.library import Files
    from aqpolicy.lint.settings import Settings

STDIN: Final = "-"
"""The name that stands for the standard input."""

CLEAN, FINDINGS, NOT_PROVEN = 0, 1, 3

_POLICY: Final = re.compile(r"^[ \t]*policy\b", re.MULTILINE)


def read_source(file: str) -> Source:
    """Read a policy.

    Raises:
        InputError: It cannot be read as UTF-8 text.
    """
    from aqpolicy.library import read_source as read

    return read(file)


def read_stdin(name: str) -> Source:
    """Read a policy from the standard input.

    Args:
        name: What messages call it.

    Raises:
        InputError: It is not UTF-8 text.
    """
    from aqpolicy.diagnostics import Source

    try:
        return Source(name, sys.stdin.buffer.read().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"`{name}` is not UTF-8 text") from error


def read_bytes(file: str) -> bytes:
    """Read a file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{file}`: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise InputError(f"cannot read `{file}`: {error}") from error


def read_policies(names: Iterable[str], stdin_name: str = "<stdin>") -> tuple[Source, ...]:
    """Read the policies that a command line names, each once.

    Args:
        names: Files, folders (all `*.aqp` below, sorted, but none below a hidden folder), or `-`.
        stdin_name: What messages call the standard input.

    Raises:
        InputError: One cannot be read, or a folder holds no policy.
    """
    found: dict[str, Source] = {}
    for name in names:
        for file in files_in(name):
            source = read_stdin(stdin_name) if file == STDIN else read_source(file)
            if file == name or _POLICY.search(source.text):
                found.setdefault(file, source)
            else:
                print(f"aqpolicy: `{file}` is shared vocabulary: judged where a policy imports it", file=sys.stderr)
    return tuple(found.values())


def library(source: Source, settings: Settings) -> Files:
    """Return where a policy's imported and extended files come from.

    Raises:
        InputError: There is a lock, but it cannot be read.
    """
    from aqpolicy.library import Files, find_lock, load_lock

    lock = find_lock(Path(source.name))
    return Files(None if lock is None else load_lock(lock), settings.policy_roots)


def check_settings(settings: Settings, counts: Mapping[str, int] | None = None) -> CheckSettings:
    """Return what the checker is told.

    Args:
        settings: The project's.
        counts: How many parameters each group has, where a model is known.
    """
    from aqpolicy.analysis import CheckSettings

    return CheckSettings(
        effort=settings.effort,
        optimizer="plain" if settings.optimizer == "plain" else "adaptive",
        starved_below=settings.starved_below,
        parameter_counts=counts,
    )


def files_in(name: str) -> Iterator[str]:
    """Yield the files that a name stands for: itself, or all `*.aqp` below a folder, shared vocabulary among them.

    Raises:
        InputError: A folder holds none.
    """
    folder = Path(name)
    if name == STDIN or not folder.is_dir():
        yield name
        return
    found = sorted(path for path in folder.rglob("*.aqp") if path.is_file() and not _is_hidden(path, folder))
    if not found:
        raise InputError(f"there is no policy (`*.aqp`) in `{name}`")
    yield from map(str, found)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def counts(findings: Iterable[Diagnostic]) -> str:
    """Return how many findings there are of each severity, such as `1 error, 2 notes`; empty for none."""
    severities = [finding.severity for finding in findings]
    numbered = [(severities.count(kind), kind) for kind in ("error", "warning", "note")]
    return ", ".join(f"{number} {kind}{'' if number == 1 else 's'}" for number, kind in numbered if number)


def status_of(findings: Sequence[Diagnostic], fail_level: Severity = "error") -> int:
    """Return the exit status: 3 where a question was left open, 1 for findings as grave as the level, else 0."""
    if any(finding.code == "AQ300" for finding in findings):
        return NOT_PROVEN
    failing = ("error", "warning", "note")[: ("error", "warning", "note").index(fail_level) + 1]
    return FINDINGS if any(finding.severity in failing for finding in findings) else CLEAN


def draw(findings: Sequence[Diagnostic], sources: Sources) -> None:
    """Print findings for people, in colour on a terminal, with an empty line behind them."""
    from aqpolicy.diagnostics import render_all, wants_color

    if findings:
        print(render_all(findings, sources, color=wants_color(sys.stdout)), end="\n\n")


def show(findings: Sequence[Diagnostic], source: Source, sources: Sources | None = None) -> int:
    """Print the findings about one policy and their number; return the status that they amount to.

    Args:
        findings: What is wrong.
        source: The policy.
        sources: All texts that findings may point into, where it imports others.
    """
    draw(findings, source if sources is None else sources)
    print(f"{source.name}: {counts(findings) or 'no findings'}")
    return status_of(findings)
