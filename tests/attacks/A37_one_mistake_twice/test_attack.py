"""A37: what writes and what verifies share a mistake, so that both agree on nonsense.

A second verifier, written from the specification (`attacks.independent`), and an implementation of RFC 9162 by others
(`scitt-cose`, in tests/conformance) read the same logs.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from attacks.independent import RefusedError, check
from support.attacking import PUBLIC, content, copy_of, flipped
from support.lineage_runs import KEYRING, edit

from aqpolicy.errors import AqpolicyError
from aqpolicy.lineage import verify_log


def test_both_take_honest_logs(rich: Path, plain: Path) -> None:
    for run in (rich, plain):
        check(run, PUBLIC)
        verify_log(run, KEYRING)


def test_both_refuse_what_was_changed(rich: Path) -> None:
    chance = random.Random(5)
    held = content(rich)
    for _ in range(40):
        table = chance.choice([b"entry", b"blk", b"body", b"run"])
        key = chance.choice(sorted(held[table]))
        at = chance.randrange(len(held[table][key]))
        run = copy_of(rich)
        edit(run, table, key, lambda data, at=at: flipped(data, at))
        with pytest.raises(AqpolicyError):
            verify_log(run, KEYRING)
        with pytest.raises(RefusedError):
            check(run, PUBLIC)
