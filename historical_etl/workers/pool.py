"""A pool of processes for work on what nobody vouches for: SQL of strangers, files of any origin.

Whatever such work takes or breaks, it ends with its worker, and this process goes on. A worker is started when one is
needed, kept for the next task, and replaced if it was stopped or has grown.
"""

import atexit
import errno
import fcntl
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, cast

import polars as pl

from historical_etl import errors
from historical_etl.errors import HistoricalETLError, WorkerStoppedError
from historical_etl.fork_guard import refuse_lost_threads
from historical_etl.workers.answer import HEAD, MOST_FACTS, SIZE, Answer
from historical_etl.workers.limits import Limits

__all__ = ["Worker", "Workers"]

_START_SECONDS: Final = 120.0
#: Beyond a task's time, before this side stops a worker that its own timer has not.
_GRACE_SECONDS: Final = 5.0
_LARGE: Final = 512 * 1024**2  # bytes in memory, above which an idle worker is not kept
#: What a worker gets of the environment: no key of a vendor.
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "POLARS_MAX_THREADS")
_SCARCE: Final = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_SET: Final = "let sys.executable be this Python"
_ROOT: Final = str(Path(__file__).resolve().parents[2])


class Workers:
    """Workers for one kind of task; safe in threads, each of which has a worker of its own.

    Args:
        module: that has the tasks; a worker imports it while it starts.
        environment: how many idle ones stay.
    """

    def __init__(self, module: str, idle_limit: int = 2) -> None:
        self._module = module
        self._idle_limit = idle_limit
        self._idle: list[Worker] = []
        self._guard = threading.Lock()
        _pools.add(self)

    def prepare(self) -> None:
        """Start a worker if none waits; does not wait for it."""
        with self._guard:
            if not self._idle:
                self._idle.append(Worker(self._module))

    @contextmanager
    def taken(self) -> Generator["Worker"]:
        """A worker for the tasks of the block, which nobody else uses meanwhile.

        Raises:
            WorkerStoppedError: none can be started, or a task was stopped.
            ConfigurationError: this process was forked from one in which Polars had threads.
        """
        refuse_lost_threads()
        worker = self._waiting() or Worker(self._module)
        try:
            worker.await_start()
            yield worker
        finally:
            with self._guard:
                keeps = worker.is_healthy and len(self._idle) < self._idle_limit
                if keeps:
                    self._idle.append(worker)
            if not keeps:
                worker.stop()

    def _waiting(self) -> "Worker | None":
        while True:
            with self._guard:
                worker = self._idle.pop() if self._idle else None
            if worker is None or worker.is_alive():
                return worker
            worker.stop()

    def close(self) -> None:
        """Stop the idle workers."""
        with self._guard:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.stop()

    def forget(self) -> None:
        """After a fork the workers belong to the other process."""
        self._guard = threading.Lock()
        idle, self._idle = self._idle, []
        for worker in idle:
            worker.forget()


_pools: "weakref.WeakSet[Workers]" = weakref.WeakSet()


