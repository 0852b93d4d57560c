"""Files that cannot be read within bounds, found before this process opens them.

Each file is read once, whole, by a worker: what takes more memory or time than it may, or breaks the library that reads
it, ends there. What is wrong in any other way passes; the survey tells it better.
"""

import errno
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

import polars as pl

from historical_etl.errors import DataQualityError, WorkerStoppedError
from historical_etl.regular import refuse_odd
from historical_etl.workers.answer import Answer
from historical_etl.workers.limits import Limits
from historical_etl.workers.pool import Worker, Workers

__all__ = ["LONGEST", "probe", "unbearable"]

#: Bytes of one cell, or of one line of a CSV file. No price or symbol comes near.
LONGEST: Final = 1024**2
_CHUNK: Final = 32
#: A file may take this long, and another second for each so many bytes.
_SECONDS, _BYTES_A_SECOND = 60.0, 2 * 1024**2
_WORKERS: Final = Workers(__name__, kept=1)


def unbearable(paths: Sequence[Path], memory: int) -> dict[Path, DataQualityError]:
    """The files that a worker cannot read, and why.

    Args:
        paths: of CSV and Parquet files.
        memory: bytes that reading one may take.

    Raises:
        WorkerStoppedError: no worker can be started.
    """
    todo = "mount what it leads to, or take it out of the folder"
    odd = {path: words for path in paths if (words := _oddity(path))}
    found = {path: DataQualityError(words, where=path, todo=todo) for path, words in odd.items()}
    files = [path for path in paths if path not in found]
    for start in range(0, len(files), _CHUNK):
        found |= _of(files[start : start + _CHUNK], memory)
    return found


def _oddity(path: Path) -> str:
    """What a path leads to that is no regular file, in words; empty if it is one, or cannot be looked at."""
    try:
        refuse_odd(path.stat().st_mode, path)
    except FileNotFoundError:
        return "It is a link to a place where nothing is"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "It is a link that leads in a circle"
        return f"It cannot be read: {error.strerror}" if error.errno == errno.EINVAL else ""
    return ""


def _of(paths: Sequence[Path], memory: int) -> dict[Path, DataQualityError]:
    with _WORKERS.taken() as worker:
        try:
            long = _asked(worker, paths, memory)
        except WorkerStoppedError as error:
            if len(paths) == 1:
                return {paths[0]: _refused(f"It cannot be read: {error.what}", paths[0])}
            long = None
    if long is None:
        return {path: error for one in paths for path, error in _of([one], memory).items()}
    return {
        Path(path): _refused(f"A cell of {column!r} has {length:,} bytes", Path(path))
        for path, (column, length) in long.items()
    }


def _asked(worker: Worker, paths: Sequence[Path], memory: int) -> Mapping[str, tuple[str, int]]:
    size = sum(path.stat().st_size for path in paths if path.exists())
    limits = Limits(_SECONDS + size / _BYTES_A_SECOND, memory)
    facts = worker.perform(f"{__name__}:probe", {"paths": [str(path) for path in paths]}, limits).facts
    return cast("Mapping[str, tuple[str, int]]", facts["long"])


def _refused(what: str, path: Path) -> DataQualityError:
    todo = "export it again as daily bars; if it is sound and that large, raise HISTORICAL_ETL_FILES_MEMORY"
    return DataQualityError(what, where=path, todo=todo)


def probe(paths: Sequence[str]) -> Answer:
    """Read files from end to end, as a worker; facts: `long` (path → column and bytes of a cell that is too long)."""
    long: dict[str, tuple[str, int]] = {}
    for path in paths:
        with suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            column, length = max(_lengths(Path(path)).items(), key=lambda cell: cell[1] or 0, default=("", 0))
            if length and length > LONGEST:
                long[path] = column, length
    return Answer({"long": long})


def _lengths(path: Path) -> dict[str, int | None]:
    """The longest cell of each column, in bytes; of columns that are no text, something that has to read them."""
    if path.suffix.lower() == ".parquet":
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    else:
        rows = pl.scan_csv(path, glob=False, has_header=False, infer_schema=False, truncate_ragged_lines=True)
    columns = [
        pl.col(name).str.len_bytes().max().cast(pl.Int64)
        if isinstance(dtype, pl.String)
        else pl.col(name).hash().is_null().any().cast(pl.Int64)
        for name, dtype in rows.collect_schema().items()
    ]
    return rows.select(columns).collect(engine="streaming").row(0, named=True) if columns else {}
