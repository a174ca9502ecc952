"""The parts of the benchmark: each trains, asks the trace, trains again without, and says how far the two agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from aqpolicy.rerun.foreseeing import factors_of
from aqpolicy.trace.behaviour import Named
from aqpolicy.trace.closing import close_run
from aqpolicy.trace.journey import follow

from .data import Data, digits, mnist
from .measures import auc, lds, slope, spearman
from .ours import Reader
from .peers import PEERS
from .results import Finding
from .setups import Setup, Trained, behaviours, gated_without, margins, retrain

ANNOTATORS, CLASSES = 24, 3
CARELESS, WRONG = (22, 23), 0.6
"""Two annotators, and which part of their labels is wrong."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    subsets: int = 100
    asked: int = 60
    seeds: int = 3
    policies: int = 80
    epochs: int = 15


QUICK = Size(subsets=8, asked=2, seeds=1, policies=6, epochs=2)

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[Optimizer, float, type[nn.Module]]] = {
    "SGD": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3), 0.05, nn.ReLU),
    "Adam": (lambda p: torch.optim.Adam(p, lr=3e-3, betas=(0.9, 0.99)), 3e-3, nn.GELU),
    "AdamW": (lambda p: torch.optim.AdamW(p, lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01), 3e-3, nn.GELU),
}
MUST = {"SGD": {"own": 0.62, "other": 0.52}, "AdamW": {"own": 0.73, "other": 0.60}}


def net(widths: Sequence[int], bend: type[nn.Module]) -> nn.Sequential:
    """Return linear layers with something bent between them."""
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(widths):
        layers += [nn.Linear(wide, narrow), bend()]
    return nn.Sequential(*layers[:-1])


def setup_of(name: str, data: Data, epochs: int) -> Setup:
    """Return the training on digits with an optimizer."""
    optimizer, rate, bend = OPTIMIZERS[name]
    owner = torch.arange(len(data.x)) % ANNOTATORS
    return Setup(name, data, partial(net, (64, 64, 32, 10), bend), optimizer, rate, owner, epochs=epochs)


def halves(count: int, examples: int, part: float = 0.5) -> Tensor:
    """Return which examples are kept, in that many subsets, (k, n)."""
    chance = torch.Generator().manual_seed(7)
    kept = torch.stack([torch.randperm(examples, generator=chance) for _ in range(count)]) < round(part * examples)
    return kept.float()


def agreement(size: Size) -> Iterator[Finding]:
    """Yield how the trace agrees with retrainings on half of the digits, with the peers beside it."""
    for name in OPTIMIZERS:
        setup = setup_of(name, digits(), size.epochs)
        say = partial(Finding, "agreement", f"digits, {name}")
        x, labels = setup.data.test_x[: size.asked], setup.data.test_y[: size.asked]
        masks = halves(size.subsets, len(setup.data.x))
        start = time.perf_counter()
        own = behaviours(retrain(setup, masks), x, labels)
        other = sum(behaviours(retrain(setup, masks, seed), x, labels) for seed in range(1, size.seeds + 1))
        took = (time.perf_counter() - start) / (len(masks) * (1 + size.seeds))
        assert isinstance(other, Tensor)
        trained = Trained(setup)
        yield from _checks(say, setup, trained, masks)
        yield say("one retraining, many at once", "seconds", took)
        reader = Reader(trained)
        yield say("factors of 8 bits", "bytes per visit", reader.bytes_per_visit)
        for level, title in ((3, "estimate, 8 bits"), (0, "contribution, 8 bits")):
            found = reader.trace(x, labels, level)
            scores = found.examples.sum(2)
            must = MUST.get(name, {}) if level == 3 else {}
            yield say(title, "LDS, this run", lds(scores, masks, own), must.get("own"))
            yield say(title, "LDS, other seeds", lds(scores, masks, other), must.get("other"))
            yield say(title, "seconds", found.seconds)
        for peer in PEERS:
            try:
                scores, seconds = peer.timed(trained, x, labels)
            except Exception as error:  # noqa: BLE001 - what goes wrong is the result
                yield say(peer.title, "LDS, this run", float("nan"), note=f"{type(error).__name__}: {error}"[:100])
                continue
            yield say(peer.title, "LDS, this run", lds(scores, masks, own))
            yield say(peer.title, "LDS, other seeds", lds(scores, masks, other))
            yield say(peer.title, "seconds", seconds)
        trained.close()
        yield from _fewer_bits(say, setup, masks, own, x, labels)


