"""The log says which rows of embedding tables an admitted gradient was written to."""

from __future__ import annotations

from pathlib import Path

import torch
from support.gating import tables
from support.tracing import KEYRING, Story, train
from torch import Tensor, nn

from aqpolicy.lineage import LineageReader, verify_log

WORDS = {"1-a": [3, 5, 3], "1-b": [7, 5, 0], "2-c": [9, 9, 1]}


class Words(nn.Module):
    """Two tables of words and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.bag = nn.Embedding(12, 4, padding_idx=0), nn.EmbeddingBag(12, 4, mode="sum")
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x).mean(1) + self.bag(x))  # type: ignore[no-any-return]


def loss(net: nn.Module, names: list[str]) -> Tensor:
    x = torch.tensor([WORDS[name] for name in names])
    return nn.functional.cross_entropy(net(x), torch.zeros(len(names), dtype=torch.long), reduction="none")


def test_the_rows_are_those_that_admitted_examples_looked_up(tmp_path: Path) -> None:
    story = Story(
        dict.fromkeys(WORDS, "reader"),
        tables([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]),
        groups=(("words.",), ("bag.",), ("head.",)),
        epochs=1,
        batch=3,
        record="norms",
    )
    run = train(tmp_path, story, Words(), loss)
    verify_log(run, KEYRING)
    with LineageReader(run, KEYRING) as reader:
        (step,) = reader.steps()
    words, bag = (
        sorted({3, 5, 7}),
        sorted({0, 1, 3, 5, 7, 9}),
    )  # `2-c` may not write the first table; 0 is padding there
    assert step.book.touched == ((0, 0, tuple(words)), (1, 0, tuple(bag)))
