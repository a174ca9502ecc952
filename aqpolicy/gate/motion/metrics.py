"""Metrics: numbers that the caller's functions take of the model, and what promises compare them with.

A metric looks at the model and changes nothing of the training: it is taken
outside autocast, without gradients and in eval mode, and modes and random states
are put back. Whatever goes wrong is one typed error, never a value.
"""

from __future__ import annotations

import operator
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import nn

from aqpolicy.bundle.tables import Tables
from aqpolicy.errors import AqpolicyError, IllegalTrainingSetupError
from aqpolicy.trust.canonical import LARGEST_INTEGER
from aqpolicy.units import MICRO, micro_text

Metric = Callable[[nn.Module], float]
"""Takes the model and returns one finite number."""

OPERATORS: Final[Mapping[str, Callable[[int, int], bool]]] = MappingProxyType(
    {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)
"""How a policy compares a metric with a number."""


def holds(now: int, op: str, value: int) -> bool:
    """Return whether a metric stands in a relation to a number, both in millionths."""
    return OPERATORS[op](now, value)


def unmet(requires: Iterable[tuple[str, str, int]], value: Callable[[str], int]) -> tuple[str, ...]:
    """Return the requirements of a certification that do not hold, each in words; none where it may be given.

    Args:
        requires: Metric, comparison and millionths, as in `StageTable.requires`.
        value: Takes the present value of a metric.
    """
    found = []
    for metric, op, wanted in requires:
        now = value(metric)
        if not holds(now, op, wanted):
            found.append(f"{metric} is {micro_text(now)}, not {op} {micro_text(wanted)}")
    return tuple(found)


def metrics_of(tables: Tables) -> tuple[str, ...]:
    """Return the metrics that a policy's obligations and stages name, sorted."""
    asked = (obligation.parameters for obligation in tables.obligations if obligation.kind in {"verify", "promote"})
    names = {str(parameters["metric"]) for parameters in asked}
    return tuple(sorted(names | {metric for stage in tables.stages for metric, _, _ in stage.requires}))


def evaluate(name: str, metric: Metric, model: nn.Module) -> int:
    """Return the value of a metric in millionths, rounded half to even.

    Raises:
        IllegalTrainingSetupError: The metric failed, or returned no finite number.
    """
    try:
        with undisturbed(model):
            value = float(metric(model))
    except AqpolicyError:
        raise
    except Exception as error:
        raise IllegalTrainingSetupError(f"metric `{name}` failed: {type(error).__name__}: {error}") from error
    if not isfinite(value):
        raise IllegalTrainingSetupError(f"metric `{name}` returned {value}; it must return one finite number")
    micro = round(Fraction(value) * MICRO)
    if abs(micro) > LARGEST_INTEGER:
        raise IllegalTrainingSetupError(f"metric `{name}` returned {value}, which the log cannot hold; scale it down")
    return micro


class Metrics:
    """The metrics of one run, by name."""

    def __init__(self, model: nn.Module, functions: Mapping[str, Metric] | None, needed: Iterable[str]) -> None:
        """Keep them.

        Args:
            model: What they are taken of.
            functions: Each metric by the name that the policy gives it.
            needed: The names that must be there.

        Raises:
            IllegalTrainingSetupError: A needed metric is missing, or one cannot be called.
        """
        self._model, self._functions = model, dict(functions or {})
        missing = sorted(set(needed) - self._functions.keys())
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise IllegalTrainingSetupError(f"the policy asks for {names}; pass metrics={{name: function}}")
        for name, function in self._functions.items():
            if not callable(function):
                raise IllegalTrainingSetupError(f"metric `{name}` cannot be called; give a function of the model")

    def value(self, name: str, of: nn.Module | None = None) -> int:
        """Return the present value of a metric in millionths.

        Args:
            name: Which metric.
            of: What it is taken of; the trained model where nothing is given.

        Raises:
            IllegalTrainingSetupError: There is no such metric, it failed, or returned no finite number.
        """
        if name not in self._functions:
            raise IllegalTrainingSetupError(f"there is no metric `{name}`; pass it in metrics={{...}} to attach")
        return evaluate(name, self._functions[name], self._model if of is None else of)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Let code look at a model: eval mode, no gradient, no autocast; modes and random states are put back."""
    flags = [(module, module.training) for module in model.modules()]
    was_training = model.training
    with ExitStack() as stack:
        for restore in _random_states():
            stack.callback(restore)
        stack.callback(_restore_modes, model, flags, was_training=was_training)
        stack.enter_context(torch.random.fork_rng(devices=_devices()))
        for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.no_grad())
        model.eval()
        yield


def _restore_modes(model: nn.Module, flags: list[tuple[nn.Module, bool]], *, was_training: bool) -> None:
    # The model's own `train` first: it may do more than set flags. Then every flag as it was.
    if was_training:
        model.train()
    for module, training in flags:
        module.training = training


def _devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]  # torch


def _random_states() -> Iterator[Callable[[], Any]]:
    """Yield what puts back the random states of Python and, where it is loaded, of numpy."""
    state = random.getstate()
    yield lambda: random.setstate(state)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        legacy = numpy.random.get_state()
        yield lambda: numpy.random.set_state(legacy)
