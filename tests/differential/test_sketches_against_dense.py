"""What a rule sketches from input and output gradients is what the plan makes of the examples' own gradients."""

from __future__ import annotations

import pytest
import torch
from support.layer_uses import catalogue, doubled, native, one_by_one, use_of
from torch import Tensor, nn

from aqpolicy.gate.routing.layers import Use
from aqpolicy.gate.routing.sketch import SketchPlan

LAYERS = catalogue()
WIDE: dict[str, tuple[nn.Module, Tensor]] = {
    "wide linear": (nn.Linear(90, 70), torch.randn(4, 3, 90)),
    "wide linear, one position": (nn.Linear(70, 90), torch.randn(4, 70)),
    "wide linear, no bias": (nn.Linear(70, 90, bias=False), torch.randn(4, 2, 70)),
    "wide and narrow": (nn.Linear(300, 3), torch.randn(4, 2, 300)),
    "wide table": (nn.Embedding(90, 70, padding_idx=3), torch.randint(5, (4, 6))),
    "wide bag": (nn.EmbeddingBag(90, 70, padding_idx=3), torch.randint(5, (4, 6))),
    "wide conv": (nn.Conv2d(9, 20, 3), torch.randn(4, 9, 4, 5)),
    "wide transposed conv": (nn.ConvTranspose2d(9, 20, 3, stride=2), torch.randn(4, 9, 2, 3)),
}
WIDTHS = (1, 4, 16, 64)


def seen(module: nn.Module, x: Tensor) -> tuple[Use, list[Tensor | None]]:
    """Return a use of a layer, and every example's own gradients by plain torch."""
    torch.manual_seed(5)
    _, e = native(module, x, torch.randn_like)
    rows = list(one_by_one(module, x, e))
    own = [None if column[0] is None else torch.stack(list(column)) for column in zip(*rows, strict=True)]
    return use_of(module, x, e)[1], own  # type: ignore[arg-type]  # the columns have no holes


def compare(module: nn.Module, x: Tensor, width: int, tolerance: float) -> None:
    use, own = seen(module, x)
    found = [gradient for gradient in own if gradient is not None]
    plan = SketchPlan((tuple(tuple(gradient.shape[1:]) for gradient in found),), width)
    images = iter(plan.images(0))
    sketched = use.rule.sketched(use, [None if gradient is None else next(images) for gradient in own])
    want = plan.sketch(0, torch.cat([gradient.flatten(1) for gradient in found], dim=1))
    assert sketched.dtype == want.dtype
    assert (sketched - want).norm() <= tolerance * want.norm()


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [*LAYERS, *WIDE])
def test_a_use_is_sketched_as_its_gradients_are(name: str, width: int) -> None:
    module, x = (LAYERS | WIDE)[name]
    compare(module, x, width, 1e-5)
    compare(doubled(module), x.double() if x.is_floating_point() else x, width, 1e-12)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sizes", [(40, 40), (20, 90), (90, 20)])
def test_a_linear_layer_with_its_weight_the_other_way_round(sizes: tuple[int, int], width: int) -> None:
    layers = pytest.importorskip("transformers.pytorch_utils")
    compare(layers.Conv1D(*sizes).double(), torch.randn(4, 3, sizes[1], dtype=torch.float64), width, 1e-12)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_what_is_frozen_is_not_in_the_sketch(frozen: str) -> None:
    module, x = WIDE["wide linear"]
    use, own = seen(doubled(module), x.double())
    kept = frozen == "weight"
    left = own[kept]
    assert left is not None
    plan = SketchPlan(((tuple(left.shape[1:]),),), 16)
    wanted = (not kept, kept)
    rule, image = use.rule, plan.images(0)[0]
    some = Use(rule, use.module, wanted, use.weights, use.x, use.saved, use.e)
    sketched = rule.sketched(some, [image if want else None for want in wanted])
    assert torch.allclose(sketched, plan.sketch(0, left.flatten(1)), rtol=1e-12, atol=1e-12)


def test_low_precision_is_sketched_in_single() -> None:
    module, x = WIDE["wide linear"]
    use, _ = seen(module, x)
    weights = tuple(None if weight is None else weight.bfloat16() for weight in use.weights)
    short = Use(use.rule, use.module, use.wanted, weights, use.x.bfloat16(), (), use.e.bfloat16())
    wide = Use(use.rule, use.module, use.wanted, use.weights, short.x.float(), (), short.e.float())
    images = SketchPlan((((70, 90), (70,)),), 16).images(0)
    found = use.rule.sketched(short, images)
    assert found.dtype == torch.float32
    assert torch.equal(found, use.rule.sketched(wide, images))
