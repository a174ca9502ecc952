"""Go on with a log: open it, look at its end, and find where training goes back to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.attempts import Attempts, Resumption
from aqpolicy.lineage.entry import CKPT, decode_entry, decode_facts
from aqpolicy.lineage.genesis import digest_of, layout_of
from aqpolicy.lineage.group import Group
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.seal import MakeBuilder, Sealer
from aqpolicy.lineage.state import State
from aqpolicy.lineage.store import ENTRY, META, MODEL, Store, entry_key, model_key
from aqpolicy.lineage.tail import Tail, checked_tail
from aqpolicy.lineage.tally import Tally
from aqpolicy.trust import Frontier, Keyring, SigningKey, VerifyKey


@dataclass(frozen=True, slots=True)
class OpenLog:
    """A log that may be gone on with."""

    genesis: dict[str, Any]
    tail: Tail
    group: Group


def beginning(genesis: dict[str, Any]) -> State:
    """Return the state of a log before its first entry."""
    layout = layout_of(genesis)
    return State(
        size=0,
        group=Frontier().to_bytes(),
        tally=Tally(layout.budgets).to_bytes(),
        step=int(genesis["first_step"]),
        attempt=0,
        last_step=-1,
        bundle=digest_of(genesis, "bundle"),
        manifest_root=digest_of(genesis, "manifest_root"),
        keyring=-1,
        sealed=0,
        unsealed=0,
        steps=0,
        rows=0,
        ended=False,
    )


def opened(run: Path, signer: SigningKey, keyring: Keyring) -> OpenLog:
    """Open a log to go on with it, in a time that does not depend on its size.

    Raises:
        ForkedLogError: The log is older than its head, or another one.
        CorruptLogError: Something at its end is not what was signed.
        SignatureError: No trusted key signed its head.
        LineageError: There is no log, or the keyring does not trust the key for it, or not any more; or it is in use.
    """
    store = Store.open_to_write(run / "lineage")
    try:
        reader = LineageReader(run, keyring, store=store)
        if not _succeeds(signer.verify_key, str(reader.genesis.get("log_key")), keyring):
            raise LineageError(f"the key `{signer.verify_key.label}` is not the key of this log, nor its successor")
        tail = checked_tail(store, reader.genesis, reader.checkpoint, keyring)
    except BaseException:
        store.close()
        raise
    group = Group(run, store, signer, str(reader.genesis["origin"]), tail.frontier)
    return OpenLog(reader.genesis, tail, group)


def _succeeds(key: VerifyKey, first: str, keyring: Keyring) -> bool:
    """Say whether a key may sign further heads: the one that began the log, or a trusted one after that was rotated."""
    trusted = keyring.keys("log")
    rotated = any(other.text == first and other.retired is not None for other in trusted)
    return key in trusted and (rotated or key.text == first)  # a rotated key is not equal to itself


def logged_models(run: Path, keyring: Keyring) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the first entry of a log says, and the models that count, the oldest first, each with its `entry`.

    The time depends on how many models there are, not on the log's size.

    Trust:
        The folder is one's own; what is returned was compared with no signature.

    Raises:
        CorruptLogError: An entry does not describe a model.
        SignatureError: No trusted key signed the log's head.
        LineageError: There is no log, or it is being written.
    """
    with LineageReader(run, keyring, store=Store.open_own(run / "lineage")) as reader:
        attempts, store = Attempts.of(reader.store, int(reader.genesis["first_step"])), reader.store
        found = []
        for key, _ in store.items(META, MODEL):
            index = int.from_bytes(key.removeprefix(MODEL), "big")
            if not key.startswith(MODEL) or index >= reader.size:
                break
            facts = _model(store, index, reader.size)
            if not attempts.superseded_after(facts["attempt"], facts["step"]):
                found.append({**reader.body(index, facts), **facts, "entry": index})
        return reader.genesis, found


def sealer(log: OpenLog, index: MakeBuilder) -> Sealer:
    """Return the steps since the last seal of a log; those in the store are not read yet."""
    state = log.tail.state
    return Sealer(layout_of(log.genesis), index, start=state.sealed, steps=state.unsealed)


def gone_back(log: OpenLog, entry: int, reason: str) -> tuple[Resumption, Tally]:
    """Return what going on from a model entry means, and what the steps before it add up to.

    Args:
        log: The log.
        entry: Index of the entry; -1 for the beginning.
        reason: Why.

    Raises:
        LineageError: The log has no such model entry, or went back behind it already.
        CorruptLogError: What the steps before it add up to is not there any more.
    """
    state, store, first = log.tail.state, log.group.store, int(log.genesis["first_step"])
    step, tally = first, Tally(layout_of(log.genesis).budgets)
    if entry != -1:
        facts = _model(store, entry, state.size)
        if Attempts.of(store, first).superseded_after(facts["attempt"], facts["step"]):
            raise LineageError(f"training went back behind the model of entry {entry} already; choose a later one")
        step, tally = facts["step"], _tally(store, entry, facts["state"], tally.budgets)
    return Resumption(state.attempt + 1, step, entry, state.step - step, reason, int(time.time())), tally


def _model(store: Store, entry: int, size: int) -> dict[str, Any]:
    data = store.get(ENTRY, entry_key(entry)) if 0 <= entry < size else None
    kind, payload = (0, b"") if data is None else decode_entry(data)
    if kind != CKPT:
        raise LineageError(f"the log has no model at entry {entry}: it is older than the model, or another log")
    facts = decode_facts(payload)
    if any(type(facts.get(name)) is not kind for name, kind in (("attempt", int), ("step", int), ("state", str))):
        raise CorruptLogError("the entry does not describe a model", f"entry {entry}")
    return facts


def _tally(store: Store, entry: int, digest: str, budgets: int) -> Tally:
    tally = Tally.from_bytes(store.get(META, model_key(entry)) or b"", budgets)
    if tally.digest.hex() != digest:
        raise CorruptLogError("what the steps before the model add up to is not what was signed", f"entry {entry}")
    return tally
