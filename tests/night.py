"""The long search: generated policies on which every form of the meaning must agree, for as long as you let it.

    make night                       # a million policies, both cores
    make night POLICIES=20000 SEED=7

A run is determined by its seed; a disagreement is printed with the policy and ends the run with status 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `support`, as pytest does it

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

CHUNK = 250
SEARCH = settings(
    max_examples=CHUNK,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def search(number: int) -> str | None:
    """Draw a chunk of policies; return the first disagreement in words, or None."""
    from support.meanings import Meanings

    from aqpolicy.diagnostics import Source
    from aqpolicy.model import load_policy
    from aqpolicy.testing import observations, policy_texts

    found: list[str] = []

    @seed(number)
    @SEARCH
    @given(st.data())
    def agree(data: st.DataObject) -> None:
        text = data.draw(policy_texts())
        policy = load_policy(Source("drawn.aqp", text))
        drawn = data.draw(st.lists(observations(policy), min_size=1, max_size=4))
        difference = Meanings(policy).disagreement(drawn)
        if difference is not None:
            found.append(f"{difference}\n\n{text}")

    agree()
    return found[0] if found else None


def main() -> int:
    """Search and show progress."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--policies", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chunks = -(-options.policies // CHUNK)
    started = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for done, difference in enumerate(pool.map(search, _seeds(options.seed, chunks)), start=1):
            if difference is not None:
                print(f"\ndisagreement: {difference}")
                pool.shutdown(cancel_futures=True)
                return 1
            rate = done * CHUNK / (time.monotonic() - started)
            print(f"\r{done * CHUNK} of {chunks * CHUNK} policies agree, {rate:.0f}/s", end="", flush=True)
    print()
    return 0


def _seeds(first: int, chunks: int) -> Iterator[int]:
    yield from range(first * 1_000_003, first * 1_000_003 + chunks)


if __name__ == "__main__":
    sys.exit(main())
