"""Watches a real process at work with strace: every call that changes the disk, in order, and faults at any of them.

The process comes from a fork server that has imported everything but run nothing (Polars must not be forked once its
threads run), and strace is attached before it begins, so that only the work itself is traced.
"""

import ctypes
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from historical_etl import HistoricalETLError
from historical_etl.sessions import get_calendar
from historical_etl_tests.crash.commands import Tell

__all__ = ["Call", "Ended", "Trace", "Work", "traced"]

Work = Callable[[Path, Tell], None]

#: Calls that change what is on disk, or make it durable.
CHANGING: Final = (
    "open openat creat write pwrite64 writev pwritev pwritev2 truncate ftruncate fallocate sendfile copy_file_range "
    "fsync fdatasync sync_file_range rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat "
    "mkdir mkdirat rmdir chmod fchmod fchmodat"
).split()
#: Calls that say which file a descriptor means, and where in it the next byte goes.
FOLLOWED: Final = "close dup dup2 dup3 fcntl lseek mmap".split()
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["historical_etl_tests.crash.tracing", "exchange_calendars", "duckdb", "shutil"])
_ANY: Final = ctypes.c_ulong(-1)
_PR_SET_PTRACER: Final = 0x59616D61
_PATIENCE: Final = 120

_LINE: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(?:<((?:\\x[0-9a-f]{2})*)>)?(?: (\w+))?.*")
_BEGUN: Final = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_QUOTED: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_FOLDER: Final = re.compile(r"(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>")


@dataclass(frozen=True)
class Call:
    """One call of a traced process.

    Attributes:
        thread: which thread made it.
        name: of the call.
        number: how many calls of this name the thread had made by then, this one included; faults go by it.
        arguments: as strace writes them.
        paths: the files it names, absolute; for a call on a descriptor, the file that is open there.
        data: what it writes, in a full trace.
        result: what it returned; None if it never returned.
        error: the name of the error it met.
    """

    thread: int
    name: str
    number: int
    arguments: str
    paths: tuple[str, ...]
    data: bytes
    result: int | None
    error: str

    @property
    def changes(self) -> bool:
        """Whether it is one that can change what is on disk, or make it durable."""
        if self.name in {"open", "openat", "creat"}:
            return self.name == "creat" or "O_CREAT" in self.arguments or "O_TRUNC" in self.arguments
        return self.name in CHANGING

    def is_below(self, root: Path) -> bool:
        """Whether it concerns a file of a store."""
        return any(path == str(root) or path.startswith(f"{root}/") for path in self.paths)


@dataclass(frozen=True)
class Ended:
    """How the work ended: its exit code, what it acknowledged, and what it raised if anything.

    `error` is the name of the exception, `ours` whether it is of our own tree, `told` its text.
    """

    exitcode: int | None
    acknowledged: tuple[int, ...]
    error: str = ""
    ours: bool = True
    told: str = ""


@dataclass(frozen=True)
class Trace:
    """What a process did, and how it ended."""

    calls: tuple[Call, ...]
    ended: Ended

    def steps(self, root: Path) -> list[Call]:
        """The calls that change something of a store, in order."""
        return [call for call in self.calls if call.changes and call.is_below(root)]


