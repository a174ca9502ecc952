"""Where the examples lie in a tensor: found by shape, turned example-major, weighed; or not found at all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.routing.layout import NO_EXAMPLE, Layout, Place, per_example_sum

B, N, D = 3, 4, 5
SEGMENTS = torch.tensor([[0, 0, 2, 2, 2, -1], [1, -1, 0, 0, -1, -1]])
"""Example 0 lies in both rows, and gaps lie between."""


def numbers(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).view(shape) + 1


def found(layout: Layout, tensor: Tensor, *, positionwise: bool = True) -> Place:
    place = layout.place(tensor, positionwise=positionwise)
    assert place is not None
    return place


SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "features": ("first", (B, D)),
    "positions": ("first", (B, N, D)),
    "planes": ("first", (B, N, N, D)),
    "flattened": ("flat", (B * N, D)),
    "flattened planes": ("flat", (B * N, N, D)),
    "second": ("second", (N, B, D)),
    "second, deep": ("second", (N, B, N, D)),
    "shared": ("shared", (1, D)),
    "shared positions": ("shared", (1, N, D)),
}


def part_of(kind: str, tensor: Tensor, example: int) -> Tensor:
    """Return one example's numbers, by hand."""
    each = tensor.shape[0] // B
    if kind == "first":
        return tensor[example]
    if kind == "second":
        return tensor[:, example]
    return tensor[0] if kind == "shared" else tensor[example * each : (example + 1) * each]


@pytest.mark.parametrize("name", SHAPES)
def test_every_place_is_found_and_read(name: str) -> None:
    kind, shape = SHAPES[name]
    tensor = numbers(*shape)
    place = found(Layout(B), tensor)
    assert place.kind == kind
    major = place.major(tensor)
    assert major.shape[0] == B
    for example in range(B):
        assert torch.equal(major[example], part_of(kind, tensor, example))


@pytest.mark.parametrize("name", [name for name in SHAPES if not name.startswith("shared")])
def test_a_factor_reaches_its_example_and_no_other(name: str) -> None:
    kind, shape = SHAPES[name]
    tensor, factors = numbers(*shape), torch.tensor([2.0, 0.0, 0.5])
    place = found(Layout(B), tensor)
    weighed = tensor * place.factors(factors, tensor)
    assert weighed.dtype == tensor.dtype
    for example in range(B):
        assert torch.equal(part_of(kind, weighed, example), factors[example] * part_of(kind, tensor, example))


def test_what_all_share_has_no_factor() -> None:
    tensor = numbers(1, D)
    with pytest.raises(IllegalTrainingSetupError, match="expand it"):
        found(Layout(B), tensor).factors(torch.ones(B), tensor)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((B,), "first"),
        ((B, N), "first"),
        ((N, B), "second"),
        ((B * N,), "flat"),
        ((1, N), "shared"),
        ((N, B, N), "second"),
    ],
)
def test_indices_have_no_axis_of_features(shape: tuple[int, ...], kind: str) -> None:
    assert found(Layout(B), torch.zeros(shape, dtype=torch.int64)).kind == kind


@pytest.mark.parametrize("shape", [(N, B), (2, D), (N, N, D), (5, 7, 2), ()])
def test_a_tensor_without_the_examples_is_not_read(shape: tuple[int, ...]) -> None:
    assert Layout(B).place(torch.zeros(shape), positionwise=True) is None


@pytest.mark.parametrize("shape", [(B * N, D), (N, B, D), (1, D), (N, D)])
def test_a_layer_that_treats_positions_differently_has_its_examples_first(shape: tuple[int, ...]) -> None:
    assert Layout(B).place(torch.zeros(shape), positionwise=False) is None
    assert found(Layout(B), torch.zeros(B, *shape), positionwise=False).kind == "first"


def test_a_place_that_only_the_probe_can_tell_is_called_ambiguous() -> None:
    layout = Layout(B)
    assert layout.ambiguous(torch.zeros(B, B, D))
    assert layout.ambiguous(torch.zeros(B, B, dtype=torch.int64))
    for shape in ((B, B), (B, N, D), (N, B, D), (N, N, D), (B,)):
        assert not layout.ambiguous(torch.zeros(shape)), shape
    assert not Layout(1).ambiguous(torch.zeros(1, 1, D))


def test_one_example_is_found_anywhere() -> None:
    layout = Layout(1)
    assert found(layout, torch.zeros(1, N, D)).kind == "first"
    assert found(layout, torch.zeros(N, D)).kind == "flat"
    assert found(layout, torch.zeros(N, 1, D)).kind == "second"


