"""How a run sketched is read from its first entry, or refused; runs whose groups are too large to keep are traced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.gating import tables
from support.tracing import KEYRING, Story, data_of, train
from torch import nn

from aqpolicy.errors import CorruptLogError, TraceError
from aqpolicy.trace import Run, audit, open_run
from aqpolicy.trace.sketches import SketchShape, sketch_shape
from aqpolicy.trace.visits import close_books, load_ending, load_visits, refuse_open_books

BOUND = ((("a.weight", (30, 40)), ("a.bias", (30,)), ("a.more", (9,))), (("b", (2, 3)),), ())
GENESIS = {
    "record": "sketch",
    "sketch_kind": "ring-1",
    "sketch_k": 64,
    "sketch_seed": 5,
    "sizes": [1209, 6, 0],
    "trained": ["5", "1", "0"],
}
OWNERS = {f"1-{number}": f"reader{number % 2}" for number in range(8)}


def run_with(**facts: Any) -> Any:
    genesis = {key: value for key, value in (GENESIS | facts).items() if value is not None}
    return SimpleNamespace(genesis=genesis, bundle=SimpleNamespace(parameters=BOUND))


def test_shapes_are_those_of_the_bundle_that_were_trained() -> None:
    shape = sketch_shape(run_with())
    assert shape == SketchShape((((30, 40), (9,)), ((2, 3),), ()), 64, 5)
    assert shape.sizes == (1209, 6, 0)
    assert shape.widths == (64, 6, 0)
    assert shape.loads == (30 + 1, 1, 0)


@pytest.mark.parametrize("kind", [None, "ring-2", 3])
def test_sketches_of_another_kind_are_refused_by_name(kind: object) -> None:
    with pytest.raises(TraceError, match=f"of kind `{kind}`, this version reads `ring-1`"):
        sketch_shape(run_with(sketch_kind=kind))


LIES: dict[str, dict[str, Any]] = {
    "no width": {"sketch_k": None},
    "a width that is no power of two": {"sketch_k": 65},
    "a width of nothing": {"sketch_k": 0},
    "a width that is a truth": {"sketch_k": True},
    "no seed": {"sketch_seed": None},
    "no sizes": {"sizes": None},
    "other sizes": {"sizes": [1209, 6, 1]},
    "nothing trained": {"trained": None},
    "too few groups": {"trained": ["5", "1"]},
    "more parameters than there are": {"trained": ["d", "1", "0"]},
    "a long number": {"trained": ["0" * 1000 + "5", "1", "0"]},
    "no number": {"trained": ["0x5", "1", "0"]},
    "an empty number": {"trained": ["5", "1", ""]},
    "digits of another script": {"trained": ["\u0665", "1", "0"]},
    "numbers": {"trained": [5, 1, 0]},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_first_entry_that_describes_no_sketch_is_corrupt(lie: str) -> None:
    with pytest.raises(CorruptLogError, match="entry 0"):
        sketch_shape(run_with(**LIES[lie]))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=4)
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GENESIS, ANYTHING)))
def test_untrusted_facts_raise_nothing_else(facts: dict[str, Any]) -> None:
    try:
        found = sketch_shape(run_with(**facts))
    except (TraceError, CorruptLogError):
        return
    assert list(found.sizes) == run_with(**facts).genesis["sizes"]


class Wide(nn.Module):
    """A model whose first group is too large to keep, partly frozen, and whose second is not."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 40)
        self.inner = nn.Linear(40, 30)
        self.norm = nn.LayerNorm(30)
        self.head = nn.Linear(30, 2)
        self.norm.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        words = (x * 100).long().abs() % 9
        return self.head(self.norm(torch.tanh(self.inner(self.table(words).mean(1)))))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.manual_seed(0)
    story = Story(
        OWNERS,
        table=tables([[1.0, 0.5]], norms=[(0.5, None)]),
        groups=(("table.", "inner.", "norm."), ("head.",)),
        epochs=3,
        optimizer=lambda held, **settings: torch.optim.SGD([p for p in held if p.requires_grad], **settings),
        settings={"lr": 0.1, "momentum": 0.9},
    )
    folder: Path = tmp_path_factory.mktemp("wide")
    return open_run(
        train(folder, story, Wide(), lambda model, batch: model(data_of(batch, 6)).square().sum(1) + 1), KEYRING
    )


def test_the_books_of_a_sketched_run_close(wide: Run) -> None:
    visits = load_visits(wide)
    assert visits.space.plan.widths == (256, 62)
    assert visits.space.plan.sizes == (9 * 40 + 30 * 40 + 30 + 30, 62)
    closures = close_books(visits, load_ending(visits))
    refuse_open_books(closures)
    assert all(part.travelled > 0 for part in closures)
    assert all(part.residual < 0.05 for part in closures)


def test_a_sketched_run_is_audited(wide: Run) -> None:
    assert audit(wide).rows == 24
