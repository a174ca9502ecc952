"""Verify a manifest of a million labels, show single labels of it, and say how large it is; its peers beside it.

python docs/bench/manifest.py [LABELS]

The labels are those of an export drawn at random: sessions of 60 to 3,000 labels (500 on average), 200 annotators, and
a history for one label in five.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from lineage_proofs import rate

from aqpolicy.provenance import (
    ConsensusEvent,
    Credential,
    Field,
    LabelChecker,
    Manifest,
    Observation,
    Session,
    issue_manifest,
    load_manifest,
    verify_label_proof,
)
from aqpolicy.provenance.evidence import label_evidence, verify_label
from aqpolicy.trust import Keyring, SigningKey, sha256

ANNOTATORS, ASKED, SIGNED = 200, 20_000, 2_000
ISSUER = SigningKey.from_seed("issuer", bytes(32))
KEYRING = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
TIERS, REVIEWS = ("hint", "silver", "expert", "gold"), ("none", "second", "board")
SCHEMA = (
    Field("tier", "category", TIERS),
    Field("review", "category", REVIEWS),
    Field("consensus", "numeric"),
    Field("judgments", "numeric"),
)
MEGABYTE: Final = 2**20


def rows(count: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the sessions of an export, as a labelling tool would give them away."""
    dice, made = random.Random(0), 0
    while made < count:
        size = min(count - made, round(min(max(dice.lognormvariate(5.9, 0.8), 60), 3_000)))
        annotator, began = dice.randrange(ANNOTATORS), 1_700_000_000 + dice.randrange(10**7)
        yield [_row(f"scan/{made + at:08d}", annotator, began + 11 * at, dice) for at in range(size)]
        made += size


def _row(name: str, annotator: int, at: int, dice: random.Random) -> dict[str, Any]:
    return {
        "example": name,
        "example_sha256": dice.randbytes(32).hex(),
        "label_sha256": dice.randbytes(32).hex(),
        "annotator": f"reader-{annotator:03d}",
        "observed_at": at,
        "tier": dice.choice(TIERS),
        "review": dice.choice(REVIEWS),
        "consensus": dice.randrange(1_000_001),
        "judgments": 1_000_000 * dice.randrange(1, 6),
        "history": [] if dice.random() < 0.8 else [["pool", dice.randrange(1_000_001), 3, at - 5_000]],
    }


def issue(path: Path, export: list[list[dict[str, Any]]]) -> float:
    """Sign the sessions of an export, write the manifest, and return the seconds that it took."""
    start = time.perf_counter()
    keys = {f"reader-{number:03d}": _key(number) for number in range(ANNOTATORS)}
    sessions = [
        Session(Credential(name, keys[name].verify_key.text), keys[name], [_observation(row) for row in session])
        for session in export
        for name in (session[0]["annotator"],)
    ]
    issue_manifest(path, "export", "lidc@1", SCHEMA, sessions, ISSUER)
    return time.perf_counter() - start


def _key(number: int) -> SigningKey:
    return SigningKey.from_seed(f"reader-{number:03d}", sha256(number.to_bytes(4, "little")))


def _observation(row: dict[str, Any]) -> Observation:
    return Observation(
        row["example"],
        bytes.fromhex(row["example_sha256"]),
        bytes.fromhex(row["label_sha256"]),
        row["annotator"],
        row["observed_at"],
        {field.name: row[field.name] for field in SCHEMA},
        tuple(ConsensusEvent(*event) for event in row["history"]),
    )


