"""A real process that does some work on a store, for tests that watch it, disturb it or kill it.

It comes from a fork server that has imported everything but run nothing (Polars must not be forked once its threads
run), and it waits before it begins, so that only the work itself is disturbed.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from historical_etl import HistoricalETLError
from historical_etl.sessions import get_calendar
from historical_etl_tests.proofs.crash.commands import Acknowledge

__all__ = ["TIMEOUT_SECONDS", "Ended", "Work", "Worker"]

Work = Callable[[Path, Acknowledge], None]
#: Seconds after which a process that says nothing is stuck.
TIMEOUT_SECONDS: Final = 600

_FORKS = multiprocessing.get_context("forkserver")
_OURS = ["historical_etl_tests.proofs.crash.process", "historical_etl_tests.proofs.crash.on_volume"]
_FORKS.set_forkserver_preload([*_OURS, "exchange_calendars", "duckdb", "shutil"])


@dataclass(frozen=True)
class Ended:
    """How the work ended.

    Attributes:
        exitcode: of the process; negative if it was killed.
        acknowledged: the versions it acknowledged, in order.
        error: the name of the exception that it raised, if any.
        ours: whether that is of our own tree.
        reported: its text; if it is not ours, with its traceback.
    """

    exitcode: int | None
    acknowledged: tuple[int, ...]
    error: str = ""
    ours: bool = True
    reported: str = ""


class Worker:
    """A process that has started and waits.

    Args:
        work: a function of a module.
        root: the data folder that it works on.
        marks: the file that acknowledged versions are written to; outside the root.
        prepare: called in the process once all is loaded, with the connection to this one.
    """

    def __init__(
        self, work: Work, root: Path, marks: Path, prepare: Callable[[Connection], None] | None = None
    ) -> None:
        marks.unlink(missing_ok=True)
        self._marks = marks
        self.connection, theirs = _FORKS.Pipe()
        self.process = _FORKS.Process(target=_process, args=(work, root, marks, theirs, prepare), daemon=True)
        self.process.start()
        theirs.close()
        assert self.connection.poll(TIMEOUT_SECONDS)
        assert self.connection.recv() == "ready"

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def begin(self) -> None:
        """Let it begin."""
        self.connection.send("begin")

    def end(self) -> Ended:
        """Wait until it has ended."""
        assert self.connection.poll(TIMEOUT_SECONDS), "the process is stuck"
        try:
            error, ours, reported = self.connection.recv()
        except (EOFError, ConnectionResetError):
            error, ours, reported = "", True, ""
        self.process.join(TIMEOUT_SECONDS)
        self.connection.close()
        marks = self._marks.read_text().split() if self._marks.exists() else []
        return Ended(self.process.exitcode, tuple(int(mark) for mark in marks if int(mark) > 0), error, ours, reported)


def _process(
    work: Work, root: Path, marks: Path, parent: Connection, prepare: Callable[[Connection], None] | None
) -> None:
    sys.dont_write_bytecode = True
    get_calendar("XNYS")
    descriptor = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    parent.send("ready")
    if prepare:
        prepare(parent)
    parent.recv()
    answer = ("", True, "")
    try:
        work(root, lambda version: _mark(descriptor, version))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test judges it
        ours = isinstance(error, HistoricalETLError)
        answer = (type(error).__name__, ours, str(error) if ours else traceback.format_exc())
    parent.send(answer)


def _mark(descriptor: int, version: int) -> None:
    os.write(descriptor, f"{version}\n".encode())
