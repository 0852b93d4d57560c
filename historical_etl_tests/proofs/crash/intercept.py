"""Stops a process before every call that touches a store, to let it pass, fail it, cut it short, or kill there.

This is done by the kernel's user notification (seccomp): the process is suspended in the call, whichever of its
threads or libraries makes it, until the answer comes. So a fault hits exactly the call that is meant. Linux only.
"""

import ctypes
import os
import platform
import re
import select
import signal
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import ioctl
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Literal

from historical_etl_tests.proofs.crash.process import TIMEOUT_SECONDS, Ended, Work, Worker

__all__ = ["Answer", "Step", "intercepted"]

#: What is done at a call: None lets it pass, a number fails it with that errno, "kill" kills the process before it,
#: "short" writes only a part.
Answer = Literal["kill", "short"] | int | None

_LIBC = ctypes.CDLL(None, use_errno=True)
# From the kernel's headers.
_AT_FDCWD, _NO_NEW_PRIVILEGES, _SET_MODE_FILTER, _NEW_LISTENER = -100, 38, 1, 8
_SECCOMP, _PIDFD_GETFD = {"x86_64": 317, "aarch64": 277}, 438
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_LOAD, _JUMP_IF_EQUAL, _RETURN, _ALLOW, _NOTIFY = 0x20, 0x15, 0x06, 0x7FFF0000, 0x7FC00000
_NOTIFICATION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")

#: The calls by machine, as `name number`.
_NUMBERS: Final = {
    "x86_64": (
        "write 1 open 2 pwrite64 18 writev 20 sendfile 40 fsync 74 fdatasync 75 truncate 76 ftruncate 77 rename 82 "
        "mkdir 83 rmdir 84 creat 85 link 86 unlink 87 symlink 88 chmod 90 fchmod 91 openat 257 mkdirat 258 "
        "unlinkat 263 renameat 264 linkat 265 symlinkat 266 fchmodat 268 utimensat 280 fallocate 285 pwritev 296 "
        "renameat2 316 copy_file_range 326 pwritev2 328 openat2 437"
    ),
    "aarch64": (
        "mkdirat 34 unlinkat 35 symlinkat 36 linkat 37 renameat 38 truncate 45 ftruncate 46 fallocate 47 fchmod 52 "
        "fchmodat 53 openat 56 write 64 writev 66 pwrite64 68 pwritev 70 sendfile 71 fsync 82 fdatasync 83 "
        "utimensat 88 renameat2 276 copy_file_range 285 pwritev2 287 openat2 437"
    ),
}
#: Where the arguments of a call name a file: by a path, by a folder and a path in it, by a descriptor (the default).
_BY_PATH: Final = {
    **dict.fromkeys(("open", "creat", "truncate", "mkdir", "rmdir", "unlink", "chmod"), (0,)),
    **dict.fromkeys(("rename", "link"), (0, 1)),
    "symlink": (1,),
}
_BY_FOLDER: Final = {
    **dict.fromkeys(("openat", "openat2", "mkdirat", "unlinkat", "fchmodat", "utimensat"), (0,)),
    **dict.fromkeys(("renameat", "renameat2", "linkat"), (0, 2)),
    "symlinkat": (1,),
}
_DESCRIPTOR: Final = {"copy_file_range": 2}
#: The process and the chance in the names of temp files.
_BY_CHANCE: Final = re.compile(r"\.\d+\.[0-9a-f]{8}(?=\.tmp)")
_OPENING: Final = {"open": 1, "openat": 2}


@dataclass(frozen=True)
class Step:
    """A call that is about to be made.

    Attributes:
        name: of the call.
        paths: the files that it names, as they are called now.
        changes: False for opening a file that is there, to read it.
        before: how many such calls of the same files were made before it. By this a call is found again: which of two
            threads comes first is not the same each time.
    """

    name: str
    paths: tuple[str, ...]
    changes: bool
    before: int

    def is_again(self, step: "Step") -> bool:
        """Whether this is the same call in another run."""
        return self._call == step._call

    @property
    def _call(self) -> tuple[str, tuple[str, ...], int]:
        return self.name, _lasting(self.paths), self.before


def intercepted(work: Work, root: Path, marks: Path, decide: Callable[[Step], Answer]) -> Ended:
    """Let a process do some work, asking before every call that touches a file below `root`.

    Args:
        work: a function of a module.
        root: the data folder.
        marks: where the process notes what it acknowledged.
        decide: says what is to be done at a call; it may do something itself first.
    """
    worker = Worker(work, root, marks, _listen)
    listener = reduction.recv_handle(worker.connection)
    try:
        worker.begin()
        _answer_calls(worker, listener, root, decide)
    finally:
        os.close(listener)
        if worker.process.exitcode is None and not worker.connection.poll(0):
            worker.process.kill()
    return worker.end()


