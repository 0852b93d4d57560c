"""Limits of one task that the kernel holds, whatever library is at work: time, memory, and bytes that are written."""

import math
import os
import resource
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

__all__ = ["Limits", "held"]

#: What a process may take on top of its task's memory: stacks of threads, allocators.
_ROOM: Final = 64 * 1024**2
_LONGEST: Final = 1e8  # seconds that a timer takes


@dataclass(frozen=True)
class Limits:
    """What a task may take.

    Attributes:
        seconds: of wall time; infinite ones are not watched.
        memory: bytes on top of what its process holds already, and at most so many in the answer.
    """

    seconds: float = math.inf
    memory: int = sys.maxsize


@contextmanager
def held(limits: Limits) -> Generator[None]:
    """Hold this process to limits for the block.

    Time that is up ends the process, by SIGALRM or SIGXCPU. Memory that is refused is an error of whoever asked for it,
    or the end of a library that takes none. Where the system does not tell how much a process holds (outside Linux)
    only DuckDB's own limit is left.
    """
    watched = limits.seconds < _LONGEST
    cores = os.cpu_count() or 1
    caps = {resource.RLIMIT_FSIZE: limits.memory}
    if watched:
        caps[resource.RLIMIT_CPU] = math.ceil(time.process_time() + limits.seconds * cores) + 1
    if (taken := _taken()) is not None:
        caps[resource.RLIMIT_DATA] = taken + limits.memory + _ROOM
    try:
        for kind, most in caps.items():
            _cap(kind, most)
        signal.setitimer(signal.ITIMER_REAL, limits.seconds if watched else 0)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind in caps:
            _cap(kind, None)


def _cap(kind: int, most: int | None) -> None:
    """Set a soft limit; None lets go of it, as far as the process may."""
    _, hard = resource.getrlimit(kind)
    ceiling = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(kind, (hard if most is None or most >= ceiling else most, hard))


def _taken() -> int | None:
    """Bytes of private memory that this process has mapped, as RLIMIT_DATA counts them."""
    if sys.platform != "linux":
        return None
    with open("/proc/self/statm", "rb") as facts:  # noqa: PTH123 - read with each task
        return int(facts.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