def seconds(work: Callable[[], object], times: int = 5) -> str:
    """Return how long something takes: the best of some times, and the median."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        done = work()
        taken.append(time.perf_counter() - start)
        del done
    return f"{min(taken):>7.2f} s  (median {statistics.median(taken):.2f})"


def peers(path: Path, text: Path, count: int) -> None:
    """Print what it takes to verify everything, to parse the same labels as JSON, and to verify one signature each."""
    print(f"  verify all of the manifest        {seconds(lambda: load_manifest(path, KEYRING))}")
    print(f"  floor: that many bytes hashed     {seconds(lambda: _hashed(path.stat().st_size // count, count))}")
    print(f"  peer: parse JSON, verify nothing  {seconds(lambda: json.loads(text.read_bytes()))}")
    row = json.loads(text.read_bytes())[0]
    messages = [json.dumps(dict(row, example=number)).encode() for number in range(SIGNED)]
    signatures, key = [ISSUER.sign(message) for message in messages], ISSUER.verify_key

    def verify_each() -> list[None]:
        return [key.verify(signature, message) for signature, message in zip(signatures, messages, strict=True)]

    start = time.perf_counter()
    verify_each()
    each = (time.perf_counter() - start) / SIGNED
    print(f"  peer: one signature per label     {each * count:>7.2f} s  (from {SIGNED:,}; {64 * count:,} bytes)")


def _hashed(size: int, count: int) -> list[bytes]:
    """Hash as many leaves and nodes as the trees of a manifest have, and do nothing else."""
    leaf, node = bytes(size), bytes(65)
    return [hashlib.sha256(leaf).digest() for _ in range(count)] + [hashlib.sha256(node).digest() for _ in range(count)]


def single_labels(manifest: Manifest) -> None:
    """Print how fast single labels are shown and checked."""
    dice = random.Random(1)
    asked = [dice.randrange(manifest.size) for _ in range(ASKED)]
    near = list(range(min(ASKED, manifest.size)))
    for name, indices in (("anywhere", asked), ("in a row", near)):
        proofs = [manifest.prove(index) for index in indices]  # the trees of the sessions are kept from here on
        LabelChecker(manifest.root).check(proofs[0])
        print(f"  build proofs, labels {name}     {rate(lambda i=indices: [manifest.prove(index) for index in i])}")
        print(f"  check, labels {name}            {rate(lambda p=proofs: _checked(p, manifest.root))}")
    alone = [manifest.prove(index) for index in asked[:2_000]]
    print(f"  check, each by itself             {rate(lambda: [verify_label_proof(p, manifest.root) for p in alone])}")
    files = [label_evidence(manifest, index) for index in asked[:300]]
    print(
        f"  check files, signatures too       {rate(lambda: [verify_label(f, manifest.root, KEYRING) for f in files])}"
    )
    sizes = [32 * (len(p.path) + len(p.session.path)) + len(p.leaf) + len(p.session.statement) for p in alone]
    print(f"  {statistics.mean(sizes):,.0f} bytes a proof, {statistics.mean(map(len, files)):,.0f} a file of evidence")


def _checked(proofs: list[Any], root: bytes) -> list[None]:
    checker = LabelChecker(root)
    return [checker.check(proof) for proof in proofs]


def memory(path: Path) -> None:
    """Print, in a process that does nothing else, what loading a manifest adds to its memory at most."""
    before = _peak()
    load_manifest(path, KEYRING)
    print(
        f"  memory grows by {_peak() - before:,.0f} MiB at most, {path.stat().st_size / MEGABYTE:,.0f} of it the file"
    )


def _peak() -> float:
    """Return the most memory that this process ever held; what `getrusage` says includes its parent's."""
    line = next(each for each in Path("/proc/self/status").read_text("ascii").splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Draw, issue, verify, show, print."""
    if sys.argv[1:2] == ["--memory"]:
        return memory(Path(sys.argv[2]))
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path, text = Path(folder) / "export.aqm", Path(folder) / "export.json"
        export = list(rows(count))
        text.write_text(json.dumps([row for session in export for row in session]), "ascii")
        taken, sessions = issue(path, export), len(export)
        del export
        size, plain = path.stat().st_size, text.stat().st_size
        print(f"{count:,} labels in {sessions:,} sessions of up to {ANNOTATORS} annotators; signed in {taken:.1f} s")
        print(f"  {size / count:.1f} bytes a label, as JSON {plain / count:.1f} and unsigned")
        subprocess.run([sys.executable, __file__, "--memory", path], check=True)  # noqa: S603  # itself
        peers(path, text, count)
        single_labels(load_manifest(path, KEYRING))
    return None


if __name__ == "__main__":
    main()
