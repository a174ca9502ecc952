"""Drift against a plain float64 reference, its laws, and that measuring disturbs nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.drift import DriftMeter
from aqpolicy.gate.motion.probes import Probes

COUNT = 12


class Net(nn.Module):
    """Two modules in the middle group, one of them twice; dropout, and a positions axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.middle, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(6, 3)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        x = self.first(x).relu_()
        x = self.norm(self.middle(x)) + (0.0 if shift is None else shift)
        x = self.middle(self.drop(x)).tanh()
        return self.last(x)

    def sites(self) -> list[list[nn.Module]]:
        return [[self.first], [self.middle, self.norm], [self.last]]


def net() -> Net:
    torch.manual_seed(1)
    return Net()


def inputs(seed: int = 0, *shape: int) -> Tensor:
    return torch.randn(*(shape or (COUNT, 4, 5)), generator=torch.Generator().manual_seed(seed))


def meter(model: Net, given: Any = None, **more: Any) -> DriftMeter:
    return DriftMeter(model, model.sites(), Probes(inputs() if given is None else given), covered=range(3), **more)


def normalised(representation: Tensor) -> Any:
    """Return K as its definition says: H X X^T H over its trace."""
    x = representation.detach().double().numpy().reshape(representation.shape[0], -1)
    centre = np.eye(len(x)) - 1.0 / len(x)
    gram = centre @ x @ x.T @ centre
    return gram / np.trace(gram)


def collision(k: Any) -> float:
    return -math.log(np.trace(k @ k))


def von_neumann(k: Any) -> float:
    weights = np.linalg.eigvalsh(k)
    return -sum(w * math.log(w) for w in weights if w > 0)


def outputs(model: Net, x: Tensor) -> list[Tensor]:
    """Return what the last module of each group returns, by plain code."""
    model.eval()
    with torch.no_grad():
        first = model.first(x)
        middle = model.middle(model.norm(model.middle(first.relu())))
        last = model.last(middle.tanh())
    model.train()
    return [first, middle, last]


