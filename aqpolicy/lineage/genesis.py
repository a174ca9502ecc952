"""The first entry of a log: what it says of the run, and what follows from it for reading the rest."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from aqpolicy import __version__
from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.entry import FORMAT, GENESIS, decode_entry, decode_facts, refuse_other_format
from aqpolicy.lineage.record import NORMS, Layout

_RUN: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
SEAL_EVERY: Final = 256
"""Steps between two seals."""
_MOST_STEPS: Final = 1 << 20


def origin_of(run_id: str) -> str:
    """Return the name by which the signed heads of a run call its log."""
    return f"aqpolicy.local/run/{run_id}"


def digest_of(facts: dict[str, Any], name: str) -> bytes:
    """Return a digest that facts name.

    Raises:
        ValueError: They name none, or not as `trust.digest_text` writes it.
    """
    if not _is_digest(value := facts.get(name)):
        raise ValueError(name)
    return bytes.fromhex(value.removeprefix("sha256:"))


def layout_of(genesis: dict[str, Any]) -> Layout:
    """Return what the encoding of a run's steps depends on."""
    names = (tuple(genesis["phases"]), tuple(genesis["stages"]))
    return Layout(len(genesis["groups"]), len(genesis["budgets"]), *names, genesis["norms"])


def first_facts(
    genesis: Mapping[str, Any], log_key: str, groups: Sequence[str], budgets: Sequence[str]
) -> dict[str, Any]:
    """Return what the first entry of a new log says.

    Raises:
        LineageError: Something is missing that it must say, or is said as nobody can read it.
    """
    run_id = secrets.token_hex(16)
    facts = {
        "phases": [],
        "stages": [],
        "first_step": 0,
        "norms": NORMS[0],
        "seal_every": SEAL_EVERY,
        **genesis,
        "format": FORMAT,
        "aqpolicy": __version__,
        "run": run_id,
        "origin": origin_of(run_id),
        "groups": list(groups),
        "budgets": list(budgets),
        "log_key": log_key,
        "started_s": int(time.time()),
    }
    for name in ("bundle", "manifest_root"):
        if not _is_digest(facts.get(name)):
            raise LineageError(f"the run names no `{name}` digest")
    if not describes_a_run(facts):
        raise LineageError("the first entry of the log would not describe a run; look at its names and numbers")
    return facts


def parse_genesis(data: bytes) -> dict[str, Any]:
    """Return what the bytes of a first entry say.

    Trust:
        data is untrusted.

    Raises:
        LineageError: The log has another format.
        CorruptLogError: The bytes do not describe a run.
    """
    refuse_other_format(data)
    try:
        kind, payload = decode_entry(data)
        facts = decode_facts(payload)
    except CorruptLogError as error:
        raise CorruptLogError(error.problem, "entry 0") from error
    if kind != GENESIS or not describes_a_run(facts):
        raise CorruptLogError("the first entry does not describe a run of this version", "entry 0")
    return facts


def describes_a_run(facts: dict[str, Any]) -> bool:
    """Return whether the first entry of a log of this version may say this."""
    run, names = facts.get("run"), [facts.get(name) for name in ("groups", "budgets", "phases", "stages")]
    return (
        facts.get("format") == FORMAT
        and isinstance(run, str)
        and _RUN.fullmatch(run) is not None
        and facts.get("origin") == origin_of(run)
        and _is_number(facts.get("first_step"), 0, 1 << 63)
        and _is_number(facts.get("seal_every"), 1, _MOST_STEPS)
        and facts.get("norms") in NORMS
        and all(_is_digest(facts.get(name)) for name in ("bundle", "manifest_root"))
        and all(isinstance(some, list) and all(_is_name(name) for name in some) for some in names)
    )


def _is_number(value: object, least: int, end: int) -> bool:
    return type(value) is int and least <= value < end


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()  # it will be printed


def _is_digest(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
