"""Everything that a real process does to a store's files, in order and with its data, recorded by strace."""

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from historical_etl_tests.proofs.crash.process import TIMEOUT_SECONDS, Ended, Work, Worker

__all__ = ["Call", "recorded_calls", "traced"]

#: Calls that change what is on disk or make it durable, and those that say where in a file the next byte goes.
_TRACED: Final = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,mmap,write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,"
    "fallocate,sendfile,copy_file_range,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir"
)
_HEX: Final = r"((?:\\x[0-9a-f]{2})*)"
_LINE: Final = re.compile(rf"(\d+) +(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(?:<{_HEX}>)?.*")
_BEGUN: Final = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_QUOTED: Final = re.compile(rf'"{_HEX}"(\.\.\.)?')
_OPEN: Final = re.compile(rf"(AT_FDCWD|\d+)<{_HEX}(?:\(deleted\))?>")


@dataclass(frozen=True)
class Call:
    """One call that did not fail.

    Attributes:
        name: of the call.
        arguments: as strace writes them, with text in hex.
        descriptors: those among the arguments, in order.
        paths: what it names: absolute; for a call on a descriptor, what was open there.
        data: what it writes.
        result: what it returned; None if it never did.
        thread: which made it.
    """

    name: str
    arguments: str
    descriptors: tuple[int, ...]
    paths: tuple[str, ...]
    data: bytes
    result: int | None
    thread: str = ""

    def is_below(self, root: Path) -> bool:
        """Whether it names something of a store."""
        return any(path == str(root) or path.startswith(f"{root}/") for path in self.paths)


def traced(work: Work, root: Path, log: Path, marks: Path, inject: str = "") -> tuple[list[Call], Ended]:
    """Let a process do some work under strace; returns its calls that did not fail, and how it ended.

    Args:
        work: a function of a module.
        root: the data folder.
        log: where strace writes.
        marks: the file that the process notes acknowledged versions in; the calls that write them are traced too.
        inject: a fault, as strace's option of that name takes it.
    """
    worker = Worker(work, root, marks)
    shown = ["-f", "-qq", "-y", "-xx", "-s", str(1 << 26)]
    shown += ["-e", f"inject={inject}"] if inject else []
    command = ["strace", *shown, "-e", f"trace={_TRACED}", "-o", str(log), "-p", str(worker.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        _wait_until_attached(worker.pid, strace)
        worker.begin()
        ended = worker.end()
        strace.wait(TIMEOUT_SECONDS)
    return list(recorded_calls(log)), ended


def _wait_until_attached(pid: int, strace: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        threads = Path(f"/proc/{pid}/task").iterdir()
        if all("TracerPid:\t0\n" not in (thread / "status").read_text() for thread in threads):
            return
        assert strace.poll() is None, strace.stderr.read() if strace.stderr else ""
        time.sleep(0.002)
    raise AssertionError("strace was not attached")


def recorded_calls(log: Path) -> Iterator[Call]:
    """The calls of a log of strace that did not fail, each where it took effect."""
    for thread, name, arguments, result, opened in _lines(log):
        value = None if result == "?" else int(result, 0)
        if value is not None and value < 0:
            continue
        quoted = _QUOTED.findall(arguments)
        assert not any(cut for _, cut in quoted), "strace has cut a text short"
        texts = [_decoded(text) for text, _ in quoted]
        named = _OPEN.findall(arguments)
        folders = [_decoded(path).decode() for _, path in named]
        descriptors = tuple(int(number) for number, _ in named if number != "AT_FDCWD")
        if opened:  # the new descriptor comes last
            yield Call(name, arguments, descriptors, (_decoded(opened).decode(),), b"", value, thread)
        elif "write" in name:
            yield Call(name, arguments, descriptors, tuple(folders), b"".join(texts), value, thread)
        elif texts:
            paths = [text.decode() for text in texts]
            above = folders or [""] * len(paths)
            if name == "symlinkat":  # its first path is the text of the link
                above = ["", *folders]
            whole = tuple(str(Path(*at)) for at in zip(above, paths, strict=True))
            yield Call(name, arguments, descriptors, whole, b"", value, thread)
        else:
            yield Call(name, arguments, descriptors, tuple(folders), b"", value, thread)


def _lines(log: Path) -> Iterator[tuple[str, str, str, str, str | None]]:
    begun: dict[str, str] = {}
    with log.open() as lines:
        for line in lines:
            text = line.rstrip("\n")
            if found := _BEGUN.fullmatch(text):
                begun[found[1]] = found[2]
                if not found[2].startswith("close("):
                    continue
                # The descriptor is free from here on: another thread may be given it before this line of the log ends.
                text = f"{found[1]} {found[2]}) = 0"
            elif found := _RESUMED.fullmatch(text):
                call = begun.pop(found[1])
                if call.startswith("close("):
                    continue
                text = f"{found[1]} {call}{found[2]}"
            if found := _LINE.fullmatch(text):
                yield found[1], found[2], found[3], found[4], found[5]


def _decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