def traced(
    work: Work, root: Path, log: Path, *, inject: Sequence[str] = (), full: bool = False, preface: Callable[[], None] | None = None
) -> Trace:
    """Let a process of its own do some work under strace.

    Args:
        work: a function of a module.
        root: the data folder.
        log: where strace writes; what is acknowledged goes to a file beside it.
        inject: faults, as strace's option of that name takes them.
        full: keep what is written, and follow descriptors, so that the disk can be modelled.
        preface: called in the process before strace is attached, such as to set its limits.
    """
    marks = log.with_suffix(".marks")
    marks.unlink(missing_ok=True)
    mine, theirs = _FORKS.Pipe()
    process = _FORKS.Process(target=_process, args=(work, root, marks, theirs, preface), daemon=True)
    process.start()
    theirs.close()
    _answer(mine)
    assert process.pid is not None
    shown = ["-y", "-xx", "-s", str(1 << 26)] if full else ["-y", "-xx", "-s", "0"]
    expression = ",".join([*CHANGING, *(FOLLOWED if full else [])])
    faults = [part for fault in inject for part in ("-e", f"inject={fault}")]
    command = ["strace", "-f", "-qq", *shown, "-o", str(log), "-e", f"trace={expression}", *faults]
    with subprocess.Popen([*command, "-p", str(process.pid)], stderr=subprocess.PIPE, text=True) as strace:
        _wait_until_attached(process.pid, strace)
        mine.send("go")
        answer = _answer(mine)
        process.join(_PATIENCE)
        if process.exitcode is None:
            process.kill()
        strace.wait(_PATIENCE)
    acknowledged = tuple(int(line) for line in marks.read_text().split()) if marks.exists() else ()
    error, ours, told = answer or ("", True, "")
    return Trace(tuple(_calls(log)), Ended(process.exitcode, acknowledged, error, ours, told))


def _process(
    work: Work, root: Path, marks: Path, parent: Connection, preface: Callable[[], None] | None
) -> None:
    sys.dont_write_bytecode = True
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)  # where only a parent may trace, else
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core: so libraries work in the thread that asks
    get_calendar("XNYS")
    descriptor = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if preface:
        preface()
    parent.send(None)
    parent.recv()
    answer = ("", True, "")
    try:
        work(root, lambda version: _mark(descriptor, version))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test judges it
        answer = (type(error).__name__, isinstance(error, HistoricalETLError), str(error))
    parent.send(answer)


def _mark(descriptor: int, version: int) -> None:
    os.write(descriptor, f"{version}\n".encode())


def _answer(connection: Connection) -> tuple[str, bool, str] | None:
    """What the process sends; None if it ended without a word."""
    assert connection.poll(_PATIENCE), "the process is stuck"
    try:
        return connection.recv()
    except EOFError:
        return None


def _wait_until_attached(pid: int, strace: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        if all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks):
            return
        assert strace.poll() is None, f"strace: {strace.stderr.read() if strace.stderr else ''}"
        time.sleep(0.002)
    raise AssertionError("strace was not attached")


def _calls(log: Path) -> Iterator[Call]:
    numbers: dict[tuple[int, str], int] = {}
    for thread, name, arguments, result, opened, error in _lines(log):
        numbers[thread, name] = number = numbers.get((thread, name), 0) + 1
        paths, data = _paths(name, arguments, opened)
        value = None if result == "?" else int(result, 0)
        yield Call(thread, name, number, arguments, paths, data, value, error if value is not None and value < 0 else "")


def _lines(log: Path) -> Iterator[tuple[int, str, str, str, str | None, str]]:
    begun: dict[str, str] = {}
    with log.open() as lines:
        for line in lines:
            text = line.rstrip("\n")
            if found := _BEGUN.fullmatch(text):
                begun[found[1]] = found[2]
                continue
            if found := _RESUMED.fullmatch(text):
                text = f"{found[1]} {begun.pop(found[1])}{found[2]}"
            if found := _LINE.fullmatch(text):
                yield int(found[1]), found[2], found[3], found[4], found[5], found[6] or ""
    for thread, text in begun.items():  # the process ended in it
        yield int(thread), text.partition("(")[0], text.partition("(")[2], "?", None, ""


def _paths(name: str, arguments: str, opened: str | None) -> tuple[tuple[str, ...], bytes]:
    quoted = _QUOTED.findall(arguments)
    folders = [_decoded(found).decode() for found in _FOLDER.findall(arguments)]
    if name in {"write", "pwrite64", "writev", "pwritev", "pwritev2"}:
        data = b"".join(_decoded(text) for text, _ in quoted)
        return tuple(folders[:1]), data
    names = [_decoded(text).decode() for text, _ in quoted]
    if not names:
        return tuple(folders), b""
    if opened:
        return (_decoded(opened).decode(),), b""
    above = folders or [""] * len(names)
    return tuple(str(Path(folder, each)) for folder, each in zip(above, names, strict=False)), b""


def _decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
