"""Make and check proofs of rows of a log of 10^6 entries, at 1,024 examples x 100 groups, and say how large they are.

python docs/bench/lineage_proofs.py [STEPS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from lineage_index import GROUPS, KEY, KEYRING, ROWS, steps

from aqpolicy.lineage import LineageReader, LineageWriter
from aqpolicy.lineage.proof import RowProof, encode_row_proof
from aqpolicy.lineage.proved import Checker
from aqpolicy.lineage.prover import Prover
from aqpolicy.provenance import (
    Credential,
    Field,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
    example_digest,
    label_digest,
)
from aqpolicy.provenance.credential import new_credential, seal_credential
from aqpolicy.provenance.evidence import label_evidence, verify_label
from aqpolicy.trust import Checkpoint, Keyring, SigningKey, leaf_hash, root_of, sign_checkpoint

ENTRIES = 1_000_000
SESSIONS, LABELS = 40, 500
AUTHORITY, ISSUER, READER = (SigningKey.generate(name) for name in ("annotator-ca", "issuer", "reader"))
TRUSTED = KEYRING.with_key("annotator-ca", AUTHORITY.verify_key).with_key("manifest-issuer", ISSUER.verify_key)


def write(run: Path, count: int, ranks: int) -> None:
    """Write a log whose rows come from so many ranks."""
    genesis: dict[str, Any] = {"bundle": "sha256:" + "11" * 32, "manifest_root": "sha256:" + "22" * 32}
    names = [f"encoder layer {number}" for number in range(GROUPS)]
    writer = LineageWriter.create(run, genesis, KEY, groups=names, budgets=["all"])
    for step in steps(count):
        writer.append_step(replace(step, visits=((ROWS // ranks,) * ranks,)))
    writer.close()


class LongLog:
    """What a prover needs of a reader: a real log, and behind it its own entries again up to a size."""

    def __init__(self, reader: LineageReader, size: int) -> None:
        """Sign the longer log."""
        self._real = reader
        self._data = [data for _, data in reader.raw_entries()]
        self._more = [reader.entry(index) for index, _ in reader.step_entries()]
        self._size = size
        root = root_of([leaf_hash(data) for _, data in self.raw_entries()])
        self.checkpoint = Checkpoint(str(reader.genesis["origin"]), size, root)
        self.note = sign_checkpoint(self.checkpoint, KEY).encode()

    def __getattr__(self, name: str) -> Any:
        """Return what the real log has."""
        return getattr(self._real, name)

    def entry(self, index: int) -> bytes:
        """Return one entry."""
        real = len(self._data)
        return self._data[index] if index < real else self._more[index % len(self._more)]

    def raw_entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Return all entries."""
        for index in range(start, self._size if stop is None else min(stop, self._size)):
            yield index, self.entry(index)


def evidence() -> tuple[bytes, bytes]:
    """Return a signed label, alone, and the root of its manifest."""
    granted = new_credential(
        id="reader-07",
        pseudonym="p07",
        authority="radiologist",
        taxonomy="lidc@1",
        scopes=("nodule",),
        key=READER.verify_key.text,
        issued_by="annotator-ca",
        issued_on="2023-01-01",
        valid_from="2023-01-01",
        valid_until="2024-12-31",
    )
    credential = Credential(
        "reader-07", READER.verify_key.text, "p07", "radiologist", seal_credential(granted, [AUTHORITY])
    )
    schema = (Field("tier", "category", ("hint", "silver", "gold")), Field("consensus", "numeric"))
    sessions = [
        Session(credential, READER, [_observed(f"scan-{session}/{number}") for number in range(LABELS)])
        for session in range(SESSIONS)
    ]
    manifest = decode_manifest(encode_manifest("pilot", "lidc@1", schema, sessions, ISSUER), TRUSTED)
    return label_evidence(manifest, manifest.size // 3), manifest.root


def _observed(name: str) -> Observation:
    digests = (example_digest(name.encode()), label_digest(name, b"yes"))
    return Observation(name, *digests, "reader-07", 1_700_000_000, {"tier": "gold", "consensus": 750_000})


def rate(work: Callable[[], Sequence[object]], times: int = 5) -> str:
    """Return how many things are done in a second: the best of some times, and the median."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        count = len(work())
        found.append(count / (time.perf_counter() - start))
    found.sort()
    return f"{found[-1]:>9,.0f}/s  (median {found[len(found) // 2]:,.0f})"


def measure(reader: LineageReader, keyring: Keyring) -> None:
    """Make proofs under a head of 10^6 entries, check them, and print."""
    log: Any = LongLog(reader, ENTRIES)
    start = time.perf_counter()
    prover = Prover(log)
    print(f"  a prover of {ENTRIES:,} entries is ready in {time.perf_counter() - start:.1f} s")
    indices = [index for index, _ in reader.step_entries()]

    def of_one_step() -> list[bytes]:
        return [encode_row_proof(proof) for proof in prover.proofs(indices[0])]

    def of_many_steps() -> list[bytes]:
        return [encode_row_proof(next(islice(prover.proofs(index), 7, None))) for index in indices]

    one_step, many_steps = of_one_step(), of_many_steps()
    print("  build, rows of one step          " + rate(of_one_step))
    print("  build, one row of each step      " + rate(of_many_steps))
    trusted = keyring.keys("log")
    for name, files in (("rows of one step         ", one_step), ("one row of each step     ", many_steps)):
        print(f"  check, {name} " + rate(lambda files=files: [*map(Checker(trusted).check_file, files)]))
    sizes(next(prover.proofs(indices[0])))


def sizes(proof: RowProof) -> None:
    """Print how large the file of a proof is, with and without what may be left out."""
    label, root = evidence()
    verify_label(label, root, TRUSTED)
    print(
        f"  check, a label                    {rate(lambda: [verify_label(label, root, TRUSTED) for _ in range(300)])}"
    )
    short, bare = replace(proof, genesis=None), replace(proof, genesis=None, later=())
    for name, one in (
        ("the row alone, read with its bundle", bare),
        ("... and that its step counts (--short)", short),
        ("... and names of groups (as usual)", proof),
        ("the short one with its signed label", replace(short, label=label)),
        ("the usual one with its signed label", replace(proof, label=label)),
    ):
        print(f"  {len(encode_row_proof(one)):>6,} bytes  {name}")


def main() -> None:
    """Write, prove, check, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    for ranks in (1, 8):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            write(run, count, ranks)
            print(f"{count} steps x {ROWS} examples x {GROUPS} groups, {ranks} ranks")
            with LineageReader(run, KEYRING) as reader:
                measure(reader, KEYRING)


if __name__ == "__main__":
    main()
