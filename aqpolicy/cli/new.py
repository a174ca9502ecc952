"""`aqpolicy new`: start a policy from a shipped example, and say what to do next."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Source

DEFAULT: Final = "radiology"
"""The example to start from where none is named: the smallest that uses every part of a policy."""

STEPS: Final = (
    "put your own labels into its `taxonomy`, and your model's modules into its `depth`",
    "prove that nothing conflicts and everything is bounded: aqpolicy check {file}",
    "run its test cases, and write your own beside them: aqpolicy test {file}",
    "describe your model and make a key: `aqpolicy describe --help`, `aqpolicy keys new --help`",
    "bind it and sign it: aqpolicy compile {file} --model MODEL.json --key KEYFILE --out BUNDLE.aqb",
)

LOCKING: Final = "pin the files that it stands on: aqpolicy lock {file}"


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "new",
        help="start a policy from an example",
        description="Write a new policy that starts as a copy of an example. No file is ever overwritten.",
        epilog="Exit status: 0 written, 2 usage or input error.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the policy's name, such as `acme.triage`")
    parser.add_argument(
        "--from", dest="example", default=DEFAULT, metavar="EXAMPLE", help=f"what to start from (default: {DEFAULT})"
    )
    parser.add_argument("--list", action="store_true", help="list the examples")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file (default: the last part of NAME, and .aqp)")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """List the examples, or write a policy."""
    from aqpolicy.library import read_source
    from aqpolicy.trust import write_new

    found = examples()
    if args.list:
        return _list(found)
    if args.name is None:
        args.refuse("name the policy, such as `aqpolicy new acme.triage`; `aqpolicy new --list` shows the examples")
    source = read_source(_find(args.example, found))
    out = args.out or Path(f"{args.name.rpartition('.')[2]}.aqp")
    companions = _companions(source, out.parent)
    if out in companions:
        raise InputError(f"`{out}` is a file that the example stands on; choose another with --out")
    for path in (out, *companions):
        if path.exists():
            raise InputError(f"`{path}` exists and is not overwritten; choose another folder or file with --out")
    for path, text in {out: renamed(source, args.name), **companions}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, text.encode())
        print(f"{path}: {f'policy {args.name} 1.0.0, started' if path == out else 'copied'} from `{args.example}`")
    for number, step in enumerate((LOCKING, *STEPS) if companions else STEPS, start=1):
        print(f"  {number}. {step.format(file=out)}")
    return 0


def _list(found: Mapping[str, Path]) -> int:
    from aqpolicy.library import read_source

    width = max(map(len, found))
    for name, path in found.items():
        print(f"{name:<{width}}  {summary(read_source(path).text)}")
    return 0


def examples() -> dict[str, Path]:
    """Return the shipped examples by name."""
    from aqpolicy.shipped import shipped_folder

    found = sorted((shipped_folder("policies") / "examples").glob("*/policy.aqp"))
    return {path.parent.name: path for path in found}


def summary(text: str) -> str:
    """Return the first sentence of the comment that a text opens with."""
    opening = takewhile(lambda line: line.startswith("#"), text.splitlines())
    sentence, stop, _ = " ".join(line.lstrip("# ").rstrip() for line in opening).partition(". ")
    return sentence + stop.rstrip()


def renamed(source: Source, name: str) -> str:
    """Return the text of a policy under another name, at version 1.0.0.

    Raises:
        InputError: No policy can have this name.
    """
    from aqpolicy.diagnostics import Source
    from aqpolicy.errors import PolicyError
    from aqpolicy.syntax import parse
    from aqpolicy.syntax import tree as t

    header = next(statement for statement in parse(source).statements if isinstance(statement, t.PolicyDecl))
    text = source.text
    changed = f"{text[: header.span.start]}policy {name} version 1.0.0{text[header.span.end :]}"
    try:
        first = next(s for s in parse(Source(source.name, changed)).statements if isinstance(s, t.PolicyDecl))
    except PolicyError:
        first = None
    if first is None or first.name.text != name:
        raise InputError(f"`{name}` cannot name a policy; write letters, digits and `_`, with dots between the parts")
    return changed


def _find(name: str, found: Mapping[str, Path]) -> Path:
    from aqpolicy.diagnostics import did_you_mean

    if name not in found:
        advice = did_you_mean(name, found) or ("`aqpolicy new --list` shows them",)
        raise InputError(f"there is no example `{name}`; {advice[0]}")
    return found[name]


def _companions(source: Source, folder: Path) -> dict[Path, str]:
    """Return the files that an example imports and extends, by where their copies belong."""
    from aqpolicy.library import Files
    from aqpolicy.library.lock import relative_name
    from aqpolicy.model import gather
    from aqpolicy.syntax import parse

    home = Path(source.name).parent
    sources = gather(parse(source), source, Files(None, is_locking=True)).sources().values()
    return {folder / relative_name(each, home): each.text for each in sources if each.name != source.name}
