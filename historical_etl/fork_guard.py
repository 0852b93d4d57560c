"""Processes that were forked while Polars had threads: a child lacks those, and would wait for them for ever.

`multiprocessing` forks by default on Linux before Python 3.14.
"""

import os
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError

__all__ = ["refuse_lost_threads"]

_TASKS: Final = Path("/proc/self/task")


class _Process:
    """What is known of this one."""

    uses_polars = False
    had_threads = False
    lost_them = False


def refuse_lost_threads() -> None:
    """To be called before Polars is.

    Raises:
        ConfigurationError: this process was forked from one in which Polars had threads.
    """
    if _Process.lost_them:
        raise ConfigurationError(
            "This process was forked from one that had used Polars, which hangs in it",
            where=f"process {os.getpid()}",
            todo="start processes by `spawn` or `forkserver`, as multiprocessing.set_start_method does",
        )
    _Process.uses_polars = True


def _before() -> None:
    _Process.had_threads = _has_threads()


def _in_child() -> None:
    _Process.lost_them = _Process.lost_them or _Process.had_threads


def _has_threads() -> bool:
    """Whether Polars has started its threads; where the system does not tell, whether it was used by this package."""
    try:
        names = [(task / "comm").read_text() for task in _TASKS.iterdir()]
    except OSError:
        return _Process.uses_polars
    return any(name.startswith("polars-0") for name in names)


os.register_at_fork(before=_before, after_in_child=_in_child)
