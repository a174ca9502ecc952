"""What a layer must know to be gated: its native operations, one use of it, and per-example gradients.

A rule never computes a factor and never touches a parameter; it only says what
PyTorch itself would compute, for all examples together or for each alone.
`gradients` and `grad_input` call the very kernels that autograd calls, so an open
gate is bitwise plain training. What is made per example (gradients and norms) is
made in single precision at least, whatever the precision of the layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

import torch
from torch import Tensor

from aqpolicy.gate.routing.images import Image

SCRATCH_BYTES: Final = 16 * 1024 * 1024
"""Most memory that per-example gradients may take at once on a CPU, but for a single example's."""

SCRATCH_ELSEWHERE: Final = 128 * 1024 * 1024
"""The same on an accelerator, where many small runs take longer than a few large ones."""

CACHE_BYTES: Final = 1024 * 1024
"""Most memory that an elementwise chain of operations runs over at once, on a CPU."""

Gradients = tuple[Tensor | None, ...]
"""One entry per parameter of the layer, in the order of `Rule.parameters`; None where it is not trained."""

Weights = tuple[Tensor | None, ...]
"""One entry per parameter of the layer, in the order of `Rule.parameters`; None where the layer has none."""

Images = Sequence[Image | None]
"""One entry per parameter of the layer, in the order of `Rule.parameters`; None where it is not trained."""

Precision = Literal["low", "full"]
"""What autocast does to an operation's floating inputs: the low precision asked for, or single precision."""


@dataclass(frozen=True, slots=True)
class Use:
    """One application of a layer in a step: what went in, and the gradient that came back.

    Shapes:
        x: (b, ...), the layer's input.
        saved: each (b, ...), what the forward kernel keeps for its backward kernel.
        e: (b, ...), gradient of the mean loss with respect to the layer's output.
    """

    rule: Rule
    module: Any
    """Read for its options only (stride, padding, eps), never for a parameter."""
    wanted: tuple[bool, ...]
    """Per entry of `rule.parameters`, whether its gradient is wanted."""
    weights: Weights
    """The parameters as the kernel got them, detached; autocast may have cast them."""
    x: Tensor
    saved: tuple[Tensor, ...]
    e: Tensor

    def rows(self, keep: Tensor) -> Use:
        """Return the use restricted to some examples."""
        saved = tuple(tensor.index_select(0, keep) for tensor in self.saved)
        return replace(self, x=self.x.index_select(0, keep), saved=saved, e=self.e.index_select(0, keep))

    def between(self, start: int, stop: int) -> Use:
        """Return the use restricted to a run of examples, without copying."""
        saved = tuple(tensor[start:stop] for tensor in self.saved)
        return replace(self, x=self.x[start:stop], saved=saved, e=self.e[start:stop])

    def scaled(self, factors: Tensor) -> Use:
        """Return the use with each example's gradient multiplied by its factor.

        The factors are not rounded to a low precision first: that would bend all
        of an example's gradient the same way.
        """
        return Use(self.rule, self.module, self.wanted, self.weights, self.x, self.saved, times(self.e, factors))

    def wide(self) -> Use:
        """Return the use in single precision at least."""
        saved = tuple(widened(tensor) for tensor in self.saved)
        return replace(self, x=widened(self.x), saved=saved, e=widened(self.e))


class Rule(ABC):
    """The exact gradients of one type of layer.

    All methods are called without gradients and with autocast off: autocast would
    take what is made in single precision back to a low one.
    """

    type_name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")
    positionwise: ClassVar[bool] = False
    """Whether all axes between the first and those that the layer itself consumes are positions treated alike."""
    autocast: ClassVar[Precision | None] = None
    """What torch's CPU autocast does to this operation's inputs and weights; None leaves them as they are."""
    autocast_cuda: ClassVar[Precision | None] = None
    """The same for CUDA, whose lists differ."""

    def precision(self, device_type: str) -> Precision | None:
        """Return what autocast does to the operation on a type of device; whoever calls `forward` casts."""
        return self.autocast if device_type == "cpu" else self.autocast_cuda

    def trailing(self, module: Any) -> int:  # noqa: ARG002 - most layers consume one
        """Return how many axes at the end of its output a positionwise layer consumes; those before are positions."""
        return 1

    def refusal(self, module: Any) -> str | None:  # noqa: ARG002 - most layers have no option to refuse
        """Return why this instance cannot be gated exactly, or None."""
        return None

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Return why this input cannot be told apart by example, or None."""
        return None

    @abstractmethod
    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the layer's output and what its backward kernels need besides input and weights."""

    @abstractmethod
    def grad_input(self, use: Use) -> Tensor:
        """Return the gradient with respect to the input, as autograd computes it."""

    @abstractmethod
    def gradients(self, use: Use) -> Gradients:
        """Return the gradients of the parameters summed over the examples, as autograd computes them."""

    @abstractmethod
    def per_sample(self, use: Use) -> Gradients:
        """Return each example's own gradient of each parameter, shape (b, *parameter), at least in float32."""

    def weighted(self, use: Use, factors: Tensor) -> Gradients:
        """Return the sum over examples of factor times gradient, in the precision of `gradients`."""
        return self.gradients(use.scaled(factors))

    def materialises(self, use: Use) -> bool:  # noqa: ARG002 - part of the interface
        """Return whether the weighted sum is best made of per-example gradients, which then give the norms too."""
        return False

    def squared_norms(self, use: Use) -> Tensor:
        """Return the squared l2 norm of each example's gradient over the layer's parameters, shape (b,)."""
        size = sum(parameter_sizes(use)) * max(4, use.e.itemsize)
        return joined([sum_of_squares(self.per_sample(some)) for some in chunks(use, size)])

    def sketched(self, use: Use, images: Images) -> Tensor:
        """Return the sum of the images of each example's gradients, shape (b, width)."""
        size = sum(parameter_sizes(use)) * max(4, use.e.itemsize)
        return joined([_imaged(some, self.per_sample(some), images) for some in chunks(use, size)])

    def sketches_apart(self, use: Use) -> bool:  # noqa: ARG002 - part of the interface
        """Return whether sketches are cheaper without the examples' own gradients, even where these are made."""
        return False


