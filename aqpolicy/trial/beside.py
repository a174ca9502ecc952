"""Which files of fixtures lie beside a policy, and which policy a file of fixtures is about.

`triage.cases.yaml` is about `triage.aqp`. `cases.yaml` is about the policy that it
names itself, or else `policy.aqp`, or else the only policy in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aqpolicy.errors import InputError
from aqpolicy.trial.records import SUFFIXES, Records


def fixture_files(policy: Path) -> Iterator[Path]:
    """Yield the files of fixtures that may be about a policy, by where they lie."""
    for stem in (f"{policy.stem}.cases", "cases"):
        for suffix in SUFFIXES:
            file = policy.parent / f"{stem}{suffix}"
            if file.is_file():
                yield file


def policy_of(records: Records) -> Path:
    """Return the policy that a file of fixtures is about.

    Raises:
        InputError: It does not say, and lies beside none that it could mean.
    """
    file = Path(records.source.name)
    if records.policy is not None:
        return file.parent / records.policy
    if file.stem.endswith(".cases"):
        return file.with_name(f"{file.stem.removesuffix('.cases')}.aqp")
    policies = sorted(file.parent.glob("*.aqp"))
    found = [policy for policy in policies if policy.name == "policy.aqp"] or policies
    if len(found) != 1:
        raise InputError(f"`{file}` does not say which policy it is about; write `policy: FILE.aqp` at its head")
    return found[0]
