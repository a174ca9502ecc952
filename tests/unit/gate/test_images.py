"""The image of a parameter is a count-sketch of its gradient, in every form in which it can be had."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.images import Edge, Line, Product, images_of
from aqpolicy.trace.sketches import SketchShape

WIDTH = 32
MATRICES = [(40, 50), (50, 7), (7, 50), (16, 16), (9, 5), (5, 9), (33, 2), (31, 31), (6, 3, 2, 2), (100, 33)]


def buckets(image: Product) -> tuple[Tensor, Tensor]:
    """Return the bucket and the sign of every number of a matrix, by definition."""
    sides = image.rows, image.columns
    places = [torch.arange(side.size) * side.stride for side in sides]
    signs = [side.signs.like(torch.zeros(1, dtype=torch.float64)) for side in sides]
    return (places[0].unsqueeze(1) + places[1]) % WIDTH, signs[0].unsqueeze(1) * signs[1]


def counted(values: Tensor, places: Tensor, signs: Tensor) -> Tensor:
    """Return the count-sketch, number by number."""
    found = torch.zeros(len(values), WIDTH, dtype=values.dtype)
    return found.index_add_(1, places.flatten(), values.reshape(len(values), -1) * signs.flatten())


def product(shape: tuple[int, ...]) -> Product:
    (image,) = images_of([shape], WIDTH, "test")
    assert isinstance(image, Product)
    return image


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize("shape", MATRICES, ids=str)
@pytest.mark.parametrize("room", [1, 1 << 24])
def test_a_matrix_is_counted_by_row_and_column(
    shape: tuple[int, ...], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqpolicy.gate.routing.images.TURNED", room)
    image, gradients = product(shape), torch.randn(3, *shape, dtype=torch.float64)
    assert torch.allclose(image.of(gradients), counted(gradients, *buckets(image)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", MATRICES, ids=str)
@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("room", [1, 1 << 24])
def test_an_outer_product_need_not_be_made(
    shape: tuple[int, ...], length: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqpolicy.gate.routing.images.CACHED", room)
    image = product(shape)
    rows = torch.randn(5, length, image.rows.size, dtype=torch.float64)
    columns = torch.randn(5, length, image.columns.size, dtype=torch.float64)
    made = torch.bmm(rows.transpose(1, 2), columns)
    assert torch.allclose(image.of_products(rows, columns), image.of(made), rtol=1e-12, atol=1e-12)
    index = torch.randint(image.rows.size, (5, length))
    looked_up = functional.one_hot(index, image.rows.size).double()
    made = torch.bmm(looked_up.transpose(1, 2), columns)
    assert torch.allclose(image.of_products(index, columns), image.of(made), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [shape for shape in MATRICES if len(shape) == 2], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_vector_beside_a_matrix_is_one_more_row_or_column_of_it(shape: tuple[int, int], axis: int) -> None:
    matrix, edge = images_of([shape, (shape[axis],)], WIDTH, "test")
    assert isinstance(matrix, Product)
    assert isinstance(edge, Edge)
    vectors = torch.randn(3, shape[axis], dtype=torch.float64)
    places = torch.arange(shape[axis]) * edge.side.stride + edge.start
    signs = edge.side.signs.like(vectors) * edge.sign.like(vectors)
    assert torch.allclose(edge.of(vectors), counted(vectors, places % WIDTH, signs), rtol=1e-12, atol=1e-12)
    rows, columns = (torch.randn(3, 2, size, dtype=torch.float64) for size in shape)
    along = rows if edge.side is matrix.rows else columns
    apart = matrix.of_products(rows, columns) + edge.of(along.sum(1))
    assert torch.allclose(matrix.of_products(rows, columns, edge), apart, rtol=1e-12, atol=1e-12)


def test_what_is_small_or_a_vector_goes_bucket_after_bucket() -> None:
    shapes = [(40,), (3, 4), (50, 1), (), (2,)]
    images = images_of(shapes, WIDTH, "test")
    start = 0
    for image, shape in zip(images, shapes, strict=True):
        assert isinstance(image, Line)
        assert image.signs is not None
        gradients = torch.randn(3, *shape, dtype=torch.float64)
        places = (start + torch.arange(image.size)) % WIDTH
        assert torch.allclose(image.of(gradients), counted(gradients, places, image.signs.like(gradients)), rtol=1e-12)
        start += image.size


def test_a_group_that_fits_is_kept_as_it_is() -> None:
    shapes = [(2, 3), (0,), (5,), (), (3, 1, 2)]
    parts = [torch.randn(2, *shape) for shape in shapes]
    images = images_of(shapes, WIDTH, "test")
    total = sum(image.of(part) for image, part in zip(images, parts, strict=True))
    assert torch.equal(total, torch.cat([part.reshape(2, -1) if part.numel() else part for part in parts], dim=1))


@pytest.mark.parametrize("shape", MATRICES, ids=str)
def test_numbers_spread_over_the_buckets_and_the_auditor_knows_how_many_share_one(shape: tuple[int, ...]) -> None:
    places, _ = buckets(product(shape))
    loads = torch.bincount(places.flatten(), minlength=WIDTH).double()
    (bound,) = SketchShape(((shape,),), WIDTH, 0).loads
    assert loads.max() <= bound
    # Two numbers drawn at random meet at most a third more often than in buckets of one size.
    assert loads.square().sum() * WIDTH / loads.sum().square() < 4 / 3


def test_parameters_and_sides_have_signs_of_their_own() -> None:
    one, other = images_of([(40, 40), (40, 40)], WIDTH, "test")
    assert isinstance(one, Product)
    assert isinstance(other, Product)
    like = torch.zeros(1)
    signs = [side.signs.like(like) for image in (one, other) for side in (image.rows, image.columns)]
    assert len({tuple(drawn.tolist()) for drawn in signs}) == 4
    assert all(set(drawn.tolist()) == {-1.0, 1.0} for drawn in signs)


def test_no_examples_make_no_images() -> None:
    image = product((40, 50))
    assert image.of(torch.zeros(0, 40, 50)).shape == (0, WIDTH)
    assert image.of_products(torch.zeros(0, 2, 40), torch.zeros(0, 2, 50)).shape == (0, WIDTH)
    assert not image.of_products(torch.zeros(3, 0, 40), torch.zeros(3, 0, 50)).any()


def test_a_row_that_is_not_finite_touches_no_other() -> None:
    image = product((40, 50))
    rows, columns = torch.randn(4, 2, 40), torch.randn(4, 2, 50)
    clean = image.of_products(rows, columns)
    rows[1, 0, 0] = float("nan")
    columns[2, 1, 0] = float("inf")
    found = image.of_products(rows, columns)
    assert torch.equal(found[[0, 3]], clean[[0, 3]])
    assert not found[1:3].isfinite().all(1).any()
