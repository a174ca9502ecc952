"""The gate: one training step in which every example writes only where the policy lets it.

Leaving the block of `step` does everything that moves or records: the optimizer
step, the measurement of what moved, the log entry, the ledger. No parameter
change outlives a failed log entry: the parameters are put back and the gate
halts for good. An exception inside the block changes nothing at all.

The gate computes no policy: it looks rows up. It steers no loop either: data,
loss, schedule and epochs stay with the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aqpolicy.bundle import NO_LIMIT, refuse_unenforced
from aqpolicy.errors import AqpolicyError, BudgetExhaustedError, IllegalTrainingSetupError, LineageError
from aqpolicy.gate.accountant import Accountant, Batch, Spending, micro_nats
from aqpolicy.gate.book import Bookkeeper, Entry
from aqpolicy.gate.checks import LeakCheck, ParameterSets, Shadow, refuse_mixing_modules
from aqpolicy.gate.examples import Examples, Observations, Scheduled
from aqpolicy.gate.groups import bind_groups, find_sites
from aqpolicy.gate.recorder import Recorder, StepFacts, Totals
from aqpolicy.gate.router import Router
from aqpolicy.gate.sketch import SketchPlan
from aqpolicy.gate.token import Admission, Flow
from aqpolicy.units import MICRO

PROBES = 8
"""How many different shapes of a step are probed for mixed examples."""


@dataclass(slots=True)
class _Open:
    """The step that is going on."""

    scheduled: Scheduled
    spending: Spending | None = None
    gradients: list[tuple[int, int] | None] = field(default_factory=list)
    """Address and version of every gradient as the backward pass left it."""


class Gate:
    """A model, its optimizer, and the policy between them. Made by `attach`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        bundle: Any,
        manifest: Observations,
        *,
        sketches: bool,
        refused: Sequence[str],
        recorder: Recorder,
    ) -> None:
        """Bind, check and patch; on any refusal the model is left as it was."""
        refuse_unenforced(bundle.tables.requires)
        refuse_mixing_modules(model)
        self.model, self.optimizer, self.tables = model, optimizer, bundle.tables
        self.groups = bind_groups(model, bundle.tables.groups, bundle.parameters)
        self.plan = SketchPlan(tuple(group.numel for group in self.groups))
        sites = find_sites(model, self.groups)
        self._sets = ParameterSets(model, optimizer, self.groups)
        self._book = Bookkeeper(optimizer, self.groups)
        self._examples = Examples(bundle.tables, manifest, refused)
        self._accountant = Accountant(bundle.tables, manifest.size)
        self._limits = _limits(bundle.tables)
        self._recorder = recorder
        self._shadow = Shadow(self.groups)
        self._start = [value.clone() for value in self._shadow.values]
        self._flows = tuple(Flow(group, self._sketcher(group.index) if sketches else None) for group in self.groups)
        self._router = Router(self._flows)
        self._open: _Open | None = None
        self._stepping = False
        self._halted = ""
        self._probed: set[tuple[tuple[int, ...], ...]] = set()
        self._leaks = LeakCheck(self._flows)
        self._hook = optimizer.register_step_pre_hook(self._refuse_step)
        self._router.install(sites)

    @property
    def totals(self) -> Totals:
        """Live numbers of the run."""
        return self._recorder.totals

    @contextmanager
    def step(self, example_ids: Sequence[str]) -> Iterator[None]:
        """Open a step for these examples, in the order of the batch; leaving the block completes it.

        Raises:
            IllegalTrainingSetupError: The loop breaks a rule of docs/gate.md; nothing was moved.
            BudgetExhaustedError: A budget that halts is spent; recorded, nothing was moved.
            LineageError: The log took no entry; the parameters were put back and the gate has halted.
        """
        self._begin(list(example_ids))
        try:
            yield
            self._finish()
        finally:
            self._open = None
            self._router.shut()
            self._drop_gradients()

    def backward(self, loss: Tensor, *, surprisal: Tensor | None = None) -> None:
        """Differentiate the mean of the examples' losses, each gradient cut to what its example may write.

        Args:
            loss: One loss per scheduled example.
            surprisal: Nats per example that budgets are charged for; by default the loss itself.

        Shapes:
            loss (b,), surprisal (b,).

        Raises:
            IllegalTrainingSetupError: Outside a step, twice in a step, or of another shape.
        """
        current = self._open
        if current is None:
            raise IllegalTrainingSetupError("gate.backward is called inside `with gate.step(...)` only")
        if current.spending is not None:
            raise IllegalTrainingSetupError(
                "gate.backward was called twice in one step; this version does not accumulate gradients"
            )
        self._check_loss(loss, surprisal)
        current.spending = self._spend(current.scheduled, loss, loss if surprisal is None else surprisal)
        if current.spending.halted:
            self._stop(current, current.spending)
        self._admit(current.spending, loss)
        self._probe(loss)
        loss.backward(torch.ones_like(loss) / loss.numel())  # type: ignore[no-untyped-call]  # torch
        current.gradients = [_identity(parameter.grad) for parameter in self._shadow.parameters]

    def start_epoch(self) -> None:
        """Begin an epoch: every budget with an epoch window has it back."""
        if self._open is not None:
            raise IllegalTrainingSetupError("start_epoch was called inside a step")
        self._accountant.start_epoch()
        self._recorder.epoch += 1

    def close(self) -> None:
        """Write the model and end the log, then restore the model's own forward. Does nothing the second time."""
        if self._recorder.closed:
            return
        if self._open is not None:
            raise IllegalTrainingSetupError("close was called inside a step")
        try:
            if not self._halted:
                self._shadow.refuse_edits(values=True)
                self._recorder.finish(self.model, self.plan, self._travelled())
        finally:
            self._recorder.close()
            self.detach()

    def detach(self) -> None:
        """Restore the model's own forward and remove every hook; the gate is of no use afterwards."""
        self._halted = self._halted or "it was detached"
        self._router.remove()
        self._leaks.remove()
        self._hook.remove()

    def _begin(self, example_ids: list[str]) -> None:
        if self._halted:
            raise IllegalTrainingSetupError(f"the gate has halted: {self._halted}")
        if self._open is not None:
            raise IllegalTrainingSetupError("a step was opened inside a step")
        if not example_ids or not all(isinstance(name, str) for name in example_ids):
            raise IllegalTrainingSetupError("gate.step takes a non-empty list of example ids, each a string")
        self._sets.check()
        self._book.settings()
        self._shadow.refuse_edits(values=False)
        self._drop_gradients()
        self._open = _Open(self._examples.schedule(example_ids))
        self._router.open(len(example_ids))

    def _check_loss(self, loss: Tensor, surprisal: Tensor | None) -> None:
        count = self._router.examples
        for name, value in (("loss", loss), ("surprisal", surprisal)):
            if value is not None and tuple(value.shape) != (count,):
                raise IllegalTrainingSetupError(
                    f"the {name} has shape {tuple(value.shape)}, not ({count},): one number per scheduled example"
                )
        if not loss.requires_grad:
            raise IllegalTrainingSetupError("the loss does not depend on any trained parameter")

    def _spend(self, scheduled: Scheduled, loss: Tensor, surprisal: Tensor) -> Spending:
        nats = micro_nats(surprisal)
        finite = loss.detach().isfinite().cpu()
        nats = torch.where(finite, nats, micro_nats(torch.full_like(finite, float("nan"), dtype=torch.float64)))
        return self._accountant.spend(Batch(scheduled.route, scheduled.index, nats))

    def _admit(self, spending: Spending, loss: Tensor) -> None:
        """Give every group its column of shares and limits, on the model's device and in its precision."""
        shares = spending.shares.to(torch.float64) / MICRO
        for flow in self._flows:
            if not flow.group.parameters:
                continue
            like = flow.group.parameters[0]
            limits = None
            if self._limits is not None and self._limits[:, flow.group.index].isfinite().any():
                limits = self._limits[spending.batch.route, flow.group.index].to(like.device, like.dtype)
            flow.admission = Admission(shares[:, flow.group.index].to(loss.device, like.dtype), limits)

    def _probe(self, loss: Tensor) -> None:
        """Differentiate one example's loss alone; it may touch no other example's rows.

        Done for the first few shapes of a step: it costs a backward pass. A loss
        that is not finite proves nothing; the next step is probed instead.
        """
        shape = tuple(self._router.shapes)
        tokens = [flow.token for flow in self._flows if flow.token is not None]
        if loss.numel() < 2 or not tokens or shape in self._probed or len(self._probed) >= PROBES:
            return
        if not bool(loss.isfinite().all()):
            return
        self._router.probed = loss.numel() - 1
        try:
            torch.autograd.grad(loss[-1], tokens, retain_graph=True, allow_unused=True)
        finally:
            self._router.probed = None
        self._probed.add(shape)

    def _finish(self) -> None:
        current = self._open
        if current is None or current.spending is None:
            raise IllegalTrainingSetupError("the step was left without gate.backward; nothing was learned or recorded")
        self._check_untouched(current)
        spending = self._close_broken(current.spending)
        facts = self._facts(current.scheduled, spending)
        # From here to the accepted log entry parameters move: whatever fails puts them back and halts.
        try:
            self._recorder.append(facts, self._move())
        except BaseException as error:
            self._shadow.restore()
            self._halted = f"a step could not be completed ({type(error).__name__}: {error}); attach again"
            if isinstance(error, Exception) and not isinstance(error, AqpolicyError):
                raise LineageError(f"the step was undone, the gate has halted: {error}") from error
            raise
        self._accountant.commit(spending)
        self._shadow.accept()

    def _check_untouched(self, current: _Open) -> None:
        self._sets.check()
        self._shadow.refuse_edits(values=True)
        if current.gradients != [_identity(parameter.grad) for parameter in self._shadow.parameters]:
            raise IllegalTrainingSetupError(
                "gradients were changed after gate.backward; bound them in the policy (`limit norm`) instead"
            )

    def _close_broken(self, spending: Spending) -> Spending:
        """Take note of groups in which an example had no finite gradient: it was given factor 0 there."""
        count, broken = spending.shares.shape[0], torch.zeros_like(spending.shares, dtype=torch.bool)
        for flow in self._flows:
            if flow.result is not None and flow.result.norms.shape[0] == count:
                broken[:, flow.group.index] = ~flow.result.norms.isfinite().cpu()
        return self._accountant.close(spending, broken)

    def _move(self) -> Entry:
        """Step the optimizer and return what it did.

        Raises:
            IllegalTrainingSetupError: A closed parameter moved, or a movement is not finite.
        """
        gradients = [parameter.grad for parameter in self._shadow.parameters]
        expected = self._book.expected(self._shadow.values, gradients) if self._book.exact else None
        self._stepping = True
        try:
            self.optimizer.step()
        finally:
            self._stepping = False
        deltas, closed, at = self._shadow.deltas(), [], 0
        for group in self.groups:
            members = range(at, at + len(group.parameters))
            at += len(group.parameters)
            closed.append(all(gradients[number] is None for number in members))
            if any(gradients[number] is None and bool(deltas[number].any()) for number in members):
                raise IllegalTrainingSetupError(f"the optimizer moved group `{group.name}` although it was closed")
        total = torch.stack(list(torch._foreach_norm(deltas))).sum() if deltas else torch.zeros(())  # noqa: SLF001 - one launch for all
        if not bool(total.isfinite()):
            raise IllegalTrainingSetupError("the optimizer step is not finite; lower the learning rate")
        return self._book.entry(deltas, expected, closed)

    def _stop(self, current: _Open, spending: Spending) -> None:
        """Record the step that a budget stopped, and raise."""
        still = [torch.zeros_like(value) for value in self._shadow.values]
        entry = self._book.entry(still, [None] * len(still), [True] * len(self.groups))
        self._recorder.append(self._facts(current.scheduled, spending), entry)
        self._halted = f"budget `{spending.halted}` is exhausted"
        raise BudgetExhaustedError(f"budget `{spending.halted}` is exhausted and says halt; nothing was moved")

    def _facts(self, scheduled: Scheduled, spending: Spending) -> StepFacts:
        """Gather what the log says of each example."""
        count = len(scheduled.keys)
        norms = torch.zeros(count, len(self.groups), dtype=torch.float64)
        sketches = []
        for flow in self._flows:
            if flow.result is not None:
                norms[:, flow.group.index] = flow.result.norms.double().cpu()
            if flow.sketcher is not None:
                empty = torch.zeros(count, self.plan.widths[flow.group.index])
                made = None if flow.result is None else flow.result.sketch
                sketches.append(empty if made is None else made)
        return StepFacts(scheduled, spending, norms, self.plan.encode(sketches) if sketches else None)

    def _travelled(self) -> list[Tensor]:
        """Return, per group, the sketch of how far the parameters went since the gate was attached."""
        moved = [now.detach() - then for now, then in zip(self._shadow.parameters, self._start, strict=True)]
        parts, at = [], 0
        for group in self.groups:
            members = [delta.reshape(-1) for delta in moved[at : at + len(group.parameters)]]
            at += len(group.parameters)
            parts.append(self.plan.sketch(group.index, torch.cat(members)) if members else torch.zeros(0))
        return parts

    def _sketcher(self, group: int) -> Callable[[Tensor], Tensor]:
        return lambda flat: self.plan.sketch(group, flat)

    def _refuse_step(self, *_: Any) -> None:
        if not self._stepping:
            raise IllegalTrainingSetupError("optimizer.step was called by the loop; leaving the gate's step does it")

    def _drop_gradients(self) -> None:
        for parameter in self._shadow.parameters:
            parameter.grad = None


def _identity(gradient: Tensor | None) -> tuple[int, int] | None:
    return None if gradient is None else (gradient.data_ptr(), gradient._version)  # noqa: SLF001 - torch's own counter


def _limits(tables: Any) -> Tensor | None:
    """Return norm limits per row and group, infinity where there is none; None where there is none at all."""
    rows = torch.tensor([row.norms for row in tables.rows], dtype=torch.float64)
    return torch.where(rows == NO_LIMIT, torch.inf, rows / MICRO) if (rows != NO_LIMIT).any() else None
