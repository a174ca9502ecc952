"""How long the command line takes to start, beside the bare interpreter, in one run.

python docs/bench/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import aqpolicy": ["-c", "import aqpolicy"],
    "aqpolicy --version": ["-m", "aqpolicy", "--version"],
}
ROUNDS = 15


def milliseconds(arguments: list[str]) -> float:
    """Return the wall time of one fresh interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Run the commands in turn and print medians."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(ROUNDS + 1):
        for name, arguments in COMMANDS.items():
            taken = milliseconds(arguments)
            if number:  # the first round warms the caches
                times[name].append(taken)
    print(f"wall time of a fresh process, median (least) of {ROUNDS}, commands in turn")
    for name, taken_all in times.items():
        print(f"  {name:<20} {statistics.median(taken_all):6.1f} ms  ({min(taken_all):.1f})")


if __name__ == "__main__":
    main()
