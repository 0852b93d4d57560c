"""Durable changes to single files: what is written is either wholly there after a crash, or not at all.

No knowledge of Parquet, manifests or versions. POSIX file systems only: rename replaces atomically, and a
rename is durable once its folder is synced.
"""

import errno
import hashlib
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from historical_etl.errors import DiskSpaceError, StorageError
from historical_etl.regular_files import open_regular

__all__ = [
    "TEMP_SUFFIX",
    "fsync_folder",
    "make_folder",
    "place_new",
    "replace_file",
    "sha256_of",
    "storage_errors",
    "sync_stream",
    "temp_name",
    "temporary_beside",
    "write_atomic",
]

#: With the leading dot of every temp name, this keeps temps out of any reader's glob (`*.parquet`, `*.json`).
TEMP_SUFFIX = ".tmp"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def storage_errors(doing: str, path: Path, state: str = "nothing was committed") -> Generator[None]:
    """Turn an `OSError` of the block into a `StorageError`: what was being done to what, and what the state is now.

    Raises:
        DiskSpaceError: the volume or quota is full.
        StorageError: any other refusal of the file system.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in _FULL:
            raise DiskSpaceError(
                f"No space left while {doing}; {state}",
                where=where,
                todo="free space on this volume, then run the same command again",
            ) from error
        todo = (
            "check the owner, permissions and mount options of this folder"
            if error.errno in _DENIED
            else "check this volume (dmesg, mount), then run `historical-etl verify`"
        )
        reason = error.strerror or str(error) or type(error).__name__  # Polars gives no number, only words
        raise StorageError(f"{reason} while {doing}; {state}", where=where, todo=todo) from error


def temp_name(target: Path) -> Path:
    """A fresh name for a temp file in the folder of `target`."""
    return target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}{TEMP_SUFFIX}")


@contextmanager
def temporary_beside(target: Path) -> Generator[tuple[Path, BinaryIO]]:
    """A new temp file in the folder of `target`, open for writing; removed unless it was renamed away."""
    make_folder(target.parent)
    temp = temp_name(target)
    try:
        with temp.open("xb") as stream:
            yield temp, stream
    finally:
        # BaseException too: Dagster interrupts a run with one. A killed process leaves it to `recover()`.
        with suppress(FileNotFoundError):
            temp.unlink()


def write_atomic(target: Path, data: bytes) -> None:
    """Replace `target` by `data`, durably: temp, fsync, rename, fsync of the folder."""
    with temporary_beside(target) as (temp, stream):
        stream.write(data)
        sync_stream(stream)
        replace_file(temp, target)


def sync_stream(stream: BinaryIO) -> None:
    """Flush and fsync an open file."""
    stream.flush()
    os.fsync(stream.fileno())


def replace_file(source: Path, target: Path) -> None:
    """Rename `source` over `target` and make the rename durable."""
    source.replace(target)
    fsync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, each durable before anything is put into it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def place_new(source: Path, target: Path) -> None:
    """Rename `source` to `target` and make that durable, unless there is something at `target`.

    Raises:
        FileExistsError: there is.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)
    else:
        source.unlink()
    fsync_folder(target.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex, read as a stream.

    Raises:
        OSError: it cannot be read, or is no regular file: a pipe would be waited for.
    """
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
