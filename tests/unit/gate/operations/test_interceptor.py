"""What the interceptor sees, what it leaves alone, and what it refuses."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from support.operations import Operated, assert_equals_loop, by_loop, cut, gated
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from aqpolicy.errors import IllegalTrainingSetupError, UnsupportedLayerError

B, T, D, V = 4, 3, 6, 7


class Words(nn.Module):
    """An embedding whose table is the head too, by function, with positions looked up once for all examples."""

    def __init__(self, *, length: int = T) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(V, D), nn.Embedding(length + 1, D)
        self.norm = nn.LayerNorm(D)
        self.length = length

    def forward(self, ids: Tensor) -> Tensor:
        h = self.norm(self.words(ids) + self.places(torch.arange(self.length)))
        return functional.linear(torch.tanh(h), self.words.weight)


class Open(nn.Module):
    """A parameter that a given function may do anything with."""

    def __init__(self, compute: Callable[[nn.Module, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.w, self.compute = nn.Parameter(torch.randn(shape or (D,))), compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def squares(x: Tensor) -> Callable[[nn.Module], Tensor]:
    return lambda model: model(x).reshape(len(x), -1).square().sum(1)


def halved(model: nn.Module, loss: Callable[[nn.Module], Tensor], examples: int = B) -> Operated:
    return gated(model, loss, cut(model), torch.full((examples, 1), 0.5))


def numbers(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(shape or (B, T, D)).double()


@pytest.mark.parametrize(("examples", "length"), [(B, T), (2, 4), (3, 3)], ids=["", "a multiple", "as many"])
def test_a_head_by_function_and_positions_without_an_example_axis(examples: int, length: int) -> None:
    torch.manual_seed(1)
    model = Words(length=length).double()
    ids = torch.randint(0, V, (examples, length))
    assert_equals_loop(model, squares(ids), [["words."], [""]], examples=examples)


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_parametrised_layers(norm: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(1)
    layer = norm(nn.Linear(D, B)).double().eval()  # as many outputs as examples: buffers are no examples
    model = nn.Sequential(nn.Linear(D, D).double(), nn.Tanh(), layer)
    assert_equals_loop(model, squares(numbers(B, D)), [["0."], [""]])


def test_pruned_layers() -> None:
    torch.manual_seed(1)
    layer = nn.Linear(D, B).double()
    prune.random_unstructured(layer, "weight", 0.5)
    assert_equals_loop(layer, squares(numbers(B, D)))


def test_class_labels_by_function() -> None:
    labels = torch.tensor([0, 2, 1, 2])
    model = Open(lambda m, x: torch.tanh(x) * (x.sum(-1, keepdim=True) + functional.embedding(labels, m.w)), V, D)
    assert_equals_loop(model.double(), squares(numbers(B, D)))


def test_flat_tokens_through_layers() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(V, D, padding_idx=1), nn.Linear(D, 2)

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.words(ids.flatten())).view(*ids.shape, 2)

    torch.manual_seed(1)
    assert_equals_loop(Flat().double(), squares(torch.randint(0, V, (B, T))), [["words."], [""]])


def test_a_model_of_parameters_alone() -> None:
    """Nothing but looked up rows: the loss itself is what has an example axis."""
    labels = torch.tensor([0, 2, 1, 2])
    model = Open(lambda m, _: functional.embedding(labels, m.w).tanh(), V, D)
    assert_equals_loop(model.double(), squares(numbers(B, D)))


def test_a_single_example() -> None:
    model = Open(lambda m, x: torch.cat([m.w.expand(len(x), 1, D), x * m.w], 1)).double()
    assert_equals_loop(model, squares(numbers(1, T, D)), examples=1)


@pytest.mark.parametrize("dropped", [0.0, 0.4])
def test_checkpointed_operations(dropped: float) -> None:
    def block(m: nn.Module, x: Tensor) -> Tensor:
        h = functional.dropout(torch.einsum("btd,de->bte", x, m.w), dropped) + m.w[0]
        return torch.einsum("btd,de->bte", h.tanh(), torch.tanh(m.w))

    model = Open(lambda m, x: checkpoint(block, m, x * m.w[1], use_reentrant=False), D, D).double()
    assert_equals_loop(model, squares(numbers()), before=lambda: torch.manual_seed(2))


def test_random_operations_are_not_repeated() -> None:
    """An operation that draws cannot be run again; its own graph is differentiated, example by example."""

    def noisy(m: nn.Module, x: Tensor) -> Tensor:
        return functional.rrelu(x * 1, training=True) + functional.scaled_dot_product_attention(
            x, x, x * 0 + m.w, dropout_p=0.5
        )

    def whole(m: nn.Module, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, m.w.expand_as(x).tanh(), dropout_p=0.5)

    for compute in (noisy, whole):
        model = Open(compute).double()
        assert_equals_loop(model, squares(numbers()), before=lambda: torch.manual_seed(2))


def test_an_example_without_a_finite_gradient_harms_no_other() -> None:
    uses = {
        "pointwise": lambda m, x: x * m.w[0] + m.w[1],
        "product": lambda m, x: functional.linear(x, m.w),
        "general": lambda m, x: torch.einsum("btd,ed->bte", x, m.w),
        "norm": lambda m, x: functional.layer_norm(x, (D,), m.w[0], m.w[1]),
    }
    x = numbers()
    x[2, 1, 3] = torch.inf
    for use in uses.values():
        model = Open(use, D, D).double()
        groups, shares, limits = cut(model), torch.ones(B, 1).double(), torch.full((B, 1), 0.1).double()
        without = torch.tensor([0, 1, 3])
        want, _ = by_loop(model, squares(x[without]), groups, shares[without], limits[without])
        for limit in (None, limits):
            gated(model, squares(x), groups, shares, limit)
            share = want if limit is not None else by_loop(model, squares(x[without]), groups, shares[without], None)[0]
            assert torch.allclose(model.w.grad, share["w"] * 3 / B, rtol=1e-10)


SEGMENTS = torch.tensor([[0, 0, 1, 1, 1], [2, 3, 3, 3, -1]])


@pytest.mark.parametrize(
    "use",
    [
        lambda m, x: x * m.w[0] / (1 + m.w[1].square()),
        lambda m, x: functional.linear(x, m.w),
        lambda m, x: torch.einsum("btd,ed->bte", x, m.w),
        lambda m, x: x + m.w[: x.shape[1]],
        lambda m, x: functional.layer_norm(x, (D,), m.w[0]),
    ],
    ids=["pointwise", "product", "general", "positions", "norm"],
)
def test_packed_rows(use: Callable[[nn.Module, Tensor], Tensor]) -> None:
    """Several examples in one row: which position is whose is given."""
    model = Open(use, D, D).double()
    x, owner = numbers(2, 5, D), SEGMENTS.flatten()

    def loss(model: nn.Module) -> Tensor:
        each = model(x).square().sum(-1).flatten()
        return torch.zeros(B).double().index_add(0, owner[owner >= 0], each[owner >= 0])

    assert_equals_loop(model, loss, segments=SEGMENTS)


@pytest.mark.parametrize("device_type", ["cpu"])
def test_autocast(device_type: str) -> None:
    """In low precision the open gate is plain training, and norms are those of what was computed."""
    model = Open(lambda m, x: torch.tanh(functional.linear(x, m.w)) @ m.w.tanh() + m.w[0], D, D)
    x = numbers().float()

    def loss(model: nn.Module) -> Tensor:
        with torch.autocast(device_type, dtype=torch.bfloat16):
            out = model(x)
        return out.float().reshape(B, -1).square().sum(1)

    assert_equals_loop(model, loss, tolerance=0.02, bitwise=False)


def test_parameters_are_plain_outside_of_a_part() -> None:
    seen = []

    def compute(m: nn.Module, x: Tensor) -> Tensor:
        seen.append(type(m.w))
        copied = copy.deepcopy(m.w)
        torch.save(m.w, io.BytesIO())
        assert type(copied) is nn.Parameter
        assert isinstance(m.w, nn.Parameter)
        assert m.w.detach().requires_grad is False
        assert type(m.w.data) is Tensor
        with torch.no_grad():
            assert type(m.w + 1) is Tensor
        assert m.w.shape == (D,)
        assert (x > m.w).dtype == torch.bool
        assert m.w.float() is not None
        return x * m.w

    model = Open(compute).double()
    before = model.w
    halved(model, squares(numbers()))
    assert model.w is before
    assert type(model.w) is nn.Parameter
    assert seen[0] is not nn.Parameter
    model(numbers())
    assert seen[-1] is nn.Parameter


def test_parameters_are_plain_again_after_an_error() -> None:
    def fail(m: nn.Module, x: Tensor) -> Tensor:
        raise KeyError(str((x * m.w).sum()))

    model = Open(fail).double()
    with pytest.raises(KeyError):
        halved(model, squares(numbers()))
    assert type(model.w) is nn.Parameter


def test_slow_uses_are_named() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Open(lambda m, x: torch.einsum("btd,d->bt", x, m.w)).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    model = Outer()
    operated = assert_equals_loop(model, squares(numbers()))
    assert operated.slow == ("inner: einsum",)
    fast = Open(lambda m, x: x * m.w).double()
    assert assert_equals_loop(fast, squares(numbers())).slow == ()


def test_a_number_that_is_a_parameter_is_no_penalty() -> None:
    model = Open(lambda m, x: x.sum((1, 2)) * m.w[0] + m.w[1], 2).double()
    assert_equals_loop(model, squares(numbers()))


def test_a_penalty_on_a_parameter_is_ungated() -> None:
    model = Open(lambda m, x: x * m.w).double()
    with pytest.raises(IllegalTrainingSetupError, match=r"ungated gradient reached group `g0` \(parameter `w`\)"):
        halved(model, lambda m: squares(numbers())(m) + m.w.square().sum())


def test_what_cannot_be_taken_apart_by_example_is_ungated() -> None:
    free = Open(lambda m, x: x + torch.einsum("btd,d->", x, m.w)).double()
    model = nn.Sequential(Open(lambda m, x: x * m.w).double(), free)
    with pytest.raises(IllegalTrainingSetupError, match=r"ungated gradient|depends on another example"):
        halved(model, squares(numbers()))


def test_examples_that_are_mixed_are_found_by_the_probe() -> None:
    model = nn.Sequential(Open(lambda m, x: x * m.w), Open(lambda m, x: (x - x.mean(0)) * m.w)).double()
    with pytest.raises(IllegalTrainingSetupError, match="depends on another example at module `0: mul`"):
        halved(model, squares(numbers()))


def test_batch_normalisation_by_function_is_refused() -> None:
    model = Open(lambda m, x: functional.batch_norm(x, None, None, m.w, training=True)).double()
    with pytest.raises(UnsupportedLayerError, match=r"the model normalises over the batch \(`batch_norm`\)"):
        halved(model, squares(numbers(B, D)))


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda m, x: functional.embedding(torch.zeros(B, 2).long(), m.w, max_norm=1.0), "`embedding` with `max_norm`"),
        (lambda m, x: torch.mul(x, m.w, out=torch.zeros_like(x)), "calls `mul` with `out`; leave it out"),
        (lambda m, x: (m.w * 1).mul_(x[:, :1, 0]), "writes examples into a tensor of parameters"),
    ],
)
def test_calls_that_are_refused(compute: Callable[[nn.Module, Tensor], Tensor], message: str) -> None:
    model = Open(compute, B, 1).double()
    with pytest.raises(UnsupportedLayerError, match=message):
        halved(model, squares(numbers()))
