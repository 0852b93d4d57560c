"""Files that cannot be read within bounds, found before this process opens them.

Each file is read once, whole, by a worker: what takes more memory or time than it may, or breaks the library that reads
it, ends there. What is wrong in any other way passes; the survey tells it better. It reads of a Parquet file what it
needs, so the answer says which ones failed in any part.
"""

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, cast

import polars as pl

from historical_etl.errors import DataQualityError, WorkerStoppedError
from historical_etl.regular_files import refuse_odd
from historical_etl.settings import PREFIX
from historical_etl.sources.display_text import displayed
from historical_etl.workers.answer import Answer
from historical_etl.workers.limits import Limits
from historical_etl.workers.pool import Worker, Workers

__all__ = ["LONGEST", "Probed", "probe", "probed"]

#: Bytes of one cell, or of one line of a CSV file. No price or symbol comes near.
LONGEST: Final = 1024**2
#: Files of one task: so many, and together so large.
_CHUNK, _CHUNK_BYTES = 32, 4 * 1024**2
#: A file may take this long, and another second for each so many bytes, and never longer than that.
_SECONDS, _BYTES_A_SECOND, _MOST_SECONDS = 30.0, 1024**2, 1_800.0
#: A file may have so many bytes, or so many times the memory: the bars of all exchanges since 1990 take some 20 GB.
_MOST_BYTES, _TIMES_MEMORY = 1 << 36, 16
#: What is packed may have so many bytes in a cell, or that part of the memory in all cells of a column.
_SHARE, _COMMON = 4, 1_000
#: What packs by blocks has some kilobytes in each; what is packed day by day has not so many.
_PART, _MANY_PARTS = 256, 100_000
_PACKED: Final = b"\x1f\x8b\x08"
_WORKERS: Final = Workers(__name__, idle_limit=1)
_OUT: Final = "take it out of the folder"
#: What a path leads to that is no file, by the number of the error.
_ODD: Final = {
    errno.EINVAL: ("It cannot be read: {}", f"{_OUT}: prices are read from regular files"),
    errno.ELOOP: ("It is a link that leads in a circle", _OUT),
    errno.ENAMETOOLONG: ("It cannot be read: {}", f"move it to a shorter path, or {_OUT}"),
}
_AGAIN: Final = "export it again as daily bars"
_MEMORY: Final = f"{_AGAIN}; if it is sound and that large, raise {PREFIX}FILES_MEMORY"


@dataclass
class Probed:
    """The result for some files.

    Attributes:
        refused: those that nobody should open here, and why.
        failed: Parquet files of which some part cannot be read.
    """

    refused: dict[Path, DataQualityError] = field(default_factory=dict[Path, DataQualityError])
    failed: set[Path] = field(default_factory=set[Path])

    def __ior__(self, other: "Probed") -> Self:
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
    found = Probed()
    sizes: dict[Path, int] = {}
    for path in paths:
        try:
            sizes[path] = _size(path, memory)
        except DataQualityError as error:
            found.refused[path] = error
    for chunk in _chunks(sizes):
        found |= _of(chunk, memory)
    return found


def _size(path: Path, memory: int) -> int:
    """The size of a regular file that may be read.

    Raises:
        DataQualityError: it is none, its name can be given to no reader, or it is too large.
    """
    try:
        str(path).encode()
        facts = path.stat()
        refuse_odd(facts.st_mode, path)
    except UnicodeEncodeError:
        what, todo = "Its name, or one of a folder above it, is not UTF-8", "rename it"
        raise DataQualityError(what, where=path, todo=todo) from None
    except FileNotFoundError:
        what, todo = "It was taken away, or has another name now", "run the same command again"
        if path.is_symlink():
            what, todo = "It is a link to a place where nothing is", f"mount what it leads to, or {_OUT}"
        raise DataQualityError(what, where=path, todo=todo) from None
    except OSError as error:
        what, todo = _ODD.get(error.errno or 0, (f"It cannot be read: {error.strerror}", f"let it be read, or {_OUT}"))
        raise DataQualityError(what.format(error.strerror), where=path, todo=todo) from None
    if facts.st_size > (most := max(_MOST_BYTES, _TIMES_MEMORY * memory)):
        what = f"It has {facts.st_size:,} bytes; a file that is read has {most:,} at most"
        todo = (
            f"{_AGAIN}, in smaller files; if it is sound, raise {PREFIX}FILES_MEMORY to 1/{_TIMES_MEMORY} of its size"
        )
        raise DataQualityError(what, where=path, todo=todo)
    return facts.st_size


def _chunks(sizes: Mapping[Path, int]) -> Iterator[dict[Path, int]]:
    chunk: dict[Path, int] = {}
    for path, size in sizes.items():
        if chunk and (len(chunk) == _CHUNK or sum(chunk.values()) + size > _CHUNK_BYTES):
            yield chunk
            chunk = {}
        chunk[path] = size
    if chunk:
        yield chunk


