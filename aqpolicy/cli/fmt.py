"""`aqpolicy fmt`: write policies in their one layout.

It changes spaces, line breaks and the semicolons of blocks; what a policy says stays.
A file with syntax errors is shown and left as it is.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aqpolicy.cli.output import CLEAN, FINDINGS, STDIN, files_in, read_policies, show
from aqpolicy.errors import PolicyError

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Source

WIDTHS: Final = range(40, 1001)


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "fmt",
        help="write policies in their one layout",
        description="Write policies in their one layout, in place; comments and meaning stay as they are.",
        epilog="Exit status: 0 all in layout now, 1 syntax errors, or with --check or --diff: something would change, "
        "2 usage or input error.",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="policies, folders of policies, or `-` for stdin to stdout"
    )
    parser.add_argument("--check", action="store_true", help="write nothing, only say what would change")
    parser.add_argument("--diff", action="store_true", help="write nothing, show the changes")
    parser.add_argument("--width", type=int, metavar="N", help="columns of a line (default: the settings', or 100)")
    parser.add_argument("--stdin-filename", default="<stdin>", metavar="NAME", help="what messages call the stdin")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Lay out every file and return the gravest status."""
    if not args.files:
        args.refuse("name the policies or folders to lay out, such as `aqpolicy fmt policies`")
    if STDIN in args.files:
        if len(args.files) > 1:
            args.refuse("`-` stands alone: what it gives goes to the standard output")
        return _lay_out_stdin(args)
    width = _width(args)
    files = (file for name in args.files for file in files_in(name))  # shared vocabulary is laid out too
    return max(_lay_out(source, width, args) for source in read_policies(files))


def _width(args: argparse.Namespace) -> int:
    from aqpolicy.lint.settings import find_settings

    if args.width is None:
        return find_settings().line_width
    if args.width not in WIDTHS:
        args.refuse(f"--width must be from {WIDTHS[0]} to {WIDTHS[-1]}")
    return int(args.width)


def _lay_out(source: Source, width: int, args: argparse.Namespace) -> int:
    from aqpolicy.syntax.layout import format_text
    from aqpolicy.trust import replace_file

    try:
        text = format_text(source, width)
    except PolicyError as error:
        return show(error.diagnostics, source)
    if text == source.text:
        return CLEAN
    if args.check or args.diff:
        print(_diff(source, text) if args.diff else f"{source.name}: would be laid out anew")
        return FINDINGS
    file = Path(source.name).resolve()  # a link stays a link
    replace_file(file, text.encode(), file.stat().st_mode & 0o777)
    print(f"{source.name}: laid out anew")
    return CLEAN


def _lay_out_stdin(args: argparse.Namespace) -> int:
    """Write what the standard input becomes to the standard output, and all else to the standard error."""
    from aqpolicy.syntax.layout import format_text

    (source,) = read_policies(args.files, args.stdin_filename)
    try:
        text = format_text(source, _width(args))
    except PolicyError as error:
        with redirect_stdout(sys.stderr):
            return show(error.diagnostics, source)
    is_changed = text != source.text
    if args.diff and is_changed:
        print(_diff(source, text))
    if not args.diff and not args.check:
        print(text, end="")
        return CLEAN
    return FINDINGS if is_changed else CLEAN


def _diff(source: Source, text: str) -> str:
    """Return the changes to a text as a unified diff, without the last line break."""
    lines = difflib.unified_diff(
        source.text.splitlines(keepends=True), text.splitlines(keepends=True), source.name, source.name
    )
    ended = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return "".join(ended).removesuffix("\n")
