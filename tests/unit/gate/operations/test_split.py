"""The laws of a split: cut and join are inverse, parts add up, and an operand gets the sum of its own contributions."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aqpolicy.gate.routing.layout import Layout
from aqpolicy.gate.routing.operations.split import Split, find_split, reduce_parts, second_split

SIZES = st.integers(1, 3)


@st.composite
def splits(draw: st.DrawFn) -> tuple[Split, Tensor]:
    """Return a split, and a tensor that it fits."""
    examples, each, positions, rest = draw(SIZES), draw(SIZES), draw(SIZES), draw(st.lists(SIZES, max_size=2))
    axis, inner = draw(st.sampled_from([(0, False), (1, False), (0, True)]))
    head = [positions] if axis == 1 else []
    wide = examples * each * (positions if inner else 1)
    tensor = torch.randn(*head, wide, *rest, dtype=torch.double)
    return Split(examples, axis, each, inner=inner), tensor


@given(splits())
def test_join_undoes_stack(made: tuple[Split, Tensor]) -> None:
    split, tensor = made
    assert torch.equal(split.join(split.stack(tensor)), tensor)


@given(splits())
def test_a_tensor_is_the_sum_of_its_examples(made: tuple[Split, Tensor]) -> None:
    split, tensor = made
    assert torch.equal(sum(split.only(tensor, i) for i in range(split.examples)), tensor)


@given(splits(), st.data())
def test_factors_take_and_parts_agree(made: tuple[Split, Tensor], data: st.DataObject) -> None:
    split, tensor = made
    keep = torch.tensor(data.draw(st.lists(st.integers(0, split.examples - 1), min_size=1, unique=True)))
    factors = torch.arange(1.0, split.examples + 1, dtype=torch.double)
    weighed = split.parts(tensor * split.factors(factors, tensor), keep)
    own = factors[keep].view(-1, *[1] * (weighed.dim() - 1))
    assert torch.equal(weighed, split.parts(tensor, keep) * own)
    assert torch.equal(split.take(tensor, keep), split.join(split.parts(tensor, keep)))


@given(splits(), st.data())
def test_reduced_parts_are_the_gradients_of_a_broadcast_operand(
    made: tuple[Split, Tensor], data: st.DataObject
) -> None:
    split, tensor = made
    kept_axes = data.draw(st.lists(st.booleans(), min_size=tensor.dim(), max_size=tensor.dim()))
    shape = [size if kept else 1 for size, kept in zip(tensor.shape, kept_axes, strict=True)]
    shape = shape[data.draw(st.integers(0, len(shape))) :]
    found = reduce_parts(split.stack(tensor), torch.Size(shape), split, None)
    if found is None:
        assert split.inner
        return
    for i in range(split.examples):
        operand = torch.zeros(shape, dtype=torch.double, requires_grad=True)
        (want,) = torch.autograd.grad(operand.expand(tensor.shape), operand, split.only(tensor, i))
        assert torch.allclose(found[i], want, rtol=1e-12, atol=1e-12)


def test_where_examples_are() -> None:
    layout = Layout(3)
    assert find_split(layout, torch.zeros(3, 5)) == Split(3)
    assert find_split(layout, torch.zeros(6, 5)) == Split(3, each=2)
    assert find_split(layout, torch.zeros(4, 3, 5)) == Split(3, 1)
    assert find_split(layout, torch.zeros(1, 4, 5)) is None
    assert second_split(layout, torch.zeros(4, 6, 5), 6) == Split(3, 1, 2)
    assert second_split(layout, torch.zeros(24, 5), 6) == Split(3, 0, 2, inner=True)
    assert second_split(layout, torch.zeros(24, 5), 4) is None
