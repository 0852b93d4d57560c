"""Can a store live on this volume? What the system says of it, and what it does when it is tried.

A trial works in a folder of its own inside the volume, and takes it away again whatever happens.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from historical_etl.durable import write_atomic

__all__ = ["Mount", "Trial", "existing_folder", "mount_of", "try_volume"]

_MOUNTS: Final = Path("/proc/mounts")
#: Kinds that other machines may write to as well: a lock taken on one of them need not hold on the other.
_SHARED: Final = re.compile(
    r"(nfs\d*|cifs|smb\d*|smbfs|9p|afs|ceph|lustre|gpfs|beegfs|ocfs2|gfs2|glusterfs|virtiofs|vboxsf|fuse(?!blk|ctl).*)"
)
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
#: Kinds without a journal of names, where a power loss may undo or tear a rename that was synced.
_FRAGILE: Final = frozenset({"vfat", "msdos", "exfat", "hfs", "hfsplus"})
#: Kinds in which a container keeps what is written to no volume of its own.
_LAYERED: Final = frozenset({"overlay", "aufs", "unionfs"})


@dataclass(frozen=True)
class Mount:
    """The file system that holds a path: where it is mounted, and of what kind it is."""

    point: str
    kind: str

    @property
    def is_shared(self) -> bool:
        """Whether it is a network file system, or may hide one."""
        return _SHARED.fullmatch(self.kind) is not None

    @property
    def is_in_memory(self) -> bool:
        """Whether a restart of the machine empties it."""
        return self.kind in _IN_MEMORY

    @property
    def is_fragile(self) -> bool:
        """Whether a power loss may undo what was made durable."""
        return self.kind in _FRAGILE

    @property
    def is_layered(self) -> bool:
        """Whether it goes with the container that it belongs to."""
        return self.kind in _LAYERED


@dataclass(frozen=True)
class Trial:
    """What went wrong with each thing that the store does to its volume; an empty text: nothing."""

    writing: str = ""
    locking: str = ""
    linking: str = ""
    pointing: str = ""


def existing_folder(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    while not path.is_dir():
        path = path.parent
    return path


def mount_of(path: Path, mounts: Path = _MOUNTS) -> Mount | None:
    """The mount that holds `path`; None where the system does not list its mounts."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    where = existing_folder(path).resolve()
    found: Mount | None = None
    for line in lines:
        _, point, kind, *_ = [*line.split(" "), "", ""]
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)  # a space is \040
        # Of two that are mounted at the same place, the later one hides the other.
        if where.is_relative_to(point) and (found is None or len(point) >= len(found.point)):
            found = Mount(point, kind)
    return found


def try_volume(folder: Path) -> Trial:
    """Write, lock and link in `folder`, or the nearest one above that exists; nothing is left behind."""
    try:
        with tempfile.TemporaryDirectory(prefix=".historical-etl-doctor-", dir=existing_folder(folder)) as made:
            file = Path(made) / "tried"
            write_atomic(file, b"tried\n")
            return Trial(
                locking=_failure(lambda: _lock_twice(file)),
                linking=_failure(lambda: _link(file)),
                pointing=_failure(lambda: _point(Path(made))),
            )
    except OSError as error:
        return Trial(writing=_words(error))


def _lock_twice(file: Path) -> str:
    """Two writers, here: the second must be refused while the first is at work, and not after it."""
    with file.open("r+b") as first, file.open("r+b") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return "a second writer was given the lock that the first one holds"
        fcntl.flock(first, fcntl.LOCK_UN)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return ""


def _link(file: Path) -> str:
    other = file.with_name("linked")
    os.link(file, other)
    return "" if other.samefile(file) else "a hard link became a file of its own"


def _point(folder: Path) -> str:
    """A symbolic link to a folder, replaced at once by one to another."""
    link, new = folder / "link", folder / "new"
    link.symlink_to("first")
    (folder / "second").mkdir()
    new.symlink_to("second")
    new.replace(link)
    return "" if link.is_dir() and not new.is_symlink() else "a symbolic link is not replaced by another"


def _failure(trial: Callable[[], str]) -> str:
    try:
        return trial()
    except OSError as error:
        return _words(error)


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
