"""What a strand makes of its uses: in chunks or in one, without those that are denied, for one group or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from aqpolicy.gate.routing import flush as flushing
from aqpolicy.gate.routing.arrival import Admission, Arrival
from aqpolicy.gate.routing.flush import combine_measured, flush, flush_tied, measure
from aqpolicy.gate.routing.groups import Group
from aqpolicy.gate.routing.layers import Use, rule_for
from aqpolicy.gate.routing.layers.rule import SCRATCH_BYTES
from aqpolicy.gate.routing.sketch import SketchPlan

B = 7
SHARES = torch.tensor([1.0, 0.0, 0.5, 2.0, 0.0, 1.0, 0.25], dtype=torch.float64)


@dataclass(frozen=True)
class Seen:
    """A use of a layer, and every example's own gradients by autograd."""

    arrival: Arrival
    own: dict[int, Tensor]


def used(layer: nn.Module, *shape: int) -> Seen:
    """Run a layer on random numbers and let random gradients come back."""
    rule = rule_for(layer, "layer")
    x = torch.randn(B, *shape, dtype=torch.float64)
    parameters = list(layer.parameters())
    out = layer(x)
    e = torch.randn_like(out)
    rows = [torch.autograd.grad(layer(x[i : i + 1]), parameters, e[i : i + 1]) for i in range(B)]
    own = {id(p): torch.stack([row[n] for row in rows]) for n, p in enumerate(parameters)}
    weights = tuple(None if (p := getattr(layer, name, None)) is None else p.detach() for name in rule.parameters)
    _, saved = rule.forward(layer, x, weights)
    held = tuple(getattr(layer, name, None) for name in rule.parameters)
    wanted = tuple(parameter is not None for parameter in held)
    return Seen(Arrival(held, Use(rule, layer, wanted, weights, x, saved, e.detach())), own)


def group_of(*layers: nn.Module, index: int = 0) -> Group:
    named = {name: p for number, layer in enumerate(layers) for name, p in layer.named_parameters(prefix=str(number))}
    return Group(index, f"g{index}", tuple(named), tuple(named.values()))


def admitted(shares: Tensor = SHARES, limits: Tensor | None = None, *, norms: bool = True) -> Admission:
    whole = limits is None and bool((shares == 1).all())
    keep = None if bool(shares.all()) else shares.nonzero().squeeze(1)
    return Admission(shares, limits, keep, whole=whole, measure=norms, denominator=1.0)


def summed(seen: Sequence[Seen]) -> dict[int, Tensor]:
    """Return every example's own gradients of all uses."""
    total: dict[int, Tensor] = {}
    for one in seen:
        for key, gradient in one.own.items():
            total[key] = gradient if key not in total else total[key] + gradient
    return total


def norms_of(own: dict[int, Tensor]) -> Tensor:
    return torch.cat([gradient.flatten(1) for gradient in own.values()], 1).norm(dim=1)


def sketch_of(plan: SketchPlan, own: dict[int, Tensor]) -> Tensor:
    return plan.sketch(0, torch.cat([gradient.flatten(1) for gradient in own.values()], 1))


def close(found: dict[int, Tensor], own: dict[int, Tensor], factors: Tensor) -> None:
    assert found.keys() == own.keys()
    for key, gradient in own.items():
        want = (gradient * factors.view(-1, *[1] * (gradient.dim() - 1))).sum(0)
        assert torch.allclose(found[key], want, rtol=1e-12, atol=1e-13)


LAYERS = {
    "matrix": lambda: [used(nn.Linear(4, 3).double(), 4)],
    "long": lambda: [used(nn.Linear(3, 2).double(), 40, 3)],
    "norm": lambda: [used(nn.LayerNorm(4).double(), 5, 4)],
    "conv": lambda: [used(nn.Conv1d(3, 4, 2).double(), 3, 6)],
    "two": lambda: [used(nn.Linear(4, 3).double(), 4), used(nn.GroupNorm(2, 4).double(), 4, 3)],
}


