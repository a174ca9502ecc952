"""Find the command, run it, and turn errors into one clear line.

Only the command that is asked for is imported, so that `--version` and a
mistyped word are answered at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final, NoReturn

from aqpolicy import LANGUAGE_VERSION, __version__
from aqpolicy.errors import AnalysisError, AqpolicyError, InternalError, PolicyError

SUMMARIES: Final = {
    "new": "start a policy from an example",
    "fmt": "write policies in their one layout",
    "check": "prove a policy free of conflicts and unbounded learning",
    "explain": "say what a finding means and what to do about it",
    "test": "run the test cases of policies",
    "why": "show what decides for one observation",
    "diff": "prove two policies equal, or list what became more and less permissive",
    "doc": "write a policy as a page for the people who sign it",
    "lock": "pin the files that policies import",
    "describe": "write the description of a model that a policy is bound to",
    "keys": "make signing keys and keyrings",
    "credentials": "grant and check credentials of annotators",
    "compile": "turn a policy into a signed bundle for one model",
    "sign": "add a signature to a bundle",
    "verify": "check the signatures of a bundle",
    "inspect": "show what a bundle admits",
    "watch": "draw a run while it goes on",
    "log": "verify and show the lineage log of a run",
    "trace": "follow a behaviour back to updates and annotators",
    "revoke": "show what a model learned from a source that is withdrawn",
    "promote": "witness, publish or abort a model that waits for it",
    "index": "compile a run, so that behaviours are traced at once",
    "close": "check that a run's book balances",
    "memorization": "list the examples that a model may hold by heart",
    "replay": "say what another policy would have decided in a run, and train it again",
    "forget": "train a run again without some examples, exactly",
    "indirect": "measure how far closed groups move through other examples",
    "calibrate": "hold a run's traces to what training again shows",
    "report": "write the evidence of a run as a page",
    "demo": "train a small governed model from beginning to end",
    "version": "name the versions of everything that a result depends on",
}
"""What each command does, in the order of a user's work: write, prove, bind and sign, train, answer for it."""

COMMANDS: Final = tuple(SUMMARIES)

TRAINING: Final = ("torch", "numpy")
"""What the core installation does without."""

CLEAN, FINDINGS, USAGE, NOT_PROVEN = 0, 1, 2, 3
INTERRUPTED, PIPE_CLOSED = 130, 141


class Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others of aqpolicy."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is."""
        print(f"aqpolicy: error: {message}; see `{self.prog} --help`", file=sys.stderr)
        raise SystemExit(USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            status = _run(arguments)
        finally:
            sys.stdout.flush()  # argparse leaves by SystemExit; a reader that is gone shows here, not at exit
    except KeyboardInterrupt:
        print("aqpolicy: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader left; the interpreter must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except AqpolicyError as error:
        return _report(error)
    except ModuleNotFoundError as error:
        if error.name not in TRAINING:
            raise
        print(f"aqpolicy: error: this needs `{error.name}`; run `pip install 'aqpolicy[train]'`", file=sys.stderr)
        return USAGE
    return status


def _run(arguments: list[str]) -> int:
    command = next((word for word in arguments[:1] if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        return _unknown(command)
    parser = _parser(command)
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] | None = getattr(options, "func", None)
    if run is None:
        parser.print_help(sys.stderr)
        return USAGE
    return run(options)


def _parser(command: str | None) -> Parser:
    """Return a parser that knows one command in full and the others by their summaries."""
    parser = Parser(prog="aqpolicy", description="Policy-as-code for what a neural network may learn.")
    version = f"aqpolicy {__version__} (language {LANGUAGE_VERSION})"
    parser.add_argument("--version", action="version", version=version)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for name in COMMANDS:
        if name == command:
            import_module(f"aqpolicy.cli.{name}").register(subparsers)
        else:
            subparsers.add_parser(name, help=SUMMARIES[name], add_help=False)
    return parser


def _unknown(command: str) -> int:
    from aqpolicy.diagnostics import closest

    near = closest(command, COMMANDS)
    hint = f"did you mean `{near}`?" if near else "the commands are " + ", ".join(COMMANDS)
    print(f"aqpolicy: error: there is no command `{command}`; {hint}", file=sys.stderr)
    return USAGE


def _report(error: AqpolicyError) -> int:
    print(f"aqpolicy: error: {error}", file=sys.stderr)
    if isinstance(error, InternalError):
        print(f"aqpolicy: please report this, with aqpolicy {__version__}", file=sys.stderr)
    if isinstance(error, PolicyError):
        return FINDINGS
    return NOT_PROVEN if isinstance(error, AnalysisError) else USAGE
