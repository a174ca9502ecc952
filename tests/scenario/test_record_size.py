"""What is said before a run of the bytes that a visit records is what the log then holds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gating import tables
from support.tracing import KEYRING, Story, train
from torch import nn

from aqpolicy.gate.records.size import RecordSize, record_size
from aqpolicy.trace import open_run

OWNERS = {f"1-{number}": "ann" for number in range(8)}


@pytest.mark.parametrize(
    ("record", "bits"), [("decisions", 8), ("norms", 8), ("sketch", 8), ("factors", 8), ("factors", 4)]
)
def test_it_is_what_the_log_holds(tmp_path: Path, record: str, bits: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 2))
    said: list[RecordSize] = []
    line = io.StringIO()
    attach: dict[str, Any] = {"factor_bits": bits, "progress": line}
    story = Story(
        OWNERS,
        tables([[1.0, 1.0]]),
        record=record,
        attach=attach,
        before=lambda gate, _: said.append(gate.record_size),
    )
    run = open_run(train(tmp_path, story, model), KEYRING)
    size = said[0]
    norms = 0 if record == "decisions" else 4 * 2
    assert {len(row.sketch or b"") + norms for _, row in run.rows} == {size.least}
    assert line.getvalue().startswith(str(size))
    assert size.most >= size.least


def test_many_positions_are_recorded_whole_at_most() -> None:
    size = record_size("factors", [[(64, 32), (64,)]], 8, [256])
    assert size.least == 4 + 4 + (1 + 2 + 4 + 64 + 4 + 32) + 3
    assert size.most == 4 + 4 + (1 + 4 + 64 * 32) + (1 + 4 + 64)
    assert str(size) == "records factors of 8 bits: 118 to 2,130 bytes per visit beside the decision"
    assert str(record_size("norms", [[(2, 2)]], 8, [4])) == "records norms: 4 bytes per visit beside the decision"
