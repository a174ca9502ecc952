"""Compiled runs: how an index agrees with the reverse pass and with retrainings, and how long it takes to ask one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from aqpolicy.trace.answering import ask
from aqpolicy.trace.compiling import compile_index
from aqpolicy.trace.index import Facts, Index

from .data import digits
from .measures import lds, spearman
from .ours import Reader
from .parts import Size, halves, setup_of
from .results import Finding
from .setups import Trained, behaviours, example_id, retrain

WIDTH, ASKED = 256, 7
LATENCIES = {10_000: 2.0, 100_000: 10.0, 1_000_000: 100.0}
"""Milliseconds that a question may take, by how many examples there are."""


def compiled(size: Size) -> Iterator[Finding]:
    """Yield agreement on digits, then times of indexes of random numbers."""
    for name in ("SGD", "AdamW"):
        setup = setup_of(name, digits(), size.epochs)
        say = partial(Finding, "compiled", f"digits, {name}")
        x, labels = setup.data.test_x[: size.asked], setup.data.test_y[: size.asked]
        masks = halves(size.subsets, len(setup.data.x))
        own = behaviours(retrain(setup, masks), x, labels)
        trained = Trained(setup)
        reader = Reader(trained)
        exact = reader.trace(x, labels, 3)
        start = time.perf_counter()
        index = compile_index(trained.run, size=WIDTH)
        yield say(f"index of {WIDTH} numbers", "seconds to compile", time.perf_counter() - start)
        answers = [ask(index, "", 0.0, one.gradient, len(setup.data.x)) for one in exact.behaviours]
        held = statistics.mean(answer.held for answer in answers)
        numbers = {example_id(at): at for at in range(len(setup.data.x))}
        scores = torch.zeros(len(answers), len(numbers), dtype=torch.float64)
        for line, answer in zip(scores, answers, strict=True):
            for example, _, score in answer.examples:
                line[numbers[example]] = score
        whole = exact.examples.sum(2)
        yield say("behaviours' gradients", "part that lies in the index, mean", held)
        agreed = float(spearman(scores, whole).mean())
        yield say("index against the reverse pass", "rank correlation over examples", agreed)
        yield say("reverse pass", "LDS, this run", lds(whole, masks, own))
        yield say("index", "LDS, this run", lds(scores, masks, own))
        trained.close()
    yield from _latency(size)


def _latency(size: Size) -> Iterator[Finding]:
    """Yield how long a question takes, the backward pass of the model aside."""
    say = partial(Finding, "compiled", f"questions, {WIDTH} numbers per example")
    for count, most in LATENCIES.items():
        if count > 10_000 and size.epochs < Size().epochs:
            continue
        index = _random(count)
        gradient = [torch.randn(1, 1024)]
        times = []
        for _ in range(ASKED):
            start = time.perf_counter()
            ask(index, "", 0.0, gradient)
            times.append(time.perf_counter() - start)
        yield say(f"{count:,} examples", "milliseconds", 1e3 * statistics.median(times), most, "<=")


def _random(count: int) -> Index:
    chance = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(1024, WIDTH, generator=chance))
    levels = torch.randint(-127, 128, (count, WIDTH), generator=chance, dtype=torch.int8)
    names = tuple(map(example_id, range(count)))
    shapes: Tensor = torch.rand(count, generator=chance)
    facts = Facts("r", "p", "", 2.0, ("a",), (), (((1024,),),), None, ("c",), names, 1.0)
    sums = torch.zeros(1, 1, WIDTH, dtype=torch.float64)
    owners, visits = torch.zeros(count, dtype=torch.int32), torch.tensor([count])
    return Index(facts, basis.t().contiguous(), levels, shapes, owners, sums, visits)
