"""Representation drift: how the model represents a fixed set of probes, as an entropy per depth group.

A group's representation of a probe is the output of the group's module that ran
last, laid flat. K is the Gram matrix over the probes, centred and divided by its
trace; S2 = -ln tr K^2 is cheap enough for every step, S1 = -tr K ln K (von
Neumann) is for verifications. Both lie between 0 and ln(probes - 1). Numbers are
float64; the same parameters give the same bits.

Source:
    Giraldo, Rao and Principe, IEEE Trans. Inf. Theory 2015 (matrix entropies); Audenaert, J. Phys. A 2007
    (|change of S1| <= T ln(d-1) + H2(T), T half the trace norm of the change of K).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from aqpolicy.errors import AqpolicyError, IllegalTrainingSetupError
from aqpolicy.gate.motion.metrics import undisturbed
from aqpolicy.gate.motion.probes import Probes

CHUNK: Final = 64
"""Probes that run through the model at once."""

_BLOCK_NUMBERS: Final = 1 << 22
"""Numbers of a representation that are held in float64 at once."""


class DriftMeter:
    """Measures one model on one set of probes."""

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Sequence[nn.Module]],
        probes: Probes,
        *,
        covered: Collection[int],
        chunk: int = CHUNK,
    ) -> None:
        """Run the probes once and see that every covered group represents them.

        Args:
            model: The model.
            sites: Per depth group, its modules.
            probes: What is represented.
            covered: The groups that must be measurable.
            chunk: How many probes run at once.

        Raises:
            IllegalTrainingSetupError: The model does not take the probes, or a covered group represents none of them.
        """
        self._model, self.probes, self._chunk = model, probes, max(2, chunk)
        self._groups = len(sites)
        self._owner = {module: group for group, modules in enumerate(sites) for module in modules}
        self._remembered: tuple[list[tuple[int, int, int]], tuple[float, ...]] | None = None
        self._axes = self._find_axes()
        unseen = sorted(set(covered) - self._axes.keys())
        if unseen:
            raise IllegalTrainingSetupError(
                f"no module of depth group number {unseen[0]} ran on the probes; a drift budget covers it, so give "
                "probes that reach it"
            )

    def measure(self) -> tuple[float, ...]:
        """Measure S2 of every group now; 0 for a group without a representation.

        Raises:
            IllegalTrainingSetupError: The model failed on the probes, or represents them by no finite numbers.
        """
        values = self._of_all(_collision)
        self._remembered = self._identity(), values
        return values

    def present(self) -> tuple[float, ...]:
        """Return S2 of every group, measured again only where the model may have changed since `measure`."""
        if self._remembered is not None and self._remembered[0] == self._identity():
            return self._remembered[1]
        return self.measure()

    def forget(self) -> None:
        """Measure anew next time: the model was moved without a measurement."""
        self._remembered = None

    def entropies(self) -> tuple[float, ...]:
        """Measure S1 of every group now; raises as `measure` does."""
        return self._of_all(_von_neumann)

    def _of_all(self, entropy: Callable[[Tensor], Tensor]) -> tuple[float, ...]:
        found = self._represent()
        zero = torch.zeros((), dtype=torch.float64, device="cpu")
        values = [entropy(_gram(found[group])).cpu() if group in found else zero for group in range(self._groups)]
        numbers = torch.stack(values).tolist() if values else []
        for group, number in enumerate(numbers):
            if number != number:  # noqa: PLR0124 - only NaN differs from itself
                raise IllegalTrainingSetupError(
                    f"depth group number {group} represents the probes by no finite numbers"
                )
        return tuple(numbers)

    def _identity(self) -> list[tuple[int, int, int]]:
        """Return what tells one state of the model from another, by torch's own counters."""
        state = [*self._model.parameters(), *self._model.buffers()]
        return [(id(value), value.data_ptr(), value._version) for value in state]  # noqa: SLF001 - torch's own counter

    def _find_axes(self) -> dict[int, int]:
        """Return, for every group that ran, the axis of its output that grows with the number of probes."""
        count = min(self.probes.count, self._chunk)
        whole, less = self._run(0, count), self._run(0, count - 1)
        axes = {}
        for group, (module, output) in whole.items():
            other = less.get(group)
            if other is None or other[0] is not module or output.ndim != other[1].ndim:
                raise _unsteady(group)
            pairs = enumerate(zip(output.shape, other[1].shape, strict=True))
            grown = [(axis, size, was) for axis, (size, was) in pairs if size != was]
            if len(grown) != 1 or grown[0][1] * (count - 1) != grown[0][2] * count:
                raise _unsteady(group)
            axes[group] = grown[0][0]
        return axes

    def _represent(self) -> dict[int, Tensor]:
        """Return every group's representation.

        Shapes:
            each (probes, numbers).
        """
        parts: dict[int, list[Tensor]] = {}
        last: dict[int, nn.Module] = {}
        for start, stop in _chunks(self.probes.count, self._chunk):
            found = self._run(start, stop)
            if found.keys() != self._axes.keys():
                raise IllegalTrainingSetupError(
                    "the model reaches other depth groups for other probes; drop those probes"
                )
            for group, (module, output) in found.items():
                if last.setdefault(group, module) is not module:
                    raise _unsteady(group)
                flat = output.movedim(self._axes[group], 0)
                if flat.shape[0] % (stop - start):
                    raise _unsteady(group)
                parts.setdefault(group, []).append(flat.reshape(stop - start, -1))
        if any(len({part.shape[1] for part in some}) > 1 for some in parts.values()):
            raise IllegalTrainingSetupError(
                "the model represents probes by numbers of different counts; pad the probes"
            )
        return {group: torch.cat(some) for group, some in parts.items()}

    def _run(self, start: int, stop: int) -> dict[int, tuple[nn.Module, Tensor]]:
        """Return, per group, the module that ran last and a copy of what it returned."""
        seen: dict[int, tuple[nn.Module, Tensor]] = {}

        def keep(module: nn.Module, _: Any, output: Any) -> None:
            found = _first_tensor(output)
            if found is not None:
                # A copy: what comes behind may write into it.
                seen[self._owner[module]] = module, found.detach().clone()

        handles = [module.register_forward_hook(keep) for module in self._owner]
        try:
            with undisturbed(self._model):
                positional, named = self.probes.cut(start, stop)
                self._model(*positional, **named)
        except AqpolicyError:
            raise
        except Exception as error:
            raise IllegalTrainingSetupError(
                f"the model does not take the probes: {type(error).__name__}: {error}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        return seen


def _unsteady(group: int) -> IllegalTrainingSetupError:
    return IllegalTrainingSetupError(
        f"the representation of depth group number {group} has no axis of probes; let the model keep one probe per "
        "entry of one axis"
    )


def _chunks(count: int, chunk: int) -> list[tuple[int, int]]:
    """Return ranges of nearly equal length, so that no probe is left to run alone."""
    parts = -(-count // chunk)
    return [(count * part // parts, count * (part + 1) // parts) for part in range(parts)]


def _first_tensor(output: Any) -> Tensor | None:
    """Return the first tensor of floating-point numbers that a module returned."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() and output.ndim else None
    members = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return next((found for found in map(_first_tensor, members) if found is not None), None)


def _gram(representation: Tensor) -> Tensor:
    """Return the centred Gram matrix over the probes, in float64, block by block of columns."""
    count, width = representation.shape
    step = max(1, _BLOCK_NUMBERS // count)
    gram = torch.zeros(count, count, dtype=torch.float64, device=representation.device)
    for start in range(0, width, step):
        block = representation[:, start : start + step].double()
        block = block - block[:1]  # a representation that is the same for all probes centres to exact zeros
        block = block - block.mean(0, keepdim=True)
        gram.addmm_(block, block.T)
    return gram


def _collision(gram: Tensor) -> Tensor:
    """Return S2 of a Gram matrix."""
    trace = gram.trace()
    return torch.where(trace == 0, 0.0, -(gram / trace).square().sum().log())


def _von_neumann(gram: Tensor) -> Tensor:
    """Return S1 of a Gram matrix."""
    trace = gram.trace()
    if not bool(trace.isfinite()):
        return trace * torch.nan
    if not bool(trace):
        return torch.zeros_like(trace)
    weights = torch.linalg.eigvalsh(gram / trace).clamp_min(0.0)
    return -torch.xlogy(weights, weights).sum()
