"""Leases: versions that readers have open, which no vacuum touches.

A lease is a shared kernel lock on the version's manifest in the history: it ends with its process, writes nothing, and
needs no right to write. A vacuum removes a version only while it holds the exclusive lock.
"""

import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from historical_etl.regular_files import open_regular
from historical_etl.store.layout import Layout

__all__ = ["leased", "stay_leased", "unleased"]

#: How many versions of a store a process keeps open for its unfinished scans, and how many for each of its threads.
_STAYING: Final = 4
_STAYING_EACH: Final = 2
#: By store, the one that was scanned last at the end; whoever reads or changes it holds the lock.
_staying: dict[Path, OrderedDict[int, ExitStack]] = {}
_table: Final = threading.Lock()


@contextmanager
def leased(layout: Layout, version: int) -> Generator[bool]:
    """Keep a version from being vacuumed for the block; yields whether it is still there.

    Where the file system has no kernel locks there is no lease: a version is then kept as long as the retention says.
    """
    with ExitStack() as stack:
        try:
            manifest = stack.enter_context(open_regular(layout.history_file(version)))
        except OSError:
            yield False
            return
        with suppress(OSError):
            fcntl.flock(manifest, fcntl.LOCK_SH)  # waits while a vacuum removes it
        yield os.fstat(manifest.fileno()).st_nlink > 0


def stay_leased(layout: Layout, version: int) -> bool:
    """Keep a version from being vacuumed until this process ends, or has so leased some others after it.

    Returns whether it is still there.
    """
    with _table:
        staying = _staying.setdefault(layout.manifests, OrderedDict())
        if version in staying:
            staying.move_to_end(version)
            _let_go(staying)
            return layout.history_file(version).exists()
    with ExitStack() as stack:  # not under the table's lock: it may wait for a vacuum
        if not stack.enter_context(leased(layout, version)):
            return False
        with _table:
            if version not in staying:  # else another thread was faster
                staying[version] = stack.pop_all()
            staying.move_to_end(version)
            _let_go(staying)
    return True


def _let_go(staying: OrderedDict[int, ExitStack]) -> None:
    """Close what was scanned longest ago; the threads that scanned it may have ended."""
    most = max(_STAYING, _STAYING_EACH * threading.active_count())
    while len(staying) > most:
        staying.popitem(last=False)[1].close()


@contextmanager
def unleased(layout: Layout, versions: Iterable[int]) -> Generator[set[int]]:
    """For a vacuum: those of some versions that no reader has open; none of them can be opened within the block."""
    with ExitStack() as stack:
        yield {version for version in versions if _locked(stack, layout.history_file(version))}


def _locked(stack: ExitStack, path: Path) -> bool:
    try:
        manifest = stack.enter_context(open_regular(path))
        fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
