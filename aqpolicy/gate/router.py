"""Send a module's forward through the gate: the same kernel, another backward.

The instance's `forward` is patched, no module is wrapped: names, types and the
state dict stay as they are. Outside a step, or without gradients, the module
runs as if the gate were not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.groups import Site
from aqpolicy.gate.layers import Use
from aqpolicy.gate.token import Flow


@dataclass(slots=True)
class Router:
    """The open step, as the patched modules see it."""

    flows: tuple[Flow, ...]
    examples: int | None = None
    """Number of examples of the open step; None outside of one."""
    probed: int | None = None
    """The example whose loss alone is being differentiated, during the probe."""
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of the inputs of the step so far."""
    modules: list[nn.Module] = field(default_factory=list)

    def install(self, sites: tuple[Site, ...]) -> None:
        """Patch the modules."""
        for site in sites:
            site.module.__dict__["forward"] = Route(self, site)
            self.modules.append(site.module)

    def remove(self) -> None:
        """Give every module its own forward back."""
        for module in self.modules:
            module.__dict__.pop("forward", None)
        self.modules.clear()

    def open(self, examples: int) -> None:
        """Start a step."""
        self.examples, self.shapes = examples, []

    def shut(self) -> None:
        """End a step, whatever became of it."""
        self.examples, self.probed = None, None
        for flow in self.flows:
            flow.reset()

    def receive(self, site: Site, x: Tensor, saved: tuple[Tensor, ...], e: Tensor) -> Use:
        """Take note of what came back to one use."""
        use = Use(site.rule, site.module, site.wanted, x, saved, e)
        if self.examples is None:
            raise IllegalTrainingSetupError(
                f"a gradient reached module `{site.name}` outside a step; differentiate inside it, with gate.backward"
            )
        if self.probed is not None:
            _refuse_mixing(site, e, self.probed)
            return use
        self.flows[site.group.index].uses.append((_held(site), use))
        return use


@dataclass(frozen=True, slots=True)
class Route:
    """The forward of a governed module. A copy of the module gets its own plain forward."""

    router: Router
    site: Site

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that torch's layers give it
        """Run the layer, gated inside a step."""
        site, router = self.site, self.router
        if router.examples is None or not torch.is_grad_enabled():
            plain: Tensor = type(site.module).forward(site.module, input)
            return plain
        self._check(input)
        router.shapes.append(tuple(input.shape))
        token = router.flows[site.group.index].ticket()
        out: Tensor = _Gated.apply(input, token, site, router)  # type: ignore[no-untyped-call]  # torch
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the plain forward of the copied module."""
        copied = memo.get(id(self.site.module), self.site.module)
        return partial(type(copied).forward, copied)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the plain forward."""
        return partial, (type(self.site.module).forward, self.site.module)

    def _check(self, x: Tensor) -> None:
        site, examples = self.site, self.router.examples
        if torch.is_autocast_enabled(x.device.type):
            raise IllegalTrainingSetupError("mixed precision is not supported in this version; leave autocast out")
        reason = site.rule.input_refusal(site.module, x)
        if reason is None and (x.dim() == 0 or x.shape[0] != examples):
            reason = f"its first axis is not the {examples} examples of the step"
        if reason is not None:
            raise IllegalTrainingSetupError(
                f"module `{site.name}` got an input of shape {tuple(x.shape)}: {reason}; "
                "expand shared inputs and keep examples on the first axis"
            )


class _Gated(torch.autograd.Function):
    """One use of a governed layer: ordinary gradient to the input, none to the parameters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, site: Site, router: Router) -> Tensor:  # noqa: ARG004 - an edge of the graph
        """Run the native kernel."""
        out, saved = site.rule.forward(site.module, x)
        ctx.save_for_backward(x, *saved)
        ctx.site, ctx.router = site, router
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, e: Tensor) -> tuple[Tensor | None, None, None, None]:
        """Hand (input, output gradient) to the group and the native gradient to earlier layers."""
        x, *saved = ctx.saved_tensors
        use = ctx.router.receive(ctx.site, x, tuple(saved), e)
        return (use.rule.grad_input(use) if ctx.needs_input_grad[0] else None), None, None, None


def _held(site: Site) -> tuple[Tensor | None, ...]:
    names = zip(site.rule.parameters, site.wanted, strict=True)
    return tuple(getattr(site.module, name) if wanted else None for name, wanted in names)


def _refuse_mixing(site: Site, e: Tensor, example: int) -> None:
    """Raise where the loss of one example moved another example's row.

    What is no finite number there came of 0 times infinity and says nothing.
    """
    others = torch.cat([e[:example], e[example + 1 :]])
    if ((others != 0) & others.isfinite()).any():
        raise IllegalTrainingSetupError(
            f"the loss of one example depends on another example at module `{site.name}`; "
            "remove what mixes examples (batch normalisation, losses over the batch, inputs without an example axis)"
        )
