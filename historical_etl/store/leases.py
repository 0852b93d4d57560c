"""Leases: versions that readers have open, which no vacuum touches. Owns `leases/`.

A lease is a file with a kernel lock on it, so it ends with its process and is never stale. Taking one excludes a
vacuum for a moment, through a lock on the folder: what the reader found kept stays kept.
"""

import fcntl
import logging
import os
import uuid
from collections import OrderedDict
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from historical_etl.store.layout import Layout

__all__ = ["excluded", "leased", "stay_leased"]

_log = logging.getLogger(__name__)
#: How many versions of a store a process keeps open for its unfinished scans.
_STAYING: Final = 4
_staying: dict[Path, OrderedDict[int, ExitStack]] = {}


@contextmanager
def leased(layout: Layout, version: int) -> Generator[bool]:
    """Keep a version from being vacuumed for the block; yields whether it is still there.

    Where the reader may not write, there is no lease: a version is then kept as long as the retention says.
    """
    path = layout.leases / f"{version:08d}-{os.getpid()}-{uuid.uuid4().hex[:8]}.lease"
    with ExitStack() as stack:
        try:
            layout.leases.mkdir(parents=True, exist_ok=True)
            with _gate(layout, fcntl.LOCK_SH):
                lease = stack.enter_context(path.open("xb"))
                stack.callback(_remove, path)
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            _log.debug("Version %d is read without a lease: %s", version, error.strerror)
        yield layout.history_file(version).exists()


def stay_leased(layout: Layout, version: int) -> bool:
    """Keep a version from being vacuumed until this process ends, or has so leased some others after it.

    Returns whether it is still there.
    """
    staying = _staying.setdefault(layout.leases, OrderedDict())
    if version in staying:
        staying.move_to_end(version)
        return layout.history_file(version).exists()
    stack = ExitStack()
    there = stack.enter_context(leased(layout, version))
    if not there:
        stack.close()
        return False
    staying[version] = stack
    while len(staying) > _STAYING:
        staying.popitem(last=False)[1].close()
    return True


@contextmanager
def excluded(layout: Layout) -> Generator[set[int]]:
    """For a vacuum: the versions that readers have open; none can be opened anew within the block."""
    if not layout.leases.is_dir():
        yield set()
        return
    with _gate(layout, fcntl.LOCK_EX):
        yield _leased_versions(layout)


def _leased_versions(layout: Layout) -> set[int]:
    """The versions that readers have open now; what dead ones left is removed."""
    versions: set[int] = set()
    for path in layout.leases.glob("*.lease"):
        number = path.name.partition("-")[0]
        if number.isdigit() and _is_held(path):
            versions.add(int(number))
    return versions


@contextmanager
def _gate(layout: Layout, mode: int) -> Generator[None]:
    descriptor = os.open(layout.leases, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as probe:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
