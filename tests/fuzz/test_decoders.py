"""Any bytes handed to any decoder: a typed error or what they say, quickly and in little memory, and in one form only.

`AQPOLICY_FUZZ=20000 python -m pytest tests/fuzz` looks further (`make fuzz`).
"""

from __future__ import annotations

import ast
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.decoders import Decoder, decoders
from support.fuzzing import MOST_BYTES, MOST_S, mutated, outcome, peak_bytes, seconds

TIMES = int(os.environ.get("AQPOLICY_FUZZ", "250"))
"""Changed seeds per decoder."""
SEED = int(os.environ.get("AQPOLICY_FUZZ_SEED", "1"))

PACKAGE = Path(__file__).parents[2] / "aqpolicy"
PLACES = ("bundle", "compiler/description.py", "lineage", "provenance", "report/live_form.py", "trust")
"""Where bytes of strangers are read; policies and fixtures have suites of their own (tests/hostile)."""
NAMES = (
    "decode_",
    "parse",
    "open_",
    "opened",
    "from_bytes",
    "key_of_row",
    "cut_",
    "peek",
    "scan_",
    "read_path",
    "attempt_of",
    "entry_of_block",
)

ELSEWHERE = {
    "lineage.reader.key_of_row": "finds the block for `lineage.block.key_of_row`",
    "bundle.sealed.open_signed_bundle": "what `open_bundle` calls",
    "lineage.compare.open_side": "opens a file or a log for `open_checkpoint`",
    "lineage.resume.opened": "opens one's own log; tests/crash, tests/attacks",
    "lineage.store.open_to_read": "a whole store; tests/hostile/test_hostile_log.py, tests/attacks/A26_hostile_store",
    "lineage.store.open_to_write": "one's own store; tests/crash",
    "lineage.store.open_own": "one's own store; tests/crash",
    "lineage.writer.open_for_status": "one's own log; tests/crash",
}
"""Functions of these names that read no bytes, each with who looks at them."""


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Decoder]:
    folder = tmp_path_factory.mktemp("seeds")
    return {decoder.name: decoder for decoder in decoders(folder)}


ALL = (
    "attempt", "base64", "block", "book", "bundle", "canonical JSON", "checked row proof", "checkpoint",
    "context", "credential", "credentials", "entry", "entry of a block", "envelope", "factors",
    "factors of 4 bits", "facts", "first entry", "fork", "frontier", "going back", "head of a manifest",
    "header of a trace index", "key of a row", "keyring", "label evidence", "live", "log proof", "manifest",
    "memorization report", "model", "path", "private key", "public key", "row", "row of float16", "row proof",
    "rows", "run example", "run group", "run route", "run step", "signatures", "signed bundle",
    "signed credential", "signed head of a manifest", "signed memorization report", "signed state",
    "signed status list", "signed taxonomy", "state", "status list", "step", "step of one rank", "sums",
    "tail of a row", "taxonomy", "touched rows", "trace index", "unverified envelope",
)  # fmt: skip


def test_all_decoders_are_fuzzed(known: dict[str, Decoder]) -> None:
    assert sorted(known) == list(ALL)


def of_the_product() -> Iterator[str]:
    """Return the functions of the product whose names say that they read bytes, as `package.module.function`."""
    for place in PLACES:
        path = PACKAGE / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.FunctionDef) and node.name.startswith(NAMES):
                    yield f"{module}.{node.name}"


def test_no_decoder_is_forgotten(known: dict[str, Decoder]) -> None:
    reached = {name for decoder in known.values() for name in decoder.reads} | ELSEWHERE.keys()
    assert set(of_the_product()) - reached == set()
    assert ELSEWHERE.keys() <= set(of_the_product())


@pytest.mark.parametrize("name", ALL)
def test_the_seeds_are_taken(known: dict[str, Decoder], name: str) -> None:
    decoder = known[name]
    for seed in decoder.seeds:
        made = decoder.decode(seed)
        assert decoder.encode is None or decoder.encode(made) == seed


@pytest.mark.parametrize("name", ALL)
def test_changed_bytes_are_refused_with_a_typed_error_or_have_one_form(known: dict[str, Decoder], name: str) -> None:
    decoder, chance = known[name], random.Random(f"{SEED} {name}")
    deep = sys.getrecursionlimit()
    for _ in range(TIMES):
        data = mutated(decoder.seeds, chance)
        made = outcome(decoder.decode, data)
        if made is not None and decoder.encode is not None:
            assert decoder.encode(made) == data
    assert sys.getrecursionlimit() == deep


@pytest.mark.parametrize("name", ALL)
def test_no_bytes_take_long_or_much(known: dict[str, Decoder], name: str) -> None:
    decoder, chance = known[name], random.Random(f"{SEED} {name} cost")
    for _ in range(max(10, TIMES // 20)):
        data = mutated(decoder.seeds, chance)
        assert seconds(decoder.decode, data) <= MOST_S, data[:200]
        assert peak_bytes(decoder.decode, data) <= MOST_BYTES, data[:200]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_bytes_of_no_form_at_all_are_refused(known: dict[str, Decoder], name: str, data: bytes) -> None:
    decoder = known[name]
    made = outcome(decoder.decode, data)
    if made is not None and decoder.encode is not None:
        assert decoder.encode(made) == data
