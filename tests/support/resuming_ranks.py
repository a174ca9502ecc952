"""Two processes that train one model, stop, and go on; as a script, one of them.

`python -m torch.distributed.run --nproc-per-node 2 resuming_ranks.py FOLDER STOP`: trains to step STOP, with a
checkpoint before it, or goes on from the latest one to the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.leaving import leave_together
from support.resuming import NAMES, begin, make_net

SAVED, END = 4, 9


def main(folder: Path, stop: int) -> None:
    """Train as one of several processes."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(5)
    net = make_net()
    run = DistributedDataParallel(net)
    torch.manual_seed(100 + rank)  # every rank drops out something else
    resume = "latest" if (folder / "run" / "at-4.ckpt").exists() else None
    gate = begin(folder, run, resume=resume)
    x = torch.linspace(-1, 1, 3 * len(NAMES)).reshape(-1, 3).sin()
    y = torch.arange(len(NAMES)) % 2
    while gate.state.step < stop:
        step = gate.state.step
        if step == SAVED and not (folder / "run" / "at-4.ckpt").exists():
            gate.checkpoint("at-4")
        pick = [(5 * step + number) % len(NAMES) for number in range(6 + rank)][rank::world]
        with gate.step([NAMES[index] for index in pick]):
            gate.backward(functional.cross_entropy(run(x[pick]), y[pick], reduction="none"))
    if stop == END:
        gate.close()
        torch.save([value.detach() for value in net.parameters()], folder / f"{rank}.pt")
    elif gate.machinery.recorder.log is not None:
        gate.machinery.recorder.log.abandon()
    leave_together()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
