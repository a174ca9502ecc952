"""Train a run again under another policy, into a new run with a log of its own."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aqpolicy.errors import InputError
from aqpolicy.gate import Gate
from aqpolicy.rerun.origin import Origin
from aqpolicy.rerun.recipe import Trained, train_again
from aqpolicy.trace import Run, audit_run
from aqpolicy.trace.behaviour import Named
from aqpolicy.trust import SigningKey, sha256


@dataclass(frozen=True, slots=True)
class Retrained:
    """A run that was trained again under another policy."""

    run: str
    folder: str
    steps: int
    digest: str
    """Of model and optimizer."""
    apart: Mapping[str, float | None]
    """Per depth group, how far its weights are from those of the first run, as a part of the way that they went there.

    None where they did not move there; nothing where the first model is not there, or groups and parameters are others.
    """
    differences: tuple[str, ...]
    """What of the machine is not that of the first run; what lies apart may come from that, too."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy retrained 1", **asdict(self)}


def retrain(origin: Origin, recipe: Named, bundle: Path, log_key: Path | SigningKey, folder: Path) -> Retrained:
    """Train a run again under another bundle and audit what came of it.

    Args:
        origin: The first run; it is left alone.
        recipe: Its recipe.
        bundle: The other policy, a signed file.
        log_key: Signs the new log.
        folder: Of the new run, which is not there yet.

    Raises:
        InputError: The folder holds something.
        AqpolicyError: The training failed, or does not follow from the policy.
    """
    origin.refuse_several()
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"`{folder}` is not empty; a new run needs a new folder")
    attached = origin.begun(
        folder, bundle.absolute(), log_key, refused=origin.refused, began=lambda gate: _tell(gate, origin.run)
    )
    trained = train_again(recipe, attached)
    report = audit_run(folder, origin.keyring)
    return Retrained(
        run=report.run,
        folder=str(folder),
        steps=trained.steps,
        digest=trained.digest,
        apart=apart(origin.run, trained),
        differences=origin.differences(),
    )


def apart(run: Run, trained: Trained) -> dict[str, float | None]:
    """Return, per depth group, how far a training ended from the run's model, as a part of the way that that went."""
    state, found = published_state(run), dict[str, float | None]()
    groups = trained.gate.machinery.mover.groups
    if state is None or tuple(group.name for group in groups) != run.tables.groups:
        return {}
    for group, (then, now) in zip(groups, trained.ends(), strict=True):
        if not all(name in state for name in group.names):
            return {}
        first = torch.cat([state[name].to("cpu", torch.float64).reshape(-1) for name in group.names] or [now])
        if first.shape != now.shape:
            return {}
        found[group.name] = part(now - first, first - then)
    return found


def part(moved: Tensor, way: Tensor) -> float | None:
    """Return how long one way is, as a part of another; None where something moved that did not."""
    length, whole = float(moved.norm()), float(way.norm())
    if not length:
        return 0.0
    return length / whole if whole else None


def published_state(run: Run) -> dict[str, Tensor] | None:
    """Return the parameters that a run published; None where they are not there, or others."""
    path, published = run.folder / "model.pt", run.published
    data = path.read_bytes() if path.is_file() else b""
    if published is None or sha256(data).hex() != published["model"]:
        return None
    state: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def _tell(gate: Gate, run: Run) -> None:
    """Write into the new log which run it repeats."""
    log: Any = gate.machinery.recorder.log
    policy = f"{run.bundle.policy_name} {run.bundle.policy_version}"
    log.append_status({"event": "repeats", "run": run.run_id, "policy": policy, "time_s": int(time.time())})
