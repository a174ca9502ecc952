"""The arguments of a call by their names, for the functions whose arguments matter."""

from __future__ import annotations

from typing import Any, Final

from torch.utils import _pytree as pytree

from aqpolicy.gate.routing.operations.call import Call

_SIGNATURES: Final = {
    "linear": ("input", "weight", "bias"),
    "embedding": ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats"),
}


def arguments_of(call: Call) -> dict[Any, Any]:
    """Return the position in the flat call of each argument, by name where the function is known, else by number."""
    arguments, named = pytree.tree_unflatten(list(range(len(call.leaves))), call.structure)
    names = _SIGNATURES.get(call.name, ())
    return {(names[n] if n < len(names) else n): a for n, a in enumerate(arguments)} | dict(named)


def value_of(call: Call, name: str) -> Any:
    """Return the value of an argument that is no tensor, None where it is not given."""
    position = arguments_of(call).get(name)
    return call.leaves[position] if isinstance(position, int) else None


def padding_of(call: Call) -> int | None:
    """Return the padding row of a lookup, counted from the front."""
    padding = value_of(call, "padding_idx")
    if padding is None:
        return None
    rows = call.leaves[arguments_of(call)["weight"]].shape[0]
    return int(padding) % int(rows)
