"""Checkpoints: all that a training needs to go on as if it had never stopped.

The log first, then the file: a checkpoint is there only when every step that made
it is durable and the log names its digest. So one that the log does not name is
newer than the log, or another log's, and is refused.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError, InputError, LineageError
from aqpolicy.gate.records.recorder import Log
from aqpolicy.lineage import logged_models
from aqpolicy.trust import Keyring, replace_file, sha256

FORMAT: Final = "aqpolicy checkpoint 1"
KIND: Final = "checkpoint"
"""What the log calls a model that is for going on only."""

LATEST: Final = "latest"
BEGINNING: Final = "beginning"
SUFFIX: Final = ".ckpt"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it was found: what it holds, and which entry of the log names it."""

    name: str
    entry: int
    step: int
    genesis: Mapping[str, Any]
    """The first entry of its log."""
    content: Mapping[str, Any] | None
    """None for the beginning: model and optimizer are as the loop made them."""

    def state(self, rank: int, world: int) -> dict[str, Any] | None:
        """Return what the gate of a rank goes on with.

        Raises:
            IllegalTrainingSetupError: The run had another number of processes.
        """
        if self.content is None:
            return None
        state: Mapping[str, Any] = self.content["gate"]
        if len(state["random"]) != world:
            raise IllegalTrainingSetupError(
                f"the checkpoint is of a run of {len(state['random'])} processes, this one has {world}; start as many"
            )
        return {**state, "random": state["random"][rank]}

    @property
    def start(self) -> Sequence[Tensor] | None:
        """The parameters that the run began with."""
        return None if self.content is None else self.content["start"]

    @property
    def extra(self) -> dict[str, Any]:
        """What the loop gave to the checkpoint."""
        return {} if self.content is None else dict(self.content["extra"])


def write_checkpoint(run: Path, name: str, content: Mapping[str, Any], *, log: Log, step: int) -> Path:
    """Write a checkpoint into a run's folder and return its file.

    Durability: every step so far, then the log's entry, then the file.

    Raises:
        InputError: The name cannot be that of a checkpoint, or the file cannot be written.
        LineageError: The log cannot be written; no file was.
    """
    if _NAME.fullmatch(name) is None or name in {LATEST, BEGINNING}:
        raise InputError(f"`{name!a:.80}` cannot name a checkpoint; use letters, digits, `_` and `-`, at most 64")
    file = io.BytesIO()
    torch.save({"format": FORMAT, **content}, file)
    data = file.getvalue()
    log.append_model(step, sha256(data), {"kind": KIND, "name": name})
    path = run / f"{name}{SUFFIX}"
    replace_file(path, data)
    return path


def find_checkpoint(run: Path, keyring: Keyring, name: str) -> Checkpoint:
    """Return a checkpoint of a run by name, or the latest one, or what stands for the beginning.

    Raises:
        InputError: There is none, or it cannot be read.
        LineageError: The log does not name it: it is newer than the log, or another one's; or there is no log.
        IllegalTrainingSetupError: It holds something else.
    """
    genesis, models = logged_models(run, keyring)
    if _NAME.fullmatch(name) is None:
        raise InputError(f"`{name!r}` is no name of a checkpoint; it has letters, digits, - and _, 64 at most")
    if name == BEGINNING:
        return Checkpoint(name, -1, int(genesis["first_step"]), genesis, None)
    named = {
        str(model["model"]): model for model in models if model.get("kind") == KIND and name in {LATEST, model["name"]}
    }
    names = {str(model["name"]) for model in named.values()} or {name} - {LATEST}
    files = {one: _bytes(run / f"{one}{SUFFIX}") for one in sorted(names)}
    known = [(named[digest], data) for data in files.values() if data and (digest := sha256(data).hex()) in named]
    if known:
        model, data = max(known, key=lambda pair: int(pair[0]["entry"]))
        return Checkpoint(str(model["name"]), int(model["entry"]), int(model["step"]), genesis, _content(data))
    if any(files.values()):
        raise LineageError(
            f"the log of `{run}` does not name the checkpoint `{name}` as it is: the checkpoint is newer than the log, "
            "or another log's, or was changed; restore the log that belongs to it, or resume from another checkpoint"
        )
    raise InputError(
        f"`{run}` has no checkpoint `{name}` to resume from; gate.checkpoint writes them, `{BEGINNING}` begins anew"
    )


@contextmanager
def restored(
    checkpoint: Checkpoint | None, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any
) -> Iterator[None]:
    """Put a checkpoint into model, optimizer and scaler; whatever fails in the block brings back what was there.

    Raises:
        IllegalTrainingSetupError: It is of another model or optimizer.
    """
    if checkpoint is None or checkpoint.content is None:
        yield
        return
    weights, settings = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    try:
        _put(checkpoint.content, model, optimizer, scaler)
        yield
    except BaseException:
        model.load_state_dict(weights)
        optimizer.load_state_dict(settings)
        raise


def refuse_other_run(genesis: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Return if a gate would go on as the log began.

    Args:
        genesis: What the first entry of the log says.
        facts: What it would say now.

    Raises:
        IllegalTrainingSetupError: It would not.
    """
    others = sorted(
        name
        for name, value in facts.items()
        if name not in {"torch", "threads", "first_step"} and genesis.get(name) != value
    )
    if others:
        raise IllegalTrainingSetupError(
            f"the run was begun with another {', '.join(others)}; attach with that, or begin a new run"
        )


def _put(content: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any) -> None:
    try:
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        if scaler is not None:
            scaler.load_state_dict(content["scaler"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise IllegalTrainingSetupError(f"the checkpoint is of another model or optimizer: {error}") from error


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read the checkpoint `{path}`: {error.strerror}") from error


def _content(data: bytes) -> Mapping[str, Any]:
    try:
        content = torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:
        raise IllegalTrainingSetupError(f"the checkpoint cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise IllegalTrainingSetupError("the file is no checkpoint of this version")
    return content
