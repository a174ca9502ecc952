"""Put a gate between a model and its optimizer: load, verify, bind, open the log.

Everything untrusted is verified before anything of the model is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from aqpolicy.bundle import Bundle, open_bundle
from aqpolicy.errors import IllegalTrainingSetupError, InputError
from aqpolicy.gate.gate import Gate
from aqpolicy.gate.recorder import Recorder
from aqpolicy.gate.sketch import DEFAULT_WIDTH
from aqpolicy.lineage import LineageWriter
from aqpolicy.provenance import Manifest, decode_manifest
from aqpolicy.trust import Keyring, SigningKey, digest_text, load_keyring, load_signing_key, replace_file

Record = Literal["norms", "sketch"]


def attach(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    bundle: Path | str | Bundle,
    manifest: Path | str | Manifest,
    keyring: Path | str | Keyring | None = None,
    lineage: Path | str | None = None,
    log_key: Path | str | SigningKey | None = None,
    record: Record = "norms",
    refused: Iterable[str] = (),
    unsafe_without_lineage: bool = False,
) -> Gate:
    """Return a gate for a model whose every trained parameter the bundle governs.

    Args:
        model: The model, on its device, before the first step.
        optimizer: A fresh optimizer of exactly the trained parameters.
        bundle: A sealed bundle, or one that was loaded.
        manifest: A signed manifest, or one that was loaded.
        keyring: The keys that bundle and manifest are trusted by; needed where either is a path.
        lineage: A new folder for the log, and for all that reading it needs where bundle and manifest are files.
        log_key: The key that signs the log; needed with `lineage`.
        record: What the log keeps of each example and group: the gradient's norm, or also a sketch of what it wrote.
        refused: Ids of examples whose bytes are not those of the manifest; they are denied as errors.
        unsafe_without_lineage: Train without a log, on purpose.

    Raises:
        AqpolicyError: Something cannot be trusted, bound, or gated exactly; the model is left as it was.
    """
    if lineage is None and not unsafe_without_lineage:
        raise IllegalTrainingSetupError(
            "no lineage folder was given; pass lineage=..., or unsafe_without_lineage=True to learn without a record"
        )
    if record not in ("norms", "sketch"):
        raise InputError(f"record is `{record}`; it is `norms` or `sketch`")
    keys = load_keyring(keyring) if isinstance(keyring, (str, Path)) else keyring
    files: dict[str, bytes] = {} if keys is None else {"keyring.json": keys.to_bytes()}
    if isinstance(bundle, (str, Path)):
        files["bundle.aqb"] = _read(bundle)
        bundle = open_bundle(files["bundle.aqb"], _needed(keys))
    if isinstance(manifest, (str, Path)):
        files["manifest.aqm"] = _read(manifest)
        manifest = decode_manifest(files["manifest.aqm"], _needed(keys))
    _refuse_other_vocabulary(bundle, manifest)
    recorder = Recorder(bundle.tables, None if lineage is None else Path(lineage))
    signer = None if lineage is None else _signer(log_key)
    gate = Gate(
        model, optimizer, bundle, manifest, sketches=record == "sketch", refused=tuple(refused), recorder=recorder
    )
    if lineage is None or signer is None:
        return gate
    try:
        recorder.log = _open_log(Path(lineage), signer, gate, _genesis(gate, bundle, manifest, record))
        for name, data in files.items():
            replace_file(Path(lineage) / name, data)
    except BaseException:
        if recorder.log is not None:
            recorder.log.close()
        gate.detach()
        raise
    return gate


def _open_log(run: Path, signer: SigningKey, gate: Gate, genesis: dict[str, Any]) -> LineageWriter:
    groups, budgets = gate.tables.groups, tuple(budget.name for budget in gate.tables.budgets)
    return LineageWriter.create(run, genesis, signer, groups=groups, budgets=budgets)


def _read(path: Path | str) -> bytes:
    """Read a file once: what is verified is what is used and what is kept beside the log."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error


def _needed(keyring: Keyring | None) -> Keyring:
    if keyring is None:
        raise InputError("a bundle or manifest given as a file needs keyring=..., the keys that it is trusted by")
    return keyring


def _refuse_other_vocabulary(bundle: Bundle, manifest: Manifest) -> None:
    if bundle.taxonomy != manifest.taxonomy:
        raise IllegalTrainingSetupError(
            f"the bundle speaks of `{bundle.taxonomy}`, the manifest of `{manifest.taxonomy}`; use a pair that agrees"
        )


def _signer(key: Path | str | SigningKey | None) -> SigningKey:
    if key is None:
        raise InputError("a lineage log needs log_key=..., the key that signs it")
    return key if isinstance(key, SigningKey) else load_signing_key(key)


def _genesis(gate: Gate, bundle: Bundle, manifest: Manifest, record: Record) -> dict[str, Any]:
    """Return what the log's first entry says of the run."""
    return {
        "policy": bundle.policy_name,
        "policy_version": bundle.policy_version,
        "taxonomy": bundle.taxonomy,
        "bundle": digest_text(bundle.digest),
        "manifest": digest_text(manifest.digest),
        "manifest_root": digest_text(manifest.root),
        "manifest_size": manifest.size,
        "record": record,
        "sketch_k": DEFAULT_WIDTH,
        "sketch_seed": gate.plan.seed,
        "sizes": list(gate.plan.sizes),
        "optimizer": type(gate.optimizer).__name__,
        "torch": torch.__version__,
    }
