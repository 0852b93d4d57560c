"""Files that cannot be read within bounds, found before this process opens them.

Each file is read once, whole, by a worker: what takes more memory or time than it may, or breaks the library that reads
it, ends there. What is wrong in any other way passes; the survey tells it better. It reads of a Parquet file what it
needs, so it is told which ones failed in any part.
"""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, cast

import polars as pl

from historical_etl.errors import DataQualityError, WorkerStoppedError
from historical_etl.regular import refuse_odd
from historical_etl.workers.answer import Answer
from historical_etl.workers.limits import Limits
from historical_etl.workers.pool import Worker, Workers

__all__ = ["LONGEST", "Probed", "probe", "probed"]

#: Bytes of one cell, or of one line of a CSV file. No price or symbol comes near.
LONGEST: Final = 1024**2
_CHUNK: Final = 32
#: A file may take this long, and another second for each so many bytes.
_SECONDS, _BYTES_A_SECOND = 60.0, 2 * 1024**2
_WORKERS: Final = Workers(__name__, kept=1)


@dataclass
class Probed:
    """What came of some files.

    Attributes:
        refused: those that nobody should open here, and why.
        failed: Parquet files of which some part cannot be read.
    """

    refused: dict[Path, DataQualityError] = field(default_factory=dict[Path, DataQualityError])
    failed: set[Path] = field(default_factory=set[Path])

    def __ior__(self, other: Self) -> Self:
        self.refused |= other.refused
        self.failed |= other.failed
        return self


def probed(paths: Sequence[Path], memory: int) -> Probed:
    """Let a worker read files.

    Args:
        paths: of CSV and Parquet files.
        memory: bytes that reading one may take.

    Raises:
        WorkerStoppedError: no worker can be started.
    """
    todo = "mount what it leads to, or take it out of the folder"
    odd = {path: words for path in paths if (words := _oddity(path))}
    found = Probed({path: DataQualityError(words, where=path, todo=todo) for path, words in odd.items()})
    files = [path for path in paths if path not in odd]
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


def _of(paths: Sequence[Path], memory: int) -> Probed:
    with _WORKERS.taken() as worker:
        try:
            return _asked(worker, paths, memory)
        except WorkerStoppedError as error:
            if len(paths) == 1:
                return Probed({paths[0]: _refused(f"It cannot be read: {error.what}", paths[0])})
    found = Probed()
    for path in paths:
        found |= _of([path], memory)
    return found


def _asked(worker: Worker, paths: Sequence[Path], memory: int) -> Probed:
    size = sum(path.stat().st_size for path in paths if path.exists())
    limits = Limits(_SECONDS + size / _BYTES_A_SECOND, memory)
    facts = worker.perform(f"{__name__}:probe", {"paths": [str(path) for path in paths]}, limits).facts
    long = cast("Mapping[str, tuple[str, int]]", facts["long"])
    refused = {
        Path(path): _refused(f"A cell of {column!r} has {length:,} bytes", Path(path))
        for path, (column, length) in long.items()
    }
    return Probed(refused, {Path(path) for path in cast("Sequence[str]", facts["failed"])})


def _refused(what: str, path: Path) -> DataQualityError:
    todo = "export it again as daily bars; if it is sound and that large, raise HISTORICAL_ETL_FILES_MEMORY"
    return DataQualityError(what, where=path, todo=todo)


def probe(paths: Sequence[str]) -> Answer:
    """Read files from end to end, as a worker.

    Facts: `long` (path → column and bytes of a cell that is too long), and `failed` (Parquet files).
    """
    long: dict[str, tuple[str, int]] = {}
    failed: list[str] = []
    for path in paths:
        try:
            column, length = max(_lengths(Path(path)).items(), key=lambda cell: cell[1] or 0, default=("", 0))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            failed += [path] if _is_parquet(path) else []
            continue
        if length and length > LONGEST:
            long[path] = column, length
    return Answer({"long": long, "failed": failed})


def _lengths(path: Path) -> dict[str, int | None]:
    """The longest cell of each column, in bytes; of columns that are no text, something that has to read them."""
    if _is_parquet(path):
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


def _is_parquet(path: str | Path) -> bool:
    return str(path).lower().endswith(".parquet")
