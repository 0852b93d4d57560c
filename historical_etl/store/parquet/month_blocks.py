"""A year file is a row of *month blocks*: the bytes of each month, encoded alone, and one footer over them all.

A one-day increment encodes one month and copies the bytes of the other eleven; and since no block knows what was
written before it, the bytes of a year depend on its rows only, never on the merges that led there.

Put here what a year file is as bytes. Which rows it holds, where it lies and how it is replaced belong to others.
Copied bytes are not verified: check the SHA-256 of a file before building the next one from its blocks.
"""

import hashlib
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from io import BytesIO
from itertools import groupby, pairwise
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import polars as pl

from historical_etl.errors import ChecksumMismatchError, DataQualityError, SchemaDriftError, StorageError
from historical_etl.schema import SCHEMA, empty_frame, is_ordered
from historical_etl.store.parquet.footer import Shape, Struct, Structs, ThriftError, decode, encode

__all__ = ["Block", "WriteReport", "encode_block", "read_blocks", "write_year", "writer_name"]

# Measured: small groups serve one symbol and one day alike, and zstd-1 writes fastest of what stays small. The
# size must be given: without it the groups follow the chunks of the frame, and equal rows give unequal bytes.
_LEVEL: Final = 1
_GROUP_ROWS: Final = 8192
#: In every footer, so that a file made with other settings is known as such (see `Block.current`).
_LAYOUT: Final = {"historical_etl.blocks": f"1: zstd {_LEVEL}, {_GROUP_ROWS} rows"}

_MAGIC: Final = b"PAR1"  # a Parquet file: magic, pages, footer, length of the footer in 4 bytes, magic
_TAIL: Final = 8
_PIECE: Final = 1 << 20  # bytes copied at a time
_REBUILD: Final = "read the file whole and encode its months"

# Fields, numbered in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
_FILE_ROWS, _FILE_GROUPS, _FILE_WRITER = 3, 4, 6
_GROUP_CHUNKS, _GROUP_ROWS_HELD, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 3, 5, 7
_CHUNK_OFFSET, _CHUNK_META, _CHUNK_PAGE_INDEX = 2, 3, (4, 5, 6, 7)
_META_SIZE, _META_OFFSETS, _META_STATISTICS, _META_BLOOM_FILTER = 7, (9, 10, 11), 12, (14, 15)
_STATISTICS_MAX, _STATISTICS_MIN = 5, 6

_INT: Final[Shape] = {}
_META: Final[Shape] = dict.fromkeys((_META_SIZE, *_META_OFFSETS), _INT)
_CHUNK: Final[Shape] = {_CHUNK_OFFSET: _INT, _CHUNK_META: _META}
_GROUP: Final[Shape] = {_GROUP_CHUNKS: _CHUNK, _GROUP_ROWS_HELD: _INT, _GROUP_OFFSET: _INT, _GROUP_ORDINAL: _INT}
_FOOTER: Final[Shape] = {_FILE_ROWS: _INT, _FILE_GROUPS: _GROUP}


class WriteReport(NamedTuple):
    """What `write_year` wrote: SHA-256 in hex, size in bytes, number of rows."""

    sha256: str
    size: int
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows of one month as Parquet pages, in memory or still in their file, with the footer's word on them."""

    first: date  # earliest and latest date among the rows, by the footer's statistics
    last: date
    rows: int
    source: "_Source"
    spans: list[tuple[int, int]]  # byte ranges in the source; a single one once the block is in a year file
    groups: Structs
    head: Struct  # the source's footer without groups and rows: schema, column orders, writer, layout

    @property
    def year(self) -> int:
        """Its calendar year."""
        return self.first.year

    @property
    def month(self) -> int:
        """Its calendar month, 1 to 12."""
        return self.first.month

    @property
    def size(self) -> int:
        """Bytes the pages take, footer aside."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def current(self) -> bool:
        """Whether the file it is in was written by this Polars, with today's schema and settings."""
        return self.head == _head()

    def read(self) -> pl.DataFrame:
        """The rows, in the order they were encoded.

        Raises:
            ChecksumMismatchError: the pages cannot be decoded, or the file changed after its blocks were read.
            SchemaDriftError: the file has other columns.
            StorageError: the file cannot be read.
        """
        alone = BytesIO()
        _splice([self], self.head, alone.write)
        with _blaming(self.source.path):
            return _checked(pl.read_parquet(alone.getvalue()), self.source.path)

    def pieces(self) -> Iterator[bytes]:
        """The pages, in pieces to be copied. Raises as `read` does."""
        with self.source.opened() as file:
            for start, stop in self.spans:
                file.seek(start)
                for at in range(start, stop, _PIECE):
                    piece = file.read(min(stop - at, _PIECE))
                    if at + len(piece) not in (stop, at + _PIECE):
                        raise ThriftError("It ends inside a block")
                    yield piece


