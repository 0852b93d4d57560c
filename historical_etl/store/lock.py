"""One writer at a time. The lock is the kernel's (flock): it dies with its process, so it is never stale.

The lock file also holds a record of its holder, with a fencing token that grows by one at each acquisition;
`ManifestManager.save_manifest` refuses a token that is not the latest. The record of a holder that died is
reported and replaced.
"""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from historical_etl.clock import Clock
from historical_etl.durable import make_folder, storage_errors
from historical_etl.errors import LockTimeoutError, StorageError
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import parse_checksummed, render_checksummed
from historical_etl.store.misplaced import no_file

__all__ = ["Holder", "LockToken", "acquire", "current_holder", "live_holder"]

_log = logging.getLogger(__name__)
_POLL_SECONDS: Final = 0.05
_NO_LOCKS: Final = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class LockToken(BaseModel, frozen=True):
    """Proof of holding a dataset's lock; `number` is the fencing token.

    `settled` says that the writer before ended well, so that all it did is durable. `committed` is the highest version
    that any writer has known to be committed.
    """

    dataset: str
    number: int
    writer_id: str
    settled: bool = False
    committed: int = 0


class Holder(BaseModel):
    """Who holds, or last held, a lock. `released` is None while it is held, or if the holder died.

    `settled` says that it ended well. Where it met an error, what it last did may not be durable. `committed` is as in
    its token: numbers of versions are not used again, also once nothing else names them.
    """

    model_config = ConfigDict(frozen=True)

    token: int
    writer_id: str
    pid: int
    host: str
    since: datetime
    released: datetime | None = None
    settled: bool = False
    committed: int = 0

    def __str__(self) -> str:
        return f"{self.writer_id} (pid {self.pid} on {self.host}, since {self.since:%Y-%m-%d %H:%M:%S} UTC)"


def current_holder(lock_file: Path) -> Holder | None:
    """The record in the lock file, None if there is none that can be read."""
    try:
        return parse_checksummed(read_regular(lock_file), Holder)
    except (OSError, ValueError):
        return None


def live_holder(lock_file: Path) -> Holder | None:
    """Who holds the lock at this moment, None if nobody does. Nothing is written, and a holder is not disturbed."""
    holder = current_holder(lock_file)
    if holder is None or holder.released is not None:
        return None
    # Not released: held, or its holder died. Only the kernel knows which, and it answers by giving the lock or not.
    try:
        with lock_file.open("rb") as probe:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except OSError:
        return holder
    return None


@contextmanager
def acquire(
    lock_file: Path,
    dataset: str,
    writer_id: str,
    timeout_seconds: float,
    clock: Clock,
    committed: Callable[[], int] = lambda: 0,
) -> Generator[LockToken]:
    """Hold the lock for the block.

    Args:
        lock_file: the file that is locked.
        dataset: what it protects.
        writer_id: who asks.
        timeout_seconds: how long to wait.
        clock: the time for the record.
        committed: the highest version that is known to be committed; asked once the lock is held.

    Raises:
        LockTimeoutError: another holder kept it for `timeout_seconds`; the message names it.
        StorageError: the lock file cannot be made, or the file system has no kernel locks.
    """
    with storage_errors("taking the writer lock", lock_file):
        if fault := no_file(lock_file):
            raise StorageError(
                f"The writer lock cannot be taken: {fault}; nothing was committed",
                where=lock_file,
                todo="move it away, then run the same command again: the file is made anew",
            )
        is_new = not lock_file.parent.parent.exists()
        make_folder(lock_file.parent)
        # Made here, with the rights that the umask leaves: filelock takes a mode, and to learn the umask is to set it,
        # for all threads.
        os.close(os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
        # A soft lock could go stale: refuse a file system without flock instead.
        lock = FileLock(lock_file, fallback_to_soft=False, preserve_lock_file=True)
        try:
            lock.acquire(timeout=max(0, timeout_seconds), poll_interval=_POLL_SECONDS)
        except Timeout:
            raise LockTimeoutError(
                f"The store is being written by {current_holder(lock_file) or 'an unknown holder'}; "
                f"waited {timeout_seconds:g} s",
                where=lock_file,
                todo="wait for that writer to finish, or stop it: its lock is released the moment it ends",
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise StorageError(
                "This file system has no kernel locks; nothing was committed",
                where=lock_file,
                todo="keep the store on a local file system; `historical-etl doctor` reports on this one",
            ) from error
    try:
        previous = current_holder(lock_file)
        settled = is_new or (previous is not None and previous.settled)
        holder = _sign(lock_file, previous, writer_id, clock, committed())
        ended_well = False
        try:
            known = holder.committed
            yield LockToken(dataset=dataset, number=holder.token, writer_id=writer_id, settled=settled, committed=known)
            ended_well = True
        finally:
            # After an error too: the next writer must not assume that this one died. And what was committed is not
            # undone by a record that cannot be written.
            with suppress(StorageError):
                _write(lock_file, holder.model_copy(update={"released": clock(), "settled": ended_well}))
    finally:
        lock.release()


def _sign(lock_file: Path, previous: Holder | None, writer_id: str, clock: Clock, committed: int) -> Holder:
    if previous is not None and previous.released is None:
        _log.warning("The previous writer, %s, ended without releasing the lock; recovering what it left", previous)
    holder = Holder(
        token=(previous.token if previous else 0) + 1,
        writer_id=writer_id,
        pid=os.getpid(),
        host=socket.gethostname(),
        since=clock(),
        committed=max(previous.committed if previous else 0, committed),
    )
    _write(lock_file, holder)
    return holder


def _write(lock_file: Path, holder: Holder) -> None:
    # In place: a rename would put another inode under the name, and the kernel locks inodes.
    record = render_checksummed(holder)
    with storage_errors("recording the holder of the writer lock", lock_file), lock_file.open("r+b") as stream:
        stream.write(record)
        stream.truncate()
