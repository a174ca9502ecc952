"""What the interceptor knows of torch's functions by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor
from torch.nn import functional

from aqpolicy.errors import IllegalTrainingSetupError, UnsupportedLayerError
from aqpolicy.gate.routing.operations.arguments import value_of
from aqpolicy.gate.routing.operations.call import Call, Run
from aqpolicy.gate.routing.operations.tracked import Trace

SEEN_WHOLE: Final = frozenset(
    {
        "register_hook",
        "register_post_accumulate_grad_hook",
        "requires_grad_",
        "retain_grad",
        "backward",
        "share_memory_",
        "__hash__",
        "__repr__",
        "__format__",
        "__reduce_ex__",
        "__deepcopy__",
        "__len__",
        "__bool__",
        "detach",
        "detach_",
        "size",
        "dim",
        "ndimension",
        "numel",
        "nelement",
        "stride",
        "storage_offset",
        "is_contiguous",
        "data_ptr",
        "element_size",
        "item",
        "tolist",
        "numpy",
        "is_floating_point",
        "is_complex",
        "get_device",
        "untyped_storage",
        "storage",
        "is_shared",
        "is_pinned",
    }
)
"""Methods that concern a parameter itself, or its shape alone."""

GETTERS: Final = frozenset({"__get__", "__set__", "__delete__"})
VIEW_GETTERS: Final = frozenset(getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH", "real"))
"""Attributes that are views."""

EXPANDING: Final = frozenset({"expand", "expand_as", "broadcast_to", "repeat", "tile"})

_REARRANGING: Final = frozenset(
    {
        "t",
        "transpose",
        "permute",
        "movedim",
        "swapaxes",
        "view",
        "reshape",
        "view_as",
        "reshape_as",
        "unflatten",
        "flatten",
        "unsqueeze",
        "squeeze",
        "chunk",
        "split",
        "tensor_split",
        "unbind",
        "narrow",
        "select",
        "contiguous",
        "clone",
        "flip",
        "roll",
    }
)
RECURRENT: Final = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
"""Whole recurrent layers."""


def rearranges(name: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether the result holds numbers of one tensor, each at most once."""
    if name == "getitem":
        index = arguments[1] if isinstance(arguments[1], tuple) else (arguments[1],)
        return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in index)
    return name in _REARRANGING


def writes(name: str, named: dict[str, Any]) -> bool:
    """Return whether a function changes its first argument, or one that is called `out`."""
    in_place = name.endswith("_") and not name.endswith("__")
    return (
        in_place
        or name in {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__"}
        or named.get("out") is not None
    )


def refuse(call: Call, arguments: tuple[Any, ...], where: str) -> None:
    """Refuse what couples examples, or changes parameters outside of the optimizer.

    Raises:
        UnsupportedLayerError, IllegalTrainingSetupError: It does; the message names it.
    """
    if call.function is functional.batch_norm and value_of(call, "training"):
        raise UnsupportedLayerError(f"{where} normalises over the batch (`batch_norm`), which mixes examples")
    if call.function is functional.embedding:
        for option in ("max_norm", "scale_grad_by_freq", "sparse"):
            if value_of(call, option):
                raise UnsupportedLayerError(f"{where} calls `embedding` with `{option}`; leave it out")
    if call.name in RECURRENT and isinstance(arguments[3], (list, tuple)):
        raise IllegalTrainingSetupError(
            f"{where} got a packed sequence, which has no example axis; pad it and mask the loss"
        )


def is_penalty(call: Call, run: Run, traces: Sequence[Trace]) -> bool:
    """Return whether a number computed from parameters is added to one number per example.

    That is no example's own loss. A parameter that is a single number, or one number of a
    parameter, is something else.
    """
    computed = (tensor.dim() == 0 and not trace.rearranged for tensor, trace in zip(run.tracked, traces, strict=True))
    return call.name in {"add", "sub", "rsub", "radd"} and run.outs[0].dim() == 1 and any(computed)
