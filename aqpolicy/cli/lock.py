"""`aqpolicy lock`: pin every file that policies import or extend, by its digest.

It reads the files and decides nothing about them: whoever runs it has reviewed them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import InputError, PolicyError

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Source


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "lock",
        help="pin the files that policies import",
        description="Write the digests of all files that policies import or extend into `aqpolicy.lock`: the nearest "
        "one, or a new one in the policies' common folder. It then names what these policies need and nothing else, "
        "so name all policies that share it, or their folder.",
        epilog="Exit status: 0 written or up to date, 1 a policy has errors or (with --check) the lock is out of date, "
        "2 input error.",
    )
    parser.add_argument("files", nargs="+", metavar="POLICY", help="policies, or folders of policies")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the lock would change")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Gather, compare, write."""
    from aqpolicy.cli.output import read_policies, show
    from aqpolicy.library import encode_lock
    from aqpolicy.trust import replace_file

    policies = read_policies(args.files)
    path = lock_path(policies)
    pinned: dict[str, str] = {}
    for policy in policies:
        try:
            pinned |= pins(policy, path.parent)
        except PolicyError as error:
            return show(error.diagnostics, policy)
    wanted = encode_lock(pinned)
    if path.exists() and path.read_bytes() == wanted:
        print(f"{path}: up to date, {_count(pinned)}")
        return 0
    if not path.exists() and not pinned:
        print("nothing to lock: these policies stand alone")
        return 0
    for change in differences(_locked(path), pinned):
        print(change)
    if args.check:
        print(f"{path}: out of date; review the changes, then run `aqpolicy lock {' '.join(args.files)}`")
        return 1
    replace_file(path, wanted)
    print(f"{path}: {_count(pinned)}")
    return 0


def _count(pinned: Mapping[str, str]) -> str:
    return f"{len(pinned)} file{'' if len(pinned) == 1 else 's'} pinned"


def lock_path(policies: Sequence[Source]) -> Path:
    """Return the lock of policies: the nearest that there is, or a new one in their common folder.

    Raises:
        InputError: They stand under different locks.
    """
    from aqpolicy.library import LOCK_NAME, find_lock

    paths = [Path(policy.name) for policy in policies]
    found = {find_lock(path): path for path in paths}
    if len(found) > 1:
        one, other = list(found.values())[:2]
        raise InputError(f"`{one}` and `{other}` do not stand under one lock; lock them one after the other")
    (nearest,) = found
    if nearest is not None:
        return Path(os.path.relpath(nearest))
    return Path(os.path.relpath(os.path.commonpath([path.resolve().parent for path in paths]))) / LOCK_NAME


def pins(policy: Source, folder: Path) -> dict[str, str]:
    """Return the digests of the files that a policy stands on, by their paths as seen from a folder.

    Raises:
        PolicyError: The policy, or a file that it stands on, cannot be read as one.
    """
    from aqpolicy.library import Files
    from aqpolicy.library.lock import relative_name, source_digest
    from aqpolicy.lint import find_settings
    from aqpolicy.model import gather
    from aqpolicy.syntax import parse

    files = Files(None, find_settings().policy_roots, is_locking=True)
    sources = gather(parse(policy), policy, files).sources()
    others = [source for name, source in sources.items() if name != policy.name]
    return {relative_name(source, folder): source_digest(source) for source in others}


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for every file that a lock gains, loses, or pins otherwise."""
    for name in sorted({*before, *after}):
        if name not in before:
            yield f"  added    {name}"
        elif name not in after:
            yield f"  removed  {name}"
        elif before[name] != after[name]:
            yield f"  changed  {name}"


def _locked(path: Path) -> Mapping[str, str]:
    """Return what a lock pins: nothing where there is none, or one that cannot be understood."""
    from aqpolicy.library import load_lock

    try:
        return load_lock(path).files
    except InputError:
        return {}
