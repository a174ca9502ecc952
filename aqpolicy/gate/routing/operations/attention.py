"""`multi_head_attention_forward`, taken apart: torch's own body, in which each use of a parameter is seen.

The function hands itself over whole to whoever watches its arguments. A copy that
does not ask runs the very same operations in the same order.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any, Final

from torch.nn import functional


def _never(*_: Any) -> bool:
    return False


_NAMES: Final = {**vars(functional), "has_torch_function": _never}

attend: Final[Any] = FunctionType(
    functional.multi_head_attention_forward.__code__,
    _NAMES,
    "multi_head_attention_forward",
    functional.multi_head_attention_forward.__defaults__,
)
"""`functional.multi_head_attention_forward` without its question whether somebody watches."""


def batch_of(arguments: tuple[Any, ...], named: dict[str, Any]) -> int | None:
    """Return the size of attention's second axis, its batch; None for an input without one."""
    query = arguments[0] if arguments else named["query"]
    return int(query.shape[1]) if query.dim() == 3 else None
