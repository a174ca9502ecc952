"""What a run was trained with, so that a recipe trains it again: in its own log, in a new one, or without any."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate import Gate, attach
from aqpolicy.gate.records.checkpoint import BEGINNING, Checkpoint, find_checkpoint, restored
from aqpolicy.gate.records.recorder import Log
from aqpolicy.lineage import NO_INDEX, StepBlock
from aqpolicy.provenance import Credentials
from aqpolicy.rerun.recipe import Attach, leave
from aqpolicy.trace.run import Run
from aqpolicy.trace.words import REFUSED_EXAMPLE
from aqpolicy.trust import Keyring, SigningKey

FORGOTTEN: Final = "forgotten"
"""What the log calls the event that examples were forgotten; it always counts."""

_FIRST_DAY: Final = date(1970, 1, 1)


@dataclass(frozen=True)
class Origin:
    """A verified run that is trained again, and the keys that it is trusted by."""

    run: Run
    keyring: Keyring

    @property
    def refused(self) -> frozenset[str]:
        """Ids of the examples that the run refused, and of those that it was made to forget."""
        return self.refused_in(self.run.blocks) | self.forgotten

    @property
    def forgotten(self) -> frozenset[str]:
        """Ids of the examples that the run was made to forget."""
        manifest, events = self.run.manifest, [one for one in self.run.statuses if one.get("event") == FORGOTTEN]
        credentials = {str(event.get("credential")) for event in events if not event.get("example")}
        named = {str(event["example"]) for event in events if event.get("example")}
        seen = map(manifest.observation, range(manifest.size)) if credentials else ()
        return frozenset(named | {one.example_id for one in seen if one.credential in credentials})

    def refused_in(self, blocks: Iterable[StepBlock]) -> frozenset[str]:
        """Return the ids of the examples that were refused in some steps."""
        rows = (row for block in blocks for row in block.rows if row.reason_code == REFUSED_EXAMPLE)
        indices = {row.manifest_index for row in rows} - {NO_INDEX}
        return frozenset(map(self.run.manifest.example_id, indices))

    def differences(self) -> tuple[str, ...]:
        """Return what of this machine is not that of the run, in words; empty where nothing is known to differ."""
        said: tuple[tuple[str, object, object], ...] = (
            ("torch", self.run.genesis.get("torch"), torch.__version__),
            ("threads", self.run.genesis.get("threads"), torch.get_num_threads()),
        )
        return tuple(f"{name} {then}, here {now}" for name, then, now in said if then is not None and then != now)

    def refuse_other_stack(self) -> None:
        """Refuse to claim bits where they cannot be those of the run.

        Raises:
            IllegalTrainingSetupError: The versions or threads are others, or the run had several processes.
        """
        if others := self.differences():
            raise IllegalTrainingSetupError(
                f"the run was trained with {'; '.join(others)}: bits are the same on the same stack only; use that"
            )
        self.refuse_several()

    def refuse_several(self) -> None:
        """Refuse a run of several processes.

        Raises:
            IllegalTrainingSetupError: It is one.
        """
        if (ranks := int(self.run.genesis.get("ranks", 1))) > 1:
            raise IllegalTrainingSetupError(
                f"the run was trained by {ranks} processes; this version trains runs of one process again"
            )

    def unrecorded(
        self, *, refused: Collection[str], checkpoint: Checkpoint | None = None, log: Log | None = None
    ) -> Attach:
        """Return how a gate is attached that decides and moves as the run's does, and writes no folder.

        Args:
            refused: Ids of the examples that are refused.
            checkpoint: Where it goes on from; from the beginning where there is none.
            log: What is told of the steps.
        """

        def attached(model: nn.Module, optimizer: torch.optim.Optimizer, own: Mapping[str, Any]) -> Gate:
            with restored(checkpoint, model, optimizer, own.get("scaler")):
                gate = attach(
                    model,
                    optimizer,
                    bundle=self.run.bundle,
                    manifest=self.run.manifest,
                    state=None if checkpoint is None else checkpoint.state(0, 1),
                    unsafe_without_lineage=True,
                    **self._given(refused),
                    **_without_durability(own),
                )
            found = Unrecorded(gate.machinery)
            found.machinery.recorder.log = log
            found.extra = {} if checkpoint is None else checkpoint.extra
            return found

        return attached

    def resumed(
        self, name: str, log_key: Path | SigningKey, *, refused: Collection[str], began: Callable[[Gate], None]
    ) -> Attach:
        """Return how a gate is attached that goes on in the run's own log.

        Args:
            name: The checkpoint, or `beginning`.
            log_key: Signs the log.
            refused: Ids of the examples that are refused from there on.
            began: Called once the new attempt stands in the log, before its first step.
        """
        return self._recorded(self.run.folder, "bundle.aqb", log_key, refused=refused, began=began, resume=name)

    def begun(
        self,
        folder: Path,
        bundle: Path,
        log_key: Path | SigningKey,
        *,
        refused: Collection[str],
        began: Callable[[Gate], None],
    ) -> Attach:
        """Return how a gate is attached that begins a new run: this one's manifest, under another bundle.

        Args:
            folder: Of the new run.
            bundle: The other bundle.
            log_key: Signs the new log.
            refused: Ids of the examples that are refused.
            began: As for `resumed`.
        """
        return self._recorded(folder, bundle, log_key, refused=refused, began=began, resume=None)

    def checkpoint(self, name: str) -> Checkpoint | None:
        """Return a checkpoint of the run; None for the beginning.

        Raises:
            AqpolicyError: As `find_checkpoint`.
        """
        return None if name == BEGINNING else find_checkpoint(self.run.folder, self.keyring, name)

    def _recorded(
        self,
        folder: Path,
        bundle: Path | str,
        log_key: Path | SigningKey,
        *,
        refused: Collection[str],
        began: Callable[[Gate], None],
        resume: str | None,
    ) -> Attach:
        def attached(model: nn.Module, optimizer: torch.optim.Optimizer, own: Mapping[str, Any]) -> Gate:
            gate = attach(
                model,
                optimizer,
                bundle=self.run.folder / bundle,
                manifest=self.run.folder / "manifest.aqm",
                lineage=folder,
                log_key=log_key,
                resume=resume,
                **self._given(refused),
                **own,
            )
            try:
                began(gate)
            except BaseException:
                leave(gate)
                raise
            return gate

        return attached

    def _given(self, refused: Collection[str]) -> dict[str, Any]:
        """Return what every gate of the run is attached with."""
        genesis, blocks = self.run.genesis, self.run.blocks
        facts = genesis.get("credentials")
        return {
            "keyring": self.keyring,
            "record": genesis["record"],
            "factor_bits": int(genesis.get("factor_bits", 8)),
            "refused": sorted(refused),
            "credentials": Credentials.of_run(self.run.folder, facts) if facts else None,
            "today": _FIRST_DAY + timedelta(days=blocks[0].today) if blocks else None,
        }


class Unrecorded(Gate):
    """A gate without a log, of a training that is made to be compared: its checkpoints go nowhere."""

    def checkpoint(self, name: str = "checkpoint", extra: Mapping[str, Any] | None = None) -> Path | None:  # noqa: ARG002 - a gate's
        """Do nothing: nobody goes on from here."""
        return None


def _without_durability(own: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in own.items() if name != "durability"}
