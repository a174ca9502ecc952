"""A second verifier of the lineage log that shares no code with the first (attack A37): it says only yes or no."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from struct import iter_unpack, pack, unpack, unpack_from
from typing import Any

import lmdb
import lmdb.verify
from attacks.independent_index import Visited, runs_of
from attacks.independent_leaves import RefusedError, digest, need, read_block, root
from attacks.independent_texts import facts_of, head_of, state_of


def check(run: Path, keys: dict[str, bytes]) -> None:
    """Return if a run's log is what was signed by these keys of the role `log`, given by name."""
    try:
        need(not lmdb.verify.verify(str(run / "lineage" / "data.mdb"), subdir=False), "pages")
        with lmdb.open(str(run / "lineage"), readonly=True, lock=False, max_dbs=9) as store, store.begin() as held:
            names = (b"entry", b"blk", b"body", b"cp", b"run", b"meta")
            tables = [dict(held.cursor(store.open_db(name, held))) for name in names]
        Log(tables).walk((run / "head.note").read_bytes(), keys)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(repr(error)) from error


class Log:
    def __init__(self, tables: list[dict[bytes, bytes]]) -> None:
        self.entries, self.blocks, self.bodies, self.heads, self.runs, self.meta = tables
        self.first = facts_of(self.entries[bytes(8)][16:])
        self.groups, self.budgets = len(self.first["groups"]), len(self.first["budgets"])
        self.code = {"float32": "f", "float16": "e"}[self.first["norms"]]
        self.bundle, self.manifest = (bytes.fromhex(self.first[name][7:]) for name in ("bundle", "manifest_root"))
        # Where training is: next step, epoch, what budgets were charged, data cursor.
        self.point: Any = (self.first["first_step"], 0, [[0] * self.budgets for _ in range(4)], bytes(32))
        self.models: dict[int, Any] = {-1: self.point}
        self.sums: dict[int, bytes] = {}
        self.attempt = self.steps = self.rows = self.due_blocks = self.due_bodies = self.due_runs = 0
        self.keyring, self.ended, self.loose = -1, False, list[Visited]()

    def walk(self, published: bytes, keys: dict[str, bytes]) -> None:
        origin, count = f"aqpolicy.local/run/{self.first['run']}", len(self.entries)
        entries = [self.entries[index.to_bytes(8, "big")] for index in range(count)]
        heads = {unpack(">Q", size)[0]: head_of(note, keys, origin) for size, note in self.heads.items()}
        need(head_of(published, keys, origin) in heads.values() and max(heads) == count, "heads")
        hashes = [digest(b"\0" + entry) for entry in entries]
        need(all(head == (size, root(hashes[:size])) for size, head in heads.items()), "roots")
        seen: set[int] = set()
        for index, data in enumerate(entries):
            magic, kind, version, flags, length, zero = unpack_from("<4sBBHII", data)
            need((magic, version, flags, length, zero) == (b"AQL1", 3, 0, len(data) - 16, 0), "entry")
            need((kind == 1) == (index == 0) and (kind in {1, 2, 3} or {3, 4} <= {*seen, kind}), "place")
            need(len(data) < 65_536 and (not self.ended or kind in {2, 5, 8}), "place")
            seen.add(kind)
            getattr(self, {6: "step"}.get(kind, "fact"))(index, kind, data[16:])
        due = (self.due_blocks, self.due_bodies, self.due_runs, 1 + len(self.sums))
        need(due == tuple(map(len, (self.blocks, self.bodies, self.runs, self.meta))), "left over")
        need(all(self.meta[b"model" + pack(">Q", index)] == sums for index, sums in self.sums.items()), "sums")
        told = {"attempt": self.attempt, "ended": self.ended, "rows": self.rows, "size": count, "steps": self.steps}
        told |= {"step": self.point[0], "tally": self.told().hex(), "keyring": self.keyring}
        need(told.items() <= state_of(self.meta[b"state"], keys).items(), "state")

    def told(self, *, hashed: bool = False) -> bytes:
        _, epoch, sums, cursor = self.point
        state = pack(f"<I{4 * self.budgets}Q", epoch, *(number for column in sums for number in column))
        return digest(b"AQS3" + state) if hashed else state + cursor

    def fact(self, index: int, kind: int, payload: bytes) -> None:
        said, place = facts_of(payload), index.to_bytes(8, "big")
        if kind in {2, 7}:
            self.due_bodies += 1
            need(said["keyring" if kind == 2 else "body"] == "sha256:" + digest(self.bodies[place]).hex(), "body")
        if kind == 1:
            need(said["format"] == 3, "format")
            need(said["origin"] == f"aqpolicy.local/run/{bytes.fromhex(said['run']).hex()}", "origin")
        elif kind == 2:
            need(said["version"] > self.keyring, "keyring")
            self.keyring = said["version"]
        elif kind in {3, 4}:
            name = "bundle" if kind == 3 else "manifest"
            new, old = bytes.fromhex(said["bundle" if kind == 3 else "root"][7:]), getattr(self, name)
            need(
                new == old if not self.steps and len(said) == 1 else kind == 3 or said["supersedes"][7:] == old.hex(),
                name,
            )
            setattr(self, name, new)
        elif kind == 7:
            state = digest(self.told(hashed=True) + self.point[3]).hex()
            need((said["step"], said["attempt"], said["state"]) == (self.point[0], self.attempt, state), "model")
            self.models[index], self.sums[index] = self.point, self.told()
            facts_of(self.bodies[place])
        elif kind == 8:
            need(said.keys() == {"attempt", "entry", "from_step", "reason", "supersedes", "time_s"}, "resume")
            point = self.models[said["entry"]]
            due = (self.attempt + 1, point[0], self.point[0] - point[0])
            need((said["attempt"], said["from_step"], said["supersedes"]) == due, "resume")
            self.point, self.attempt, self.ended = point, said["attempt"], False
            self.models = {model: at for model, at in self.models.items() if at[0] <= point[0]}
        elif kind == 9:
            self.seal(said, place)
        elif kind == 12:
            need(said == {"steps": self.point[0]}, "end")
            self.ended = True

    def seal(self, said: dict[str, Any], place: bytes) -> None:
        steps, self.loose = self.loose, []
        made = runs_of(steps, self.groups)
        due = {"attempt": steps[-1].attempt, "blocks": sum(len(step.ranks) for step in steps)}
        due |= {"from_step": steps[0].step, "to_step": steps[-1].step + 1}
        need(said == due | {"runs": {name: "sha256:" + digest(data).hex() for name, data in made.items()}}, "seal")
        need(all(self.runs[place + name.encode()] == data for name, data in made.items()), "run")
        self.due_runs += len(made)

    def step(self, index: int, _: int, payload: bytes) -> None:
        run, attempt, number, *facts, bundle, manifest, spent, cursor, world = unpack_from(
            "<16sIQIHHiQ32s32s32s32sI", payload
        )
        need((run, bundle, manifest) == (bytes.fromhex(self.first["run"]), self.bundle, self.manifest), "run")
        step, epoch, sums, before = self.point
        need((attempt, number) == (self.attempt, step) and facts[0] >= epoch, "step")
        ranks, parts, books, shape = list[Any](), list[Any](), list[Any](), (self.groups, self.budgets, self.code)
        for rank, rows, cells, flags, inner in iter_unpack("<IIII32s", payload[180:]):
            data = self.blocks[pack(">IQI", attempt, number, rank)]
            need(unpack_from("<4sIQIQIHHiQ", data) == (b"AQK3", attempt, number, rank, index, *facts), "block")
            need((rank, cells, flags) == (len(ranks), rows * self.groups, 0), "rank")
            for own, part in zip((parts, ranks, books), read_block(data, inner, rows, rank == 0, shape), strict=True):
                own.append(part)
        moved, movement, drift = books[0]
        need(len(set(map(len, parts))) == 1 and len(ranks) == world, "parts")
        rest, counts = [iter(own) for own in ranks], list(zip(*parts, strict=True))
        keys = b"".join(
            row.key for part in counts for own, count in zip(rest, part, strict=True) for row in islice(own, count)
        )
        visits = [len(counts), world, *(count for part in counts for count in part)]
        charged = [sum(row.charges[at] for own in ranks for row in own) for at in range(self.budgets)]
        sums = [sums[0] if facts[0] == epoch else [0] * self.budgets, *sums[1:]]
        sums = [
            [a + b for a, b in zip(*pair, strict=True)]
            for pair in zip(sums, (charged, charged, movement, drift), strict=True)
        ]
        self.point = (step + 1, facts[0], sums, digest(before + pack(f"<{len(visits)}I", *visits) + keys))
        need((self.told(hashed=True), self.point[3]) == (spent, cursor), "sums")
        self.loose.append(Visited(index, number, attempt, bundle + manifest, ranks, moved))
        self.steps, self.rows = self.steps + 1, self.rows + sum(map(len, ranks))
        self.due_blocks += world
