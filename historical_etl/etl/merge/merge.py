"""Merge: stored ∪ new, keyed (date, symbol), new wins; month by month, so that little is read and less is written.

`merge_years` touches the months that new rows fall into, and later ones only where a symbol's next stored row
must learn of a changed predecessor. A month whose rows come out equal keeps its bytes. A key that is absent from the
new rows keeps its values; only keys that are named are removed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.etl.merge.corporate_actions import inferred
from historical_etl.etl.merge.returns import PRICES, first_rows, heads, last_rows, with_returns
from historical_etl.etl.merge.row_changes import RowChanges
from historical_etl.etl.merge.withheld_cells import keep_stored, lacking
from historical_etl.models import Partition, SyncManifest
from historical_etl.schema import ORDER, empty_frame, ordered, symbols_in, years_in
from historical_etl.store.layout import Layout
from historical_etl.store.parquet import Block, encode_block
from historical_etl.store.verified_files import verified_path

__all__ = ["Gate", "MergedYear", "StoredYears", "merge_years"]

#: Ten lead-in sessions never lie further back than this, whatever the holidays.
_FAR: Final = timedelta(days=31)
#: The most rows of several months that are merged at once.
_STRETCH_ROWS: Final = 200_000
#: Judges rows of a year before they are encoded; raises to refuse.
Gate = Callable[[pl.DataFrame, int], None]


@dataclass
class MergedYear:
    """One year after the merge.

    Attributes:
        blocks: all its month blocks in order, new ones and kept ones; none where no row is left.
        symbols: the number of distinct symbols in it.
        first: its first session.
        last: its last session.
        differences: what the new rows did to the stored ones.
    """

    year: int
    blocks: list[Block]
    symbols: int
    first: date
    last: date
    differences: RowChanges


@dataclass(frozen=True)
class StoredYears:
    """The committed version that a merge builds on.

    `blocks` gives the verified month blocks of a year, as `Transaction.stored_blocks` does.
    """

    manifest: SyncManifest | None
    layout: Layout
    blocks: Callable[[int], list[Block]]

    def years(self) -> list[int]:
        """The committed years, ascending."""
        return [partition.year for partition in self.manifest.partitions] if self.manifest else []

    def partition(self, year: int) -> Partition | None:
        """What the manifest says of a year; None if it is not stored."""
        return self.manifest.partition(year) if self.manifest else None

    def scan(self, year: int) -> pl.LazyFrame:
        """The rows of a year; none if it is not stored."""
        partition = self.partition(year)
        if partition is None:
            return empty_frame().lazy()
        return pl.scan_parquet(verified_path(self.layout, partition), glob=False)


def merge_years(
    new: pl.DataFrame,
    lead_in: pl.DataFrame,
    dropped: pl.DataFrame,
    stored: StoredYears,
    gate: Gate,
    overwritten: Collection[str] = (),
    *,
    may_be_emptied: Collection[int] = (),
) -> Iterator[MergedYear]:
    """Merge new rows into the stored years; yields each year whose rows change, ascending.

    Args:
        new: accepted rows in the schema, keys unique, sorted by (symbol, date); `ret` is computed here.
        lead_in: rows before the new ones that are not to be stored. They give `ret` its predecessor where the
            store has none, so that a year filled alone starts with the `ret` it has in a whole run.
        dropped: (symbol, date) of stored rows to remove.
        stored: what is committed.
        gate: judges the rows of each stretch of months that changes.
        overwritten: symbols whose stored values give way to nulls, too; see `withheld.keep_stored`.
        may_be_emptied: years of which no row may be left.

    Raises:
        DataQualityError: the gate refused, or a stored file is damaged.
    """
    filled = sorted({*years_in(new), *years_in(dropped)})
    if not filled:
        return
    merge = _Merge(stored, gate, last_rows(lead_in), overwritten, may_be_emptied)
    for year in sorted({*filled, *(year for year in stored.years() if year > filled[0])}):
        rows = new if filled == [year] else new.filter(pl.col("date").dt.year() == year)
        removed = dropped.filter(pl.col("date").dt.year() == year) if dropped.height else dropped
        merged = merge.year(year, rows, removed)
        if merged is not None:
            yield merged


class _Merge:
    """The state that runs through the months: last rows that changed and whose successor is not yet settled."""

    def __init__(
        self,
        stored: StoredYears,
        gate: Gate,
        lead_in: pl.DataFrame,
        overwritten: Collection[str],
        may_be_emptied: Collection[int],
    ) -> None:
        self._emptied = may_be_emptied
        self._stored = stored
        self._overwritten = overwritten
        self._gate = gate
        self._lead_in = lead_in
        self._changed_tails = lead_in.clear()
        #: Symbols of which all earlier rows were dropped: their next row follows on nothing any more.
        self._orphans: set[str] = set()

    def year(self, year: int, new: pl.DataFrame, dropped: pl.DataFrame) -> MergedYear | None:
        """Merge one year; None if neither its rows nor any `ret` in it changes."""
        successors = self._months_of_successors(year)
        if new.is_empty() and dropped.is_empty() and not successors:
            return None
        blocks = {block.month: block for block in self._stored.blocks(year)}
        fresh: list[pl.Series] = []
        parts: list[RowChanges] = []
        for months, rows in _stretches(new, dropped, blocks, successors):
            if rows is None and self._changed_tails.is_empty() and not self._orphans:
                continue
            olds = {month: blocks[month].read() for month in months if month in blocks}
            old = ordered(pl.concat(olds.values())) if olds else None
            filled, preserved = keep_stored(old, rows, self._overwritten)
            merged, implied = self._stretch(date(year, months[0], 1), old, filled, dropped)
            difference = RowChanges.between(old, new.clear() if filled is None else filled, dropped)
            withheld = pl.concat([preserved, lacking(old, filled, self._overwritten)])
            parts.append(replace(difference, implied=(implied,), withheld=withheld))
            if old is None or not merged.equals(old):
                self._gate(merged, year)
                fresh += _replace_blocks(blocks, olds, merged, months)
        if not fresh and new.is_empty() and dropped.is_empty():
            return None
        in_order = [block for _, block in sorted(blocks.items())]
        if not in_order and self._may_empty(year):
            day = date(year, 1, 1)
            return MergedYear(year, [], symbols=0, first=day, last=day, differences=RowChanges.of_all(parts))
        if not in_order:
            raise DataQualityError(
                f"Dropping {dropped.height} row(s) would leave {year} without any; nothing was changed",
                where=str(year),
                todo=f"run `historical-etl backfill --from {year} --to {year}` first, for all symbols of that year",
            )
        return MergedYear(
            year=year,
            blocks=in_order,
            symbols=self._count_symbols(year, fresh) if dropped.is_empty() else _distinct_symbols(in_order),
            first=in_order[0].first,
            last=in_order[-1].last,
            differences=RowChanges.of_all(parts),
        )

    def _may_empty(self, year: int) -> bool:
        """Whether all rows of a year may go: those that have left the calendar may, where others are stored."""
        return year in self._emptied and self._stored.years() != [year]

    def _stretch(
        self, first_day: date, old: pl.DataFrame | None, rows: pl.DataFrame | None, dropped: pl.DataFrame
    ) -> tuple[pl.DataFrame, tuple[pl.DataFrame, pl.DataFrame]]:
        left = old if old is None or dropped.is_empty() else old.join(dropped, on=ORDER, how="anti")
        merged = _upsert(left, rows)
        before = self._predecessors(first_day, old, merged)
        remaining = old.filter(~pl.col("symbol").is_in(self._orphans)) if old is not None and self._orphans else old
        merged = with_returns(merged, before, remaining)
        tails = last_rows(merged)
        self._orphans -= set(tails.get_column("symbol")) if self._orphans else set()
        remaining = self._changed_tails.join(tails, on="symbol", how="anti")
        moved = tails if old is None else tails.join(last_rows(old), on=PRICES, how="anti", nulls_equal=True)
        self._changed_tails = pl.concat([remaining, moved])
        if old is not None and not dropped.is_empty():
            self._let_follow_earlier(last_rows(old).join(tails, on="symbol", how="anti"), first_day)
        return merged, inferred(merged, before)

    def _let_follow_earlier(self, gone: pl.DataFrame, first_day: date) -> None:
        """What comes after symbols that have lost all rows of a stretch follows on the rows before it, or on none."""
        if gone.is_empty():
            return
        symbols = gone.join(self._changed_tails, on="symbol", how="anti").get_column("symbol")
        led_in = self._lead_in.filter(pl.col("date") < first_day, pl.col("symbol").is_in(symbols.implode()))
        earlier = pl.concat([led_in, self._last_stored(symbols, first_day)]).sort(ORDER, maintain_order=True)
        earlier = earlier.unique("symbol", keep="last", maintain_order=True)
        self._changed_tails = pl.concat([self._changed_tails, earlier])
        self._orphans |= set(symbols) - set(earlier.get_column("symbol"))

    def _predecessors(self, first_day: date, old: pl.DataFrame | None, merged: pl.DataFrame) -> pl.DataFrame:
        """The row before a stretch, for symbols whose first `ret` in it is new, or may change."""
        open_heads = heads(merged)
        if old is not None:
            open_heads = open_heads.join(heads(old), on=open_heads.columns, how="anti", nulls_equal=True)
        if open_heads.is_empty() and self._changed_tails.is_empty():
            return self._changed_tails
        wanted = open_heads.join(self._changed_tails, on="symbol", how="anti").get_column("symbol")
        led_in = self._lead_in.filter(
            pl.col("date") < first_day, pl.col("symbol").is_in(open_heads.get_column("symbol").implode())
        )
        stored = [self._last_stored(wanted, first_day), self._changed_tails]
        nearest = pl.concat([led_in, *stored]).sort(ORDER, maintain_order=True)
        nearest = nearest.unique("symbol", keep="last", maintain_order=True)
        if old is None:
            return nearest
        led_in_heads = self._led_in(first_day, old.join(open_heads, on="symbol", how="anti"))
        return nearest.join(led_in_heads, on="symbol", how="anti")

    def _led_in(self, first_day: date, old: pl.DataFrame) -> pl.DataFrame:
        """Symbols whose stored first `ret` is computed from a lead-in row, nearer than any row that is stored.

        So it is where the year before is not stored: the `ret` is right, and must not go back to an earlier
        year. Such a `ret` is reported by what it is not: the one that follows from the last stored row.
        """
        far = (
            first_rows(old)
            .join(self._changed_tails, on="symbol", suffix="_0")
            .filter(pl.col("date") - pl.col("date_0") > _FAR, pl.col("ret").is_not_null())
        )
        if far.is_empty():
            return far.select("symbol")
        symbols = far.get_column("symbol")
        rows = old.filter(pl.col("symbol").is_in(symbols.implode()))
        derived = first_rows(with_returns(rows, self._last_stored(symbols, first_day), None))
        return far.join(derived, on=("symbol", "ret"), how="anti").select("symbol")

    def _last_stored(self, symbols: pl.Series, before: date) -> pl.DataFrame:
        """The last stored row before a first day of a month, where there is one; nearest months are read first."""
        found = self._lead_in.clear()
        years = [year for year in self._stored.years() if year <= before.year]
        month_before = (before - timedelta(days=1)).replace(day=1)
        spans = [(month_before.year, month_before)] if month_before.year in years else []
        spans += [(year, date(year, 1, 1)) for year in reversed(years)]
        for year, start in spans:
            if symbols.is_empty():
                break
            rows = (
                self._stored.scan(year)
                .filter(
                    pl.col("date").is_between(start, before, closed="left"), pl.col("symbol").is_in(symbols.implode())
                )
                .select(PRICES)
                .collect()
            )
            last = rows.sort(ORDER).unique("symbol", keep="last", maintain_order=True)
            found = pl.concat([found, last])
            symbols = symbols.filter(~symbols.is_in(last.get_column("symbol").implode()))
        return found

    def _months_of_successors(self, year: int) -> set[int]:
        """The months of a stored year that hold the successor of a changed row."""
        changed = {*self._changed_tails.get_column("symbol"), *self._orphans}
        if not changed or year not in self._stored.years():
            return set()
        successors = (
            self._stored.scan(year)
            .filter(pl.col("symbol").is_in(changed))
            .group_by("symbol")
            .agg(pl.col("date").min().dt.month())
            .collect()
        )
        return set(successors.get_column("date"))

    def _count_symbols(self, year: int, fresh: Sequence[pl.Series]) -> int:
        """Distinct symbols of the year, from the stored count and the symbols that are new in a month."""
        candidates = pl.concat(fresh).unique() if fresh else pl.Series(dtype=pl.String)
        partition = self._stored.partition(year)
        known = partition.symbols if partition else 0
        if known == 0 or candidates.is_empty():
            return known + candidates.len()
        stored = self._stored.scan(year).filter(pl.col("symbol").is_in(candidates.implode())).select("symbol")
        return known + candidates.len() - stored.unique().collect().height


def _stretches(
    new: pl.DataFrame, dropped: pl.DataFrame, blocks: Mapping[int, Block], successors: Collection[int]
) -> Iterator[tuple[list[int], pl.DataFrame | None]]:
    """The months to merge, in order, with their new rows (None: only a `ret` may change).

    Months with new rows and no stored month between them go together: a store of a few symbols then works on a
    year at once. Large ones are kept apart, so that memory holds a few months and not a year.
    """
    month_of_row = new.get_column("date").dt.month()
    counts: dict[int, int] = dict.fromkeys(dropped.get_column("date").dt.month(), 0)
    counts |= dict(month_of_row.value_counts().iter_rows())
    stretch: list[int] = []

    def finished() -> Iterator[tuple[list[int], pl.DataFrame | None]]:
        if stretch:
            whole = len(stretch) == len(counts)
            yield stretch.copy(), new if whole else new.filter(month_of_row.is_between(stretch[0], stretch[-1]))
            stretch.clear()

    size = 0
    for month in sorted({*counts, *successors, *(blocks if counts else ())}):
        if month not in counts:
            yield from finished()
            if month in blocks:
                yield [month], None
            continue
        rows = counts[month] + (blocks[month].rows if month in blocks else 0)
        if stretch and size + rows > _STRETCH_ROWS:
            yield from finished()
        size = rows if not stretch else size + rows
        stretch.append(month)
    yield from finished()


def _replace_blocks(
    blocks: dict[int, Block], olds: Mapping[int, pl.DataFrame], merged: pl.DataFrame, months: Sequence[int]
) -> list[pl.Series]:
    """Put the months that changed into `blocks`; returns the symbols that are new in each of them."""
    fresh: list[pl.Series] = []
    for month, part in _by_month(merged, months):
        if part.is_empty():
            blocks.pop(month, None)
        elif month not in olds or not part.equals(olds[month]):
            blocks[month] = encode_block(part)
            fresh.append(_new_symbols(olds.get(month), part))
    return fresh


def _by_month(rows: pl.DataFrame, months: Sequence[int]) -> Iterator[tuple[int, pl.DataFrame]]:
    if len(months) == 1:
        yield months[0], rows
        return
    month_of_row = rows.get_column("date").dt.month()
    for month in months:
        yield month, rows.filter(month_of_row == month)


def _upsert(old: pl.DataFrame | None, rows: pl.DataFrame | None) -> pl.DataFrame:
    if old is None or rows is None:
        only = old if rows is None else rows
        return empty_frame() if only is None else only
    # Both are in order, which a stable sort takes advantage of; equal keys then stand together, the new row last.
    both = pl.concat([old, rows]).sort(ORDER, maintain_order=True)
    superseded = pl.all_horizontal(pl.col(key) == pl.col(key).shift(-1) for key in ORDER)
    return both.filter(~superseded.fill_null(value=False))


def _distinct_symbols(blocks: Sequence[Block]) -> int:
    return pl.concat([symbols_in(block.read()) for block in blocks]).n_unique()


def _new_symbols(old: pl.DataFrame | None, merged: pl.DataFrame) -> pl.Series:
    now, before = symbols_in(merged), set(symbols_in(old)) if old is not None else set[str]()
    return pl.Series([symbol for symbol in now if symbol not in before], dtype=pl.String) if before else now