def encode_block(frame: pl.DataFrame) -> Block:
    """Encode the rows of one calendar month, which must ascend by (symbol, date), in memory.

    The same rows give the same bytes, however the frame is chunked and however many threads Polars has.

    Raises:
        SchemaDriftError: the columns are not the schema's.
        ValueError: the caller's mistake: no rows, more than one month, or keys that repeat or do not ascend.
    """
    keys = _checked(frame, None).select("date", "symbol")
    months = keys.get_column("date").unique().dt.month_start().n_unique()
    if months != 1 or any(column.null_count() for column in keys) or not is_ordered(keys, unique=True):
        raise ValueError("A block takes the rows of one month, ascending by (symbol, date), no key empty or repeated")
    return _parse(_encoded(frame))[0]


def read_blocks(path: Path) -> list[Block]:
    """The month blocks of a year file, ascending, from its footer alone: no row is read.

    Raises:
        ChecksumMismatchError: this is no Parquet file, or a damaged one.
        DataQualityError: it is one, but not made of month blocks in their order.
        StorageError: the file cannot be read.
    """
    with _blaming(path):
        return _parse(_Source(path, _state(path)))


def write_year(blocks: Sequence[Block], out: BinaryIO) -> WriteReport:
    """Write one year file from its blocks, each encoded now or copied from the file it is in.

    A block that is not `current` (another Polars, other settings) is read and encoded anew. So a file has one
    writer, the one its footer names, and not even an upgrade leaves a trace of the path in the bytes.

    Args:
        blocks: blocks of one year, their months ascending; none gives a file without rows.
        out: a buffered file, written from its current position; flushing and syncing are the caller's.

    Raises:
        ValueError: the caller's mistake: blocks of several years, or a month twice or out of order.
        ChecksumMismatchError, StorageError: a source is damaged or cannot be read; `out` is then incomplete.
    """
    if not _ordered(blocks):
        raise ValueError(f"Blocks must be of one year, by month: {[(block.year, block.month) for block in blocks]}")
    digest = hashlib.sha256()

    def put(piece: bytes) -> None:
        out.write(piece)
        digest.update(piece)

    own = [block if block.current else encode_block(block.read().sort("symbol", "date")) for block in blocks]
    size = _splice(own, _head(), put)
    return WriteReport(digest.hexdigest(), size, sum(block.rows for block in own))


def writer_name() -> str:
    """Who encodes: the program, version and build that the footer of every file written now names."""
    return _head().text(_FILE_WRITER).decode()


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """Where pages lie: in memory, or in a file, in the state it had when its footer was read."""

    path: Path | None = None
    state: tuple[int, int, int] = (0, 0, 0)
    data: bytes = b""

    @contextmanager
    def opened(self) -> Generator[BinaryIO, None, None]:
        with _blaming(self.path):
            if self.path is None:
                yield BytesIO(self.data)
            elif _state(self.path) != self.state:
                raise ThriftError("It changed after its blocks were read")
            else:
                with self.path.open("rb") as file:
                    yield file