def _checks(say: Callable[..., Finding], setup: Setup, trained: Trained, masks: Tensor) -> Iterator[Finding]:
    """Yield how near the many retrainings are to what the gate makes, and how the books close."""
    ways = torch.cat(
        [(p.detach() - q).flatten() for p, q in zip(trained.model.parameters(), trained.start, strict=True)]
    )
    everything = retrain(setup, torch.ones(1, len(setup.data.x)))[0]
    yield say("all admitted", "apart from the gate's, of the way", _apart(trained.model, everything, ways), 1e-3, "<=")
    refused = (masks[0] == 0).nonzero().squeeze(1).tolist()
    pair = gated_without(setup, refused), retrain(setup, masks[:1])[0]
    yield say("half of them refused", "apart from the gate's, of the way", _apart(*pair, ways), 1e-3, "<=")
    closing = close_run(trained.run)
    worst = max(one.beyond for one in closing.accounts)
    whole = max(one.unexplained / one.way for one in closing.tensors)
    yield say("book, worst step", "unexplained, beyond what single precision stores", worst, 1e-4, "<=")
    picture = setup.data.test_x[:1], setup.data.test_y[:1]
    margin = Named("margin", lambda model: margins(model(picture[0]), picture[1]).squeeze(0), None)
    journey = follow(trained.run, Named("model", setup.model, None), margin)
    change = abs(journey.last - journey.first)
    fine, coarse = abs(journey.left_over) / change, abs(journey.trapezoid) / change
    yield say("a behaviour's own book, gradients half way too", "left over, of its change", fine, 1e-5, "<=")
    yield say("a behaviour's own book, coarser rule", "left over, of its change", coarse, 1e-3, "<=")
    yield say("book, whole run from 8 bits", "unexplained, of the way of a tensor", whole)


def _apart(one: nn.Module, other: nn.Module, way: Tensor) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return float(torch.cat([(p - q).detach().flatten() for p, q in pairs]).norm() / way.norm())


def _fewer_bits(  # noqa: PLR0917 - what both have in common
    say: Callable[..., Finding], setup: Setup, masks: Tensor, own: Tensor, x: Tensor, labels: Tensor
) -> Iterator[Finding]:
    kinds = [("factors", 4, "4 bits")] + [("sketch", 8, "sketch of 256 numbers per layer")] * (setup.name == "SGD")
    for record, bits, title in kinds:
        trained = Trained(setup, record, bits)
        reader = Reader(trained)
        found = reader.trace(x, labels, 3)
        yield say(f"estimate, {title}", "LDS, this run", lds(found.examples.sum(2), masks, own))
        yield say(f"estimate, {title}", "bytes per visit", reader.bytes_per_visit)
        trained.close()


def annotators(size: Size) -> Iterator[Finding]:
    """Yield how the trace finds what each annotator changed, and what policies would change; some are careless."""
    for name in ("SGD", "AdamW"):
        setup = setup_of(name, digits(), size.epochs)
        wrong = _careless(setup)
        setup = setup_of(name, setup.data.relabelled(wrong), size.epochs)
        say = partial(Finding, "annotators", f"digits, {name}")
        x, labels = setup.data.test_x[: size.asked], setup.data.test_y[: size.asked]
        trained = Trained(setup)
        reader = Reader(trained)
        found, plain = reader.trace(x, labels, 3), reader.trace(x, labels, 0)
        whole = behaviours(retrain(setup, torch.ones(1, len(setup.data.x))), x, labels)
        masks = torch.stack([(setup.owner != number).float() for number in range(ANNOTATORS)])
        truth = (whole - behaviours(retrain(setup, masks), x, labels)).t()
        for title, scores in (("estimate", found), ("contribution", plain)):
            said = scores.examples.sum(2) @ (1 - masks.double()).t()
            must = 0.60 if title == "estimate" else None
            yield say(title, "rank correlation over 24 annotators left out", float(spearman(said, truth).mean()), must)
            yield say(title, "slope of the truth on it", slope(said, truth), (0.7, 1.3) if must else None)
            worst = set(said.mean(0).argsort()[: len(CARELESS)].tolist()) == set(CARELESS)
            yield say(title, "the two careless ones come last", float(worst), 1.0 if must else None)
        yield from _policies(say, setup, reader, found.prices, whole, x, labels, size)
        yield from _regions(say, setup, reader, whole, x, labels)
        yield from _removal(say, setup, found.examples.sum(2), whole, x, labels)
        trained.close()


