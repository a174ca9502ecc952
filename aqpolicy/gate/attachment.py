"""Put a gate between a model and its optimizer: load, verify, bind, open the log.

Everything untrusted is verified before anything of the model is touched.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import torch
from torch import Tensor, nn

from aqpolicy.bundle import Bundle, open_bundle
from aqpolicy.errors import IllegalTrainingSetupError, InputError
from aqpolicy.gate.assembly import Options, Record, assemble
from aqpolicy.gate.gate import Gate
from aqpolicy.gate.machinery import Machinery
from aqpolicy.gate.motion.metrics import Metric
from aqpolicy.gate.motion.probes import Probes
from aqpolicy.gate.ranks import Ranks, ranks_of
from aqpolicy.gate.records.checkpoint import Checkpoint, find_checkpoint, refuse_other_run, restored
from aqpolicy.gate.records.start import FILE as START
from aqpolicy.gate.records.start import start_digest, write_start
from aqpolicy.gate.routing.factors import BITS
from aqpolicy.gate.routing.groups import Group
from aqpolicy.lineage.record import FACTOR_KIND, SKETCH_KIND
from aqpolicy.provenance import Credentials, Manifest, decode_manifest
from aqpolicy.scribe.remote import Durability, RemoteWriter
from aqpolicy.trust import Keyring, SigningKey, digest_text, load_keyring, load_signing_key, replace_file

RECORDS: Final = ("decisions", "norms", "sketch", "factors")


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
    factor_bits: int = 8,
    refused: Iterable[str] = (),
    credentials: Credentials | None = None,
    metrics: Mapping[str, Metric] | None = None,
    probes: Tensor | tuple[Tensor, ...] | Mapping[str, Tensor] | None = None,
    scaler: Any = None,
    clip: float | None = None,
    today: date | None = None,
    progress: bool | TextIO = False,
    state: Mapping[str, Any] | None = None,
    purpose: str | None = None,
    least_serial: int = 1,
    resume: str | None = None,
    durability: Durability = "publish",
    unsafe_without_lineage: bool = False,
) -> Gate:
    """Return a gate for a model whose every trained parameter the bundle governs.

    Args:
        model: The model, on its device, before the first step; inside `DistributedDataParallel` where there are ranks.
        optimizer: A fresh optimizer of exactly the trained parameters.
        bundle: A sealed bundle, or one that was loaded.
        manifest: A signed manifest, or one that was loaded.
        keyring: The keys that bundle and manifest are trusted by; needed where either is a path.
        lineage: A new folder for the log, and for all that reading it needs where bundle and manifest are files; with
            `resume`, the folder of the run.
        log_key: The key that signs the log; needed with `lineage`.
        record: What the log keeps of each example and group: `decisions` alone, also the gradient's `norms`, also a
            `sketch` of what it wrote, or the `factors` of what it would have written.
        factor_bits: Bits of a number in `factors`: 8, or 4.
        refused: Ids of examples whose bytes are not those of the manifest; they are denied as errors.
        credentials: By what the credentials behind labels are judged (`Credentials.read`): an example whose label no
            valid one signed is refused, too. Without it, the issuer of the manifest is taken at his word.
        metrics: The metrics that the policy names, each a function of the model.
        probes: Inputs on which representation drift is measured: a tensor, positional or keyword arguments.
        scaler: A `torch.amp.GradScaler`, for training in float16; the gate scales, unscales and updates it.
        clip: The largest l2 norm of each group's gradient; clipped group by group, so that none depends on another.
        today: The date of the run; by default that of UTC.
        progress: Whether to print a line that tells how the run goes, or where to.
        state: What `Gate.state_dict` of an earlier run returned; model and optimizer are restored by the caller.
        purpose: What the manifest must be for, as its issuer says; any purpose, where none is given.
        least_serial: The least number that the manifest may have: that of one that was seen before.
        resume: The name of a checkpoint in the run's folder (`Gate.checkpoint`), or `latest`: model, optimizer and all
            that the gate knows go back to it, and the log goes on. What was trained after it counts no longer. With
            `beginning`, nothing that was trained counts any longer.
        durability: What waits for the disk: a model or checkpoint alone (`publish`), also a step for the group of steps
            before its own (`group`), or every step for itself (`step`).
        unsafe_without_lineage: Train without a log, on purpose.

    Raises:
        AqpolicyError: Something cannot be trusted, bound, or gated exactly; the model is left as it was.
    """
    if lineage is None and not unsafe_without_lineage:
        raise IllegalTrainingSetupError(
            "no lineage folder was given; pass lineage=..., or unsafe_without_lineage=True to learn without a record"
        )
    if record not in RECORDS:
        raise InputError(f"record is `{record}`; it is `decisions`, `norms`, `sketch` or `factors`")
    if factor_bits not in BITS:
        raise InputError(f"factor_bits is {factor_bits}; a number of a factor has 8 bits, or 4")
    if clip is not None and not 0 < clip < float("inf"):
        raise InputError(f"clip is {clip}; it is a positive number, the largest norm of a group's gradient")
    keys = load_keyring(keyring) if isinstance(keyring, (str, Path)) else keyring
    day = today or datetime.now(UTC).date()
    if keys is not None:
        keys.refuse_expired(day)
        if notice := keys.notice(day):
            warnings.warn(notice, stacklevel=2)
    files: dict[str, bytes] = {} if keys is None else {"keyring.json": keys.to_bytes()}
    if isinstance(bundle, (str, Path)):
        files["bundle.aqb"] = _read(bundle)
        bundle = open_bundle(files["bundle.aqb"], _needed(keys))
    if isinstance(manifest, (str, Path)):
        files["manifest.aqm"] = _read(manifest)
        manifest = decode_manifest(files["manifest.aqm"], _needed(keys), purpose=purpose, least_serial=least_serial)
    _refuse_other_vocabulary(bundle, manifest)
    reasons = dict.fromkeys(refused, "its bytes are not those of the manifest")
    if credentials is not None:
        files |= credentials.files
        for example, standing in credentials.unentitled(manifest, _needed(keys), day).items():
            reasons.setdefault(example, f"the credential behind its label does not hold ({standing.reason})")
    run = None if lineage is None else Path(lineage)
    signer = None if run is None else _signer(log_key)
    inner, ranks = ranks_of(model)
    checkpoint = None if resume is None else _checkpoint(run, keys, resume, ranks)
    options = Options(
        record=record,
        bits=factor_bits,
        refused=reasons,
        metrics=metrics,
        probes=None if probes is None else Probes(probes),
        scaler=scaler,
        clip=clip,
        today=today,
        progress=progress,
        state=state if checkpoint is None else checkpoint.state(ranks.rank, ranks.world),
        start=None if checkpoint is None else checkpoint.start,
    )
    with restored(checkpoint, inner, optimizer, scaler):
        machinery = assemble(model, optimizer, bundle, manifest, options, run)
        gate = Gate(machinery)
        try:
            if run is not None and signer is not None and ranks.rank == 0:
                facts = _genesis(machinery, bundle, manifest, record, options)
                facts["credentials"] = {} if credentials is None else credentials.facts
                machinery.recorder.log = log = _log(run, signer, keys, facts, bundle, checkpoint, durability)
                machinery.recorder.attempt = log.attempt
                for name, data in files.items():
                    # A process may have begun the run and died before it wrote them all.
                    if checkpoint is None or not (run / name).exists():
                        replace_file(run / name, data)
                if record == "factors" and not (run / START).exists():
                    write_start(run, machinery.started)
        except BaseException:
            if machinery.recorder.log is not None:
                machinery.recorder.log.close()
            gate.detach()
            raise
    if checkpoint is not None:
        gate.extra = checkpoint.extra
    return gate


def _log(  # noqa: PLR0917 - what a log is begun with
    run: Path,
    signer: SigningKey,
    keys: Keyring | None,
    facts: Mapping[str, Any],
    bundle: Bundle,
    checkpoint: Checkpoint | None,
    durability: Durability,
) -> RemoteWriter:
    """Begin the log of a run, or go on with it."""
    if checkpoint is not None:
        refuse_other_run(checkpoint.genesis, facts)
        reason = f"resumed from {checkpoint.name}"
        return RemoteWriter.resume(
            run, signer, _needed(keys), entry=checkpoint.entry, reason=reason, durability=durability
        )
    groups, budgets = bundle.tables.groups, tuple(budget.name for budget in bundle.tables.budgets)
    return RemoteWriter.create(run, facts, signer, groups=groups, budgets=budgets, keyring=keys, durability=durability)


def _checkpoint(run: Path | None, keys: Keyring | None, name: str, ranks: Ranks) -> Checkpoint:
    """Return the checkpoint to go on from: the same one on every rank."""
    if run is None:
        raise InputError("resume=... needs lineage=..., the folder of the run that is to go on")
    found = find_checkpoint(run, _needed(keys), name)
    if len(set(ranks.gather((found.name, found.entry)))) > 1:
        raise IllegalTrainingSetupError("the ranks found different checkpoints; let all of them read one folder")
    return found


def _read(path: Path | str) -> bytes:
    """Read a file once: what is verified is what is used and what is kept beside the log."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error


