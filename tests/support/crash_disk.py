"""What a process wrote to a disk, as `strace` tells it, and folders with what a power cut may leave of that."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from support.crash_files import PAGE, SECTOR, Choose, File, Folder

_NAMES: Final = "openat,close,lseek,mkdir,rename,unlink,unlinkat,rmdir,link,linkat,renameat,renameat2,mkdirat"
_BYTES: Final = "write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile"
_FLUSHES: Final = "fsync,fdatasync,sync_file_range,msync,sync,syncfs"
_CALL: Final = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(slots=True)
class _Opened:
    node: File | Folder
    path: str
    at_once: bool
    """Whether a write returns only when it is flushed."""
    place: int = 0


class Disk:
    """What a process has done to a folder so far."""

    def __init__(self, root: Path) -> None:
        """Start with what the folder holds, all of it flushed."""
        self._prefix = f"{root}{os.sep}"
        self.root = _folder_of(root)
        self._opened: dict[int, _Opened] = {}
        self.said = b""
        """What the process said on its standard output."""

    def follow(self, trace: Path) -> Iterator[None]:
        """Do what the process did; stop before every flush comes back, and at the end."""
        with trace.open(encoding="ascii") as lines:
            for line in lines:
                found = _CALL.match(line)
                if found is not None and not found[3].startswith("-"):
                    yield from self._do(found[1], found[2], int(found[3]))
        yield

    def _do(self, call: str, said: str, returned: int) -> Iterator[None]:
        if call in {"openat", "mkdir", "rename", "unlink", "unlinkat", "rmdir"}:
            self._names(call, said, returned)
            return
        number = int(found[0]) if (found := re.match(r"\d+", said)) else -1
        opened = self._opened.get(number)
        if call == "close":
            self._opened.pop(number, None)
        elif call in {"write", "writev"} and number == 1:
            self.said += _texts(said)
        elif opened is not None and isinstance(opened.node, Folder):
            assert call == "fsync"
            yield
            opened.node.flush()
        elif opened is not None:
            yield from self._file(call, said, returned, opened, opened.node)
        else:
            assert self._prefix.encode() not in _texts(said), f"{call} is not understood"

    def _file(self, call: str, said: str, returned: int, opened: _Opened, file: File) -> Iterator[None]:
        if call == "lseek":
            opened.place = returned
        elif call in {"fsync", "fdatasync"}:
            yield
            file.flush()
        elif call == "ftruncate":
            assert opened.path.endswith("lock.mdb"), "a file is cut"
        else:
            positioned = call.startswith("pwrite")
            assert positioned or call in {"write", "writev"}, f"{call} is not understood"
            at = int(said.rsplit(", ", 1)[1]) if positioned else opened.place
            write = (at, _texts(said)[:returned])
            opened.place += 0 if positioned else returned
            file.waiting.append(write)
            if opened.at_once:
                yield
                file.flush(write)

    def _names(self, call: str, said: str, returned: int) -> None:
        base = int(found[0]) if (found := re.match(r"\d+", said)) else -1
        paths = [
            str(Path(self._opened[base].path if base in self._opened else "") / _decoded(one))
            for one in _TEXT.findall(said)
        ]
        if not all(path.startswith(self._prefix) for path in paths):
            if call == "openat" and paths[0] + os.sep == self._prefix:
                self._opened[returned] = _Opened(self.root, paths[0], at_once=False)
            return
        places = [self._place(path) for path in paths]
        folder, name = places[0]
        if call == "openat":
            if name not in folder.seen:
                folder.change({name: File()})
            assert "O_TRUNC" not in said
            self._opened[returned] = _Opened(folder.seen[name], paths[0], at_once="SYNC" in said)
        elif call == "mkdir":
            folder.change({name: Folder()})
        elif call == "rename":
            assert places[1][0] is folder, "a name moves to another folder"
            folder.change({name: None, places[1][1]: folder.seen[name]})
        else:
            folder.change({name: None})

    def _place(self, path: str) -> tuple[Folder, str]:
        *above, name = Path(path.removeprefix(self._prefix)).parts
        folder = self.root
        for each in above:
            below = folder.seen[each]
            assert isinstance(below, Folder)
            folder = below
        return folder, name

    def head(self) -> bytes:
        """Return the published head as anybody sees it now; nothing where there is none."""
        run = self.root.seen.get("run")
        file = run.seen.get("head.note") if isinstance(run, Folder) else None
        return b"" if file is None else file.left(PAGE, lambda count: count, grown=False)

    def leave(self, root: Path, draw: random.Random) -> None:
        """Make a folder that holds what a power cut at this moment may leave."""
        choose, unit = _way(draw), draw.choice((PAGE, SECTOR))
        _write(self.root, root, choose, unit, draw)

    def leave_all(self, root: Path) -> None:
        """Make a folder that holds all that was written: what a killed process leaves."""
        _write(self.root, root, lambda count: count, PAGE, random.Random(0))


def _way(draw: random.Random) -> Choose:
    """Return one of the ways in which changes get lost: all, none, one, all but one, or by dice."""
    kind, chance = draw.randrange(8), draw.choice((0.1, 0.5, 0.9))
    if kind < 2:
        return lambda count: count * kind
    if kind < 4:
        odd = draw.randrange(6)
        turn = iter(range(1 << 30))
        return lambda count: count if (next(turn) == odd) == (kind == 2) else 0
    return lambda count: sum(draw.random() < chance for _ in range(count))


def _write(folder: Folder, path: Path, choose: Choose, unit: int, draw: random.Random) -> None:
    path.mkdir()
    for name, node in folder.left(choose).items():
        if isinstance(node, Folder):
            _write(node, path / name, choose, unit, draw)
        elif name == "lock.mdb":  # it is written through memory, and nobody may rely on it
            (path / name).write_bytes(draw.choice((b"", bytes(8192), draw.randbytes(8192))))
        else:
            (path / name).write_bytes(node.left(unit, choose, grown=draw.random() < 0.5))


def _folder_of(path: Path) -> Folder:
    folder = Folder(
        {
            each.name: _folder_of(each) if each.is_dir() else File(bytearray(each.read_bytes()))
            for each in path.iterdir()
        }
    )
    folder.seen = dict(folder.names)
    return folder


def _texts(said: str) -> bytes:
    return b"".join(bytes.fromhex(one.replace("\\x", "")) for one in _TEXT.findall(said))


def _decoded(text: str) -> str:
    return os.fsdecode(bytes.fromhex(text.replace("\\x", "")))


def strace() -> str:
    """Return the program that tells what a process does; skip a test where there is none that works."""
    found = shutil.which("strace")
    probe = [str(found), "-f", "--seccomp-bpf", "-qq", "-e", "trace=none", "true"]
    if found is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("`strace` is not installed, or may not be used here")
    return found


def watched(trace: Path) -> tuple[str, ...]:
    """Return the command before a command whose calls are to be written down."""
    calls = f"{_NAMES},{_BYTES},{_FLUSHES}"
    return (
        strace(),
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        str(trace),
        "-xx",
        "-v",
        "-s",
        str(1 << 24),
        "-e",
        f"trace={calls}",
    )
