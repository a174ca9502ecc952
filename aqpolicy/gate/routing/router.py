"""Send a module's forward through the gate: the same kernel, another backward.

The instance's `forward` is patched, no module is wrapped: names, types and the
state dict stay as they are. Outside a part, or without gradients, the module
runs as if the gate were not there. A module without a rule keeps its forward, but
the interceptor follows its parameters through the operations that use them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.routing.arrival import Arrival
from aqpolicy.gate.routing.groups import Site
from aqpolicy.gate.routing.intercept import Interceptor
from aqpolicy.gate.routing.layers import Rule, Use
from aqpolicy.gate.routing.layout import Layout, Place
from aqpolicy.gate.routing.token import Strand


@dataclass(slots=True)
class Router:
    """The open part, as the patched modules see it."""

    strands: tuple[Strand, ...]
    buffers: Callable[[], Iterable[Tensor]] = tuple
    """The model's buffers: tensors that are no examples, whatever their shape."""
    layout: Layout = field(default_factory=lambda: Layout(0))
    active: bool = False
    probed: int | None = None
    """The example whose loss alone is being differentiated, during the probe."""
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of the inputs of the part so far."""
    ambiguous: bool = False
    """Whether only the probe can tell where some tensor of the part has its examples."""
    interceptor: Interceptor = field(init=False)
    _strand: dict[int, Strand] = field(init=False)
    _modules: list[nn.Module] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Note whose each parameter is."""
        self._strand = {id(parameter): strand for strand in self.strands for parameter in strand.parameters}
        self.interceptor = Interceptor(self, self.buffers)

    @property
    def examples(self) -> int | None:
        """Number of examples of the open part; None outside of one."""
        return self.layout.examples if self.active else None

    def install(self, sites: Sequence[Site]) -> None:
        """Patch the modules."""
        for site in sites:
            site.module.__dict__["forward"] = Followed(self, site) if site.rule is None else Route(self, site)
            self._modules.append(site.module)

    def remove(self) -> None:
        """Give every module its own forward back."""
        for module in self._modules:
            module.__dict__.pop("forward", None)
        self._modules.clear()

    def open(self, examples: int, segments: Tensor | None = None) -> None:
        """Start a part."""
        self.layout = Layout(examples, segments)
        self.active, self.shapes, self.ambiguous = True, [], False
        self.interceptor.open(parameter for strand in self.strands for parameter in strand.parameters)
        if "torch._dynamo" in sys.modules:
            self._stay_out_of_graphs()

    def shut(self) -> None:
        """End a part, whatever became of it."""
        if not self.active:
            return
        self.active, self.probed = False, None
        self.interceptor.close()
        for strand in self.strands:
            strand.reset()

    def recording(self) -> bool:
        """Return whether uses are to be gated: inside a part, with gradients enabled."""
        return self.active and torch.is_grad_enabled()

    def governs(self, tensor: Tensor) -> bool:
        """Return whether a tensor is a governed trained parameter."""
        return id(tensor) in self._strand

    def tokens(self, parameters: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Return the tokens of all groups that hold one of these parameters; a use must depend on all of them."""
        return tuple(strand.ticket() for strand in self._strands_of(parameters))

    def edges(self, parameters: Sequence[Tensor | None]) -> tuple[Strand | None, tuple[Tensor, ...]]:
        """Return the same for a layer's use; with the strand, where the use is to settle it by itself."""
        found = self._strands_of(parameters)
        if len(found) != 1:
            return None, tuple(strand.ticket() for strand in found)
        edges = found[0].edges()
        return (found[0] if edges is found[0].parameters else None), edges

    def deliver(self, name: str, parameters: Sequence[Tensor | None], use: Use) -> None:
        """Hand what came back to one use to every strand that holds one of its parameters.

        Args:
            name: The module or operation, for messages.
            parameters: Aligned with `use.weights`.
            use: The use.

        Raises:
            IllegalTrainingSetupError: Outside a part, or examples are mixed.
        """
        if not self.active:
            raise IllegalTrainingSetupError(
                f"a gradient reached `{name}` outside a step; differentiate inside it, with gate.backward"
            )
        place = self._place_of(use)
        if self.probed is not None:
            _refuse_mixing(name, use.e if place is None else place.major(use.e), self.probed)
            return
        held = tuple(p if wanted else None for p, wanted in zip(parameters, use.wanted, strict=True))
        arrival, found = Arrival(held, use, place), self._strands_of(held)
        if len(found) == 1:
            found[0].arrivals.append(arrival)
            return
        for strand in found:
            own = arrival.only(strand.owners)
            if own is not None:
                strand.arrivals.append(own)

    def arrived(self, x: Tensor, place: Place) -> Tensor:
        """Take note of an input and return it; one that all examples share is spread over them."""
        self.shapes.append(tuple(x.shape))
        self.ambiguous = self.ambiguous or self.layout.ambiguous(x)
        return place.major(x) if place.kind == "shared" else x

    def _place_of(self, use: Use) -> Place | None:
        if type(use) is not Use:
            return None
        place = self.layout.place(use.e, positionwise=use.rule.positionwise)
        return None if place is None or place.kind == "first" else place

    def _strands_of(self, parameters: Sequence[Tensor | None]) -> list[Strand]:
        found: list[Strand] = []
        for parameter in parameters:
            strand = None if parameter is None else self._strand.get(id(parameter))
            if strand is not None and strand not in found:
                found.append(strand)
        return found

    def _stay_out_of_graphs(self) -> None:
        """Keep a compiler from tracing into what has effects outside of its graph: it breaks the graph here."""
        for module in self._modules:
            forward = module.__dict__.get("forward")
            if isinstance(forward, (Route, Followed)):
                module.__dict__["forward"] = torch.compiler.disable(forward)  # type: ignore[no-untyped-call]  # torch


@dataclass(frozen=True, slots=True)
class _Patched:
    """A forward in place of a module's own. A copy or pickle of the module gets its plain one."""

    router: Router
    site: Site

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the plain forward of the copied module."""
        copied = memo.get(id(self.site.module), self.site.module)
        return partial(type(copied).forward, copied)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the plain forward."""
        return partial, (type(self.site.module).forward, self.site.module)


@dataclass(frozen=True, slots=True)
class Followed(_Patched):
    """The forward of a module without a rule: its own, with the interceptor looking on."""

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the module, its operations gated inside a part."""
        module = self.site.module
        if not self.router.recording():
            return type(module).forward(module, *inputs, **named)
        with self.router.interceptor.inside(self.site.name):
            return type(module).forward(module, *inputs, **named)


@dataclass(frozen=True, slots=True)
class Route(_Patched):
    """The forward of a module with a rule."""

    def __call__(self, input: Tensor, *rest: Any, **named: Any) -> Tensor:  # noqa: A002 - the name that torch's layers give it
        """Run the layer, gated inside a part."""
        site, router = self.site, self.router
        if site.rule is None or not router.recording():
            plain: Tensor = type(site.module).forward(site.module, input, *rest, **named)
            return plain
        x, follow = router.interceptor.enter(input)
        if follow:
            with router.interceptor.inside(site.name):
                followed: Tensor = type(site.module).forward(site.module, x, *rest, **named)
                return followed
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - the interceptor has nothing to see here
            return self._gated(site.rule, x, rest, named)

    def _gated(self, rule: Rule, x: Tensor, rest: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        site, router = self.site, self.router
        place = self._place(rule, x)
        if rest or any(value is not None for value in named.values()):
            raise self._refused(x, "it was called with more than its input")
        x = router.arrived(x, place)
        parameters = tuple(getattr(site.module, name, None) for name in rule.parameters)
        weights: list[Tensor | None] = [None if p is None else p.detach() for p in parameters]
        direct, edges = router.edges(parameters)
        device = x.device.type
        out: Tensor
        if not torch.is_autocast_enabled(device):
            out = _Gated.apply(x, (router, site, parameters, weights, direct), *edges)  # type: ignore[no-untyped-call]  # torch
            return out
        dtype = _autocast(rule, device)
        if dtype is not None:
            x = x.to(dtype) if x.is_floating_point() else x
            weights = [None if w is None or not w.is_floating_point() else w.to(dtype) for w in weights]
        with torch.autocast(device, enabled=False):
            out = _Gated.apply(x, (router, site, parameters, weights, direct), *edges)  # type: ignore[no-untyped-call]  # torch
        return out

    def _place(self, rule: Rule, x: Tensor) -> Place:
        place = self.router.layout.place(x, positionwise=rule.positionwise)
        if place is None:
            raise self._refused(x, f"its first axis is not the {self.router.layout.examples} examples of the step")
        reason = rule.input_refusal(self.site.module, x)
        if reason is not None:
            raise self._refused(x, reason)
        return place

    def _refused(self, x: Tensor, reason: str) -> IllegalTrainingSetupError:
        return IllegalTrainingSetupError(
            f"module `{self.site.name}` got an input of shape {tuple(x.shape)}: {reason}; "
            "keep examples on the first axis, or flatten them with their positions, example by example"
        )


class _Gated(torch.autograd.Function):
    """One use of a governed layer: ordinary gradient to the input, none to the parameters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: tuple[Any, ...], *edges: Tensor) -> Tensor:
        """Run the native kernel."""
        _, site, _, weights, _ = call
        out, saved = site.rule.forward(site.module, x, weights)
        ctx.save_for_backward(x, *saved)
        ctx.call, ctx.edges = call, len(edges)
        return out  # type: ignore[no-any-return]  # a rule's tensor

    @staticmethod
    def backward(ctx: Any, e: Tensor) -> tuple[Tensor | None, ...]:
        """Hand (input, output gradient) to the groups and the native gradient to earlier layers."""
        if torch.is_grad_enabled():
            raise IllegalTrainingSetupError("the gate gives first derivatives only; leave create_graph out")
        x, *saved = ctx.saved_tensors
        router, site, parameters, weights, direct = ctx.call
        use = Use(site.rule, site.module, site.wanted, tuple(weights), x, tuple(saved), e)
        router.deliver(site.name, parameters, use)
        gradient = use.rule.grad_input(use) if ctx.needs_input_grad[0] else None
        return (gradient, None, *([None] * ctx.edges if direct is None else direct.settle_within()))


def _autocast(rule: Rule, device: str) -> torch.dtype | None:
    """Return the type to which autocast, which is on, takes the operation's inputs, or None where it does not."""
    precision = rule.precision(device)
    if precision is None:
        return None
    return torch.get_autocast_dtype(device) if precision == "low" else torch.float32


def _refuse_mixing(name: str, e: Tensor, example: int) -> None:
    """Raise where the loss of one example moved another example's row.

    What is no finite number there came of 0 times infinity and says nothing.
    """
    others = torch.cat([e[:example], e[example + 1 :]])
    if ((others != 0) & others.isfinite()).any():
        raise IllegalTrainingSetupError(
            f"the loss of one example depends on another example at module `{name}`; "
            "remove what mixes examples (batch normalisation, losses over the batch, inputs without an example axis)"
        )