def _listen(parent: Connection) -> None:
    numbers = _numbers()
    jumps = [
        struct.pack("=HBBI", _JUMP_IF_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(sorted(numbers))
    ]
    program = b"".join(
        [
            struct.pack("=HBBI", _LOAD, 0, 0, 0),
            *jumps,
            struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW),
            struct.pack("=HBBI", _RETURN, 0, 0, _NOTIFY),
        ]
    )
    held = ctypes.create_string_buffer(program, len(program))
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(held)))
    _LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    listener = _LIBC.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, _NEW_LISTENER, filters)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    reduction.send_handle(parent, listener, os.getppid())
    os.close(listener)


def _numbers() -> dict[int, str]:
    words = _NUMBERS[platform.machine()].split()
    return {int(number): name for name, number in zip(words[::2], words[1::2], strict=True)}


def _answer_calls(worker: Worker, listener: int, root: Path, decide: Callable[[Step], Answer]) -> None:
    names, made = _numbers(), Counter[tuple[str, tuple[str, ...]]]()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        ready = poll.poll(TIMEOUT_SECONDS * 1000)
        assert ready, "the process is stuck"
        if not ready[0][1] & select.POLLIN:
            return  # it has ended
        buffer = bytearray(_NOTIFICATION.size)
        try:
            ioctl(listener, _RECEIVE, buffer)
        except OSError:
            continue  # it was killed meanwhile
        identity, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
        called = _Called(thread, names[number], arguments)
        try:
            paths = called.paths()
        except OSError:
            paths = ()  # a bad argument, or the process is gone
        answer = None
        if any(path == str(root) or path.startswith(f"{root}/") for path in paths):
            call = called.name, _lasting(paths)
            answer = decide(Step(called.name, paths, called.changes(), made[call]))
            made[call] += 1
        if answer == "kill":
            os.kill(worker.pid, signal.SIGKILL)
            return
        if answer == "short" and (written := called.write_part(worker.pid)):
            reply = (written, 0, 0)
        elif isinstance(answer, int):
            reply = (0, -answer, 0)
        else:
            reply = (0, 0, _CONTINUE)
        try:
            ioctl(listener, _SEND, _ANSWER.pack(identity, *reply))
        except FileNotFoundError:
            continue  # likewise


def _lasting(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Paths without what is by chance in the names of temp files."""
    return tuple(_BY_CHANCE.sub("", path) for path in paths)


@dataclass(frozen=True)
class _Called:
    thread: int
    name: str
    arguments: list[int]

    def paths(self) -> tuple[str, ...]:
        if self.name in _BY_PATH:
            return tuple(self._joined(_AT_FDCWD, self._text(self.arguments[at])) for at in _BY_PATH[self.name])
        if self.name in _BY_FOLDER and self.arguments[_BY_FOLDER[self.name][0] + 1]:
            return tuple(
                self._joined(self.arguments[at], self._text(self.arguments[at + 1])) for at in _BY_FOLDER[self.name]
            )
        return (self._opened(self.arguments[_DESCRIPTOR.get(self.name, 0)]),)

    def changes(self) -> bool:
        at = _OPENING.get(self.name)
        return at is None or bool(self.arguments[at] & (os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR))

    def write_part(self, pid: int) -> int:
        """Write half of what is to be written, in the place of the process; 0 where that is nothing."""
        if self.name not in {"write", "pwrite64"} or self.arguments[2] < 2:
            return 0
        part = self._memory(self.arguments[1], self.arguments[2] // 2)
        theirs = os.pidfd_open(pid)
        try:
            descriptor = _LIBC.syscall(_PIDFD_GETFD, theirs, self.arguments[0] & 0xFFFFFFFF, 0)
        finally:
            os.close(theirs)
        assert descriptor >= 0, os.strerror(ctypes.get_errno())
        try:
            return (
                os.pwrite(descriptor, part, self.arguments[3])
                if self.name == "pwrite64"
                else os.write(descriptor, part)
            )
        finally:
            os.close(descriptor)

    def _joined(self, folder: int, path: str) -> str:
        if path.startswith("/"):
            return path
        return os.path.normpath(f"{self._opened(folder)}/{path}")

    def _opened(self, descriptor: int) -> str:
        number = ctypes.c_int(descriptor & 0xFFFFFFFF).value
        name = "cwd" if number == _AT_FDCWD else f"fd/{number}"
        return str(Path(f"/proc/{self.thread}/{name}").readlink())

    def _text(self, address: int) -> str:
        read = bytearray()
        while b"\0" not in read:
            read += self._memory(address + len(read), 4096 - (address + len(read)) % 4096)
        return os.fsdecode(bytes(read.partition(b"\0")[0]))

    def _memory(self, address: int, length: int) -> bytes:
        with Path(f"/proc/{self.thread}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(length)
