"""A year file is a row of *month blocks*, each a row of groups that are cut at symbols, and one footer over them all.

A one-day increment encodes one month and copies the bytes of the other eleven. A corrected or restated symbol encodes
the groups that it is in, and of those the columns that changed. And since no chunk knows what was written before it,
and a group is cut where its symbols say, the bytes of a year depend on its rows only, never on the merges before it.

Put here what a year file is as bytes. Which rows it holds, where it lies and how it is replaced belong to others.
Copied bytes are verified only if `write_year` is given the SHA-256 that they should have.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from io import BytesIO
from itertools import groupby, pairwise
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from zlib import crc32

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.schema import SCHEMA, empty_frame, is_ordered
from historical_etl.store.parquet.footer import Struct, ThriftError
from historical_etl.store.parquet.row_groups import (
    RowGroup,
    Source,
    assembled,
    blaming,
    checked,
    chunks_of,
    parse,
    read,
    splice,
    with_field_ids,
)

__all__ = [
    "Block",
    "WriteReport",
    "encode_block",
    "encode_rows",
    "read_blocks",
    "read_rows",
    "write_year",
    "writer_name",
]

#: One symbol in so many begins a row group, chosen by its name: where a group is cut depends on nothing else. Measured
#: in docs/decisions/0050: a month of 5,000 symbols has three groups or so.
_ONE_IN: Final = 2_400
#: In every footer, so that a file made with other settings is known as such (see `Block.current`).
_LAYOUT: Final = {"historical_etl.blocks": f"2: lz4, groups cut at one symbol in {_ONE_IN}"}
_WHOLE: Final = 1 << 31  # rows of a row group: all of what is encoded
_PIECE: Final = 1 << 20  # bytes copied at a time
_FILE_WRITER: Final = 6
_STARTS: Final = pl.col("symbol") != pl.col("symbol").shift(1, fill_value="")


class WriteReport(NamedTuple):
    """What `write_year` wrote: SHA-256 in hex, size in bytes, number of rows, and the first and the last session."""

    sha256: str
    size: int
    rows: int
    first: date | None
    last: date | None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows of one month as Parquet row groups, in memory or still in their file."""

    groups: tuple[RowGroup, ...]
    head: Struct  # the source's footer without groups and rows: schema, column orders, writer, layout

    @property
    def first(self) -> date:
        """The earliest date among the rows, by the footer's statistics."""
        return min(group.first for group in self.groups)

    @property
    def last(self) -> date:
        """The latest date among the rows, by the footer's statistics."""
        return max(group.last for group in self.groups)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(group.rows for group in self.groups)

    @property
    def year(self) -> int:
        """Its calendar year."""
        return self.groups[0].first.year

    @property
    def month(self) -> int:
        """Its calendar month, 1 to 12."""
        return self.groups[0].first.month

    @property
    def source(self) -> Source:
        """Where its pages lie; of one with encoded chunks beside copied ones, where the first does."""
        return self.groups[0].chunks[0].source

    @property
    def current(self) -> bool:
        """Whether the file it is in was written by this Polars, with today's schema and settings."""
        return self.head is _head() or self.head == _head()

    def read(self) -> pl.DataFrame:
        """The rows, in the order they were encoded.

        Raises:
            ChecksumMismatchError: the pages cannot be decoded, or the file changed after its blocks were read.
            SchemaDriftError: the file has other columns.
            StorageError: the file cannot be read.
        """
        return read(self.groups, self.head)

    def holding(self, symbols: Sequence[str], dropped: Collection[str] = ()) -> list[int]:
        """The numbers of the groups in which some symbols are, or would be.

        Args:
            symbols: sorted.
            dropped: those of them that may lose all their rows: the group before one that they begin is named, too,
                since it takes in the rest of it.
        """
        if not self.current:
            return list(range(len(self.groups)))
        lows = [group.low.decode() for group in self.groups]
        bounds = [0, *(bisect_left(symbols, low) for low in lows[1:]), len(symbols)]
        found = {number for number, (start, stop) in enumerate(pairwise(bounds)) if start < stop}
        return sorted(found | {number - 1 for number, low in enumerate(lows) if number and low in dropped})

    def with_rows(self, numbers: Collection[int], rows: pl.DataFrame) -> "Block | None":
        """The block with other rows in place of some groups; None if no row is left.

        Args:
            numbers: of the groups, as `holding` gives them.
            rows: all that they hold from now on, in the schema, of this month, sorted by (symbol, date).
        """
        others = [group for number, group in enumerate(self.groups) if number not in numbers]
        new = encode_rows(rows).groups if rows.height else ()
        groups = sorted((*others, *new), key=lambda group: group.low)
        return Block(tuple(groups), _head()) if groups else None

    def with_values(self, changed: Mapping[int, pl.DataFrame]) -> "Block":
        """The block with other values in some columns of some groups, and the same keys.

        Args:
            changed: the number of each of these groups, with the columns that change, whole.
        """
        groups = list(self.groups)
        for number, columns in changed.items():
            _, [(encoded, _)] = chunks_of(_encoded(columns))
            fresh = dict(zip(columns.columns, encoded, strict=True))
            groups[number] = assembled(
                groups[number],
                [fresh.get(name, chunk) for name, chunk in zip(SCHEMA, groups[number].chunks, strict=True)],
            )
        return Block(tuple(groups), self.head)


