"""Small models of every make, drawn by Hypothesis: what is in them, where their examples lie, who governs what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

WIDTH, WORDS = 6, 7
ANYWHERE = ("linear", "layer norm", "rms norm", "raw", "functional", "again", "tied", "transposed")
"""Blocks that treat positions alike, and so may stand in any layout."""
WITH_POSITIONS = (*ANYWHERE, "attention", "recurrent")
BLOCKS = {
    "first": (*WITH_POSITIONS, "conv", "group norm", "deep"),
    "second": WITH_POSITIONS,
    "flat": ANYWHERE,
    "packed": ANYWHERE,
}


@dataclass(frozen=True)
class Recipe:
    """A model, its data and its examples."""

    layout: str
    embedded: bool
    blocks: tuple[str, ...]
    examples: int
    length: int
    seed: int


class Raw(nn.Module):
    """Parameters of its own, used as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(WIDTH) + 0.5), nn.Parameter(torch.randn(WIDTH) * 0.1)

    def forward(self, h: Tensor) -> Tensor:
        return h * self.scale + self.shift


class Functional(nn.Module):
    """A layer written out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(WIDTH, WIDTH) * 0.4), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, h: Tensor) -> Tensor:
        return functional.linear(h, self.weight, self.bias) + h @ self.weight


class Channels(nn.Module):
    """A layer over channels, between two transpositions."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, 2, batch_first=batch_first)

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h, h, h, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.inner = nn.LSTM(WIDTH, WIDTH, batch_first=batch_first)

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h)[0]


class Tied(nn.Module):
    """A linear layer with the weight of another module."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.inner.weight = weight

    def forward(self, h: Tensor) -> Tensor:
        return self.inner(h)


class Transposed(nn.Module):
    """The weight of another module, the other way round."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, h: Tensor) -> Tensor:
        return functional.linear(h, self.weight.t())


class Model(nn.Module):
    """Blocks with a nonlinearity between them; an embedding may come first and be used again as the head."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        batch_first = recipe.layout == "first"
        makers: dict[str, Callable[[], nn.Module]] = {
            "linear": lambda: nn.Linear(WIDTH, WIDTH),
            "layer norm": lambda: nn.LayerNorm(WIDTH),
            "rms norm": lambda: nn.RMSNorm(WIDTH),
            "raw": Raw,
            "functional": Functional,
            "conv": lambda: Channels(nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=2)),
            "group norm": lambda: Channels(nn.GroupNorm(3, WIDTH)),
            "deep": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=True),
            "attention": lambda: Attention(batch_first=batch_first),
            "recurrent": lambda: Recurrent(batch_first=batch_first),
        }
        self.words = nn.Embedding(WORDS, WIDTH) if recipe.embedded else None
        self.blocks = nn.ModuleList()
        for kind in recipe.blocks:
            self.blocks.append(makers[kind]() if kind in makers else self._of_another(kind))
        self.head = nn.Linear(WIDTH, WORDS if recipe.embedded else 3, bias=False)
        if self.words is not None and recipe.seed % 2:
            self.head.weight = self.words.weight

    def _of_another(self, kind: str) -> nn.Module:
        squares = [
            p
            for block in self.blocks
            for p in block.parameters()
            if tuple(p.shape) == (WIDTH, WIDTH) and not isinstance(block, nn.TransformerEncoderLayer)
        ]
        if kind == "again" and len(self.blocks):
            return self.blocks[0]
        if kind == "again" or not squares:
            return nn.Linear(WIDTH, WIDTH)
        return Tied(squares[0]) if kind == "tied" else Transposed(squares[0])

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.words is None else self.words(x)
        for block in self.blocks:
            h = torch.tanh(block(h)) + 0.5 * h
        return self.head(h)


@dataclass(frozen=True)
class Case:
    """A model with its data, from which any examples can be taken."""

    recipe: Recipe
    model: Model
    x: Tensor
    """(examples, length) or (examples, length, width)."""
    weights: Tensor
    """(examples, length), of which a position weighs what in its example's loss; 0 where packed rows have none."""

    def segments(self, start: int, stop: int) -> Tensor | None:
        """Return which example is at each position of the packed rows of some examples."""
        return None if self.recipe.layout != "packed" else self._packed(start, stop)[1]

    def readable(self, count: int) -> bool:
        """Return whether a part of so many examples says by its shape where they are; the gate refuses it otherwise."""
        return self.recipe.layout != "second" or count != self.recipe.length

    def loss(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the losses of some examples, the model run in the recipe's layout."""
        stop = self.recipe.examples if stop is None else stop
        x, weights = self.x[start:stop], self.weights[start:stop]
        layout = self.recipe.layout
        if layout == "packed":
            return self._packed_loss(start, stop)
        if layout == "second":
            each = self._each(self.model(x.transpose(0, 1))).transpose(0, 1)
        elif layout == "flat":
            each = self._each(self.model(x.flatten(0, 1))).view(len(x), -1)
        else:
            each = self._each(self.model(x))
        return (each * weights).sum(1)

    def _each(self, out: Tensor) -> Tensor:
        return (out + 0.1 * out.square()).logsumexp(-1)

    def _packed(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Lay the examples one after the other into two rows, a gap at the end of the last."""
        count, length = stop - start, self.recipe.length
        number = torch.arange(count).repeat_interleave(length)
        number, order = torch.cat([number, number.new_full((-len(number) % 2 + 2,), -1)]), torch.arange(count * length)
        order = torch.cat([order, order.new_zeros(len(number) - len(order))])
        return order, number.view(2, -1), self.x[start:stop].flatten(0, 1)[order]

    def _packed_loss(self, start: int, stop: int) -> Tensor:
        order, segments, flat = self._packed(start, stop)
        each = self._each(self.model(flat.view(*segments.shape, *flat.shape[1:]))).flatten()
        held = segments.flatten() >= 0
        weighed = each[held] * self.weights[start:stop].flatten()[order][held]
        return weighed.new_zeros(stop - start).index_add(0, segments.flatten()[held], weighed)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw what a model is made of."""
    layout = draw(st.sampled_from(tuple(BLOCKS)))
    examples = draw(st.integers(2, 5))
    lengths = [length for length in (2, 3, 4, 5) if length != examples or layout == "first"]
    return Recipe(
        layout=layout,
        embedded=draw(st.booleans()),
        blocks=tuple(draw(st.lists(st.sampled_from(BLOCKS[layout]), min_size=1, max_size=3))),
        examples=examples,
        length=draw(st.sampled_from(lengths)),
        seed=draw(st.integers(0, 2**16)),
    )


def build(recipe: Recipe, dtype: torch.dtype = torch.float64) -> Case:
    """Return the model and the data of a recipe."""
    torch.manual_seed(recipe.seed)
    model = Model(recipe).to(dtype)
    shape = (recipe.examples, recipe.length)
    x = torch.randint(0, WORDS, shape) if recipe.embedded else torch.randn(*shape, WIDTH, dtype=dtype)
    return Case(recipe, model, x, torch.rand(shape, dtype=dtype) + 0.1)


def names_of(model: nn.Module) -> list[str]:
    """Return the names of all parameters; one that is tied has several."""
    return [name for name, _ in model.named_parameters(remove_duplicate=False)]


def members(model: nn.Module, groups: Sequence[Sequence[str]]) -> list[list[nn.Parameter]]:
    """Return the parameters of each group, each once."""
    known = dict(model.named_parameters(remove_duplicate=False))
    return [list({id(known[name]): known[name] for name in group}.values()) for group in groups]