def _needed(keyring: Keyring | None) -> Keyring:
    if keyring is None:
        raise InputError("what is given as a file needs keyring=..., the keys that it is trusted by")
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


def _genesis(
    machinery: Machinery, bundle: Bundle, manifest: Manifest, record: Record, options: Options
) -> dict[str, Any]:
    """Return what the log's first entry says of the run."""
    tables, state = bundle.tables, machinery.course.state
    return {
        "policy": bundle.policy_name,
        "policy_version": bundle.policy_version,
        "taxonomy": bundle.taxonomy,
        "bundle": digest_text(bundle.digest),
        "manifest": digest_text(manifest.digest),
        "manifest_root": digest_text(manifest.root),
        "manifest_size": manifest.size,
        "record": record,
        "sketch_kind": SKETCH_KIND,
        "sketch_k": machinery.plan.k,
        "sketch_seed": machinery.plan.seed,
        "factor_kind": FACTOR_KIND,
        "factor_bits": options.bits,
        "start": start_digest(machinery.started) if record == "factors" else "",
        "sizes": list(machinery.plan.sizes),
        "trained": [_trained(*pair) for pair in zip(bundle.parameters, machinery.backward.groups, strict=True)],
        "low_precision": [any(p.itemsize < 4 for p in group.parameters) for group in machinery.backward.groups],
        "optimizer": type(machinery.mover.optimizer).__name__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "phases": list(tables.phases),
        "stages": [stage.name for stage in tables.stages],
        "ranks": machinery.ranks.world,
        "first_step": state.step,
        "probes": "" if options.probes is None else digest_text(options.probes.digest),
    }


def _trained(bound: Sequence[tuple[str, tuple[int, ...]]], group: Group) -> str:
    """Return which of the bundle's parameters of a group the run trains: one bit each, the first is the lowest."""
    names = set(group.names)
    return f"{sum(1 << number for number, (name, _) in enumerate(bound) if name in names):x}"