def encode_block(frame: pl.DataFrame) -> Block:
    """Encode the rows of one calendar month, which must ascend by (symbol, date), in memory.

    The same rows give the same bytes, however the frame is chunked and however many threads Polars has.

    Raises:
        SchemaDriftError: the columns are not the schema's.
        ValueError: the caller's mistake: no rows, more than one month, or keys that repeat or do not ascend.
    """
    keys = checked(frame, None).select("date", "symbol")
    months = keys.get_column("date").unique().dt.month_start().n_unique()
    if months != 1 or any(column.null_count() for column in keys) or not is_ordered(keys, unique=True):
        raise ValueError("A block takes the rows of one month, ascending by (symbol, date), no key empty or repeated")
    return encode_rows(frame)


def encode_rows(frame: pl.DataFrame) -> Block:
    """As `encode_block`, of rows whose order is known."""
    cuts = [*_cuts(frame), frame.height]
    parsed = [parse(_encoded(frame.slice(start, stop - start)))[1][0] for start, stop in pairwise(cuts)]
    return Block(tuple(parsed), _head())


def read_blocks(path: Path) -> list[Block]:
    """The month blocks of a year file, ascending, from its footer alone: no row is read.

    Raises:
        ChecksumMismatchError: this is no Parquet file, or a damaged one.
        DataQualityError: it is one, but not made of month blocks in their order.
        StorageError: the file cannot be read.
    """
    with blaming(path):
        head, groups = parse(Source.of(path))
        months = groupby(groups, lambda group: (group.first.year, group.first.month))
        blocks = [Block(tuple(members), head) for _, members in months]
        if not _ordered(blocks):
            raise DataQualityError(
                f"Row groups are not of one year, by month: {[(block.year, block.month) for block in blocks]}",
                where=path,
                todo="read the file whole and encode its months",
            )
        return blocks


def read_rows(chosen: Sequence[tuple[Block, Collection[int]]]) -> pl.DataFrame:
    """The rows of some groups of some blocks, one after the other; at once, where they are of one file.

    Raises: as `Block.read`.
    """
    named = [(block.groups[number], block.head) for block, numbers in chosen for number in sorted(numbers)]
    by_source = groupby(named, lambda item: id(item[0].chunks[0].source))
    parts = [[*members] for _, members in by_source]
    read_parts = [read([group for group, _ in part], part[0][1]) for part in parts]
    return pl.concat(read_parts) if read_parts else empty_frame()


def write_year(blocks: Iterable[Block], out: BinaryIO, base: tuple[Path, str] | None = None) -> WriteReport:
    """Write one year file from its blocks, each encoded now or copied from the file it is in.

    A block that is not `current` (another Polars, other settings) is read and encoded anew. So a file has one
    writer, the one its footer names, and not even an upgrade leaves a trace of the path in the bytes.

    Args:
        blocks: blocks of one year, their months ascending; none gives a file without rows. Each is written before the
            next one is asked for, but for its last bytes.
        out: a buffered file, written from its current position; flushing and syncing are the caller's.
        base: the file that blocks are copied from, and the SHA-256 of it. All its bytes are hashed as they go by: those
            that are copied are then proven to be what was committed, as they were when they were copied.

    Raises:
        ValueError: the caller's mistake: blocks of several years, or a month twice or out of order.
        ChecksumMismatchError, StorageError: a source is damaged or cannot be read; `out` is then incomplete.
    """
    path, checksum = base or (None, "")
    own: list[Block] = []
    with _opened(path) as file:
        copy = _Copy(out, file, path)
        size = splice(_groups(blocks, own), _head(), copy.put)
        if file is not None and copy.hash_of_base() != checksum:
            raise ThriftError("It was changed after its commit: its SHA-256 is not the committed one")
    if not own:
        return WriteReport(copy.digest.hexdigest(), size, 0, None, None)
    return WriteReport(copy.digest.hexdigest(), size, sum(block.rows for block in own), own[0].first, own[-1].last)


