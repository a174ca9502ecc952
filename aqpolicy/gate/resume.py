"""Random states, so that a resumed run draws what the uninterrupted one would have drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from aqpolicy.errors import IllegalTrainingSetupError


def random_states() -> dict[str, Any]:
    """Return the random states of torch, numpy and Python, as what `torch.load(weights_only=True)` reads."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - the state that legacy code draws from
    version, internal, cached = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "python": [version, list(internal), cached],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put random states back.

    Raises:
        IllegalTrainingSetupError: They are not what `random_states` returns, or of another number of devices.
    """
    try:
        torch.set_rng_state(states["torch"])
        if states["cuda"]:
            torch.cuda.set_rng_state_all(states["cuda"])
        name, keys, position, has_gauss, gauss = states["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002 - as above
        version, internal, cached = states["python"]
        random.setstate((version, tuple(internal), cached))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise IllegalTrainingSetupError(f"the saved random states cannot be restored: {error}") from error
