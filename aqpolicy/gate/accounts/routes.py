"""Which row of the mask tables each visit gets, by the cheapest way that the tables leave.

Where rows depend on the manifest alone they are looked up once. Where they depend
on the run too, the manifest's attributes are worked off once and every batch goes
on from there. Tables that tell too much apart for that are asked visit by visit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

import torch
from torch import Tensor

from aqpolicy.bundle import ERROR_ROW, Classifier, Tables
from aqpolicy.errors import BundleError
from aqpolicy.gate.accounts.classify import BatchClassifier
from aqpolicy.gate.accounts.columns import NOWHERE, Columns, Observations, Sight

Routes = Callable[[Sight], Tensor]
"""From what can be seen of visits (b,) to their rows (b,), as int64; `ERROR_ROW` at slot `NOWHERE`."""


def routes(tables: Tables, manifest: Observations) -> Routes:
    """Return the cheapest way to find rows of these tables."""
    if all(table.origin != "run" for table in tables.attributes):
        return _once(tables, manifest)
    try:
        classifier = BatchClassifier(tables)
    except BundleError:  # too many transitions
        return _one_by_one(tables, manifest)
    return _from_there(tables, manifest, classifier)


def _once(tables: Tables, manifest: Observations) -> Routes:
    """Look the whole manifest up now."""
    classify, names = Classifier(tables), [table.name for table in tables.attributes]
    every = (manifest.attributes(index) for index in range(manifest.size))
    found = [ERROR_ROW, *(classify([attributes.get(name) for name in names]) for attributes in every)]
    known = torch.tensor(found, device="cpu")
    return lambda sight: known.index_select(0, sight.slot)


def _from_there(tables: Tables, manifest: Observations, classifier: BatchClassifier) -> Routes:
    """Work off the leading attributes of the manifest now, the others in every batch."""
    leading = len(list(takewhile(lambda table: table.origin != "run", tables.attributes)))
    columns = Columns(tables, manifest, range(len(tables.attributes)))
    started = classifier.begin([columns.signed(position) for position in range(leading)], manifest.size + 1)

    def find(sight: Sight) -> Tensor:
        state = started.index_select(0, sight.slot)
        for position in range(leading, len(tables.attributes)):
            state = classifier.advance(position, state, columns.of(position, sight))
        return state.long().masked_fill_(sight.slot == NOWHERE, ERROR_ROW)

    return find


def _one_by_one(tables: Tables, manifest: Observations) -> Routes:
    """Look every visit up by itself."""
    classify, attributes = Classifier(tables), tables.attributes

    def find(sight: Sight) -> Tensor:
        state, found = sight.state.attributes(), []
        seen = (column.tolist() for column in (sight.slot, sight.surprisal, sight.entropy))
        for slot, surprisal, entropy in zip(*seen, strict=True):
            if slot == NOWHERE:
                found.append(ERROR_ROW)
                continue
            run = {"surprisal": surprisal, "predictive_entropy": entropy, **state}
            signed = manifest.attributes(slot - 1)
            values = [(run if table.origin == "run" else signed).get(table.name) for table in attributes]
            found.append(classify(values))
        return torch.tensor(found, device="cpu")

    return find
