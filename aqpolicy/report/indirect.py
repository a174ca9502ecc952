"""What a run's own measurement says of indirect influence, beside the claim that a group was closed.

`aqpolicy indirect` wrote it into the run's folder. It is unsigned, and read as numbers only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from aqpolicy.errors import InputError
from aqpolicy.trace import Run

FILE: Final = "indirect.json"
_LARGEST: Final = 1024 * 1024


def indirect_influence(run: Run) -> str:
    """Return a sentence: how far closed groups moved through other examples, or that nobody measured it.

    Raises:
        InputError: The file is no such measurement.
    """
    path = run.folder / FILE
    if not path.is_file():
        return "How far that goes was not measured in this run; `aqpolicy indirect` measures it."
    try:
        with path.open("rb") as file:
            facts = json.loads(file.read(_LARGEST))
        if facts["format"] != "aqpolicy indirect 1":
            raise ValueError
        model = str((run.published or {}).get("model", ""))
        if (facts["run"], facts["model"]) != (run.run_id, model):
            return f"`{FILE}` is of another run or model; `aqpolicy indirect` measures this one."
        said = "; ".join(_moved(facts["groups"]))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"`{path}` is no measurement of indirect influence; make it again") from error
    return f"Measured in this run, by exchanging the contents of examples closed to a group ({FILE}, unsigned): {said}."


def _moved(groups: Any) -> Iterator[str]:
    for one in groups:
        name, count, part = str(one["group"])[:100], int(one["examples"]), one["part"]
        far = "by nothing that could be compared" if part is None else f"by {float(part):.1%} of its displacement"
        yield f"`{name}` moved {far} ({count} examples)"
