"""A37: what writes and what verifies share a mistake, so that both agree on nonsense.

A second verifier, written from the specification (`attacks.independent`), and an implementation of RFC 9162 by others
(`scitt-cose`, in tests/conformance) read the same logs.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from attacks.independent import RefusedError, check
from support.attacking import PUBLIC, begun, content, copy_of, flipped, put_in_place, rows_of, take, unnoticed
from support.lineage_runs import KEYRING, edit

from aqpolicy.errors import AqpolicyError
from aqpolicy.lineage import verify_log
from aqpolicy.lineage.tally import Tally
from aqpolicy.lineage.visits import visits_bytes
from aqpolicy.trust import merkle


def test_both_take_honest_logs(rich: Path, plain: Path) -> None:
    for run in (rich, plain):
        check(run, PUBLIC)
        verify_log(run, KEYRING)


@pytest.mark.parametrize("mistake", ["sums", "order", "tree"])
def test_a_mistake_that_writer_and_verifier_share_is_seen_by_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    if mistake == "sums":  # what an epoch was charged is never begun anew
        put_in_place(monkeypatch, Tally.charge, charged_for_ever)
    elif mistake == "order":  # which rank an example came from is not said
        put_in_place(monkeypatch, visits_bytes, lambda _: b"")
    else:  # an odd leaf is doubled
        put_in_place(monkeypatch, merkle._level_above, doubled)
    writer = begun(tmp_path / "run", seal_every=2)
    for step in range(3):
        take(writer, rows_of(3 * step, 3), visits=((2, 1),), epoch=step)
    writer.close()
    assert unnoticed(tmp_path / "run").steps == 3


def charged_for_ever(tally: Tally, epoch: int, charged: list[int], *others: list[int]) -> None:
    tally._epoch_number = epoch
    tally._sums = [
        [a + b for a, b in zip(*pair, strict=True)]
        for pair in zip(tally._sums, (charged, charged, *others), strict=True)
    ]


def doubled(level: list[bytes]) -> list[bytes]:
    level = level + level[-1:] * (len(level) & 1)
    return [merkle.node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]


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