def _groups(blocks: Iterable[Block], own: list[Block]) -> Iterator[RowGroup]:
    """The row groups of blocks as they are to be written; the blocks that they belong to are noted."""
    for block in blocks:
        own.append(block if block.current else encode_block(block.read().sort("symbol", "date")))
        if not _ordered(own[-2:]):
            raise ValueError(f"Blocks must be of one year, by month: {[(block.year, block.month) for block in own]}")
        yield from own[-1].groups


def writer_name() -> str:
    """Who encodes: the program, version and build that the footer of every file written now names."""
    return _head().text(_FILE_WRITER).decode()


@contextmanager
def _opened(path: Path | None) -> Generator[BinaryIO | None, None, None]:
    with blaming(path):
        if path is None:
            yield None
        else:
            with path.open("rb") as file:
                yield file


class _Copy:
    """Bytes on their way into a file. Each is hashed as it goes by, and so are all of the file they are copied from.

    As long as both files are the same, one hash is that of both.
    """

    def __init__(self, out: BinaryIO, base: BinaryIO | None, path: Path | None) -> None:
        self.digest = hashlib.sha256()
        self._out = out
        self._base, self._path = base, path
        self._base_at = 0
        self._base_digest = self.digest

    def put(self, source: Source, start: int, stop: int) -> None:
        """Take the bytes of a source."""
        if source.path is None:
            self._write_new(memoryview(source.data)[start:stop])
        elif self._base is not None and source.path == self._path:
            self._pass_over(self._base, start - self._base_at)
            for piece in _pieces(self._base, stop - start):
                self._base_at += len(piece)
                self._write(piece)
                if self._base_digest is not self.digest:
                    self._base_digest.update(piece)
        else:
            with source.opened() as file:
                file.seek(start)
                for piece in _pieces(file, stop - start):
                    self._write_new(piece)

    def hash_of_base(self) -> str:
        """The SHA-256 of the whole file that is copied from."""
        self._part()
        while self._base is not None and (piece := self._base.read(_PIECE)):
            self._base_digest.update(piece)
        return self._base_digest.hexdigest()

    def _write(self, piece: bytes | memoryview) -> None:
        self._out.write(piece)
        self.digest.update(piece)

    def _write_new(self, piece: bytes | memoryview) -> None:
        """Write what is not copied; it may be what the other file has there all the same."""
        if self._base is not None and self._base_digest is self.digest:
            if self._base.read(len(piece)) == piece:
                self._base_at += len(piece)
            else:
                self._base.seek(self._base_at)
                self._part()
        self._write(piece)

    def _pass_over(self, base: BinaryIO, count: int) -> None:
        """Hash what the new file does not have."""
        if count:
            self._part()
        for piece in _pieces(base, count):
            self._base_at += len(piece)
            self._base_digest.update(piece)

    def _part(self) -> None:
        if self._base_digest is self.digest:
            self._base_digest = self.digest.copy()


def _pieces(file: BinaryIO, count: int) -> Iterator[bytes]:
    while count > 0:
        piece = file.read(min(count, _PIECE))
        if not piece:
            raise ThriftError("It ends inside a block")
        count -= len(piece)
        yield piece


def _cuts(keys: pl.DataFrame) -> list[int]:
    """The rows with which row groups begin."""
    firsts = keys.select(pl.arg_where(_STARTS).alias("row"), pl.col("symbol").filter(_STARTS))
    rows: list[int] = firsts.get_column("row").to_list()
    return [row for row, symbol in zip(rows, firsts.get_column("symbol"), strict=True) if not row or _begins(symbol)]


def _begins(symbol: str) -> bool:
    """Whether a symbol begins a row group, wherever it stands."""
    return not crc32(symbol.encode()) % _ONE_IN


def _encoded(frame: pl.DataFrame) -> Source:
    file = BytesIO()
    frame.rechunk().write_parquet(file, compression="lz4", row_group_size=_WHOLE, metadata=_LAYOUT)
    return Source(data=file.getvalue())


@cache
def _head() -> Struct:
    """What a footer of ours holds beside groups and rows, as this Polars writes it."""
    return with_field_ids(chunks_of(_encoded(empty_frame()))[0])


def _ordered(blocks: Sequence[Block]) -> bool:
    return all(a.year == b.year and a.month < b.month for a, b in pairwise(blocks))
