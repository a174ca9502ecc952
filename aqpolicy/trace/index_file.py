"""An index as a file: a header, and parts that stay on disk until they are asked.

Trust:
    An index is unsigned and read as numbers only; every part of it has a digest
    in its header, so what was damaged on the way is found.

Layout: docs/formats/trace-index.md.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch import Tensor

from aqpolicy.errors import InputError, TraceError
from aqpolicy.trace.index import Facts, Index

MAGIC: Final = b"aqpolicy trace index 1\n"

_ALIGNED: Final = 64
_LENGTH: Final = struct.Struct("<Q")
_LARGEST_HEADER: Final = 64 * 1024 * 1024
_TYPES: Final = {"basis": torch.float32, "levels": torch.int8, "scales": torch.float32, "owners": torch.int32}
_TYPES_OF_SUMS: Final = {"sums": torch.float64, "visits": torch.int64}
_DAMAGED: Final = "is damaged or no trace index of this version; make it again (aqpolicy index)"


def write_index(path: Path, index: Index) -> None:
    """Write an index into a file, replacing what is there once it is whole.

    Raises:
        InputError: The file cannot be written.
    """
    parts = {name: getattr(index, name) for name in (*_TYPES, *_TYPES_OF_SUMS)}
    placed, at = {}, 0
    for name, tensor in parts.items():
        data = _bytes_of(tensor)
        placed[name] = [at, list(tensor.shape), sha256(data).hexdigest()]
        at += -(-len(data) // _ALIGNED) * _ALIGNED
    facts = {name: getattr(index.facts, name) for name in Facts.__slots__}
    header = json.dumps({"facts": facts, "parts": placed}, separators=(",", ":"), allow_nan=False).encode()
    front = MAGIC + _LENGTH.pack(len(header)) + header + sha256(header).digest()
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            file.write(front)
            for tensor in parts.values():
                file.write(b"\0" * (-file.tell() % _ALIGNED))
                file.write(_bytes_of(tensor))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {error.strerror}") from error


def load_index(path: Path, *, check: bool = True) -> Index:
    """Open an index; its rows stay on disk and are read when they are asked.

    Args:
        path: The file.
        check: Hash all of it first. Whoever asks many questions needs that once.

    Raises:
        InputError: The file cannot be read.
        TraceError: It is damaged, or no index of this version.
    """
    try:
        with path.open("rb") as file:
            facts, placed, start = _read_header(path, file)
            size = os.fstat(file.fileno()).st_size
            # Copied where written to, which nobody does: torch would warn of memory that it may not write.
            held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read `{path}`: {error}") from error
    tensors = {}
    for name, kind in (_TYPES | _TYPES_OF_SUMS).items():
        at, shape, digest = _place(path, placed, name)
        length = prod(shape) * kind.itemsize
        if start + at + length > size:
            raise TraceError(f"`{path}` {_DAMAGED}")
        if check and sha256(memoryview(held)[start + at : start + at + length]).hexdigest() != digest:
            raise TraceError(f"`{path}` {_DAMAGED}: its {name} are others than were written")
        flat = torch.frombuffer(held, dtype=kind, count=prod(shape), offset=start + at) if length else torch.empty(0)
        tensors[name] = flat.to(kind).view(shape)
    index = Index(facts, **tensors)
    _refuse_misfits(path, index)
    return index


def _read_header(path: Path, file: BinaryIO) -> tuple[Facts, Mapping[str, Any], int]:
    head = file.read(len(MAGIC) + _LENGTH.size)
    if len(head) != len(MAGIC) + _LENGTH.size or not head.startswith(MAGIC):
        raise TraceError(f"`{path}` {_DAMAGED}")
    (length,) = _LENGTH.unpack(head[len(MAGIC) :])
    if length > _LARGEST_HEADER:
        raise TraceError(f"`{path}` {_DAMAGED}")
    header, digest = file.read(length), file.read(32)
    if sha256(header).digest() != digest:
        raise TraceError(f"`{path}` {_DAMAGED}")
    try:
        read = json.loads(header)
        facts = _facts(read["facts"])
        placed = dict(read["parts"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TraceError(f"`{path}` {_DAMAGED}") from error
    return facts, placed, -(-file.tell() // _ALIGNED) * _ALIGNED


def _facts(read: Mapping[str, Any]) -> Facts:
    sketch = read["sketch"]
    return Facts(
        run=str(read["run"]),
        policy=str(read["policy"]),
        model=str(read["model"]),
        damp=float(read["damp"]),
        groups=tuple(map(str, read["groups"])),
        parameters=tuple(
            tuple((str(name), tuple(map(int, shape))) for name, shape in group) for group in read["parameters"]
        ),
        shapes=tuple(tuple(tuple(map(int, shape)) for shape in group) for group in read["shapes"]),
        sketch=None if sketch is None else (int(sketch[0]), int(sketch[1])),
        credentials=tuple(map(str, read["credentials"])),
        examples=tuple(map(str, read["examples"])),
        captured=float(read["captured"]),
    )


def _place(path: Path, placed: Mapping[str, Any], name: str) -> tuple[int, tuple[int, ...], str]:
    try:
        at, shape, digest = placed[name]
        found = int(at), tuple(map(int, shape)), str(digest)
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"`{path}` {_DAMAGED}") from error
    if found[0] < 0 or any(side < 0 for side in found[1]):
        raise TraceError(f"`{path}` {_DAMAGED}")
    return found


def _refuse_misfits(path: Path, index: Index) -> None:
    """Refuse parts that do not fit each other."""
    facts, k = index.facts, index.basis.shape[:1]
    e, c = len(facts.examples), len(facts.credentials)
    expected = {
        "basis": (*k, sum(facts.widths)),
        "levels": (e, *k),
        "scales": (e,),
        "owners": (e,),
        "sums": (c, len(facts.groups), *k),
        "visits": (c,),
    }
    fits = all(tuple(getattr(index, name).shape) == shape for name, shape in expected.items())
    owned = not e or (int(index.owners.min()) >= 0 and int(index.owners.max()) < c)
    if not fits or not owned or len(facts.shapes) != len(facts.groups):
        raise TraceError(f"`{path}` {_DAMAGED}")


def _bytes_of(tensor: Tensor) -> memoryview:
    if not tensor.numel():
        return memoryview(b"")
    data: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return memoryview(data)
