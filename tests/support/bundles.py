"""A folder in which a small policy has been compiled and signed, through the command line."""

from __future__ import annotations

from pathlib import Path

from support.trials import CLINIC, write_policy

from aqpolicy.cli.main import main
from aqpolicy.compiler.description import FORMAT
from aqpolicy.trust import Keyring, SigningKey, canonical_json

ALICE = SigningKey.from_seed("alice", bytes(range(32)))
BOB = SigningKey.from_seed("bob", bytes(range(1, 33)))
GROUPS = {"a": "Linear", "b": "Linear", "c": "Linear"}


def write_keys(folder: Path) -> None:
    """Write the keys of Alice and Bob, and a keyring that trusts both as policy authors."""
    for key in (ALICE, BOB):
        key.save(folder / f"{key.name}.key")
    both = [("policy-author", ALICE.verify_key), ("policy-author", BOB.verify_key)]
    Keyring.of(both).save(folder / "keyring.json")


def write_model(folder: Path) -> str:
    """Write a model that the small policy fits; return its path."""
    modules = [{"name": name, "type": kind} for name, kind in GROUPS.items()]
    parameters = [{"also": [], "module": name, "name": f"{name}.weight", "shape": [4]} for name in GROUPS]
    description = {"format": FORMAT, "modules": modules, "parameters": parameters}
    (folder / "model.json").write_bytes(canonical_json(description))
    return str(folder / "model.json")


def compiled(folder: Path, text: str = CLINIC) -> str:
    """Compile a policy, signed by Alice; return the path of the bundle."""
    write_keys(folder)
    bundle = str(folder / "clinic.aqb")
    words = ["--model", write_model(folder), "--key", str(folder / "alice.key"), "--out", bundle]
    assert main(["compile", write_policy(folder, text), *words]) == 0
    return bundle