def _of(sizes: Mapping[Path, int], memory: int) -> Probed:
    with _WORKERS.taken() as worker:
        try:
            return _asked(worker, sizes, memory)
        except WorkerStoppedError as error:
            if len(sizes) == 1:
                todo = f"{_AGAIN}, in smaller files" if error.late else _MEMORY
                what = f"It cannot be read: {error.what}"
                return Probed({path: DataQualityError(what, where=path, todo=todo) for path in sizes})
    found = Probed()
    for path, size in sizes.items():
        found |= _of({path: size}, memory)
    return found


def _asked(worker: Worker, sizes: Mapping[Path, int], memory: int) -> Probed:
    limits = Limits(min(_SECONDS + sum(sizes.values()) // _BYTES_A_SECOND, _MOST_SECONDS), memory)
    arguments = {"paths": [str(path) for path in sizes], "most": memory // _SHARE}
    facts = worker.perform(f"{__name__}:probe", arguments, limits).facts
    refused = cast("Mapping[str, tuple[str, str]]", facts["refused"])
    return Probed(
        {Path(path): DataQualityError(what, where=path, todo=todo) for path, (what, todo) in refused.items()},
        {Path(path) for path in cast("Sequence[str]", facts["failed"])},
    )


def probe(paths: Sequence[str], most: int) -> Answer:
    """Read files from end to end, as a worker.

    Args:
        paths: of the files.
        most: bytes that the cells of a column may have together, unless they are short.

    Facts: `refused` (path → what makes it too large, and what to do), and `failed` (Parquet files).
    """
    refused: dict[str, tuple[str, str]] = {}
    failed: list[str] = []
    for path in paths:
        try:
            is_packed = _check_form(path)
            _check_cells(path, most if is_packed else sys.maxsize)
        except DataQualityError as error:
            refused[path] = error.what, error.todo
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            failed += [path] if _is_parquet(path) else []
    return Answer({"refused": refused, "failed": failed})


def _check_form(path: str) -> bool:
    """Refuse a file of which no line should be read: reading the first ones alone would not end soon.

    Returns:
        Whether its cells may be longer than they are on the disk.

    Raises:
        DataQualityError: it is packed in very many parts, or has no lines.
    """
    with open(path, "rb") as stream:  # noqa: PTH123 - one of very many
        start = stream.read(LONGEST + 1)
        if start.startswith(_PACKED):
            size, parts = stream.seek(0, os.SEEK_END), 0
            stream.seek(0)
            while block := stream.read(LONGEST):
                parts += block.count(_PACKED)
            if parts > _MANY_PARTS and parts * _PART > size:
                raise DataQualityError(f"It is packed in {parts:,} parts", todo="pack it again as one")
            return True
        if len(start) > LONGEST and not _is_parquet(path):
            # The end shows what has a hole, such as a copy that was broken off, however large it is.
            stream.seek(-LONGEST - 1, os.SEEK_END)
            for name, edge in (("first", start), ("last", stream.read(LONGEST))):
                if b"\n" not in edge:
                    raise DataQualityError(f"Its {name} line has more than {LONGEST:,} bytes", todo=_AGAIN)
    return _is_parquet(path)


def _check_cells(path: str, most: int) -> None:
    """Read all of a file.

    Raises:
        DataQualityError: a cell is too long, or those of a column together are.
    """
    if _is_parquet(path):
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    else:
        rows = pl.scan_csv(path, glob=False, has_header=False, infer_schema=False, truncate_ragged_lines=True)
    schema = rows.collect_schema()
    wanted: list[pl.Expr] = []
    for place, (name, dtype) in enumerate(schema.items()):
        if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
            size = pl.col(name).cast(pl.String).str.len_bytes().cast(pl.Int64)
            wanted += [size.max().alias(f"{place} longest"), size.sum().alias(f"{place} together")]
        else:  # something that has to read it
            wanted.append(pl.col(name).hash().is_null().any().alias(f"{place}"))
    if not wanted:
        return
    facts = rows.select(pl.len().alias("rows"), *wanted).collect(engine="streaming").row(0, named=True)
    for place, name in enumerate(schema):
        longest, together = (facts.get(f"{place} {what}") or 0 for what in ("longest", "together"))
        if longest > LONGEST:
            raise DataQualityError(f"A cell of {displayed(name)!r} has {longest:,} bytes", todo=_AGAIN)
        if together > max(most, _COMMON * facts["rows"]):
            what = f"The cells of {displayed(name)!r} have {together:,} bytes together"
            raise DataQualityError(what, todo=_MEMORY)


def _is_parquet(path: str | Path) -> bool:
    return str(path).lower().endswith(".parquet")