class Worker:
    """One process, and the connection to it."""

    def __init__(self, module: str) -> None:
        if not sys.executable:
            raise WorkerStoppedError("Python does not say where its interpreter is", where="sys.executable", todo=_SET)
        ours, theirs = socket.socketpair()
        self._connection = ours
        # Where standard streams are closed a socket may have the number of one.
        end = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        command = [sys.executable, "-P", "-m", "historical_etl.workers.worker", str(end), module]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of ours
                command,
                pass_fds=[end],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                start_new_session=True,  # Ctrl-C is for this process, which stops its workers
            )
        except OSError as error:
            ours.close()
            raise WorkerStoppedError(
                f"No process could be started: {error.strerror}",
                where=sys.executable,
                todo="free memory or processes, then try again" if error.errno in _SCARCE else _SET,
            ) from error
        finally:
            theirs.close()
            os.close(end)
        self._has_started = False
        #: Whether it waits for the next task.
        self.is_healthy = True

    def await_start(self) -> None:
        """Wait until it is ready for its first task.

        Raises:
            WorkerStoppedError: it was not within two minutes.
        """
        if self._has_started:
            return
        self.is_healthy = False
        self._connection.settimeout(_START_SECONDS)
        try:
            self._received(SIZE.size)
        except OSError:
            raise WorkerStoppedError(
                "A process of this interpreter could not be started, or not in time",
                where=sys.executable,
                todo="try again; `python -c 'import historical_etl'` shows whether the interpreter finds the package",
            ) from None
        self._has_started = self.is_healthy = True

    def perform(self, task: str, arguments: Mapping[str, object], limits: Limits) -> Answer:
        """Run a task in the worker and wait for its answer.

        Args:
            task: a function of this package that returns an `Answer`, as `module:name`.
            arguments: by name; they are pickled.
            limits: what it may take.

        Raises:
            WorkerStoppedError: it went beyond a limit, or died.
            HistoricalETLError: the task raised it.
            TypeError, AttributeError, pickle.PicklingError: an argument cannot be pickled.
        """
        asked = _Request(limits.memory)
        pickle.dump((task, dict(arguments)), asked, protocol=pickle.HIGHEST_PROTOCOL)
        self.is_healthy = False
        with _file() as file:
            reply = self._asked(asked.content, file, limits)
            self.is_healthy = _resident(self._process.pid) < _LARGE
            if (kind := reply.get("error")) is not None:
                raise _error(str(kind), reply, limits)
            facts = cast("dict[str, object]", reply["facts"])
            if not reply["frame"]:
                return Answer(facts)
            file.seek(0)
            return Answer(facts, pl.read_ipc(file))

    def is_alive(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Let go of it without ending it."""
        self._connection.close()
        self._process.returncode = 0  # else its end would be waited for here

    def _asked(self, request: bytearray, file: IO[bytes], limits: Limits) -> dict[str, object]:
        try:
            self._connection.settimeout(min(limits.seconds + _GRACE_SECONDS, threading.TIMEOUT_MAX))
            head = HEAD.pack(len(request), limits.seconds, limits.memory)
            socket.send_fds(self._connection, [head], [file.fileno()])
            self._connection.sendall(request)
            (size,) = SIZE.unpack(self._received(SIZE.size))
            if size > 2 * MOST_FACTS:
                raise ConnectionError
            return cast("dict[str, object]", json.loads(self._received(size)))
        except TimeoutError:
            raise _too_long(limits) from None
        except (OSError, ValueError):
            raise self._end(limits) from None

    def _received(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            part = self._connection.recv(min(size - len(got), 1 << 20))
            if not part:
                raise ConnectionError
            got += part
        return bytes(got)

    def _end(self, limits: Limits) -> WorkerStoppedError:
        """Why the process is no more."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        code = self._process.returncode
        if code is not None and -code in (signal.SIGALRM, signal.SIGXCPU):
            return _too_long(limits)
        if code is None or code >= 0:
            return _stopped("its process ended before it had answered")
        name = signal.Signals(-code).name
        return _stopped(f"its process died of {name}, as happens where memory ends; it may take {_size(limits.memory)}")


class _Request:
    """What is pickled, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self.content = bytearray()
        self._most = most

    def write(self, part: bytes) -> None:
        if len(self.content) + len(part) > self._most:
            raise _stopped(f"what is asked has more than {_size(self._most)}, which is what it may take of memory")
        self.content += part


def _error(kind: str, reply: Mapping[str, object], limits: Limits) -> HistoricalETLError:
    """The error that a reply tells of."""
    what, where, todo = (str(reply.get(name) or "") for name in ("what", "where", "todo"))
    if kind == "memory":
        return _stopped(f"it takes more than {_size(limits.memory)} of memory")
    if kind == "other":
        return _stopped(what)
    return cast("type[HistoricalETLError]", getattr(errors, kind))(what, where=where or None, todo=todo)


def _stopped(why: str) -> WorkerStoppedError:
    return WorkerStoppedError(why, todo="ask for less, or give it more time or memory")


def _too_long(limits: Limits) -> WorkerStoppedError:
    return WorkerStoppedError(
        f"it ran for more than {limits.seconds:g} s", todo="ask for less, or give it more time", late=True
    )


def _size(memory: int) -> str:
    return f"{memory / 1e9:.1f} GB"


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    paths = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
    return {**environment, "TZ": "UTC", "PYTHONPATH": paths}


def _file() -> IO[bytes]:
    """A file without a name: in memory, where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("answer"), "w+b")
    return tempfile.TemporaryFile()


def _resident(pid: int) -> int:
    """Bytes that a process holds in memory; 0 where the system does not tell."""
    try:
        facts = Path(f"/proc/{pid}/statm").read_bytes()
    except OSError:
        return 0
    return int(facts.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
