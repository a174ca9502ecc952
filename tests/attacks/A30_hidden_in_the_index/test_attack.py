"""A30: whoever holds the log's key seals an index that leaves a visit out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.attacking import put_in_place, refused, rows_of, take, unnoticed
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import LineageReader, LineageWriter
from aqpolicy.lineage.lookup import Index
from aqpolicy.lineage.runs import Numbers, RunBuilder
from aqpolicy.lineage.verify_blocks import Blocks
from aqpolicy.trust import example_key

HIDDEN = example_key("e4")


class Hiding(RunBuilder):
    """Makes an index without one example."""

    def examples(self, heads: bytes) -> tuple[Numbers, Numbers, Numbers]:
        prefixes, places, shared = super().examples(heads)
        prefix = int.from_bytes(HIDDEN[:4], "little")
        kept: Sequence[int] = [at for at, one in enumerate(prefixes) if one != prefix]
        return [prefixes[at] for at in kept], [places[at] for at in kept], shared


@pytest.fixture
def run(tmp_path: Path) -> Path:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES, index=Hiding)
    for step in range(3):
        take(writer, rows_of(3 * step, 3))
    writer.close()
    return tmp_path / "run"


def test_a_verifier_makes_the_index_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LineageReader(run, KEYRING) as reader:
        assert Index(reader).visits_of_example(HIDDEN) == []  # who only asks is deceived
    refused(run, CorruptLogError, "the index that the seal commits to is not that of its steps", where="entry 6")
    put_in_place(monkeypatch, Blocks._seal, lambda *_: iter(()))
    assert unnoticed(run).steps == 3
