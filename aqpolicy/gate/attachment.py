"""Put a gate between a model and its optimizer: load, verify, bind, open the log.

Everything untrusted is verified before anything of the model is touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from aqpolicy.bundle import Bundle, load_bundle
from aqpolicy.errors import IllegalTrainingSetupError, InputError
from aqpolicy.gate.gate import Gate
from aqpolicy.gate.recorder import Recorder
from aqpolicy.gate.sketch import DEFAULT_WIDTH
from aqpolicy.lineage import LineageWriter
from aqpolicy.provenance import Manifest, load_manifest
from aqpolicy.trust import Keyring, SigningKey, digest_text, load_keyring, load_signing_key

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
        lineage: A new folder for the log and all that reading it needs.
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
    opened = load_bundle(bundle, _needed(keys)) if isinstance(bundle, (str, Path)) else bundle
    signed = load_manifest(manifest, _needed(keys)) if isinstance(manifest, (str, Path)) else manifest
    _refuse_other_vocabulary(opened, signed)
    recorder = Recorder(opened.tables, None if lineage is None else Path(lineage))
    gate = Gate(
        model, optimizer, opened, signed, sketches=record == "sketch", refused=tuple(refused), recorder=recorder
    )
    if lineage is None:
        return gate
    try:
        _copy_inputs(Path(lineage), {"bundle.aqb": bundle, "manifest.aqm": manifest, "keyring.json": keyring})
        genesis = _genesis(gate, opened, signed, record, optimizer)
        recorder.log = LineageWriter.create(
            Path(lineage),
            genesis,
            _signer(log_key),
            groups=opened.tables.groups,
            budgets=tuple(budget.name for budget in opened.tables.budgets),
        )
    except BaseException:
        gate.detach()
        raise
    return gate


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


def _copy_inputs(run: Path, inputs: Mapping[str, Any]) -> None:
    """Keep the files beside the log, so that the run can be audited from its folder alone."""
    run.mkdir(parents=True, exist_ok=True)
    for name, source in inputs.items():
        if isinstance(source, (str, Path)) and Path(source).resolve() != (run / name).resolve():
            shutil.copyfile(source, run / name)


def _genesis(
    gate: Gate, bundle: Bundle, manifest: Manifest, record: Record, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
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
        "optimizer": type(optimizer).__name__,
        "torch": torch.__version__,
    }