def _careless(setup: Setup) -> Tensor:
    chance, labels = torch.Generator().manual_seed(3), setup.data.y.clone()
    for number in CARELESS:
        own = (setup.owner == number).nonzero().squeeze(1)
        some = own[torch.rand(len(own), generator=chance) < WRONG]
        labels[some] = (labels[some] + torch.randint(1, 10, (len(some),), generator=chance)) % 10
    return labels


def _policies(  # noqa: PLR0917 - what all have in common
    say: Callable[..., Finding],
    setup: Setup,
    reader: Reader,
    prices: list[Tensor],
    whole: Tensor,
    x: Tensor,
    labels: Tensor,
    size: Size,
) -> Iterator[Finding]:
    """Yield how prices foresee policies that shut single layers to single annotators."""
    chance = torch.Generator().manual_seed(11)
    policies = (torch.rand(size.policies, ANNOTATORS, len(setup.layers()), generator=chance) < 0.9).double()
    weights = policies[:, setup.owner]
    truth = (behaviours(retrain(setup, weights.float()), x, labels) - whole).t()
    run = reader.trained.run
    assert bool((factors_of(run, [_admitted(block) for block in run.blocks]) == 1).all()), "all was admitted"
    change = weights[:, reader.example] - 1
    said = torch.stack([(price * change).sum((1, 2)) for price in prices])
    yield say("what-if", f"rank correlation over {size.policies} policies", float(spearman(said, truth).mean()), 0.55)
    yield say("what-if", "slope of the truth on it", slope(said, truth))


def _admitted(block: object) -> list[object]:
    from types import SimpleNamespace

    from aqpolicy.bundle import NO_LIMIT
    from aqpolicy.units import MICRO

    rows = block.rows  # type: ignore[attr-defined]  # of a block
    return [SimpleNamespace(shares=(MICRO,) * len(row.norms), norms=(NO_LIMIT,) * len(row.norms)) for row in rows]


def _regions(  # noqa: PLR0917 - what all have in common
    say: Callable[..., Finding], setup: Setup, reader: Reader, whole: Tensor, x: Tensor, labels: Tensor
) -> Iterator[Finding]:
    """Yield how a behaviour's gradient along the way of a neuron says what putting the neuron back would do."""
    trained, rows = reader.trained, []
    layers = [module for module in trained.model if isinstance(module, nn.Linear)]
    starts = [module for module in setup.model() if isinstance(module, nn.Linear)]
    truth = []
    for layer, start in zip(layers, starts, strict=True):
        for row in range(layer.out_features):
            kept = layer.weight.detach()[row].clone(), layer.bias.detach()[row].clone()
            with torch.no_grad():
                layer.weight[row], layer.bias[row] = start.weight[row], start.bias[row]
                truth.append((whole - behaviours([trained.model], x, labels))[0])
                layer.weight[row], layer.bias[row] = kept
    for picture, label in zip(x, labels, strict=True):
        gradient = reader.behaviour(picture, label).gradient
        parts = []
        for layer, part, way in zip(layers, gradient, reader.ending.travelled, strict=True):
            size = layer.weight.numel()
            products = part.double() * way
            parts.append(products[:size].view(layer.out_features, -1).sum(1) + products[size:])
        rows.append(torch.cat(parts))
    found = float(spearman(torch.stack(rows), torch.stack(truth, 1)).mean())
    yield say("region map", f"rank correlation over {len(truth)} neurons put back", found, 0.85)


