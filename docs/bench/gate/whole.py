"""The whole step, with everything on: bundle, manifest, ledger, optimizer, signed log.

The row of an example depends on its kind, of which there are as many as examples in
a batch, so that a step sees the same shares as in the core table.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from aqpolicy.bundle import NO_LIMIT, AttributeTable, BudgetTable, Bundle, Row, Tables
from aqpolicy.gate import attach
from aqpolicy.provenance import Credential, Field, Manifest, Observation, Session, issue_manifest, load_manifest
from aqpolicy.trust import Keyring, SigningKey, sha256
from aqpolicy.units import MICRO

from .cases import Case, trained
from .modes import Data, Mode, Step, losses

BATCHES = 8
"""Batches of examples that take turns; their tensors are the same."""

PLENTY = 10**15


def plain_whole(case: Case, model: nn.Module, data: Data) -> Step:
    """Return a step of plain training."""
    optimizer = _optimizer(case, model)

    def run() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()

    return Step(run, list(trained(model)))


def gated_whole(case: Case, mode: Mode, model: nn.Module, data: Data) -> Step:
    """Return a step under the gate, its log in a temporary folder."""
    stack, examples = ExitStack(), len(data[1])
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    optimizer, binding = _optimizer(case, model), case.binding(model)
    names = [f"example-{number}" for number in range(BATCHES * examples)]
    kinds = tuple(f"k{number}" for number in range(examples))
    labels, key = _manifest(folder, names, kinds)
    gate = attach(
        model,
        optimizer,
        bundle=Bundle(_tables(mode, kinds, len(binding)), "bench", "1", "bench@1", binding, {}, {}, (), sha256(b"")),
        manifest=labels,
        lineage=folder / "run",
        log_key=key,
        record="sketch" if mode.sketch else "norms" if mode.measure else "decisions",
    )
    stack.callback(gate.close)
    batches = cycle([names[start : start + examples] for start in range(0, len(names), examples)])

    def run() -> None:
        with gate.step(next(batches)):
            gate.backward(losses(model, data))

    return Step(run, list(trained(model)), stack.close)


def _optimizer(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for _, parameter in trained(model)]
    if case.adam:
        return torch.optim.AdamW(parameters, lr=1e-6)
    return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9)


def _tables(mode: Mode, kinds: tuple[str, ...], groups: int) -> Tables:
    """Return one row per kind, and two budgets with windows that never close."""
    every = tuple(range(groups))
    budgets = (
        BudgetTable("all", every, 100 * MICRO, NO_LIMIT, PLENTY, NO_LIMIT, "deny"),
        BudgetTable("late", every[groups // 2 :], NO_LIMIT, PLENTY, NO_LIMIT, NO_LIMIT, "attenuate"),
    )
    limit = NO_LIMIT if mode.limit is None else round(mode.limit * MICRO)
    rows = [Row("deny", "error", (0,) * groups, (NO_LIMIT,) * groups, (0, 0), (), "error")]
    for shares in map(tuple, mode.shares(len(kinds), groups).tolist()):
        cost = tuple(max(shares[group] for group in budget.groups) for budget in budgets)
        effect = "modulate" if any(shares) else "deny"
        cause = "granted" if any(shares) else "denied"
        rows.append(Row(effect, cause, shares, (limit,) * groups, cost, ("rule",), "because"))
    vectors = tuple(1 << number for number in range(len(kinds)))
    kind = AttributeTable("kind", "category", kinds, (), 0, 1, vectors)
    names = tuple(f"g{number}" for number in every)
    return Tables(names, (kind,), tuple(rows), {vector: at + 1 for at, vector in enumerate(vectors)}, budgets)


def _manifest(folder: Path, names: list[str], kinds: tuple[str, ...]) -> tuple[Manifest, SigningKey]:
    """Return a signed manifest of examples whose kinds take turns."""
    issuer, reader = SigningKey.generate("issuer"), SigningKey.generate("reader")
    credential = Credential(id="reader", key=reader.verify_key.text, holder="reader-1", authority="expert")
    observations = tuple(
        Observation(name, sha256(name.encode()), sha256(b""), "reader", 0, {"kind": kinds[at % len(kinds)]}, ())
        for at, name in enumerate(names)
    )
    path, fields = folder / "labels.aqm", [Field("kind", "category", kinds)]
    issue_manifest(path, "bench", "bench@1", fields, [Session(credential, reader, observations)], issuer)
    return load_manifest(path, Keyring.of([("manifest-issuer", issuer.verify_key)])), issuer
