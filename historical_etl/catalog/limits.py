"""Limits of a query: how long it may run, and how much memory it may take."""

import os
import threading
import time
from types import TracebackType
from typing import Final, Self

import duckdb

__all__ = ["Watch", "limit_memory"]

_LOOK_SECONDS: Final = 0.05
#: Of the machine's memory, whatever a setting says.
_SHARE: Final = 0.8


def limit_memory(connection: duckdb.DuckDBPyConnection, limit: int) -> int:
    """Let DuckDB take no more than `limit` bytes, and spill nothing to disk; returns what it may take."""
    allowed = min(limit, int(_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    connection.execute(f"SET memory_limit = '{allowed}B'")
    connection.execute("SET temp_directory = ''")
    return allowed


class Watch:
    """Stops what a connection runs within the block when its time is up, or the process has grown too much.

    DuckDB's own limit does not count an answer that is handed over while it is made; the size of the process does.

    Args:
        connection: whose statement is stopped.
        seconds: how long it may run.
        memory: by how many bytes the process may grow.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, seconds: float, memory: int) -> None:
        self._connection = connection
        self._seconds = seconds
        self._memory = memory
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="query watch", daemon=True)
        self.exceeded = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        until, size = time.monotonic() + self._seconds, _resident()
        while not self._ended.wait(_LOOK_SECONDS):
            if not self.exceeded and time.monotonic() > until:
                self.exceeded = f"it ran for more than {self._seconds:g} s"
            if not self.exceeded and _resident() - size > self._memory:
                self.exceeded = f"its answer takes more than {self._memory / 1e9:.1f} GB of memory"
            if self.exceeded:
                self._connection.interrupt()  # again and again: one between two statements is lost


def _resident() -> int:
    """Bytes that this process holds in memory; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as facts:  # noqa: PTH123 - looked at twenty times a second
            return int(facts.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
