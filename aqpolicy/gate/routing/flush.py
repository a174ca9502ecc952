"""What a strand of groups makes of one part's uses: norms, factors, and the weighted sum of all examples' gradients.

Exactness before speed: rows of factor 0 are left out rather than multiplied,
because 0 times infinity is no number; rows that are all ones go through the
native kernels, so that an open gate is bitwise plain training. Otherwise the
norm of a group needs every example's own gradient in some form. Where that form
is the gradient itself, it is made for a few examples at a time in bounded
memory, measured, weighed and added in one pass.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite

import torch
from torch import Tensor

from aqpolicy.gate.routing.arrival import NOT_MEASURED, Admission, Arrival, Flushed, Maker, Total
from aqpolicy.gate.routing.groups import Group
from aqpolicy.gate.routing.layers.rule import joined, parameter_sizes, scratch
from aqpolicy.gate.routing.reading import largest, read
from aqpolicy.gate.routing.sharing import Sharing


def flush(
    arrivals: Sequence[Arrival], group: Group, admission: Admission, maker: Maker | None
) -> tuple[Total, Flushed]:
    """Return the gated gradients of a group, by parameter, and what was found."""
    if maker is None and admission.limits is None and not admission.measure:
        gradients = combine(arrivals, admission.shares, native=admission.whole, keep=admission.keep)
        if _all_finite(gradients):
            return gradients, Flushed(None, admission.shares)
    if admission.whole:
        # Nothing is cut and nothing left out, unless a norm is not finite.
        result, _ = measure(arrivals, group, admission, maker)
        return combine_measured(arrivals, result.factors), result
    result, summed = measure(arrivals, group, admission, maker, add=True)
    rest = [arrival for arrival in arrivals if not summed.keys() >= _keys(arrival)] if summed else arrivals
    return summed | combine_measured(rest, result.factors), result


def flush_tied(
    arrivals: Sequence[Arrival],
    owners: Mapping[int, tuple[int, ...]],
    groups: Sequence[tuple[Group, Admission, Maker | None]],
) -> tuple[Total, list[Flushed]]:
    """Return the same for several groups that share parameters: these get the least of their groups' factors.

    A shared parameter counts in the norm of every group that holds it.
    """
    results = []
    for number, (group, admission, maker) in enumerate(groups):
        own = _only(arrivals, {key for key, holders in owners.items() if number in holders})
        results.append(
            measure(own, group, admission, maker)[0] if own else Flushed(admission.shares * 0, admission.shares)
        )
    gradients: Total = {}
    for sharing in dict.fromkeys(owners.values()):
        factors = torch.stack([results[number].factors for number in sharing]).amin(0)
        shared = {key for key, holders in owners.items() if holders == sharing}
        gradients |= combine_measured(_only(arrivals, shared), factors)
    return gradients, results


def measure(
    arrivals: Sequence[Arrival], group: Group, admission: Admission, maker: Maker | None, *, add: bool = False
) -> tuple[Flushed, Total]:
    """Return norms, factors and records, and with `add` the weighted sum of what had to be made for them."""
    if admission.keep is not None and not admission.measure and maker is None:
        return _measure_admitted(arrivals, group, admission, admission.keep, add=add)
    sharing = Sharing([arrival.major() for arrival in arrivals])
    making = None if maker is None else maker.begin(sharing, group)
    norms, factors, total = [], [], Total()
    for start, stop, own in _runs(sharing.dense, len(admission.shares)):
        squares = sharing.squares(start, stop, own)
        norm = admission.own(squares)
        whole = stop - start == len(admission.shares)
        factor = admission.factors(norm) if whole else admission.factors(norm, start, stop)
        norms.append(norm)
        factors.append(factor)
        if making is not None:
            making.take(own)
        if add and own:
            _add(total, own, factor)
    applied = joined(factors)
    record = None if making is None else making.finish(applied, admission.scale)
    result = Flushed(joined(norms), applied, record)
    if not total:
        return result, total
    known = {id(parameter): parameter for parameter in group.parameters}
    return result, {key: summed.to(known[key].dtype) for key, summed in total.items()}


def _measure_admitted(
    arrivals: Sequence[Arrival], group: Group, admission: Admission, keep: Tensor, *, add: bool
) -> tuple[Flushed, Total]:
    """Measure only the examples that are let in; a limit needs no other norm."""
    norms = torch.full_like(admission.shares, NOT_MEASURED)
    if keep.numel() == 0:
        return Flushed(norms, admission.shares), {}
    limits = None if admission.limits is None else admission.limits[keep]
    some = [Arrival(a.held, a.use.rows(keep)) for a in (arrival.major() for arrival in arrivals)]
    let_in = replace(admission, shares=admission.shares[keep], limits=limits, keep=None)
    found, total = measure(some, group, let_in, None, add=add)
    factors = admission.shares.index_copy(0, keep, found.factors)
    if found.norms is not None:
        norms = norms.index_copy(0, keep, found.norms.to(norms.dtype))
    return Flushed(norms, factors), total


def combine_measured(arrivals: Sequence[Arrival], factors: Tensor) -> Total:
    """Return the same where only the device knows the factors: they are read once.

    Shapes:
        factors (b,).
    """
    if not arrivals:
        return {}
    native, keep = _read(factors)
    return combine(arrivals, factors, native=native, keep=keep)


def combine(arrivals: Sequence[Arrival], factors: Tensor, *, native: bool, keep: Tensor | None) -> Total:
    """Return the sum over examples of factor times gradient, by parameter; nothing where all factors are 0.

    Args:
        arrivals: The uses.
        factors: One per example.
        native: Whether all factors but those of 0 are 1.
        keep: Which examples have a factor other than 0; None where all have.

    Shapes:
        factors (b,), keep (n,).
    """
    total: Total = {}
    if keep is not None and keep.numel() == 0:
        return total
    kept = factors if keep is None else factors.index_select(0, keep)
    for arrival in arrivals:
        if native and keep is None:
            use = arrival.native()
        else:
            use = arrival.major().use
            use = use if keep is None else use.rows(keep)
        gradients = use.rule.gradients(use) if native else use.rule.weighted(use, kept)
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - the interceptor has nothing to see here
            for parameter, gradient in zip(arrival.held, gradients, strict=True):
                if parameter is not None and gradient is not None:
                    # In order of arrival, as autograd adds.
                    before, own = total.get(id(parameter)), gradient.to(parameter.dtype)
                    total[id(parameter)] = own if before is None else before + own
    return total


def _runs(dense: Sequence[Arrival], examples: int) -> Iterator[tuple[int, int, Total]]:
    """Yield runs of examples that fit in memory, with their own gradients of some uses, by parameter."""
    if not dense:
        yield 0, examples, {}
        return
    size = sum(sum(parameter_sizes(arrival.use)) * max(4, arrival.use.e.element_size()) for arrival in dense)
    step = max(1, scratch(dense[0].use.e.device) // max(1, size))
    for start in range(0, examples, step):
        stop = min(examples, start + step)
        own: Total = {}
        for arrival in dense:
            gradients = arrival.use.rule.per_sample(arrival.use.between(start, stop))
            for parameter, gradient in zip(arrival.held, gradients, strict=True):
                if parameter is not None and gradient is not None:
                    before = own.get(id(parameter))
                    own[id(parameter)] = gradient if before is None else before + gradient
        yield start, stop, own


def _add(total: Total, own: Total, factors: Tensor) -> None:
    """Add the weighted gradients of a run of examples; those of factor 0 are left out."""
    _, keep = _read(factors)
    if keep is not None and keep.numel() == 0:
        return
    kept = factors if keep is None else factors.index_select(0, keep)
    for key, gradient in own.items():
        rows = gradient if keep is None else gradient.index_select(0, keep)
        before, flat, weights = total.get(key), rows.reshape(len(kept), -1), kept.to(rows.dtype)
        if before is None:
            total[key] = (weights @ flat).view(gradient.shape[1:])
        else:
            before.view(-1).addmv_(flat.t(), weights)


def _read(factors: Tensor) -> tuple[bool, Tensor | None]:
    """Return whether all factors but those of 0 are 1, and which are not 0; None where none is.

    Shapes:
        factors (b,) -> (n,).
    """
    values = factors.cpu().numpy()  # a copy at most, where each question to the device would wait for it
    native = bool(((values == 1) | (values == 0)).all())
    if values.all():
        return native, None
    return native, torch.from_numpy(values.nonzero()[0]).to(factors.device, non_blocking=True)


def _all_finite(gradients: Total) -> bool:
    """Return whether all gradients are finite; one that overflows when it is summed up may pass for one that is not."""
    found = list(gradients.values())
    if found and found[0].is_cuda:
        return all(map(isfinite, read(largest(found))))
    return all(map(isfinite, read([gradient.sum() for gradient in found])))


def _keys(arrival: Arrival) -> set[int]:
    return {id(parameter) for parameter in arrival.held if parameter is not None}


def _only(arrivals: Sequence[Arrival], wanted: Container[int]) -> list[Arrival]:
    some = (arrival.only(wanted) for arrival in arrivals)
    return [arrival for arrival in some if arrival is not None]
