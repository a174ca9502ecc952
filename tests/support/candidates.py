"""Finished runs with a model that waits for its promotion."""

from __future__ import annotations

from pathlib import Path

from support.lineage_runs import GENESIS, KEY, NAMES, block

from aqpolicy.gate.records.promotion import Verdict, publish
from aqpolicy.lineage import LineageWriter
from aqpolicy.trust import Keyring, SigningKey

ANN, BEN, CAT = (
    SigningKey.from_seed(name, bytes([number] * 32)) for number, name in enumerate(("ann", "ben", "cat"), 1)
)
STRANGER = SigningKey.from_seed("stranger", bytes([9] * 32))
TRUSTED = Keyring.of([("log", KEY.verify_key), *(("witness", key.verify_key) for key in (ANN, BEN, CAT))])
MODEL = b"the numbers of a model"


def write_candidate(run: Path, verdict: Verdict | None = None, *, name: str = "model", data: bytes = MODEL) -> Path:
    """Write a run of one step that ends with this candidate; without a verdict two witnesses must sign."""
    writer = LineageWriter.create(run, GENESIS, KEY, **NAMES)
    writer.append_step(block(0))
    publish(run, name, data, verdict or Verdict("tentative", 2), log=writer, step=1, facts={})
    writer.close()
    return run


def key_files(folder: Path) -> dict[str, str]:
    """Write everybody's keys and the keyring; return the paths."""
    keys = {"ann": ANN, "ben": BEN, "cat": CAT, "stranger": STRANGER, "log": KEY}
    for name, key in keys.items():
        key.save(folder / f"{name}.key")
    TRUSTED.save(folder / "trusted.json")
    return {name: str(folder / f"{name}.key") for name in keys} | {"keyring": str(folder / "trusted.json")}
