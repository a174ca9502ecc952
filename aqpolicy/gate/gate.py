"""The gate: training steps in which every example writes only where the policy lets it.

Leaving the block of `step` does everything that moves or records: the optimizer
step, the measurement of what moved, the log entry, the ledger, the checks that
are due. No parameter change outlives a failed log entry: the parameters are put
back and the gate halts for good. An exception inside the block changes nothing.

The gate computes no policy: it looks rows up. It steers no loop either: data,
loss, schedule, phases and epochs stay with the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any, Final, NoReturn

import torch
from torch import Tensor, nn

from aqpolicy.errors import (
    AqpolicyError,
    BudgetExhaustedError,
    IllegalTrainingSetupError,
    LineageError,
    VerificationError,
)
from aqpolicy.gate.accounts.accountant import Waiting
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import LARGEST_ENTROPY, NOT_FINITE, Spending, micro_nats
from aqpolicy.gate.machinery import Machinery
from aqpolicy.gate.motion.book import Entry
from aqpolicy.gate.motion.verification import Outcome
from aqpolicy.gate.parts import OpenStep, own_rows
from aqpolicy.gate.records.recorder import StepFacts, Totals
from aqpolicy.gate.records.size import RecordSize
from aqpolicy.gate.resume import random_states
from aqpolicy.gate.routing.backward import Found, Weights, check_loss
from aqpolicy.gate.routing.leaks import identity
from aqpolicy.gate.routing.mixing import refuse_mixing
from aqpolicy.gate.routing.reading import read
from aqpolicy.gate.view.explanation import Explanation

NORM_NOT_FINITE: Final = -1.0
"""What the log holds in place of a norm that is no finite number."""


class Gate:
    """A model, its optimizer, and the policy between them. Made by `attach`."""

    def __init__(self, machinery: Machinery) -> None:
        """Take over what `attach` built."""
        self.machinery = machinery
        self.extra: dict[str, Any] = {}
        """What the loop gave to the checkpoint that the run was resumed from."""
        self._open: OpenStep | None = None
        self._halted = ""

    # ---- what the loop calls

    @contextmanager
    def step(
        self, example_ids: Sequence[str], *, denominator: float | None = None, segments: Tensor | None = None
    ) -> Iterator[None]:
        """Open a step for these examples, in the order of the batch; leaving the block completes it.

        Args:
            example_ids: All examples of the optimizer step, also where `part` divides them.
            denominator: What the sum of the losses is divided by, over all parts and ranks: by default the number
                of scheduled examples; for sequences the planned number of tokens.
            segments: Where one row holds several examples, which example each position belongs to, -1 for none.

        Shapes:
            segments (rows, positions).

        Raises:
            IllegalTrainingSetupError: The loop breaks a rule of docs/gate.md; nothing was moved.
            BudgetExhaustedError: A budget that halts is spent; recorded, nothing was moved.
            VerificationError: A verification that was due failed and says halt; the step is recorded.
            LineageError: The log took no entry; the parameters were put back and the gate has halted.
        """
        self._begin(list(example_ids), denominator)
        try:
            self._open_router(segments)
            yield
            self.machinery.backward.shut()
            self._finish()
        finally:
            self._open = None
            self.machinery.backward.shut()
            self._drop_gradients()

    @contextmanager
    def part(self, example_ids: Sequence[str], *, segments: Tensor | None = None) -> Iterator[None]:
        """Open the next part of a step, to accumulate gradients: forward and `backward` of some of its examples.

        Args:
            example_ids: The next examples of the step, in order.
            segments: As in `step`, numbered within the part.

        Raises:
            IllegalTrainingSetupError: Outside a step, or not the next examples.
        """
        current = self._current("gate.part")
        current.open_part(list(example_ids))
        self.machinery.backward.shut()
        self._open_router(segments)
        yield
        if current.pending:
            raise IllegalTrainingSetupError("the part was left without gate.backward")

    def backward(self, loss: Tensor, *, surprisal: Tensor | None = None, entropy: Tensor | None = None) -> None:
        """Differentiate the examples' losses, each gradient cut to what its example may write.

        Args:
            loss: One loss per scheduled example; for a sequence the sum over its tokens.
            surprisal: Nats per example that budgets are charged for; by default the loss itself.
            entropy: Nats of the model's own doubt per example, where the policy asks for `predictive_entropy`.

        Shapes:
            loss (b,), surprisal (b,), entropy (b,).

        Raises:
            IllegalTrainingSetupError: Outside a step, twice over the same examples, or of another shape.
        """
        current = self._current("gate.backward")
        current.expect_backward()
        refuse_mixing(self.machinery.mixing)
        check_loss(loss, len(current.part), surprisal=surprisal, entropy=entropy)
        if entropy is None and self.machinery.decisions.needs_entropy:
            raise IllegalTrainingSetupError("the policy decides by predictive entropy; pass gate.backward(entropy=...)")
        spending, counts = self._spend(current, loss, loss if surprisal is None else surprisal, entropy)
        if spending.halted:
            self._stop(current, spending, counts)
        rank, scale = self.machinery.ranks.rank, self.machinery.mover.scale
        own = Weights(
            own_rows(spending.shares, counts, rank),
            own_rows(spending.batch.route, counts, rank),
            current.denominator / current.world,  # averaged over ranks afterwards
            scale,
        )
        current.done(spending, self.machinery.backward.run(loss, own), counts)
        current.gradients = self._gradients()

    def start_epoch(self) -> None:
        """Begin an epoch: every budget with an epoch window has it back."""
        self._refuse_open("start_epoch")
        self.machinery.accountant.start_epoch()
        self.machinery.meters.start_epoch()
        self.machinery.course.start_epoch()

    def enter_phase(self, name: str) -> None:
        """Go on to a later phase of the policy: every budget with a phase window has it back."""
        self._refuse_open("enter_phase")
        self.machinery.course.enter_phase(name)
        self.machinery.accountant.start_phase()
        self.machinery.meters.start_phase()
        self.machinery.recorder.event({"event": "phase", "phase": name, "step": self.state.step})

    def enter_stage(self, name: str) -> None:
        """Go on to a later stage of the policy, if the metrics that certify it are good enough."""
        self._refuse_open("enter_stage")
        values = self.machinery.course.enter_stage(name, self.machinery.metrics)
        self.machinery.recorder.event({"event": "stage", "stage": name, "step": self.state.step, "metrics": values})

    def publish(self, name: str = "model", model: nn.Module | None = None) -> Path | None:
        """Write a model into the run's folder, and what it is into the log; promises to verify and promote come first.

        Args:
            name: Stem of the file.
            model: What to publish instead of the trained model, such as a copy with its adapters merged.

        Returns:
            The file: `NAME.pt`, or `NAME.candidate.pt` where a verification is not passed, a metric is not good
            enough, or witnesses are to sign first (`aqpolicy promote`); None without a log.

        Raises:
            IllegalTrainingSetupError: Inside a step, or after a halt.
            VerificationError: A verification was due, failed, and says halt.
        """
        self._refuse_open("publish")
        self.machinery.mover.shadow.refuse_edits(values=True)
        if self._halted:
            raise IllegalTrainingSetupError(f"nothing is published, the gate has halted: {self._halted}")
        self._obey(self.machinery.verifier.before_publication(self.state.step - 1))
        published = self.machinery.model if model is None else model
        return self.machinery.publisher.publish(name, published, self.state.step, self.machinery.verifier.waiting)

    def checkpoint(self, name: str = "checkpoint", extra: Mapping[str, Any] | None = None) -> Path | None:
        """Write all that going on needs into the run's folder, and its digest into the log; `attach(resume=)` reads it.

        Args:
            name: Stem of the file; an older checkpoint of this name is replaced.
            extra: What else the loop wants back, such as a scheduler's state: `gate.extra` after resuming. Plain
                values and tensors.

        Durability: on return, every step so far, the log's entry, and the file.

        Returns:
            The file, `NAME.ckpt`; None on other ranks than the first.

        Raises:
            IllegalTrainingSetupError: Inside a step, after a halt, or without a log.
            LineageError: The log cannot be written; no file was.
        """
        machinery, state = self.machinery, self.state_dict()
        machinery.mover.shadow.refuse_edits(values=True)
        content = {
            **machinery.mover.state_dict(),
            "model": machinery.model.state_dict(),
            "start": list(machinery.start),
            "gate": {**state, "random": machinery.ranks.gather(state["random"])},
            "extra": dict(extra or {}),
        }
        return machinery.publisher.checkpoint(name, content, self.state.step)

    def close(self) -> None:
        """Publish the model and end the log, then restore the model's own forward. Does nothing the second time."""
        if self.machinery.recorder.closed:
            return
        self._refuse_open("close")
        try:
            if not self._halted:
                self.publish("model")
        finally:
            self.machinery.live.end(self.machinery.snapshot, self._halted)
            self.machinery.recorder.close()
            self.detach()

    def detach(self) -> None:
        """Restore the model's own forward and remove every hook; the gate is of no use afterwards."""
        self._halted = self._halted or "it was detached"
        self.machinery.backward.detach()
        self.machinery.mover.release()

    # ---- what the loop may look at

    @property
    def state(self) -> RunState:
        """Where the run is."""
        return self.machinery.course.state

    @property
    def totals(self) -> Totals:
        """Live numbers of the run."""
        return self.machinery.recorder.totals

    @property
    def record_size(self) -> RecordSize:
        """How many bytes a visit records; known before the first step."""
        return self.machinery.size

    @property
    def queue(self) -> tuple[Waiting, ...]:
        """The examples whose last visit was deferred, the longest waiting first."""
        return self.machinery.accountant.queue

    def released(self) -> tuple[str, ...]:
        """Return the examples of the queue that need not wait any more; the loop may schedule them."""
        return self.machinery.accountant.released(self.machinery.decisions, self.state)

    @property
    def slow(self) -> tuple[str, ...]:
        """Where gradients are made the general way, exact and slow: module and function."""
        return self.machinery.backward.slow

    def explain(self, example_id: str) -> Explanation:
        """Say why an example got what it got in its last visit, and what it would get now."""
        return self.machinery.explainer.explain(
            example_id, self.state, queue=self.queue, since=self.machinery.accountant.since
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run must remember to go on as if it had never stopped, beside model and optimizer.

        Random states are in it. `attach(..., state=)` takes it; `torch.save` writes it.
        """
        self._refuse_open("state_dict")
        if self._halted:
            raise IllegalTrainingSetupError(f"a halted run does not go on: {self._halted}")
        machinery = self.machinery
        return {
            "course": machinery.course.state_dict(),
            "accountant": machinery.accountant.state_dict(),
            "meters": machinery.meters.state_dict(),
            "verifier": machinery.verifier.state_dict(),
            "promotions": machinery.publisher.promotions.state_dict(),
            "book": machinery.mover.book.state_dict(),
            "random": random_states(),
        }

    # ---- a step

    def _begin(self, example_ids: list[str], denominator: float | None) -> None:
        if self._halted:
            raise IllegalTrainingSetupError(f"the gate has halted: {self._halted}")
        self._refuse_open("step")
        if not example_ids or not all(isinstance(name, str) for name in example_ids):
            raise IllegalTrainingSetupError("gate.step takes a non-empty list of example ids, each a string")
        if denominator is not None and not 0 < denominator < float("inf"):
            raise IllegalTrainingSetupError(
                "the denominator is a positive number: how many examples or tokens are planned"
            )
        self.machinery.sets.check()
        refuse_mixing(self.machinery.mixing)
        self.machinery.mover.shadow.refuse_edits(values=False)
        self._drop_gradients()
        self.machinery.accountant.begin_step(self.state)
        if denominator is None:
            denominator = float(sum(self.machinery.ranks.gather(len(example_ids))))
        self._open = OpenStep(tuple(example_ids), self.state, denominator, self.machinery.ranks.world)

    def _open_router(self, segments: Tensor | None) -> None:
        current = self._current("gate.step")
        self.machinery.backward.open(len(current.part), segments, fill=current.world > 1)

    def _spend(
        self, current: OpenStep, loss: Tensor, surprisal: Tensor, entropy: Tensor | None
    ) -> tuple[Spending, list[int]]:
        """Return what is left for the visits of this part, those of all ranks, and how many each rank has."""
        nats = micro_nats(surprisal)
        if surprisal is not loss:  # one that is not finite has said so already
            nats = nats.masked_fill(~loss.detach().isfinite().cpu(), NOT_FINITE)
        doubt = None if entropy is None else micro_nats(entropy, LARGEST_ENTROPY)
        every = self.machinery.ranks.gather((current.part, nats, doubt))
        names = [name for part, _, _ in every for name in part]
        nats = torch.cat([part for _, part, _ in every])
        doubts = [part for _, _, part in every if part is not None]
        scheduled = self.machinery.decisions.schedule(names)
        batch = self.machinery.decisions.decide(scheduled, current.state, nats, torch.cat(doubts) if doubts else None)
        return self.machinery.accountant.spend(batch), [len(part) for part, _, _ in every]

    def _finish(self) -> None:
        machinery, current = self.machinery, self._current("gate.step")
        current.refuse_unfinished()
        machinery.sets.check()
        facts, broken = self._facts(current)
        admitted = torch.cat([one.shares for one in facts.spendings]).any(0).tolist()
        asked = machinery.accountant.asked(facts.spendings)
        machinery.verifier.before_step(current.state.step, asked)
        self._refuse_touched(current)
        # From here to the accepted log entry parameters move: whatever fails puts them back and halts.
        try:
            entry, ruling = machinery.mover.move(
                machinery.accountant.concerned(facts.spendings), admitted, broken=broken
            )
            self._record(facts, entry)
        except BaseException as error:  # noqa: BLE001 - whatever happens, an interrupt included
            machinery.mover.shadow.restore()
            self._fail(error, "a step could not be completed")
        try:
            machinery.mover.shadow.accept()
            machinery.accountant.commit(facts.spendings)
            machinery.meters.book(ruling)
            machinery.visits.observe(current.state, facts.spendings, facts.norms)
            machinery.publisher.promotions.ask(asked)
            machinery.course.advance()
        except BaseException as error:  # noqa: BLE001 - whatever happens, an interrupt included
            self._fail(error, "a step was recorded and could not be booked")
        if ruling.halted:
            self._halt(f"budget `{ruling.halted}` is exhausted")
            raise BudgetExhaustedError(f"budget `{ruling.halted}` is exhausted and says halt; nothing was moved")
        self._obey(machinery.verifier.after_step(current.state.step, asked))
        machinery.live.update(machinery.snapshot)

    def _record(self, facts: StepFacts, entry: Entry) -> None:
        """Log a step; where one rank's log fails, the step has failed on all."""
        failed, step = None, None
        try:
            step = self.machinery.recorder.append(facts, entry)
        except Exception as error:  # noqa: BLE001 - raised again below, on every rank
            failed = error
        if any(self.machinery.ranks.gather(failed is not None)) or step is None:
            raise failed or LineageError("the log of another rank took no entry")
        self.machinery.recorder.count(facts, step)

    def _fail(self, error: BaseException, what: str) -> NoReturn:
        """Halt for good and raise what happened."""
        self._halt(f"{what} ({type(error).__name__}: {error}); attach again")
        if isinstance(error, Exception) and not isinstance(error, AqpolicyError):
            raise LineageError(f"{what}, the gate has halted: {error}") from error
        raise error

    def _facts(self, current: OpenStep) -> tuple[StepFacts, bool]:
        """Gather what the log says of the step, and whether some admitted example had no finite gradient."""
        machinery = self.machinery
        found = machinery.ranks.gather([(one.norms, self._encoded(one)) for one in current.founds])
        spendings, norms, sketches, broken = [], [], [], False
        for number, spending in enumerate(current.spendings):
            own = torch.cat([parts[number][0] for parts in found])
            lost = ~own.isfinite()
            broken = broken or bool((lost & (spending.shares > 0)).any())
            spendings.append(machinery.accountant.close(spending, lost))
            norms.append(own.nan_to_num(NORM_NOT_FINITE, NORM_NOT_FINITE, NORM_NOT_FINITE))
            sketches += [record for parts in found for record in parts[number][1] or ()]
        facts = StepFacts(
            state=current.state,
            spendings=tuple(spendings),
            norms=torch.cat(norms),
            sketches=sketches or None,
            denominator=current.denominator,
            visits=tuple(current.visits),
        )
        return facts, broken

    def _encoded(self, found: Found) -> list[bytes] | None:
        recording = self.machinery.recording
        if found.records is None or recording is None:
            return None
        return recording.encode(found.records, self.machinery.ranks.world)

    def _stop(self, current: OpenStep, spending: Spending, counts: Sequence[int]) -> None:
        """Record the step that a budget stopped, and raise."""
        machinery = self.machinery
        spendings = machinery.accountant.halt([*current.spendings, spending])
        visits = sum(len(one.shares) for one in spendings)
        norms = torch.zeros(visits, len(machinery.tables.groups), dtype=torch.float64, device="cpu")
        sketches, recording = None, machinery.recording
        if recording is not None:
            sketches = recording.encode(
                [recording.empty(group, visits) for group in range(len(machinery.tables.groups))]
            )
        facts = StepFacts(
            state=current.state,
            spendings=spendings,
            norms=norms,
            sketches=sketches,
            denominator=current.denominator,
            visits=(*current.visits, tuple(counts)),
        )
        self._record(facts, machinery.mover.still())
        machinery.visits.observe(current.state, spendings, norms)
        machinery.course.advance()
        self._halt(f"budget `{spending.halted}` is exhausted")
        raise BudgetExhaustedError(f"budget `{spending.halted}` is exhausted and says halt; nothing was moved")

    def _obey(self, outcome: Outcome) -> None:
        """Do what verification led to, and record it."""
        machinery = self.machinery
        for event in outcome.events:
            machinery.recorder.event(event)
        if outcome.rolled_back:
            machinery.mover.returned()
        if outcome.events:
            for number in range(len(machinery.tables.obligations)):
                machinery.accountant.hold(number, number in machinery.verifier.held)
        if outcome.halted:
            self._halt(f"verification failed: {outcome.halted}")
            raise VerificationError(f"the run halts: {outcome.halted}; the model stays as it is and is not published")

    def _halt(self, why: str) -> None:
        self._halted = why
        self.machinery.live.end(self.machinery.snapshot, why)

    def _refuse_touched(self, current: OpenStep) -> None:
        self.machinery.mover.shadow.refuse_edits(values=True)
        if current.gradients != self._gradients():
            raise IllegalTrainingSetupError(
                "gradients were changed after gate.backward; bound them in the policy (`limit norm`), "
                "or give attach clip=..."
            )

    def _gradients(self) -> list[tuple[tuple[int, int] | None, float]]:
        """Return what tells whether a gradient was replaced or written to, also where torch does not count it."""
        found = [parameter.grad for parameter in self.machinery.mover.shadow.parameters]
        held = [one for one in found if one is not None]
        norms = torch._foreach_norm(held) if held else ()  # noqa: SLF001 - one launch for all
        sizes = iter([-1.0 if isnan(size) else size for size in read(norms)])
        return [(identity(one), 0.0 if one is None else next(sizes)) for one in found]

    def _drop_gradients(self) -> None:
        for parameter in self.machinery.mover.shadow.parameters:
            parameter.grad = None

    def _current(self, call: str) -> OpenStep:
        if self._open is None:
            raise IllegalTrainingSetupError(f"{call} is called inside `with gate.step(...)` only")
        return self._open

    def _refuse_open(self, call: str) -> None:
        if self._open is not None:
            raise IllegalTrainingSetupError(f"{call} was called inside a step")