@contextmanager
def _blaming(path: Path | None) -> Generator[None, None, None]:
    """Turn a failure to read into an error of ours that names the file."""
    try:
        yield
    # Damaged pages can make Polars panic, and its PanicException is no `Exception`.
    except (ThriftError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ChecksumMismatchError(
            f"This is not the Parquet file it should be. {error}", where=path, todo="restore it from a kept version"
        ) from error
    except OSError as error:
        raise StorageError(f"The file cannot be read: {error}", where=path, todo="check that it is there") from error


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _checked(frame: pl.DataFrame, path: Path | None) -> pl.DataFrame:
    if frame.schema != SCHEMA:
        raise SchemaDriftError(f"Columns are {dict(frame.schema)}", where=path, todo=f"make them {dict(SCHEMA)}")
    return frame


def _ordered(blocks: Sequence[Block]) -> bool:
    return all(a.year == b.year and a.month < b.month for a, b in pairwise(blocks))


def _encoded(frame: pl.DataFrame) -> _Source:
    file = BytesIO()
    frame.rechunk().write_parquet(
        file, compression="zstd", compression_level=_LEVEL, row_group_size=_GROUP_ROWS, metadata=_LAYOUT
    )
    return _Source(data=file.getvalue())


@cache
def _head() -> Struct:
    """What a footer of ours holds beside groups and rows, as this Polars writes it."""
    return _footer(_encoded(empty_frame()))[0]


def _footer(source: _Source) -> tuple[Struct, Structs, int]:
    """The head and the row groups of a file, and the byte where its footer begins."""
    with source.opened() as file:
        size = file.seek(0, SEEK_END)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
        start = size - _TAIL - int.from_bytes(tail[:4], "little")
        if start < len(_MAGIC) or tail[4:] != _MAGIC:
            raise ThriftError("It is cut short, or another kind of file")
        file.seek(start)
        head = decode(file.read(size - _TAIL - start), _FOOTER)
        groups = head.read(_FILE_GROUPS, Structs)
        if head.read(_FILE_ROWS, int) != sum(group.read(_GROUP_ROWS_HELD, int) for group in groups):
            raise ThriftError("Its row groups do not add up to its rows")
    head.write(_FILE_ROWS, 0)
    head.write(_FILE_GROUPS, Structs())
    return head, groups, start


def _parse(source: _Source) -> list[Block]:
    head, groups, end = _footer(source)
    blocks: list[Block] = []
    position = len(_MAGIC)
    dated = [(*_dates(group, source.path), group) for group in groups]
    for _, run in groupby(dated, lambda item: (item[0].year, item[0].month)):
        firsts, lasts, members = zip(*run, strict=True)
        spans: list[tuple[int, int]] = []
        for group in members:
            for chunk in group.read(_GROUP_CHUNKS, Structs):
                start, stop = _tidied(chunk)
                if not position <= start < stop <= end:
                    raise ThriftError("Its pages overlap, or lie outside it")
                position = stop
                spans.append((spans.pop()[0] if spans and spans[-1][1] == start else start, stop))
        rows = sum(group.read(_GROUP_ROWS_HELD, int) for group in members)
        blocks.append(Block(min(firsts), max(lasts), rows, source, spans, Structs(members), head))
    if not _ordered(blocks):
        raise DataQualityError(
            f"Row groups are not of one year, by month: {[(block.year, block.month) for block in blocks]}",
            where=source.path,
            todo=_REBUILD,
        )
    return blocks


def _tidied(chunk: Struct) -> tuple[int, int]:
    """The byte range of a chunk's pages, after taking from it the pointers to what is not copied.

    Offset and column indexes lie behind all pages and point to bytes of the file; a chunk of 8192 rows is one
    page, so they say nothing the chunk's own statistics don't. Between chunks Polars repeats their metadata,
    with offsets as of that file; `file_offset` points there, and Parquet now wants 0 (nothing to be found).
    """
    meta = chunk.read(_CHUNK_META, Struct)
    for pointer in _CHUNK_PAGE_INDEX:
        chunk.pop(pointer, None)
    for pointer in _META_BLOOM_FILTER:
        meta.pop(pointer, None)
    chunk.write(_CHUNK_OFFSET, 0)
    start = min((meta.read(offset, int) for offset in _META_OFFSETS if offset in meta), default=0)
    return start, start + meta.read(_META_SIZE, int)


def _dates(group: Struct, path: Path | None) -> tuple[date, date]:
    """The first and last date of a row group, by the statistics of its first column. They must share a month."""
    chunks = group.read(_GROUP_CHUNKS, Structs)
    meta = chunks[0].read(_CHUNK_META, Struct) if chunks else Struct()
    statistics = decode(meta.read(_META_STATISTICS, bytes), {})
    try:
        first, last = (
            date(1970, 1, 1) + timedelta(*struct.unpack("<i", statistics.text(bound)))
            for bound in (_STATISTICS_MIN, _STATISTICS_MAX)
        )
    except (struct.error, OverflowError) as error:
        raise ThriftError("Its first column holds no dates") from error
    if (first.year, first.month) != (last.year, last.month):
        raise DataQualityError(f"A row group runs from {first} to {last}", where=path, todo=_REBUILD)
    return first, last


def _splice(blocks: Sequence[Block], head: Struct, put: Callable[[bytes], object]) -> int:
    """Write blocks one after the other, and the footer that finds them there. Returns the size of it all."""
    put(_MAGIC)
    position, groups = len(_MAGIC), Structs()
    for block in blocks:
        for piece in block.pieces():
            put(piece)
        for group in block.groups:
            moved, chunks, start = Struct(group), Structs(), position
            for chunk in group.read(_GROUP_CHUNKS, Structs):
                chunks.append(_moved(chunk, position))
                position += chunk.read(_CHUNK_META, Struct).read(_META_SIZE, int)
            moved.write(_GROUP_CHUNKS, chunks)
            for field, value in ((_GROUP_OFFSET, start), (_GROUP_ORDINAL, len(groups))):
                if field in moved:
                    moved.write(field, value)
            groups.append(moved)
    footer = Struct(head)
    footer.write(_FILE_ROWS, sum(block.rows for block in blocks))
    footer.write(_FILE_GROUPS, groups)
    written = encode(footer)
    put(written + len(written).to_bytes(4, "little") + _MAGIC)
    return position + len(written) + _TAIL


def _moved(chunk: Struct, start: int) -> Struct:
    """A chunk whose pages begin at `start`."""
    meta = Struct(chunk.read(_CHUNK_META, Struct))
    places = {offset: meta.read(offset, int) for offset in _META_OFFSETS if offset in meta}
    for offset, place in places.items():
        meta.write(offset, place + start - min(places.values()))
    moved = Struct(chunk)
    moved.write(_CHUNK_META, meta)
    return moved