@pytest.mark.parametrize("chunk", [64, 5, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_entropies_equal_the_definition(chunk: int, dtype: torch.dtype) -> None:
    model = net().to(dtype)
    probes = inputs().to(dtype)
    found = meter(model, probes, chunk=chunk)
    kernels = [
        normalised(torch.cat([outputs(model, part)[group] for part in _parts(probes, chunk)])) for group in range(3)
    ]
    assert found.measure() == pytest.approx([collision(k) for k in kernels], abs=1e-9)
    assert found.entropies() == pytest.approx([von_neumann(k) for k in kernels], abs=1e-9)
    assert all(0 < value < math.log(COUNT - 1) for value in found.entropies())


def _parts(probes: Tensor, chunk: int) -> list[Tensor]:
    parts = -(-COUNT // chunk)
    return [probes[COUNT * part // parts : COUNT * (part + 1) // parts] for part in range(parts)]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_groups_before_the_first_written_layer_drift_by_exactly_nothing(written: int) -> None:
    model = net()
    found = meter(model)
    before = found.measure()
    with torch.no_grad():
        [model.first, model.middle, model.last][written].weight.add_(
            0.1 * inputs(3, 6, 6)[: 3 if written == 2 else 6, : 5 if written == 0 else 6]
        )
    after = found.measure()
    drift = [abs(new - old) for new, old in zip(after, before, strict=True)]
    assert drift[:written] == [0.0] * written
    assert all(value > 1e-6 for value in drift[written:])


def test_the_same_parameters_give_the_same_bits() -> None:
    model = net()
    found = meter(model)
    assert found.measure() == found.measure() == meter(model).measure()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from([1e-4, 1e-2, 0.3, 3.0]))
def test_the_drift_of_s1_keeps_the_bound_of_audenaert_and_fannes(seed: int, size: float) -> None:
    model = net()
    found = meter(model)
    kernels, entropies = [normalised(one) for one in outputs(model, inputs())], found.entropies()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    moved = [normalised(one) for one in outputs(model, inputs())]
    for k, other, was, now in zip(kernels, moved, entropies, found.entropies(), strict=True):
        t = min(np.abs(np.linalg.eigvalsh(k - other)).sum() / 2, 1.0)
        h2 = -sum(p * math.log(p) for p in (t, 1 - t) if p > 0)
        # Centred matrices live in one dimension less than there are probes.
        assert abs(now - was) <= t * math.log(COUNT - 2) + h2 + 1e-9


def test_a_group_that_tells_no_probe_from_another_has_no_entropy() -> None:
    model = net().double()
    nn.init.zeros_(model.last.weight)
    nn.init.constant_(model.last.bias, 0.1)
    found = meter(model, inputs().double())
    assert found.measure()[2] == found.entropies()[2] == 0.0
    assert found.measure()[1] > 0


def test_a_shift_and_a_scale_of_the_representation_are_no_drift() -> None:
    model = net()
    found = meter(model)
    before = found.measure()
    with torch.no_grad():
        model.last.bias.add_(100.0)
        model.last.weight.mul_(2.0)
    assert found.measure()[2] == pytest.approx(before[2], abs=1e-4)


def test_measuring_disturbs_nothing() -> None:
    model = net()
    model.norm.eval()
    found = meter(model)
    state, flags = torch.get_rng_state(), [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    found.measure()
    found.entropies()
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == flags
    assert [len(module._forward_hooks) for module in model.modules()] == hooks == [0] * len(hooks)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_what_was_measured_is_kept_until_the_model_changes() -> None:
    model = net()
    found = meter(model)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    before = found.present()
    assert found.present() == before
    assert len(calls) == 1
    with torch.no_grad():
        model.last.weight.add_(1.0)
    assert found.present() != before
    found.forget()
    found.present()
    assert len(calls) == 3


def test_probes_are_passed_by_position_or_by_name() -> None:
    model, x, shift = net(), inputs(), inputs(5, COUNT, 1, 6)
    by_place = meter(model, (x, shift)).measure()
    assert meter(model, {"shift": shift, "x": x}).measure() == by_place
    assert meter(model, x).measure()[1] != by_place[1]


class Shaped(nn.Module):
    """Gives its representation the shape that a test wants; the group's module returns it."""

    def __init__(self, shape: str) -> None:
        super().__init__()
        self.linear, self.shape = nn.Linear(5, 6), shape
        self.odd = Odd(shape)

    def forward(self, x: Tensor) -> Any:
        return self.odd(self.linear(x))


class Odd(nn.Module):
    """Returns (probes, positions, numbers) in another form."""

    def __init__(self, shape: str) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Any:
        match self.shape:
            case "positions first":
                return x.transpose(0, 1)
            case "flat":
                return x.flatten(0, 1)
            case "tuple":
                return (torch.arange(3), x), None
            case "mapping":
                return {"kept": [], "hidden": x}
            case "mean":
                return x.mean(0)
            case "none":
                return None
            case "first":
                return x[:1]
            case "growing":
                return x.new_zeros(len(x), len(x))
            case "nan":
                return x * torch.nan
            case "uneven":
                return x.flatten(1)[:, : int(x[0, 0, 0] > 0) + 5]
        return x


def shaped(shape: str, **more: Any) -> DriftMeter:
    torch.manual_seed(0)
    model = Shaped(shape)
    return DriftMeter(model, [[model.odd], []], Probes(inputs()), covered=[0], **more)


@pytest.mark.parametrize("chunk", [64, 4])
@pytest.mark.parametrize("shape", ["positions first", "flat", "tuple", "mapping"])
def test_the_axis_of_the_probes_is_found_wherever_it_lies(shape: str, chunk: int) -> None:
    # There are as many positions as probes of a chunk: the sizes alone would not tell.
    assert inputs().shape[1] == 4
    assert shaped(shape, chunk=chunk).measure() == pytest.approx(shaped("plain").measure(), abs=1e-9)
    assert shaped(shape, chunk=chunk).measure()[1] == 0.0


@pytest.mark.parametrize("shape", ["mean", "first", "growing"])
def test_a_representation_without_an_axis_of_probes_is_refused(shape: str) -> None:
    with pytest.raises(IllegalTrainingSetupError, match="depth group number 0 has no axis of probes"):
        shaped(shape)


def test_a_covered_group_that_no_probe_reaches_is_refused_and_others_are_0() -> None:
    model = Shaped("plain")
    probes, aside = Probes(inputs()), nn.Linear(1, 1)
    with pytest.raises(IllegalTrainingSetupError, match="no module of depth group number 1 ran"):
        DriftMeter(model, [[model.odd], [aside]], probes, covered=[0, 1])
    with pytest.raises(IllegalTrainingSetupError, match="no module of depth group number 0 ran"):
        shaped("none")
    assert DriftMeter(model, [[model.odd], [aside]], probes, covered=[0]).measure()[1] == 0.0


def test_numbers_that_are_not_finite_and_counts_that_differ_are_errors() -> None:
    with pytest.raises(IllegalTrainingSetupError, match="by no finite numbers"):
        shaped("nan").measure()
    with pytest.raises(IllegalTrainingSetupError, match="by no finite numbers"):
        shaped("nan").entropies()
    with pytest.raises(IllegalTrainingSetupError, match="numbers of different counts"):
        shaped("uneven", chunk=4).measure()


def test_a_model_that_does_not_take_the_probes_is_a_typed_error_and_left_as_it_was() -> None:
    model = net()
    with pytest.raises(IllegalTrainingSetupError, match="does not take the probes: RuntimeError"):
        meter(model, inputs(0, COUNT, 7))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        {},
        torch.tensor(1.0),
        torch.zeros(1, 3),
        (torch.zeros(2, 3), torch.zeros(3, 3)),
        (torch.zeros(2), "x"),
        [[1.0]],
    ],
)
def test_what_are_no_probes_is_refused(wrong: Any) -> None:
    with pytest.raises(IllegalTrainingSetupError, match="probes are"):
        Probes(wrong)


def test_probes_are_a_copy() -> None:
    model, x = net(), inputs()
    found = meter(model, x)
    before = found.measure()
    x.zero_()
    assert found.measure() == before


def test_the_digest_tells_names_types_shapes_and_bytes_apart() -> None:
    zero = torch.zeros(2, 4)
    others = [
        zero,
        (zero, zero),
        {"0": zero},
        {"x": zero},
        zero.double(),
        zero.bfloat16(),
        zero.half(),
        zero.bool(),
        zero.int(),
        torch.zeros(2, 2, 2),
        torch.zeros(4, 2),
        -zero,
    ]
    digests = [Probes(other).digest for other in others]
    assert len(set(digests)) == len(digests)
    assert Probes((zero,)).digest == Probes(zero).digest
    assert Probes(torch.zeros(4, 2).T).digest == Probes(zero).digest
    assert all(len(digest) == 32 for digest in digests)
