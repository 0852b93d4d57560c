"""What is stored of some symbols in some months of a year, and the month blocks with other rows in its place."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import polars as pl

from historical_etl.schema import ORDER, VALUE_COLUMNS, empty_frame, ordered, symbols_in
from historical_etl.store.parquet.month_blocks import Block, encode_rows, read_rows
from historical_etl.store.parquet.row_groups import checked

__all__ = ["StoredStretch"]

#: Months that are encoded at the same time.
_ENCODERS: Final = 4
_Block = TypeVar("_Block", Block, Block | None)


@dataclass(frozen=True)
class StoredStretch:
    """The rows of some symbols in some months, and the row groups that they are in.

    Attributes:
        rows: of these symbols, sorted by (symbol, date); None where no month is stored.
    """

    rows: pl.DataFrame | None
    _symbols: Sequence[str]
    _months: Sequence[int]
    _numbers: Mapping[int, Sequence[int]]  # of the groups, by month
    _places: pl.Series  # where in their file each of `rows` is

    @classmethod
    def read(
        cls, blocks: Mapping[int, Block], months: Sequence[int], symbols: Sequence[str], dropped: pl.DataFrame
    ) -> "StoredStretch":
        """Read what is stored.

        Args:
            blocks: of the year, by month; those of `months` as they are in their file.
            months: those that are read, ascending.
            symbols: whose rows may change, sorted.
            dropped: (symbol, date) of rows that are removed.

        Raises:
            ChecksumMismatchError, SchemaDriftError, StorageError: as `Block.read`.
        """
        removed = set(symbols_in(dropped)) if dropped.height else ()
        numbers = {month: blocks[month].holding(symbols, removed) for month in months if month in blocks}
        stored = [blocks[month] for month in numbers]
        if not stored:
            return cls(None, symbols, months, {}, pl.Series(dtype=pl.get_index_type()))
        first, last = stored[0].first, stored[-1].last
        wanted = pl.col("date").is_between(first, last) & pl.col("symbol").is_in(symbols)
        if len(stored) <= last.month - first.month:
            wanted &= pl.col("date").dt.month().is_in(list(numbers))
        with stored[0].source.scanned() as file:
            found = file.with_row_index("place").filter(wanted).collect()
        found = found.sort(ORDER, maintain_order=True) if len(stored) > 1 else found
        rows = checked(found.drop("place"), stored[0].source.path)
        return cls(rows, symbols, months, numbers, found.get_column("place"))

    def replaced_in(self, blocks: Mapping[int, Block], merged: pl.DataFrame) -> dict[int, Block]:
        """The blocks of the year with other rows for these symbols in these months."""
        current = all(blocks[month].current for month in self._numbers)
        if current and self.rows is not None and self.rows[list(ORDER)].equals(merged[list(ORDER)]):
            return {**blocks, **self._with_values(blocks, self.rows, merged)}
        new, old, others = (_ByMonth(self._months, rows) for rows in (merged, self.rows, self._others(blocks)))

        def encoded(month: int) -> Block | None:
            block, rows = blocks.get(month), new.of(month)
            return block if _is_same(old.of(month), rows) else self._with_rows(block, month, rows, others.of(month))

        changed = dict(zip(self._months, _each(encoded, self._months), strict=True))
        return {month: block for month, block in {**blocks, **changed}.items() if block is not None}

    def _with_rows(
        self, block: Block | None, month: int, rows: pl.DataFrame | None, others: pl.DataFrame | None
    ) -> Block | None:
        """The block of a month with other rows of these symbols, and what is stored beside them in their groups."""
        parts = [part for part in (others, rows) if part is not None]
        together = ordered(pl.concat(parts)) if len(parts) > 1 else parts[0] if parts else empty_frame()
        if block is not None:
            return block.with_rows(self._numbers[month], together)
        return encode_rows(together) if together.height else None

    def _others(self, blocks: Mapping[int, Block]) -> pl.DataFrame | None:
        """The rows of the groups that are of other symbols."""
        groups = [(blocks[month], numbers) for month, numbers in self._numbers.items()]
        if len(self._places) == sum(block.groups[number].rows for block, numbers in groups for number in numbers):
            return None
        return read_rows(groups).filter(~pl.col("symbol").is_in(self._symbols))

    def _with_values(self, blocks: Mapping[int, Block], rows: pl.DataFrame, merged: pl.DataFrame) -> dict[int, Block]:
        """The blocks that change, where the keys are what they were: only columns that differ are encoded."""
        differing = {
            name: differs
            for name in VALUE_COLUMNS
            if (differs := rows.get_column(name).ne_missing(merged.get_column(name))).any()
        }
        if not differing:
            return {}
        groups = [(month, number) for month, numbers in self._numbers.items() for number in numbers]
        places = [blocks[month].groups[number] for month, number in groups]
        first, end = places[0].row, places[-1].row + places[-1].rows
        with blocks[groups[0][0]].source.scanned() as file:
            whole = file.select(*differing).slice(first, end - first).collect()
        starts = pl.Series([group.row for group in places], dtype=self._places.dtype)
        columns: dict[tuple[int, int], list[pl.Series]] = {}
        for name, differs in differing.items():
            changed_at = self._places.filter(differs)
            column = whole.get_column(name).scatter(changed_at - first, merged.get_column(name).filter(differs))
            touched: list[int] = (starts.search_sorted(changed_at, side="right") - 1).unique().sort().to_list()
            for at in touched:
                columns.setdefault(groups[at], []).append(column.slice(places[at].row - first, places[at].rows))
        changed: dict[int, dict[int, pl.DataFrame]] = {}
        for (month, number), parts in columns.items():
            changed.setdefault(month, {})[number] = pl.DataFrame(parts)
        encoded = _each(lambda month: blocks[month].with_values(changed[month]), list(changed))
        return dict(zip(changed, encoded, strict=True))


class _ByMonth:
    """The rows of each month, taken out when they are asked for: all at once would be all rows a second time."""

    def __init__(self, months: Sequence[int], rows: pl.DataFrame | None) -> None:
        self._rows = None if rows is None or rows.is_empty() else rows
        self._month = None if self._rows is None or len(months) == 1 else self._rows.get_column("date").dt.month()

    def of(self, month: int) -> pl.DataFrame | None:
        """Those of one of the months; None if there are none."""
        if self._rows is None or self._month is None:
            return self._rows
        found = self._rows.filter(self._month == month)
        return found if found.height else None


def _each(encoded: Callable[[int], _Block], months: Sequence[int]) -> list[_Block]:
    """What is encoded of each month; of several at the same time, since the encoder of a row group has one thread."""
    if len(months) == 1:
        return [encoded(months[0])]
    with ThreadPoolExecutor(_ENCODERS, thread_name_prefix="encode") as pool:
        return list(pool.map(encoded, months))


def _is_same(old: pl.DataFrame | None, new: pl.DataFrame | None) -> bool:
    return old is new if old is None or new is None else old.equals(new)
