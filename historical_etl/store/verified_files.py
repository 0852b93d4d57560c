"""Committed files, proven to be the bytes that were committed before a row of them is read.

A file is hashed when a process first opens it, unless this process wrote it, and again only if its inode, size or times
have changed since.
"""

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.durable import sha256_of, storage_errors
from historical_etl.errors import ChecksumMismatchError
from historical_etl.fork_guard import refuse_lost_threads
from historical_etl.models import LedgerFile, Partition
from historical_etl.store.layout import Layout
from historical_etl.store.misplaced import no_file

__all__ = ["already_verified", "collected", "hashed_as_written", "require_verified", "still_proven", "verified_path"]

_TODO: Final = "run `historical-etl repair`: it restores the file, or says what to fetch again"
_MOST_CHECKED: Final = 20_000  # a process may live for years
#: Files by path: the state in which they had the SHA-256 beside it.
_checked: dict[Path, tuple[tuple[int, ...], str]] = {}


def verified_path(layout: Layout, file: Partition | LedgerFile, *, anew: bool = False) -> Path:
    """The path of a committed file whose bytes are those that were committed.

    Args:
        layout: of the store.
        file: as its version names it.
        anew: hash it again, whatever this process knows of it.

    Raises:
        ChecksumMismatchError: it is missing, or its bytes are not.
        StorageError: it cannot be read.
        ConfigurationError: this process was forked from one in which Polars had threads.
    """
    refuse_lost_threads()
    path = layout.resolve(file.path)
    what = f"the stored file of {file.year}" if isinstance(file, Partition) else f"the ledger file {path.name}"
    with storage_errors(f"reading {what}", path, "nothing was changed"):
        try:
            state = _state(path)
            if not anew and _checked.get(path) == (state, file.checksum):
                return path
            if sha256_of(path) == file.checksum:
                _remember(path, state, file.checksum)
                return path
        except OSError as error:
            fault = no_file(path)
            if not fault and not isinstance(error, FileNotFoundError):
                raise
            raise _refused(f"{what} is missing{fault and ', '}{fault}", path) from None
    raise _refused(f"{what} was changed after its commit: its SHA-256 is not the committed one", path)


def collected(rows: pl.LazyFrame, where: Path) -> pl.DataFrame:
    """Run a query over committed files; `where` they are.

    Raises:
        StorageError: one of them cannot be read.
    """
    with storage_errors("reading what is stored", where, "nothing was changed"):
        return rows.collect()


def require_verified(layout: Layout, files: Iterable[Partition | LedgerFile]) -> None:
    """Prove several files at once; raises as `verified_path`, for the first one that is not sound."""
    files = list(files)
    new = [file for file in files if layout.resolve(file.path) not in _checked]
    if len(new) > 1:
        with suppress(RuntimeError), ThreadPoolExecutor(thread_name_prefix="checksum") as pool:
            for proof in [pool.submit(verified_path, layout, file) for file in new]:
                proof.exception()
    for file in files:
        verified_path(layout, file)


def already_verified(layout: Layout, files: Iterable[Partition | LedgerFile]) -> list[Partition | LedgerFile]:
    """Those that this process has proven, and that have not changed since; none is hashed.

    Raises:
        ConfigurationError: this process was forked from one in which Polars had threads.
    """
    refuse_lost_threads()
    return [file for file in files if _is_known(layout.resolve(file.path), file.checksum)]


def hashed_as_written(path: Path, checksum: str) -> None:
    """Take a file for proven whose bytes were hashed as they were written, once it is in its place.

    Raises:
        OSError: it is not there.
    """
    _remember(path, _state(path), checksum)


@contextmanager
def still_proven(paths: Iterable[Path]) -> Generator[None]:
    """For a block that makes and removes links to files: those that were proven before it are so after it.

    A link changes the time of a file's last change of state, which else tells that its bytes may be others. Nothing
    else may be done in the block.
    """
    before = {path: _checked[path] for path in paths if path in _checked and _is_known(path, _checked[path][1])}
    yield
    for path, (state, checksum) in before.items():
        with suppress(OSError):
            if (now := _state(path))[:-1] == state[:-1]:
                _checked[path] = now, checksum


def _remember(path: Path, state: tuple[int, ...], checksum: str) -> None:
    if len(_checked) >= _MOST_CHECKED:
        _checked.clear()
    _checked[path] = state, checksum


def _is_known(path: Path, checksum: str) -> bool:
    if path not in _checked:
        return False
    try:
        return _checked.get(path) == (_state(path), checksum)
    except OSError:  # whoever needs it learns why
        return False


def _state(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _refused(what: str, path: Path) -> ChecksumMismatchError:
    return ChecksumMismatchError(f"{what[0].upper()}{what[1:]}; no row of it is read", where=path, todo=_TODO)