def layers_of(seen: Sequence[Seen]) -> list[nn.Module]:
    return [one.arrival.use.module for one in seen]


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(11)


@pytest.mark.parametrize("room", [1, 200, 1000, SCRATCH_BYTES])
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("sketched", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_chunks_of_examples_add_up_to_the_whole(
    name: str, limited: bool, sketched: bool, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "scratch", lambda _: room)
    seen = LAYERS[name]()
    own = summed(seen)
    norms = norms_of(own)
    limits = norms.median().expand(B) if limited else None
    group = group_of(*layers_of(seen))
    plan = SketchPlan((group.shapes,), 4)
    images = plan.maker(group) if sketched else None
    found, result = flush([one.arrival for one in seen], group, admitted(limits=limits), images)
    factors = SHARES if limits is None else SHARES * (limits / norms).clamp_max(1)
    assert torch.allclose(result.norms, norms, rtol=1e-12)
    assert torch.allclose(result.factors, factors, rtol=1e-12)
    close(found, own, factors)
    if sketched:
        assert torch.allclose(result.record, sketch_of(plan, own) * factors.unsqueeze(1), rtol=1e-12, atol=1e-13)
        assert not result.record[SHARES == 0].any()


def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = used(nn.LayerNorm(4).double(), 5, 4)
    monkeypatch.setattr(flushing, "scratch", lambda _: 3 * 8 * 8)  # three examples of eight numbers
    rule, sizes = type(seen.arrival.use.rule), []
    plain = rule.per_sample

    def watched(self: object, use: Use) -> object:
        sizes.append(len(use.e))
        return plain(self, use)

    monkeypatch.setattr(rule, "per_sample", watched)
    flush([seen.arrival], group_of(seen.arrival.use.module), admitted(), None)
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_rows_of_factor_0_are_left_out_and_not_multiplied(name: str, norms: bool, limited: bool, value: float) -> None:
    seen = LAYERS[name]()
    own = summed(seen)
    for one in seen:
        one.arrival.use.e[SHARES == 0] = value
    limits = torch.full((B,), 1e9, dtype=torch.float64) if limited else None
    group = group_of(*layers_of(seen))
    found, result = flush([one.arrival for one in seen], group, admitted(limits=limits, norms=norms), None)
    finite = {key: torch.where(SHARES.view(-1, *[1] * (g.dim() - 1)) == 0, 0, g) for key, g in own.items()}
    close(found, finite, SHARES)
    assert torch.equal(result.factors, SHARES)
    known = norms_of(own)
    if norms:
        assert not result.norms[SHARES == 0].isfinite().any()
    if norms or limited:
        assert torch.allclose(result.norms[SHARES > 0], known[SHARES > 0], rtol=1e-12)
    else:
        assert result.norms is None


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_an_admitted_example_that_is_not_finite_gets_factor_0(name: str, norms: bool) -> None:
    seen = LAYERS[name]()
    own = summed(seen)
    seen[0].arrival.use.e[3] = float("nan")
    shares = torch.ones(B, dtype=torch.float64)
    found, result = flush(
        [one.arrival for one in seen], group_of(*layers_of(seen)), admitted(shares, norms=norms), None
    )
    kept = shares.clone()
    kept[3] = 0
    assert torch.equal(result.factors, kept)
    assert (~result.norms.isfinite()).tolist() == [number == 3 for number in range(B)]
    close(found, own, kept)


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_an_open_group_gets_what_autograd_computes_bit_by_bit(name: str, norms: bool) -> None:
    seen = LAYERS[name]()
    shares = torch.ones(B, dtype=torch.float64)
    found, _ = flush([one.arrival for one in seen], group_of(*layers_of(seen)), admitted(shares, norms=norms), None)
    for one in seen:
        use = one.arrival.use
        parameters = list(use.module.parameters())
        for parameter, want in zip(parameters, torch.autograd.grad(use.module(use.x), parameters, use.e), strict=True):
            assert torch.equal(found[id(parameter)], want)


@pytest.mark.parametrize("norms", [False, True])
def test_a_group_that_is_closed_to_all_gets_nothing(norms: bool) -> None:
    seen = LAYERS["two"]()
    shares = torch.zeros(B, dtype=torch.float64)
    found, result = flush(
        [one.arrival for one in seen], group_of(*layers_of(seen)), admitted(shares, norms=norms), None
    )
    assert found == {}
    assert torch.equal(result.factors, shares)


def test_a_limit_is_of_the_whole_group() -> None:
    seen = LAYERS["two"]()
    own = summed(seen)
    norms = norms_of(own)
    limits = norms / 3
    found, result = flush([one.arrival for one in seen], group_of(*layers_of(seen)), admitted(limits=limits), None)
    close(found, own, SHARES / 3)
    assert torch.allclose(result.factors, SHARES / 3)


def test_norms_are_of_the_undivided_and_unscaled_loss() -> None:
    seen = LAYERS["matrix"]()
    norms = norms_of(summed(seen))
    scaled = replace(admitted(limits=norms * 4 / 1024 / 2), denominator=4.0, scale=1024.0)
    result, _ = measure([one.arrival for one in seen], group_of(*layers_of(seen)), scaled, None)
    assert torch.allclose(result.norms, norms * 4 / 1024, rtol=1e-12)
    assert torch.allclose(result.factors, SHARES / 2, rtol=1e-12)


def test_uses_of_one_layer_add_up_before_they_are_measured() -> None:
    layer = nn.Linear(3, 2).double()
    seen = [used(layer, 5, 3), used(layer, 3), used(layer, 2, 3)]
    own = summed(seen)
    norms = norms_of(own)
    found, result = flush([one.arrival for one in seen], group_of(layer), admitted(limits=norms / 2), None)
    assert torch.allclose(result.norms, norms, rtol=1e-12)
    close(found, own, SHARES / 2)


def test_nothing_is_combined_of_nothing() -> None:
    seen = LAYERS["matrix"]()
    assert combine_measured([one.arrival for one in seen], torch.zeros(B, dtype=torch.float64)) == {}


# ---- sketches


def sketched(
    seen: Sequence[Seen], *, limits: Tensor | None = None, scale: float = 1.0, group: Group | None = None
) -> tuple[dict[int, Tensor], Tensor, Tensor]:
    """Return gradients by parameter and sketches of a group of these layers, and what the sketches are to be."""
    group = group or group_of(*dict.fromkeys(layers_of(seen)))
    plan = SketchPlan((group.shapes,), 4)
    own = summed(seen)
    ordered = {id(p): own[id(p)] for p in group.parameters}
    found, result = flush(
        [one.arrival for one in seen], group, replace(admitted(limits=limits), scale=scale), plan.maker(group)
    )
    return found, result.record, sketch_of(plan, ordered) * (result.factors / scale).unsqueeze(1)


def test_uses_of_one_layer_are_sketched_together() -> None:
    layer = nn.Linear(3, 2).double()
    _, found, want = sketched([used(layer, 5, 3), used(layer, 3), used(layer, 2, 3)])
    assert torch.allclose(found, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("heads", [1, 2])
def test_a_tied_table_is_sketched_with_its_heads(heads: int) -> None:
    table = nn.Embedding(9, 4, padding_idx=2).double()
    x, e = torch.randint(9, (B, 5)), torch.randn(B, 5, 4, dtype=torch.float64)
    rows = [torch.autograd.grad(table(row), table.weight, grad)[0] for row, grad in zip(x, e, strict=True)]
    use = Use(rule_for(table, "table"), table, (True,), (table.weight.detach(),), x, (), e)
    seen = [Seen(Arrival((table.weight,), use), {id(table.weight): torch.stack(rows)})]
    for length in range(3, 3 + heads):
        head = nn.Linear(4, 9, bias=False).double()
        head.weight = table.weight
        seen.append(used(head, length, 4))
    _, found, want = sketched(seen, group=group_of(table))
    assert torch.allclose(found, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LAYERS)
def test_a_sketch_is_of_the_unscaled_loss(name: str) -> None:
    _, found, want = sketched(LAYERS[name](), scale=1024.0)
    assert torch.allclose(found, want, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_examples_that_are_refused_or_not_finite_have_a_sketch_of_exactly_0(
    name: str, limited: bool, value: float
) -> None:
    seen = LAYERS[name]()
    for one in seen:
        one.arrival.use.e[[3, 4]] = value  # one of these is admitted, the other is not
    limits = torch.full((B,), 1e9, dtype=torch.float64) if limited else None
    _, found, want = sketched(seen, limits=limits)
    nothing = (SHARES == 0) | (torch.arange(B) == 3)
    assert not found[nothing].any()
    assert torch.allclose(found[~nothing], want[~nothing], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_sketches_change_no_bit_of_gradients_norms_and_factors(name: str, limited: bool) -> None:
    seen = LAYERS[name]()
    group = group_of(*layers_of(seen))
    limits = norms_of(summed(seen)) / 2 if limited else None
    arrivals = [one.arrival for one in seen]
    plain, one = flush(arrivals, group, admitted(limits=limits), None)
    found, other = flush(arrivals, group, admitted(limits=limits), SketchPlan((group.shapes,), 4).maker(group))
    assert all(torch.equal(found[key], gradient) for key, gradient in plain.items())
    assert torch.equal(one.norms, other.norms)
    assert torch.equal(one.factors, other.factors)


# ---- groups that share parameters


def test_a_shared_parameter_takes_the_least_and_counts_in_both_norms() -> None:
    shared, left, right = nn.Linear(3, 2).double(), nn.Linear(4, 3).double(), nn.LayerNorm(4).double()
    seen = [used(shared, 5, 3), used(left, 4), used(right, 5, 4), used(shared, 2, 3)]
    own = summed(seen)
    groups = [group_of(shared, left, index=0), group_of(shared, right, index=1)]
    owners = {id(p): (0, 1) for p in shared.parameters()}
    owners |= {id(p): (0,) for p in left.parameters()} | {id(p): (1,) for p in right.parameters()}
    norms = [norms_of({id(p): own[id(p)] for p in group.parameters}) for group in groups]
    shares = [SHARES, torch.tensor([0.5, 1, 0, 1, 3, 1, 1], dtype=torch.float64)]
    limits = [norms[0].median().expand(B), norms[1] * 2]
    admissions = [admitted(*pair) for pair in zip(shares, limits, strict=True)]
    found, results = flush_tied(
        [one.arrival for one in seen], owners, [(g, a, None) for g, a in zip(groups, admissions, strict=True)]
    )
    factors = [SHARES * (limits[0] / norms[0]).clamp_max(1), shares[1]]
    for result, norm, factor in zip(results, norms, factors, strict=True):
        assert torch.allclose(result.norms, norm, rtol=1e-12)
        assert torch.allclose(result.factors, factor, rtol=1e-12)
    for layer, factor in ((left, factors[0]), (right, factors[1]), (shared, torch.minimum(*factors))):
        keys = [id(p) for p in layer.parameters()]
        close({key: found[key] for key in keys}, {key: own[key] for key in keys}, factor)


def test_a_group_whose_parameters_were_not_used_has_norm_0_and_leaves_its_share() -> None:
    shared, other = nn.Linear(3, 2).double(), nn.Linear(4, 3).double()
    seen = [used(other, 4)]
    owners = {id(p): (0,) for p in other.parameters()} | {id(p): (1,) for p in shared.parameters()}
    groups = [(group_of(other), admitted(), None), (group_of(shared, index=1), admitted(), None)]
    found, results = flush_tied([seen[0].arrival], owners, groups)
    close(found, seen[0].own, SHARES)
    assert not results[1].norms.any()
