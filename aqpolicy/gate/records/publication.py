"""Publish a model: its lineage first, then the file, under the name that what the run owes lets it have."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.metrics import Metrics
from aqpolicy.gate.records.checkpoint import write_checkpoint
from aqpolicy.gate.records.promotion import Promotions, publish
from aqpolicy.gate.records.recorder import Recorder
from aqpolicy.gate.routing.sketch import SketchPlan
from aqpolicy.lineage.record import SKETCH_KIND
from aqpolicy.trust import encode_base64


class Publisher:
    """Writes the models of one run into its folder."""

    def __init__(  # noqa: PLR0917 - what a model is published with
        self,
        run: Path | None,
        recorder: Recorder,
        promotions: Promotions,
        metrics: Metrics,
        plan: SketchPlan,
        travelled: Callable[[], Sequence[Tensor]],
    ) -> None:
        """Write nothing yet.

        Args:
            run: The run's folder, or None without a log.
            recorder: Where the log is told.
            promotions: What the run owes before a model leaves it.
            metrics: What promotions are judged by.
            plan: How the run's sketches are made.
            travelled: Returns, per group, the sketch of how far the parameters went since the gate was attached.
        """
        self.promotions = promotions
        self._run, self._recorder, self._metrics = run, recorder, metrics
        self._plan, self._travelled = plan, travelled

    def publish(self, name: str, model: nn.Module, step: int, unverified: Collection[int]) -> Path | None:
        """Write a model and return its file; None without a log.

        Args:
            name: What the model is called.
            model: The model.
            step: After how many steps it was made.
            unverified: Obligations to verify that are not passed; a model waits while there are any.
        """
        log = self._recorder.log
        if self._run is None or log is None:
            return None
        verdict = self.promotions.judge(lambda metric: self._metrics.value(metric, model), unverified=unverified)
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        facts = {
            "name": name,
            "kind": "model",
            "sketch_kind": SKETCH_KIND,
            "sketch_k": self._plan.k,
            "sketch_seed": self._plan.seed,
            "travelled": _packed(self._travelled()),
        }
        return publish(self._run, name, file.getvalue(), verdict, log=log, step=step, facts=facts)

    def checkpoint(self, name: str, content: Mapping[str, Any], step: int) -> Path | None:
        """Write a checkpoint and return its file; None where another rank has the log.

        Raises:
            IllegalTrainingSetupError: The run has no log.
        """
        if self._run is None:
            raise IllegalTrainingSetupError(
                "a checkpoint lies beside a log; pass lineage=..., or save gate.state_dict()"
            )
        log = self._recorder.log
        return None if log is None else write_checkpoint(self._run, name, content, log=log, step=step)


def _packed(travelled: Sequence[Tensor]) -> list[str]:
    """Return each group's sketch as base64 of little-endian float32."""
    return [
        encode_base64(struct.pack(f"<{sketch.numel()}f", *sketch.detach().to("cpu", torch.float32).tolist()))
        for sketch in travelled
    ]