def _removal(  # noqa: PLR0917 - what all have in common
    say: Callable[..., Finding], setup: Setup, scores: Tensor, whole: Tensor, x: Tensor, labels: Tensor, top: int = 30
) -> Iterator[Finding]:
    """Yield how far a margin falls without the examples that raised it most, and without as many by chance."""
    chance = torch.Generator().manual_seed(13)
    first = torch.ones(len(x), len(setup.data.x))
    for line, own in zip(first, scores, strict=True):
        line[own.argsort(descending=True)[:top]] = 0
    some = torch.ones(len(x), len(setup.data.x))
    for line in some:
        line[torch.randperm(len(line), generator=chance)[:top]] = 0
    each = torch.arange(len(x))
    falls = [(whole - behaviours(retrain(setup, masks), x, labels))[each, each].mean() for masks in (first, some)]
    yield say(f"the {top} that raised it most, removed", "fall of the margin", float(falls[0]))
    yield say(f"{top} by chance, removed", "fall of the margin", float(falls[1]))
    yield say("the first over the second", "ratio of the falls", float(falls[0] / falls[1].abs()), 40.0)


def mislabels(size: Size) -> Iterator[Finding]:
    """Yield how what is logged anyway finds labels that were changed, beside plain loss."""
    for data in (digits(), mnist()):
        count, chance = len(data.x), torch.Generator().manual_seed(5)
        changed = torch.rand(count, generator=chance) < 0.1
        labels = torch.where(changed, (data.y + torch.randint(1, 10, (count,), generator=chance)) % 10, data.y)
        for name in ("SGD", "AdamW"):
            optimizer, rate, bend = OPTIMIZERS[name]
            widths = (data.x.shape[1], 64, 32, 10)
            owner = torch.arange(count) % ANNOTATORS
            build = partial(net, widths, bend)
            setup = Setup(name, data.relabelled(labels), build, optimizer, rate, owner, epochs=size.epochs)
            say = partial(Finding, "mislabels", f"{data.name}, {name}")
            trained = Trained(setup, "norms")
            norms = torch.zeros(count, dtype=torch.float64)
            for _, row in trained.run.rows:
                norms[int(trained.run.manifest.observation(row.manifest_index).example_id.rpartition("-")[2])] += sum(
                    row.norms
                )
            yield say("norms in the log, summed", "AUC", auc(norms, changed), 0.99)
            with torch.no_grad():
                loss = nn.functional.cross_entropy(trained.model(setup.data.x), labels, reduction="none")
            yield say("plain loss at the end", "AUC", auc(loss, changed))
            trained.close()


def published(size: Size) -> Iterator[Finding]:
    """Yield the agreement on MNIST, near to the setting in which dattri publishes its numbers."""
    data = mnist()
    owner = torch.arange(len(data.x)) % ANNOTATORS
    cases = (
        ("logistic regression", (784, 10), torch.optim.SGD, {"lr": 0.01}, 20, 0.80),
        ("MLP 784-128-64-10", (784, 128, 64, 10), torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}, 15, 0.45),
    )
    for title, widths, kind, options, epochs, must in cases:
        rate = options["lr"]
        build, optimizer = partial(net, widths, nn.ReLU), partial(kind, **options)
        turns = min(epochs, size.epochs) if size is QUICK else epochs
        setup = Setup(title, data, build, optimizer, rate, owner, batch=64, epochs=turns, warm=False)
        say = partial(Finding, "published", f"{data.name}, {title}")
        asked = max(2, size.asked // 3)
        x, labels = data.test_x[:asked], data.test_y[:asked]
        masks = halves(max(4, size.subsets // 2), len(data.x))
        own = behaviours(retrain(setup, masks), x, labels)
        other = behaviours(retrain(setup, masks, 1), x, labels)
        trained = Trained(setup)
        reader = Reader(trained)
        yield say("factors of 8 bits", "bytes per visit", reader.bytes_per_visit)
        for level, name in ((3, "estimate"), (0, "contribution")):
            found = reader.trace(x, labels, level)
            scores = found.examples.sum(2)
            yield say(name, "LDS, this run", lds(scores, masks, own), must if level else None)
            yield say(name, "LDS, another seed", lds(scores, masks, other))
            yield say(name, "seconds", found.seconds)
        trained.checkpoints = trained.checkpoints[::-5]  # a peer keeps every example's gradient at each of them
        for peer in PEERS[:2]:
            scores, seconds = peer.timed(trained, x, labels)
            yield say(peer.title, "LDS, this run", lds(scores, masks, own))
            yield say(peer.title, "LDS, another seed", lds(scores, masks, other))
            yield say(peer.title, "seconds", seconds)
        trained.close()