def scratch(device: torch.device) -> int:
    """Return the most memory that per-example gradients may take at once, in bytes."""
    return SCRATCH_BYTES if device.type == "cpu" else SCRATCH_ELSEWHERE


def chunks(use: Use, size: int, room: int | None = None) -> Iterator[Use]:
    """Split a use into runs of as many examples as there is room for, at `size` bytes each."""
    room = scratch(use.e.device) if room is None else room
    count, total = max(1, room // max(1, size)), use.e.shape[0]
    if count >= total:
        yield use
        return
    for start in range(0, total, count):
        yield use.between(start, min(total, start + count))


def cached(use: Use) -> Iterator[Use]:
    """Split a use into runs whose intermediate results stay in a processor's cache.

    That is several times faster than fetching fresh memory for each of them. On
    an accelerator it would be slower, and the use is left whole.
    """
    if use.e.device.type != "cpu":
        return iter((use,))
    return chunks(use, use.e.nbytes // max(1, use.e.shape[0]), CACHE_BYTES)


def _imaged(use: Use, gradients: Gradients, images: Images) -> Tensor:
    """Return the sum of the images of what has a gradient."""
    pairs = [(image, own) for image, own in zip(images, gradients, strict=True) if image is not None]
    parts = [image.of(own) for image, own in pairs if own is not None]
    return add_up(parts) if parts else widened(use.e).new_zeros(use.e.shape[0], pairs[0][0].width)


def add_up(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape; there is at least one."""
    total, *rest = parts
    for part in rest:
        total = total + part
    return total


def joined(parts: list[Tensor]) -> Tensor:
    """Return what the chunks of a use gave, as one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def joined_gradients(parts: list[Gradients]) -> Gradients:
    """Return the per-example gradients that the chunks of a use gave, as one."""
    columns = (list(column) for column in zip(*parts, strict=True))
    return tuple(None if column[0] is None else joined(column) for column in columns)


def parameter_sizes(use: Use) -> list[int]:
    """Return the number of elements of each parameter of the layer whose gradient is wanted."""
    pairs = zip(use.weights, use.wanted, strict=True)
    return [weight.numel() for weight, wanted in pairs if wanted and weight is not None]


def widened(tensor: Tensor) -> Tensor:
    """Return a floating tensor in single precision at least; indices stay as they are."""
    return tensor.float() if tensor.itemsize < 4 and tensor.is_floating_point() else tensor


def times(tensor: Tensor, factors: Tensor) -> Tensor:
    """Return a tensor (b, ...) with each example multiplied by its factor (b,), in the tensor's precision."""
    return (tensor * factors.view(-1, *[1] * (tensor.dim() - 1))).to(tensor.dtype)


def sum_of_squares(gradients: Gradients) -> Tensor:
    """Return the squared norm over several per-example gradients, shape (b,)."""
    squares = [row_norms(tensor).square() for tensor in gradients if tensor is not None]
    return squares[0] if len(squares) == 1 else torch.stack(squares).sum(0)


def row_norms(tensor: Tensor) -> Tensor:
    """Return the l2 norm of each example's part, shape (b,).

    Two levels keep single precision accurate: one long sum loses two digits.
    """
    if tensor.dim() == 1:
        return tensor.abs()
    if tensor.dim() == 2:
        return vector_norm(tensor, 1)
    return vector_norm(vector_norm(tensor.reshape(*tensor.shape[:2], -1), 2), 1)


def vector_norm(tensor: Tensor, dim: int) -> Tensor:
    """Return l2 norms along one axis."""
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=dim)
    return norms
