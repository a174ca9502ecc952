"""All ways to make a step, by key."""

from __future__ import annotations

from torch import nn

from .cases import Case
from .modes import BY_KEY, MODES, Data, Step, gated_step, plain_step
from .peers import PEERS

WAYS = tuple(mode.key for mode in MODES) + tuple(peer.key for peer in PEERS)
TITLES = {"plain": "plain training"} | {way.key: way.title for way in (*MODES, *PEERS)}


def make(case: Case, way: str, model: nn.Module, data: Data) -> Step:
    """Return a step made in a way that is named by its key."""
    if way == "plain":
        return plain_step(model, data)
    if way in BY_KEY:
        return gated_step(case, BY_KEY[way], model, data)
    return next(peer for peer in PEERS if peer.key == way).make(case, model, data)
