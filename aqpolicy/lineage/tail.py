"""Look at the end of a log before going on with it: how long that takes does not depend on the log's size.

What is looked at: the state and the newest head are signed; `head.note` is neither
ahead of the log nor another log's; the entries of the last group lead to the newest
head; their blocks have the roots that they name; the tally is that of the last step.
What lies before is what older heads signed; `verify_log` looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aqpolicy.errors import CanonicalError, CorruptLogError, ForkedLogError, TrustError
from aqpolicy.lineage.block import cut_block
from aqpolicy.lineage.entry import STEP, StepEntry, decode_entry, decode_step
from aqpolicy.lineage.genesis import layout_of
from aqpolicy.lineage.record import Layout
from aqpolicy.lineage.state import STATE_KEY, State
from aqpolicy.lineage.store import BLOCK, ENTRY, HEAD, META, Store, block_key, entry_key
from aqpolicy.lineage.tally import Tally
from aqpolicy.trust import Checkpoint, Frontier, Keyring, leaf_hash, open_checkpoint, root_of


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a log, looked at."""

    state: State
    frontier: Frontier
    """Of all entries."""
    tally: Tally


def checked_tail(store: Store, genesis: dict[str, Any], published: Checkpoint, keyring: Keyring) -> Tail:
    """Return the end of a log.

    Args:
        store: Open.
        genesis: What the first entry says.
        published: The head in `head.note`, opened.
        keyring: The keys that are trusted.

    Raises:
        ForkedLogError: The log is older than a head, or another one.
        CorruptLogError: Something at its end is not what was signed.
        SignatureError: No trusted log key signed it.
    """
    newest = _newest_head(store, keyring)
    _refuse_other_head(store, published, newest, keyring)
    state = State.opened(store.get(META, STATE_KEY), keyring.within(newest.origin, newest.size))
    if newest.origin != genesis["origin"] or state.size != newest.size:
        raise CorruptLogError("the newest head and the state of the log do not belong together", "meta")
    layout = layout_of(genesis)
    frontier = _group(store, state, newest, layout)
    return Tail(state, frontier, _tally(store, state, layout))


def _newest_head(store: Store, keyring: Keyring) -> Checkpoint:
    found = store.last(HEAD)
    if found is None:
        raise CorruptLogError("the log has no signed head", "lineage")
    size, note = int.from_bytes(found[0], "big"), found[1]
    head, count = _opened(size, note, keyring), store.count(ENTRY)
    if size > count:
        raise ForkedLogError(f"the log holds {count} entries, its newest signed head {size}: it was cut or rolled back")
    if size < count:
        raise CorruptLogError("the entry lies beyond the newest signed head", f"entry {size}")
    return head


def _opened(size: int, note: bytes, keyring: Keyring) -> Checkpoint:
    try:
        head = open_checkpoint(note, keyring.keys("log"))
    except TrustError as error:
        raise CorruptLogError(f"a signed head is damaged: {error}", f"head of size {size}") from error
    if head.size != size:
        raise CorruptLogError("a signed head is not the one that belongs here", f"head of size {size}")
    return head


def _refuse_other_head(store: Store, published: Checkpoint, newest: Checkpoint, keyring: Keyring) -> None:
    if published.size > newest.size:
        raise ForkedLogError(
            f"the log holds {newest.size} entries, its signed head {published.size}: it was cut or rolled back"
        )
    note = store.get(HEAD, entry_key(published.size))
    if note is None or _opened(published.size, note, keyring) != published:
        raise ForkedLogError(
            f"the signed head of size {published.size} and the log contradict each other: there are two logs"
        )


def _group(store: Store, state: State, newest: Checkpoint, layout: Layout) -> Frontier:
    """Return the frontier of all entries, after reading those of the last group and their blocks."""
    try:
        frontier = Frontier.from_bytes(state.group)
    except CanonicalError as error:
        raise CorruptLogError(f"the state of the log is no state: {error}", "meta") from error
    start = frontier.size
    for index, (key, data) in enumerate(store.items(ENTRY, entry_key(start)), start):
        if key != entry_key(index):
            raise CorruptLogError("the entry is missing", f"entry {index}")
        frontier.append(leaf_hash(data))
        kind, payload = decode_entry(data)
        if kind == STEP:
            _look_at_blocks(store, decode_step(payload), layout)
    if (frontier.size, frontier.root()) != (newest.size, newest.root):
        raise CorruptLogError("this or a later entry is not what was signed", f"entry {start}")
    return frontier


def _look_at_blocks(store: Store, entry: StepEntry, layout: Layout) -> None:
    for rank in entry.ranks:
        data = store.get(BLOCK, block_key(entry.attempt, entry.step, rank.rank))
        if data is None or root_of(cut_block(data, layout).recomputed()) != rank.inner_root:
            raise CorruptLogError("the rows are not those of the signed entry", f"step {entry.step}")


def _tally(store: Store, state: State, layout: Layout) -> Tally:
    tally = Tally.from_bytes(state.tally, layout.budgets)
    data = store.get(ENTRY, entry_key(state.last_step)) if state.last_step >= 0 else None
    kind, payload = (0, b"") if data is None else decode_entry(data)
    last = decode_step(payload) if kind == STEP else None
    if (last is None) != (state.last_step < 0):
        raise CorruptLogError("the last step is not in its place", f"entry {state.last_step}")
    # After a RESUME the tally is that of a model entry, until the next step.
    if last is None or (last.attempt, last.step) != (state.attempt, state.step - 1):
        return tally
    if (last.budget_state, last.data_cursor) != (tally.budget_state, tally.data_cursor):
        raise CorruptLogError("budgets or examples so far are not what the last step says", f"step {last.step}")
    return tally
