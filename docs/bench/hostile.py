"""How long texts that are no policies keep `aqpolicy check` busy, and how much memory they take.

python docs/bench/hostile.py

Each text is checked by a process of its own, whose start counts in.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHECK = """\
import resource, sys
from aqpolicy.cli.main import main
status = main(["check", "-", "--format", "concise"])
print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def bombs() -> dict[str, str]:
    """Return the texts of the hostile tests by name."""
    sys.path.insert(0, str(ROOT / "tests"))
    spec = importlib.util.spec_from_file_location("hostile", ROOT / "tests" / "hostile" / "test_hostile_policy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, str] = module.BOMBS
    return found


def main() -> None:
    """Print a line for each text."""
    print(f"{'text':<34} {'characters':>10} {'wall s':>7} {'MiB':>5}  status")
    for name, text in bombs().items():
        start = time.perf_counter()
        command = [sys.executable, "-c", CHECK]
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)  # noqa: S603 - our own words
        taken = time.perf_counter() - start
        status, memory = done.stderr.decode().split()[-2:]
        assert b"Traceback" not in done.stderr, name
        print(f"{name:<34} {len(text):>10} {taken:>7.2f} {memory:>5}  {status}")


if __name__ == "__main__":
    main()
