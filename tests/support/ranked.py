"""Short training runs that come out the same on one process and on several; as a script, one process of several.

`python -m torch.distributed.run --nproc-per-node 2 ranked.py FOLDER` writes what
each rank found into the folder.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.gating import Memory, Observed, binding, budget, open_gate, tables
from support.leaving import leave_together

from aqpolicy.errors import AqpolicyError
from aqpolicy.gate.assembly import Options, assemble
from aqpolicy.gate.gate import Gate

NAMES = [f"{1 + number % 3}-{number}" for number in range(8)]
GROUPS = (("front.", "norm."), ("back.",))
ROWS = [[1, 0.5], [0, 1], [0.3, 0]]
LIMITS = [[0.5, None], [None, 2.0], [None, None]]

Found = dict[str, Any]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.norm, self.back = nn.Linear(5, 16), nn.LayerNorm(16), nn.Linear(16, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.back(torch.tanh(self.norm(self.front(x))))


class Full(Memory):
    """A log whose disk is full after one step."""

    def append_step(self, block: Any) -> None:
        if self.blocks:
            raise OSError("no space left on device")
        super().append_step(block)


@dataclass
class Team:
    """One process of a run, or the only one."""

    rank: int
    world: int
    log: Memory = field(default_factory=Memory)

    def share(self, count: int) -> slice:
        """Return which of so many examples are this rank's: a stretch, the ranks in order."""
        return slice(self.rank * count // self.world, (self.rank + 1) * count // self.world)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 5, generator=generator, dtype=torch.float64), torch.randint(0, 3, (8,), generator=generator)


def begin(team: Team, table: Any, make: Callable[..., torch.optim.Optimizer], **options: Any) -> tuple[Gate, Any]:
    """Return the gate and the network that the loop runs."""
    net, names = Net(), options.pop("names", NAMES)
    run = DistributedDataParallel(net) if team.world > 1 else net
    bundle = SimpleNamespace(tables=table, parameters=binding(net, GROUPS), policy_name="test")
    asked = Options(**options)
    machinery = assemble(run, make(net.parameters()), bundle, Observed(names), asked, None)
    machinery.recorder.log = team.log if team.rank == 0 else None
    return Gate(machinery), run


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def losses(run: Any, rows: Sequence[int], spoiled: int = -1) -> Tensor:
    x, y = data()
    if spoiled >= 0:
        x[spoiled] = float("nan")
    return functional.cross_entropy(run(x[list(rows)]), y[list(rows)], reduction="none")


def step(
    team: Team, gate: Gate, run: Any, rows: Sequence[int], names: Sequence[str] = NAMES, spoiled: int = -1
) -> None:
    """Train on this rank's share of some rows."""
    own = list(rows)[team.share(len(rows))]
    with gate.step([names[row] for row in own]):
        gate.backward(losses(run, own, spoiled))


def told(team: Team, gate: Gate, **more: Any) -> Found:
    """Return all that must be the same."""
    blocks = [
        {
            "keys": block.keys,
            "columns": [
                getattr(block, name).tolist() for name in ("index", "route", "effect", "cause", "reason", "charges")
            ],
            "exceptions": [tuple(row.exceptions) for row in block.rows],
            "surprisal": block.surprisal.tolist(),
            "norms": torch.tensor(block.norms),
            "sketches": None if block.sketches is None else len(block.sketches),
            "closed": block.book.closed,
            "parts": block.book.parts,
            "denominator": block.book.denominator,
            "movement": torch.tensor(block.book.movement, dtype=torch.float64),
            "factors": torch.tensor(block.book.factors, dtype=torch.float64),
            "movement_charges": block.book.movement_charges,
        }
        for block in team.log.blocks
    ]
    machinery = gate.machinery
    return {
        "parameters": [parameter.detach().clone() for parameter in machinery.mover.shadow.parameters],
        "gradients": [parameter.grad is None for parameter in machinery.mover.shadow.parameters],
        "spent": dict(gate.totals.spent),
        "effects": dict(gate.totals.effects),
        "steps": gate.totals.steps,
        "run": list(machinery.accountant.run),
        "shown": [None if shown is None else shown.tolist() for shown in machinery.accountant.shown],
        "step": gate.state.step,
        "blocks": blocks,
        **more,
    }


def refusal(call: Callable[[], Any]) -> str:
    """Return what a call is refused with."""
    try:
        call()
    except AqpolicyError as error:
        return f"{type(error).__name__}: {error}"
    return ""


# ---- the runs


def shares_limits_and_budgets(team: Team) -> Found:
    table = tables(ROWS, norms=LIMITS, budgets=[budget(groups=(0, 1), per_run=20_000_000, per_update=1_000_000)])
    gate, run = begin(team, table, adamw)
    for _ in range(6):
        step(team, gate, run, range(8))
    return told(team, gate)


def sketches(team: Team) -> Found:
    gate, run = begin(team, tables(ROWS, norms=LIMITS), momentum, record="sketch")
    for _ in range(2):
        step(team, gate, run, range(8))
    return told(team, gate)


def attenuated(team: Team) -> Found:
    """The step that spends the last of a budget is over both ranks' examples."""
    gate, run = begin(team, tables([[1, 1]] * 3, budgets=[budget(per_run=15_000_000, on_exhaust="attenuate")]), adamw)
    for _ in range(4):
        step(team, gate, run, range(8))
    return told(team, gate)


def exposures(team: Team) -> Found:
    """One example on both ranks, twice in one step: the first in the order of ranks counts."""
    names = ["1-a", "1-b", "1-c", "1-d", "1-a", "1-a", "1-e", "1-b"]
    table = tables([[1, 1]], budgets=[budget(exposures=2)])
    gate, run = begin(team, table, momentum, names=sorted(set(names)))
    for _ in range(2):
        step(team, gate, run, range(8), names)
    return told(team, gate)


def uneven(team: Team) -> Found:
    gate, run = begin(team, tables(ROWS, norms=LIMITS), momentum)
    for rows in ([0, 1, 2, 3, 4], [5, 6], [6, 7, 1]):
        step(team, gate, run, rows)
    return told(team, gate)


def closed_on_one_rank(team: Team) -> Found:
    """The front is closed to all examples of the second rank; DDP waits for its gradients all the same."""
    names = ["1-0", "1-1", "1-2", "1-3", "2-4", "2-5", "2-6", "2-7"]
    gate, run = begin(team, tables([[1, 1], [0, 1]]), momentum, names=names)
    for _ in range(3):
        step(team, gate, run, range(8), names)
    return told(team, gate)


def closed_on_all_ranks(team: Team) -> Found:
    """After an open step: neither memory nor decay moves the front."""
    names = ["1-0", "1-1", "1-2", "1-3", "2-4", "2-5", "2-6", "2-7"]
    gate, run = begin(team, tables([[1, 1], [0, 1]]), adamw, names=names)
    step(team, gate, run, range(4), names)
    before = gate.machinery.mover.shadow.parameters[0].detach().clone()
    for _ in range(2):
        step(team, gate, run, range(4, 8), names)
    after = gate.machinery.mover.shadow.parameters[0]
    return told(team, gate, stayed=torch.equal(before, after))


def not_finite_on_one_rank(team: Team) -> Found:
    gate, run = begin(team, tables([[1, 1]] * 3), momentum)
    for _ in range(2):
        step(team, gate, run, range(8), spoiled=6)
    return told(team, gate)


def movement_budget(team: Team) -> Found:
    table = tables([[1, 1]] * 3, budgets=[budget(meters=(("movement", "run", 40_000),), on_exhaust="attenuate")])
    gate, run = begin(team, table, momentum)
    for _ in range(3):
        step(team, gate, run, range(8))
    return told(team, gate)


def _parts(team: Team, synchronised: bool) -> Found:
    table = tables(ROWS, norms=LIMITS, budgets=[budget(groups=(0, 1), per_run=12_000_000, exposures=3)])
    gate, run = begin(team, table, momentum)
    for _ in range(3):
        parts = [list(range(4)), list(range(4, 8))]
        own = [part[team.share(4)] for part in parts]
        with gate.step([NAMES[row] for part in own for row in part]):
            for number, rows in enumerate(own):
                last = number == len(own) - 1
                quiet = team.world > 1 and not synchronised and not last
                with run.no_sync() if quiet else contextlib.nullcontext(), gate.part([NAMES[row] for row in rows]):
                    gate.backward(losses(run, rows))
    return told(team, gate)


def parts(team: Team) -> Found:
    return _parts(team, synchronised=True)


def parts_without_synchronisation(team: Team) -> Found:
    return _parts(team, synchronised=False)


def halted_by_a_budget(team: Team) -> Found:
    gate, run = begin(team, tables([[1, 1]] * 3, budgets=[budget(per_run=10_000_000, on_exhaust="halt")]), momentum)
    said = [refusal(lambda: step(team, gate, run, range(8))) for _ in range(4)]
    return told(team, gate, said=said)


def halted_by_the_log(team: Team) -> Found:
    """The disk is the first rank's; no rank keeps a step that is not recorded."""
    team.log = Full()
    gate, run = begin(team, tables([[1, 1]] * 3), momentum)
    said = [refusal(lambda: step(team, gate, run, range(8))) for _ in range(3)]
    return told(team, gate, said=[one.partition(":")[0] for one in said])


def refused(team: Team) -> Found:
    """What the gate does not train on several processes; one process has nothing to refuse."""
    net = Net()
    plain = refusal(lambda: open_gate(net, momentum(net.parameters()), tables([[1, 1]] * 3), NAMES, groups=GROUPS))
    clean = all("forward" not in vars(module) for module in net.modules())
    return {"plain": plain, "clean": clean, "sharded": _sharded() if team.world > 1 else ""}


def _sharded() -> str:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net = Net()
    fully_shard(net, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return refusal(lambda: open_gate(net, momentum(net.parameters()), tables([[1, 1]] * 3), NAMES, groups=GROUPS))


RUNS: dict[str, Callable[[Team], Found]] = {
    run.__name__: run
    for run in (
        shares_limits_and_budgets,
        sketches,
        attenuated,
        exposures,
        uneven,
        closed_on_one_rank,
        closed_on_all_ranks,
        not_finite_on_one_rank,
        movement_budget,
        parts,
        parts_without_synchronisation,
        halted_by_a_budget,
        halted_by_the_log,
    )
}


def main(folder: Path) -> None:
    """Do all runs as one rank of several."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    found = {name: run(Team(rank, world)) for name, run in (RUNS | {"refused": refused}).items()}
    torch.save(found, folder / f"{rank}.pt")
    leave_together()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
