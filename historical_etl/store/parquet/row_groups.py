"""Row groups of a Parquet file as they are on disk: the bytes of each column chunk, and the footer's word on it.

No chunk knows what was written before it or beside it. So a file may be made of chunks that are encoded now and of
others that are copied, and a footer over them all. Put here how a file is taken apart and put together; which rows are
in which group belongs to `month_blocks`.
"""

import struct
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from io import BytesIO
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl

from historical_etl.errors import ChecksumMismatchError, DataQualityError, SchemaDriftError, StorageError
from historical_etl.schema import FIELD_IDS, SCHEMA
from historical_etl.store.parquet.footer import Shape, Struct, Structs, ThriftError, decode, encode

__all__ = [
    "MAGIC",
    "Chunk",
    "Put",
    "RowGroup",
    "Source",
    "assembled",
    "blaming",
    "checked",
    "chunks_of",
    "parse",
    "read",
    "splice",
    "with_field_ids",
]

#: A Parquet file: magic, pages, footer, length of the footer in 4 bytes, magic.
MAGIC: Final = b"PAR1"
_TAIL: Final = 8
_JOINED: Final = 1 << 20  # bytes of chunks that are copied at once, or one chunk
_REBUILD: Final = "read the file whole and encode its months"
#: Takes bytes of a file in their order: those of a source from one place to another.
Put = Callable[["Source", int, int], object]

# Fields, numbered in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
_FILE_SCHEMA, _FILE_ROWS, _FILE_GROUPS = 2, 3, 4
_ELEMENT_NAME, _ELEMENT_ID, _WIRE_INTEGER = 4, 9, 5
_GROUP_CHUNKS, _GROUP_SIZE, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_PACKED, _GROUP_ORDINAL = 1, 2, 3, 5, 6, 7
_CHUNK_OFFSET, _CHUNK_META, _CHUNK_PAGE_INDEX = 2, 3, (4, 5, 6, 7)
_META_SIZE, _META_PACKED, _META_OFFSETS, _META_STATISTICS, _META_BLOOM_FILTER = 6, 7, (9, 10, 11), 12, (14, 15)
_STATISTICS_MAX, _STATISTICS_MIN = 5, 6

_INT: Final[Shape] = {}
_META: Final[Shape] = dict.fromkeys((_META_SIZE, _META_PACKED, *_META_OFFSETS), _INT)
_CHUNK: Final[Shape] = {_CHUNK_OFFSET: _INT, _CHUNK_META: _META}
_GROUP: Final[Shape] = {
    _GROUP_CHUNKS: _CHUNK,
    **dict.fromkeys((_GROUP_SIZE, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_PACKED, _GROUP_ORDINAL), _INT),
}
_FOOTER: Final[Shape] = {_FILE_SCHEMA: {}, _FILE_ROWS: _INT, _FILE_GROUPS: _GROUP}


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where pages lie: in memory, or in a file, in the state it had when its footer was read."""

    path: Path | None = None
    state: tuple[int, int, int] = (0, 0, 0)
    data: bytes = b""

    @classmethod
    def of(cls, path: Path) -> "Source":
        """A file as it is now."""
        return cls(path, _state(path))

    @contextmanager
    def opened(self) -> Generator[BinaryIO, None, None]:
        """The bytes, as a file that can be read. Raises as `blaming`, also if the file has changed."""
        with blaming(self.path):
            if self.path is None:
                yield BytesIO(self.data)
            elif _state(self.path) != self.state:
                raise ThriftError("It changed after its blocks were read")
            else:
                with self.path.open("rb") as file:
                    yield file

    @contextmanager
    def scanned(self) -> Generator[pl.LazyFrame]:
        """The rows, to be collected inside the block. Raises as `opened`."""
        with self.opened():
            yield pl.scan_parquet(self.data if self.path is None else self.path, glob=False)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The pages of one column in a row group.

    Attributes:
        source: where they lie.
        start: their first byte there.
        stop: the byte after them.
        footer: the footer's word on them, without pointers to what is not copied.
    """

    source: Source
    start: int
    stop: int
    footer: Struct

    @property
    def meta(self) -> Struct:
        """The column's metadata in the footer."""
        return self.footer.read(_CHUNK_META, Struct)


@dataclass(frozen=True, slots=True, eq=False)
class RowGroup:
    """Rows of one month, ascending by (symbol, date).

    Attributes:
        first: the earliest date among the rows, by the footer's statistics, as the three after it.
        last: the latest date.
        low: the first symbol, as UTF-8.
        high: the last symbol.
        rows: how many there are.
        row: the number of the first one in its file.
        chunks: one for each column, in the order of the schema.
        footer: the footer's word on it beside the chunks.
    """

    first: date
    last: date
    low: bytes
    high: bytes
    rows: int
    row: int
    chunks: tuple[Chunk, ...]
    footer: Struct


