"""Parameters used in any operation: gated gradients against one backward pass per example, in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.operations import assert_equals_loop
from torch import Tensor, nn
from torch.nn import functional

B, T, D = 4, 3, 4

Forward = Callable[..., Tensor]


class Free(nn.Module):
    """Parameters of its own, used by a function."""

    def __init__(self, forward: Forward, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape)))
        self.inner = nn.Linear(D, D)
        self.compute = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, torch.tanh(self.inner(x)))


def append(m: Free, x: Tensor) -> Tensor:
    return torch.cat([m.token.expand(len(x), -1, -1), x], dim=1)


def write(m: Free, x: Tensor) -> Tensor:
    h = x.clone()
    h[:, 0] = m.w
    return h


def write_masked(m: Free, x: Tensor) -> Tensor:
    return torch.where((x.sum(-1, keepdim=True) > 0), m.w, x)


def add_in_place(m: Free, x: Tensor) -> Tensor:
    h = x * 2
    h += m.w
    h.mul_(m.v)
    return h


def fill(m: Free, x: Tensor) -> Tensor:
    table = torch.zeros(T, D, dtype=x.dtype)
    table[1] = m.w
    return x + table


def flattened(m: Free, x: Tensor) -> Tensor:
    return torch.addmm(m.b, x.reshape(-1, D), m.w).view(B, T, D)


def weight_norm(m: Free, x: Tensor) -> Tensor:
    w = m.g * m.v / m.v.norm(dim=1, keepdim=True)
    return functional.linear(x, w)


def chunks(m: Free, x: Tensor) -> Tensor:
    a, b = m.w.chunk(2)
    return functional.linear(x, a) * functional.linear(x, b.tanh())


def tied_transposed(m: Free, x: Tensor) -> Tensor:
    return torch.tanh(x @ m.w) @ m.w.t()


def places(m: Free, x: Tensor) -> Tensor:
    return x + functional.embedding(torch.arange(T), m.table)


def places_by_index(m: Free, x: Tensor) -> Tensor:
    return x + m.table[:T] * m.scale


def bucketed(m: Free, x: Tensor) -> Tensor:
    distance = (torch.arange(T)[:, None] - torch.arange(T)[None, :]).abs()
    bias = functional.embedding(distance, m.table).permute(2, 0, 1).unsqueeze(0)
    return (x @ x.transpose(1, 2)).unsqueeze(1) + bias


CASES: dict[str, tuple[Forward, dict[str, tuple[int, ...]]]] = {
    "add": (lambda m, x: x + m.w, {"w": (1, T, D)}),
    "add reversed": (lambda m, x: m.w + x, {"w": (T, D)}),
    "subtract": (lambda m, x: m.w - x * 2 - m.v, {"w": (D,), "v": (1,)}),
    "scale": (lambda m, x: m.w * x, {"w": (D,)}),
    "scale by a scalar": (lambda m, x: m.w * x, {"w": ()}),
    "divide": (lambda m, x: x / (m.w.square() + 1) + m.v / (x + 3), {"w": (D,), "v": (D,)}),
    "power": (lambda m, x: (x.abs() + 0.1) ** m.w, {"w": (D,)}),
    "interpolate": (lambda m, x: torch.lerp(x, x.flip(0) * 0 + 1, m.w.sigmoid()), {"w": (D,)}),
    "addcmul": (lambda m, x: torch.addcmul(m.w, x, x, value=0.5), {"w": (D,)}),
    "choose": (write_masked, {"w": (D,)}),
    "append a token": (append, {"token": (1, 1, D)}),
    "repeat": (lambda m, x: torch.cat([m.w.repeat(len(x), 2, 1), x], 1), {"w": (1, 1, D)}),
    "repeat a block": (lambda m, x: torch.cat([m.w.repeat(len(x), 2, 1), x], 1), {"w": (1, 2, D)}),
    "write": (write, {"w": (D,)}),
    "in place": (add_in_place, {"w": (D,), "v": (T, D)}),
    "fill a table": (fill, {"w": (D,)}),
    "matmul": (lambda m, x: x @ m.w, {"w": (D, 5)}),
    "matmul from the left": (lambda m, x: m.w @ x, {"w": (5, T)}),
    "matmul with a vector": (lambda m, x: (x @ m.w).unsqueeze(-1), {"w": (D,)}),
    "linear": (lambda m, x: functional.linear(x, m.w, m.b), {"w": (5, D), "b": (5,)}),
    "linear without bias": (lambda m, x: functional.linear(x, m.w), {"w": (5, D)}),
    "addmm of flat rows": (flattened, {"w": (D, D), "b": (D,)}),
    "einsum": (lambda m, x: torch.einsum("btd,hde->bhte", x, m.w), {"w": (2, D, 3)}),
    "einsum of one parameter twice": (lambda m, x: torch.einsum("btd,de,ef->btf", x, m.w, m.w), {"w": (D, D)}),
    "bilinear": (lambda m, x: functional.bilinear(x, x.flip(1), m.w, m.b), {"w": (2, D, D), "b": (2,)}),
    "tensordot": (lambda m, x: torch.tensordot(x, m.w, dims=1), {"w": (D, 2, 3)}),
    "derived weight": (lambda m, x: x @ torch.tanh(m.w).t(), {"w": (5, D)}),
    "masked weight": (lambda m, x: functional.linear(x, m.w * torch.ones(5, D).tril().to(m.w)), {"w": (5, D)}),
    "weight norm by hand": (weight_norm, {"v": (5, D), "g": (5, 1)}),
    "chunks": (chunks, {"w": (2 * D, D)}),
    "transposed use of the same": (tied_transposed, {"w": (D, 3)}),
    "low rank": (lambda m, x: x + functional.linear(x, m.a @ m.b), {"a": (D, 2), "b": (2, D)}),
    "layer norm": (lambda m, x: functional.layer_norm(x, (D,), m.w, m.b), {"w": (D,), "b": (D,)}),
    "layer norm with two axes": (lambda m, x: functional.layer_norm(x, (T, D), m.w), {"w": (T, D)}),
    "rms norm": (lambda m, x: functional.rms_norm(x, (D,), m.w), {"w": (D,)}),
    "group norm": (lambda m, x: functional.group_norm(x, 1, m.w, m.b), {"w": (T,), "b": (T,)}),
    "convolution": (lambda m, x: functional.conv1d(x, m.w, m.b, padding=1), {"w": (2, T, 3), "b": (2,)}),
    "prelu": (lambda m, x: functional.prelu(x, m.w), {"w": (T,)}),
    "positions": (places, {"table": (T + 2, D)}),
    "positions by a slice": (places_by_index, {"table": (T + 2, D), "scale": ()}),
    "relative positions": (bucketed, {"table": (T, 2)}),
    "attention over parameters": (
        lambda m, x: functional.scaled_dot_product_attention(m.q.expand(len(x), -1, -1), x, x),
        {"q": (1, 2, D)},
    ),
    "attention with shared keys": (
        lambda m, x: functional.scaled_dot_product_attention(x, x + m.k, x * m.v),
        {"k": (1, T, D), "v": (D,)},
    ),
    "softmax mixture": (lambda m, x: (torch.stack([x, x * 2, x.tanh()], -1) * m.w.softmax(0)).sum(-1), {"w": (3,)}),
}


def loss_of(x: Tensor) -> Callable[[nn.Module], Tensor]:
    def loss(model: nn.Module) -> Tensor:
        out = model(x)
        return out.reshape(len(x), -1).square().mean(1) * torch.arange(1, len(x) + 1)

    return loss


@pytest.mark.parametrize("case", CASES)
def test_any_operation(case: str) -> None:
    torch.manual_seed(5)
    forward, shapes = CASES[case]
    model = Free(forward, **shapes).double()
    assert_equals_loop(model, loss_of(torch.randn(B, T, D).double()), [["inner."], [""]])


@pytest.mark.parametrize("case", ["add", "scale", "linear", "matmul", "positions", "write", "einsum", "layer norm"])
def test_as_many_positions_as_examples(case: str) -> None:
    torch.manual_seed(5)
    forward, shapes = CASES[case]
    model = Free(forward, **shapes).double()
    assert_equals_loop(model, loss_of(torch.randn(T, T, D).double()), [["inner."], [""]], examples=T)
