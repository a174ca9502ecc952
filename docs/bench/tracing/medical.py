"""Workers who read medical sentences: what each of them did to a reader of relations, held to trainings without them.

Sentences are read by MiniLM-L6, which stays as it was published; what is trained
are two layers on top of it, from single judgments of single workers. What is asked
about are sentences that were adjudicated by hand.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .data import Data
from .measures import lds, slope, spearman
from .ours import Reader
from .parts import OPTIMIZERS, Size, halves, net
from .results import Finding
from .setups import Setup, Trained, behaviours, retrain

EXAMPLE = Path(__file__).parents[2] / "examples" / "medical_relations"
WORKERS, EACH = 24, 150
"""The busiest workers, and how many judgments of each are learned from."""

FOLDER = Path(os.environ.get("AQPOLICY_MEDICAL", "../shared/data/crowdtruth-medrel"))
"""Where the data lies: docs/examples/medical_relations/README.md says where it comes from."""

WORDS = {"treat": "TREATS", "cause": "CAUSES"}
"""What a worker ticks where a sentence says so."""


def medical(size: Size) -> Iterator[Finding]:
    """Yield agreement over subsets of judgments, and over workers left out.

    Raises:
        OSError: The data or the encoder is not there.
    """
    if not (FOLDER / "judgments.csv").is_file():
        raise OSError(f"`{FOLDER}` holds no judgments; set AQPOLICY_MEDICAL")
    sys.path.insert(0, str(EXAMPLE))
    from aqpolicy.errors import InputError

    try:
        vectors, sentences = _read()
    except (InputError, ImportError) as error:
        raise OSError(str(error)) from error
    for relation in WORDS:
        yield from _relation(relation, vectors, sentences, size)


def _read() -> tuple[Tensor, dict[str, object]]:
    """Return MiniLM's mean vector of every sentence, (n, 384), and the sentences by name, in order."""
    from encoder import build, padded, read_tokens
    from sentences import read_corpus

    corpus = read_corpus(FOLDER).sentences
    tokens, bert = read_tokens(corpus), build().bert.eval()
    order = sorted(range(len(tokens)), key=lambda at: len(tokens[at]))
    found = torch.zeros(len(tokens), bert.config.hidden_size)
    with torch.no_grad():
        for start in range(0, len(order), 64):
            some = order[start : start + 64]
            batch = padded([tokens[at] for at in some])
            there = batch != 0
            hidden = bert(input_ids=batch, attention_mask=there.long()).last_hidden_state
            found[some] = (hidden * there[..., None]).sum(1) / there.sum(1, keepdim=True)
    return found, {sentence.name: sentence for sentence in corpus}


def _relation(relation: str, vectors: Tensor, sentences: dict[str, object], size: Size) -> Iterator[Finding]:
    place = {name: at for at, name in enumerate(sentences)}
    tested = {name: one.opinions[relation].adjudicated for name, one in sentences.items()}  # type: ignore[attr-defined]  # a sentence
    tested = {name: truth for name, truth in tested.items() if truth is not None}
    with (FOLDER / "judgments.csv").open(encoding="utf-8", newline="") as file:
        judged = [(row["SID"], row["worker"], WORDS[relation] in row["relations"]) for row in csv.DictReader(file)]
    judged = [one for one in judged if one[0] in place and one[0] not in tested]
    busy = [worker for worker, _ in Counter(worker for _, worker, _ in judged).most_common(WORKERS)]
    order = torch.randperm(len(judged), generator=torch.Generator().manual_seed(19)).tolist()
    by_worker = {worker: [judged[at] for at in order if judged[at][1] == worker][:EACH] for worker in busy}
    judged = [one for own in by_worker.values() for one in own]
    x = vectors[[place[name] for name, _, _ in judged]]
    y = torch.tensor([int(said) for _, _, said in judged])
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-3)
    names = list(tested)
    test_x = (vectors[[place[name] for name in names]] - mean) / deviation
    test_y = torch.tensor([int(bool(tested[name])) for name in names])
    data = Data(f"medical relations, {relation}", (x - mean) / deviation, y, test_x, test_y)
    owner = torch.tensor([busy.index(worker) for _, worker, _ in judged])
    for name in ("SGD", "AdamW"):
        optimizer, rate, bend = OPTIMIZERS[name]
        turns = min(4, size.epochs)
        setup = Setup(name, data, partial(net, (384, 32, 2), bend), optimizer, rate / 3, owner, epochs=turns)
        yield from _asked(setup, partial(Finding, "medical", f"{relation}, {len(judged):,} judgments, {name}"), size)


def _asked(setup: Setup, say: partial[Finding], size: Size) -> Iterator[Finding]:
    chance = torch.Generator().manual_seed(17)
    some = torch.randperm(len(setup.data.test_x), generator=chance)[: size.asked]
    x, labels = setup.data.test_x[some], setup.data.test_y[some]
    trained = Trained(setup)
    reader = Reader(trained)
    found, plain = reader.trace(x, labels, 3), reader.trace(x, labels, 0)
    with torch.no_grad():
        right = (trained.model(setup.data.test_x).argmax(1) == setup.data.test_y).float().mean()
    yield say("model", "part of the adjudicated sentences that it gets right", float(right))
    often = torch.stack([setup.data.test_y == 0, setup.data.test_y == 1]).float().mean(1).max()
    yield say("always the more frequent answer", "the same", float(often))
    masks = halves(max(8, size.subsets // 2), len(setup.data.x))
    own, other = (behaviours(retrain(setup, masks, seed), x, labels) for seed in (0, 1))
    whole = behaviours(retrain(setup, torch.ones(1, len(setup.data.x))), x, labels)
    without = torch.stack([(setup.owner != number).float() for number in range(WORKERS)])
    truth = (whole - behaviours(retrain(setup, without), x, labels)).t()
    for title, scores in (("estimate", found.examples.sum(2)), ("contribution", plain.examples.sum(2))):
        yield say(title, "LDS, this run", lds(scores, masks, own))
        yield say(title, "LDS, another seed", lds(scores, masks, other))
        said = scores @ (1 - without.double()).t()
        yield say(title, f"rank correlation over {WORKERS} workers left out", float(spearman(said, truth).mean()))
        yield say(title, "slope of the truth on it", slope(said, truth))
        total = float(spearman(said.mean(0), truth.mean(0)))
        yield say(title, "rank correlation of the workers' means over behaviours", total)
    trained.close()