@contextmanager
def blaming(path: Path | None) -> Generator[None, None, None]:
    """Turn a failure to read into an error of ours that names the file.

    Raises:
        ChecksumMismatchError: it is not the Parquet file it should be.
        StorageError: it cannot be read.
    """
    try:
        yield
    # Damaged pages can make Polars panic, and its PanicException is no `Exception`.
    except (ThriftError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ChecksumMismatchError(
            f"This is not the Parquet file it should be. {error}", where=path, todo="restore it from a kept version"
        ) from error
    except OSError as error:
        raise StorageError(f"The file cannot be read: {error}", where=path, todo="check that it is there") from error


def checked(frame: pl.DataFrame, path: Path | None) -> pl.DataFrame:
    """A frame that has the columns of the schema, and no others; else raises SchemaDriftError."""
    if frame.schema != SCHEMA:
        raise SchemaDriftError(f"Columns are {dict(frame.schema)}", where=path, todo=f"make them {dict(SCHEMA)}")
    return frame


def parse(source: Source) -> tuple[Struct, list[RowGroup]]:
    """What a footer says beside its row groups, and these, in their order, each of one month.

    Raises: as `blaming`; DataQualityError if a group has rows of several months.
    """
    head, groups = chunks_of(source)
    found: list[RowGroup] = []
    row = 0
    for chunks, footer in groups:
        first, last = _dates(chunks, source.path)
        low, high = _bounds(chunks[1]) if len(chunks) > 1 and _META_STATISTICS in chunks[1].meta else (b"", b"")
        rows = footer.read(_GROUP_ROWS, int)
        found.append(RowGroup(first, last, low, high, rows, row, tuple(chunks), footer))
        row += rows
    return head, found


def chunks_of(source: Source) -> tuple[Struct, list[tuple[list[Chunk], Struct]]]:
    """What a footer says beside its row groups, and the chunks of each with what it says beside them.

    Raises: as `blaming`.
    """
    head, groups, end = _footer(source)
    position = len(MAGIC)
    found: list[tuple[list[Chunk], Struct]] = []
    for group in groups:
        chunks: list[Chunk] = []
        for chunk in group.read(_GROUP_CHUNKS, Structs):
            start, stop = _tidied(chunk)
            if not position <= start < stop <= end:
                raise ThriftError("Its pages overlap, or lie outside it")
            position = stop
            chunks.append(Chunk(source, start, stop, chunk))
        found.append((chunks, group))
    return head, found


def with_field_ids(head: Struct) -> Struct:
    """A footer's head whose columns have their numbers: readers that go by number find a column that was renamed."""
    numbered, elements = Struct(head), Structs()
    for element in head.read(_FILE_SCHEMA, Structs):
        number = FIELD_IDS.get(element.text(_ELEMENT_NAME).decode())
        fields = dict(element) if number is None else {**element, _ELEMENT_ID: (_WIRE_INTEGER, bytes([number << 1]))}
        elements.append(Struct(sorted(fields.items())))
    numbered.write(_FILE_SCHEMA, elements)
    return numbered


def assembled(group: RowGroup, chunks: Sequence[Chunk]) -> RowGroup:
    """A group with other chunks for some of its columns, and the same rows in the columns that are keys."""
    footer, metas = Struct(group.footer), [chunk.meta for chunk in chunks]
    for total, size in ((_GROUP_SIZE, _META_SIZE), (_GROUP_PACKED, _META_PACKED)):
        if total in footer:
            footer.write(total, sum(meta.read(size, int) for meta in metas))
    return replace(group, chunks=tuple(chunks), footer=footer)


def read(groups: Sequence[RowGroup], head: Struct) -> pl.DataFrame:
    """The rows of some groups of one source, one group after the other.

    Raises: as `blaming`; SchemaDriftError if the file has other columns.
    """
    alone = BytesIO()
    path = groups[0].chunks[0].source.path if groups else None
    with groups[0].chunks[0].source.opened() if groups else BytesIO() as file:

        def put(source: Source, start: int, stop: int) -> None:
            if source.path is None:
                alone.write(source.data[start:stop])
                return
            file.seek(start)
            piece = file.read(stop - start)
            if len(piece) != stop - start:
                raise ThriftError("It ends inside a block")
            alone.write(piece)

        splice(groups, head, put)
    with blaming(path):
        return checked(pl.read_parquet(alone.getvalue()), path)


def splice(groups: Iterable[RowGroup], head: Struct, put: Put) -> int:
    """Give out the bytes of a file of some groups, and of the footer that finds them there; returns its size."""
    position, placed, rows = len(MAGIC), Structs(), 0
    put(Source(data=MAGIC), 0, len(MAGIC))
    spans = _Spans(put)
    for group in groups:
        footer, chunks = Struct(group.footer), Structs()
        for field, value in ((_GROUP_OFFSET, position), (_GROUP_ORDINAL, len(placed))):
            if field in footer:
                footer.write(field, value)
        for chunk in group.chunks:
            spans.add(chunk)
            chunks.append(_moved(chunk, position))
            position += chunk.stop - chunk.start
        footer.write(_GROUP_CHUNKS, chunks)
        placed.append(footer)
        rows += group.rows
    spans.end()
    whole = Struct(head)
    whole.write(_FILE_ROWS, rows)
    whole.write(_FILE_GROUPS, placed)
    written = encode(whole)
    ending = written + len(written).to_bytes(4, "little") + MAGIC
    put(Source(data=ending), 0, len(ending))
    return position + len(ending)


class _Spans:
    """Joins chunks that follow one another in their source, up to a size: nothing waits for all that follow."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._source: Source | None = None
        self._start = self._stop = 0

    def add(self, chunk: Chunk) -> None:
        if chunk.source is self._source and chunk.start == self._stop:
            self._stop = chunk.stop
        else:
            self.end()
            self._source, self._start, self._stop = chunk.source, chunk.start, chunk.stop
        if self._stop - self._start >= _JOINED:
            self.end()

    def end(self) -> None:
        if self._source is not None:
            self._put(self._source, self._start, self._stop)
            self._source = None


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _footer(source: Source) -> tuple[Struct, Iterable[Struct], int]:
    """The head and the row groups of a file, and the byte where its footer begins."""
    with source.opened() as file:
        size = file.seek(0, SEEK_END)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
        start = size - _TAIL - int.from_bytes(tail[:4], "little")
        if start < len(MAGIC) or tail[4:] != MAGIC:
            raise ThriftError("It is cut short, or another kind of file")
        file.seek(start)
        head = decode(file.read(size - _TAIL - start), _FOOTER)
        groups = head.read(_FILE_GROUPS, Structs)
        if head.read(_FILE_ROWS, int) != sum(group.read(_GROUP_ROWS, int) for group in groups):
            raise ThriftError("Its row groups do not add up to its rows")
        head.read(_FILE_SCHEMA, Structs)
    head.write(_FILE_ROWS, 0)
    head.write(_FILE_GROUPS, Structs())
    return head, groups, start


def _tidied(chunk: Struct) -> tuple[int, int]:
    """The byte range of a chunk's pages, after taking from it the pointers to what is not copied.

    Offset and column indexes lie behind all pages and point to bytes of the file; a chunk is one page, or a few, so
    they say little that the chunk's own statistics don't. Between chunks Polars repeats their metadata, with offsets as
    of that file; `file_offset` points there, and Parquet now wants 0 (nothing to be found).
    """
    meta = chunk.read(_CHUNK_META, Struct)
    for pointer in _CHUNK_PAGE_INDEX:
        chunk.pop(pointer, None)
    for pointer in _META_BLOOM_FILTER:
        meta.pop(pointer, None)
    chunk.write(_CHUNK_OFFSET, 0)
    start = min((meta.read(offset, int) for offset in _META_OFFSETS if offset in meta), default=0)
    return start, start + meta.read(_META_PACKED, int)


def _bounds(chunk: Chunk) -> tuple[bytes, bytes]:
    """The lowest and the highest value of a chunk, by its statistics."""
    statistics = decode(chunk.meta.read(_META_STATISTICS, bytes), {})
    return statistics.text(_STATISTICS_MIN), statistics.text(_STATISTICS_MAX)


def _dates(chunks: Sequence[Chunk], path: Path | None) -> tuple[date, date]:
    """The first and last date of a row group, by the statistics of its first column. They must share a month."""
    if not chunks:
        raise ThriftError("A row group has no columns")
    try:
        first, last = (date(1970, 1, 1) + timedelta(*struct.unpack("<i", bound)) for bound in _bounds(chunks[0]))
    except (struct.error, OverflowError) as error:
        raise ThriftError("Its first column holds no dates") from error
    if (first.year, first.month) != (last.year, last.month):
        raise DataQualityError(f"A row group runs from {first} to {last}", where=path, todo=_REBUILD)
    return first, last


def _moved(chunk: Chunk, start: int) -> Struct:
    """The footer's word on a chunk whose pages begin at `start`."""
    meta = Struct(chunk.meta)
    by = start - chunk.start
    for offset in _META_OFFSETS:
        if offset in meta:
            meta.write(offset, meta.read(offset, int) + by)
    moved = Struct(chunk.footer)
    moved.write(_CHUNK_META, meta)
    return moved