# ---- packed rows


def owned(tensor: Tensor, example: int) -> Tensor:
    """Return an example's numbers of packed rows, by hand: position after position, row after row."""
    return torch.stack([tensor[row, at] for row, at in torch.where(SEGMENTS.eq(example), 1, 0).nonzero().tolist()])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("tail", [(D,), (2, D)])
def test_packed_rows_are_read_by_their_segments(flat: bool, tail: tuple[int, ...]) -> None:
    tensor = numbers(*SEGMENTS.shape, *tail)
    tensor[SEGMENTS < 0] = float("nan")
    given = tensor.flatten(0, 1) if flat else tensor
    place = found(Layout(B, SEGMENTS), given)
    assert place.kind == "packed"
    major = place.major(given)
    assert major.shape == (B, 4, *tail)
    for example, count in enumerate((4, 1, 3)):
        assert torch.equal(major[example, :count], owned(tensor, example))
        assert not major[example, count:].any(), "what an example does not have is 0, whatever lies in the gap"


@pytest.mark.parametrize("flat", [False, True])
def test_packed_factors_reach_their_positions_and_gaps_get_none(flat: bool) -> None:
    tensor, factors = numbers(*SEGMENTS.shape, D), torch.tensor([2.0, 3.0, 0.5])
    given = tensor.flatten(0, 1) if flat else tensor
    weighed = (given * found(Layout(B, SEGMENTS), given).factors(factors, given)).view(tensor.shape)
    for example in range(B):
        assert torch.equal(owned(weighed, example), factors[example] * owned(tensor, example))
    assert not weighed[SEGMENTS < 0].any()


def test_packed_indices_are_read() -> None:
    words = torch.arange(12).view(2, 6)
    major = found(Layout(B, SEGMENTS), words).major(words)
    assert major.tolist() == [[0, 1, 8, 9], [6, 0, 0, 0], [2, 3, 4, 0]]


def test_an_example_without_a_position_is_empty() -> None:
    segments = torch.tensor([[0, 0, -1, 2]])
    tensor = numbers(1, 4, D)
    major = found(Layout(B, segments), tensor).major(tensor)
    assert torch.equal(major[0], tensor[0, :2])
    assert not major[1].any()
    assert torch.equal(major[2, 0], tensor[0, 3])


def test_rows_of_gaps_alone_are_empty() -> None:
    segments = torch.full((2, 3), NO_EXAMPLE)
    tensor = numbers(2, 3, D)
    assert not found(Layout(B, segments), tensor).major(tensor).any()


def test_what_is_not_packed_is_found_beside_packed_rows() -> None:
    """A pooled vector per example, say; rows are never taken for examples."""
    layout = Layout(B, SEGMENTS)
    assert found(layout, torch.zeros(B, D)).kind == "first"
    assert layout.place(torch.zeros(2, D), positionwise=True) is None
    assert layout.place(torch.zeros(*SEGMENTS.shape, D), positionwise=False) is None


def test_as_many_rows_as_examples_are_packed_all_the_same() -> None:
    segments = torch.tensor([[1, 1, 2], [0, 2, 2], [0, 0, 1]])
    tensor = numbers(3, 3, D)
    place = found(Layout(B, segments), tensor)
    assert place.kind == "packed"
    assert torch.equal(place.major(tensor)[0], torch.stack([tensor[1, 0], tensor[2, 0], tensor[2, 1]]))


@pytest.mark.parametrize(
    "segments",
    [
        torch.tensor([0, 1, 2]),
        torch.tensor([[0.0, 1.0]]),
        torch.zeros(0, 3, dtype=torch.int64),
        torch.tensor([[0, 3]]),
        torch.tensor([[0, -2]]),
    ],
    ids=["one axis", "no whole numbers", "nothing", "no such example", "below none"],
)
def test_segments_that_are_none_are_refused(segments: Tensor) -> None:
    with pytest.raises(IllegalTrainingSetupError, match="from -1 to 2"):
        Layout(B, segments)


def test_a_part_without_segments_has_no_owners() -> None:
    with pytest.raises(IllegalTrainingSetupError, match="not opened with segments"):
        print(Layout(B).owners)


def test_losses_of_positions_add_up_by_example() -> None:
    values = numbers(2, 6)
    values[SEGMENTS < 0] = float("nan")
    values.requires_grad_()
    sums = per_example_sum(values, SEGMENTS, B)
    assert sums.tolist() == [1 + 2 + 9 + 10, 7, 3 + 4 + 5]
    sums[2].backward()
    assert torch.equal(values.grad, (SEGMENTS == 2).double())
