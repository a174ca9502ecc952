"""Measure the language's tools beside other policy engines, in one run.

`make bench-language` runs it. Times are CPU seconds of this process, medians of
rounds in which everybody takes turns; a cold start is wall time of a fresh
process. Every peer's answers are compared with the reference evaluator first.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from large_policies import drawn, structured
from peers import Peer, peers

from aqpolicy.analysis import CheckSettings, Prover, conflicts, examine
from aqpolicy.bundle.classify import Classifier
from aqpolicy.compiler import compile_tables
from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.gate.accounts.classify import BatchClassifier
from aqpolicy.model import Category, Policy, load_policy
from aqpolicy.semantics import evaluate
from aqpolicy.syntax.layout import format_text

SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 3
REQUESTS = 300
BATCH = 100_000

Observation = dict[str, str | int]


def seconds(work: Callable[..., object], *arguments: object, rounds: int = ROUNDS) -> float:
    """Return the median CPU time of some work."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work(*arguments)
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main() -> None:
    """Print every table."""
    torch.set_num_threads(1)
    _checking()
    _growth()
    _reading()
    _decisions()


def _checking() -> None:
    print("1,000 rules: CPU seconds, medians of", ROUNDS)
    kinds = {
        "structured, conjunctive": structured(1_000),
        "structured, 10 % linear shares": structured(1_000, linear=True),
        "random, conjunctive (many findings)": drawn(1_000),
    }
    for name, text in kinds.items():
        source = Source("bench.aqp", text)
        policy = load_policy(source)
        load, prove = seconds(load_policy, source), seconds(examine, policy)
        found = [finding for finding in examine(policy).findings if finding.severity != "note"]
        layout = seconds(format_text, source)
        print(
            f"  {name:<36} parse and typecheck {load:.3f}  all proofs {prove:.3f}  format {layout:.3f}"
            f"  ({len(found)} findings)"
        )
    clashing = load_policy(Source("bench.aqp", drawn(1_000, conflicting=True)))
    pairs = len(list(Prover(clashing).rivals()))
    found, told = seconds(_rivals, clashing), seconds(_conflicts, clashing)
    print(f"  conflicts of 1,000 random rules: {pairs:,} pairs found in {found:.3f}, told in {told:.3f}")
    print(f"100 rules, cold: wall seconds          {_cold(structured(100)):.3f}\n")


def _rivals(policy: Policy) -> list[tuple[str, str]]:
    return list(Prover(policy).rivals())


def _conflicts(policy: Policy) -> list[Diagnostic]:
    prover = Prover(policy)
    asked = conflicts.questions(policy, CheckSettings())
    return [finding for question in asked for finding in question.findings(prover)]


def _cold(text: str) -> float:
    """Return the wall time of `aqpolicy check` in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.aqp"
        path.write_text(text, encoding="utf-8")
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            command = [sys.executable, "-m", "aqpolicy", "check", str(path)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _growth() -> None:
    print("growth, structured: CPU seconds and table size")
    print(f"  {'rules':>6} {'parse+types':>12} {'proofs':>8} {'per rule':>10} {'format':>8} {'kinds':>7} {'bits':>6}")
    for size in SIZES:
        source = Source("bench.aqp", structured(size))
        policy = load_policy(source)
        rounds = ROUNDS if size <= 1_000 else 1
        load, prove = seconds(load_policy, source, rounds=rounds), seconds(examine, policy, rounds=rounds)
        layout = seconds(format_text, source, rounds=rounds)
        tables = compile_tables(policy)
        bits = sum(len(table.vectors) for table in tables.attributes)
        print(
            f"  {size:>6} {load:>12.3f} {prove:>8.3f} {1e3 * prove / size:>7.2f} ms {layout:>8.3f}"
            f" {len(tables.row_of_vector):>7} {bits:>6}"
        )
    print()


def _reading() -> None:
    print("read and check a policy text: CPU ms, medians in turn")
    print(f"  {'engine':<28}" + "".join(f"{size:>10}" for size in SIZES[:3]) + " rules")
    rows: dict[str, list[float]] = {}
    for size in SIZES[:3]:
        policy = load_policy(Source("bench.aqp", drawn(size)))
        mine = {"aqpolicy parse + typecheck": lambda size=size: load_policy(Source("bench.aqp", drawn(size)))}
        for name, read in {**mine, **{peer.name: peer.read for peer in peers(policy)}}.items():
            rows.setdefault(name, []).append(1e3 * seconds(read))
    for name, times in rows.items():
        print(f"  {name:<28}" + "".join(f"{taken:>10.2f}" for taken in times))
    print()


def _decisions() -> None:
    policy = load_policy(Source("bench.aqp", drawn(50)))
    tables = compile_tables(policy)
    observations = _observations(policy, REQUESTS)
    expected = [evaluate(policy, observation).shares[0] > 0 for observation in observations]
    print("decisions per second, 50 random rules (every engine agrees with the evaluator on", REQUESTS, "requests)")
    classify = Classifier(tables)
    values = [tuple(observation[table.name] for table in tables.attributes) for observation in observations]
    assert [tables.rows[classify(v)].shares[0] > 0 for v in values] == expected
    calls = 200
    taken = seconds(lambda: [classify(v) for _ in range(calls) for v in values])
    _rate("aqpolicy, per call, with provenance", calls * REQUESTS / taken)
    _rate(f"aqpolicy, batches of {BATCH}, with provenance", BATCH / _batched(policy, tables, expected, observations))
    for peer in peers(policy):
        _rate(peer.name.split()[0], _peer_rate(peer, observations, expected))


def _batched(policy: Policy, tables: object, expected: Sequence[bool], observations: Sequence[Observation]) -> float:
    classify = BatchClassifier(tables)
    few = _columns(policy, observations)
    assert [tables.rows[row].shares[0] > 0 for row in classify(few).tolist()] == list(expected)
    many = _columns(policy, _observations(policy, BATCH))
    return seconds(classify, many, rounds=9)


def _peer_rate(peer: Peer, observations: Sequence[Observation], expected: Sequence[bool]) -> float:
    assert [peer.answer(observation) for observation in observations] == list(expected), peer.name
    return len(observations) / seconds(lambda: [peer.answer(observation) for observation in observations])


def _rate(name: str, rate: float) -> None:
    print(f"  {name:<46} {rate:>14,.0f}")


def _observations(policy: Policy, count: int) -> list[Observation]:
    dice = random.Random(3)
    return [{a.name: _value(a.type, dice) for a in policy.taxonomy.attributes} for _ in range(count)]


def _value(kind: object, dice: random.Random) -> str | int:
    if isinstance(kind, Category):
        return dice.choice(kind.values)
    return dice.randint(kind.low // kind.step, kind.high // kind.step) * kind.step


def _columns(policy: Policy, observations: Sequence[Observation]) -> list[torch.Tensor]:
    columns = []
    for attribute in policy.taxonomy.attributes:
        kind, values = attribute.type, [observation[attribute.name] for observation in observations]
        numbers = [kind.values.index(v) for v in values] if isinstance(kind, Category) else values
        columns.append(torch.tensor(numbers, dtype=torch.int64))
    return columns


if __name__ == "__main__":
    main()
