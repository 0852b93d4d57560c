"""Merge: stored ∪ new, keyed (date, symbol), new wins; so that little is read and less is written.

`merge_years` touches the months that new rows fall into, and later ones only where a symbol's next stored row
must learn of a changed predecessor; and of a month the row groups that its symbols are in. What comes out equal keeps
its bytes. A key that is absent from the new rows keeps its values; only keys that are named are removed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Self

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.etl.merge.corporate_actions import inferred
from historical_etl.etl.merge.returns import PRICES, first_rows, heads, last_rows, with_returns
from historical_etl.etl.merge.row_changes import RowChanges
from historical_etl.etl.merge.stored_years import StoredYears
from historical_etl.etl.merge.stretches import stretches
from historical_etl.etl.merge.symbol_count import SymbolCount
from historical_etl.etl.merge.withheld_cells import keep_stored, lacking
from historical_etl.one_behind import one_behind
from historical_etl.schema import ORDER, earliest, empty_frame, latest, symbols_in, years_in
from historical_etl.store.parquet import Block, StoredStretch

__all__ = ["Gate", "GrowingYear", "MergedYear", "merge_years"]

#: Ten lead-in sessions never lie further back than this, whatever the holidays.
_FAR: Final = timedelta(days=31)
#: Judges rows of a year before they are encoded; raises to refuse.
Gate = Callable[[pl.DataFrame, int], None]


@dataclass
class MergedYear:
    """One year after the merge.

    Attributes:
        blocks: all its month blocks in order, new ones and kept ones; none where no row is left.
        symbols: the number of distinct symbols in it.
        differences: what the new rows did to the stored ones.
        changes: whether any row is another than before; else its file stays as it is, whatever release wrote it.
        is_begun: whether it was handed out as a `GrowingYear`.
    """

    year: int
    blocks: list[Block]
    symbols: int
    differences: RowChanges
    changes: bool
    is_begun: bool = False


@dataclass(frozen=True)
class GrowingYear:
    """A year of which the file is written while it is merged: its first months stay as they are.

    Attributes:
        kept: its first blocks, which stay as they are.
        merged: what becomes of it.
    """

    year: int
    kept: Sequence[Block]
    merged: Future[MergedYear]

    @classmethod
    def after(cls, merged: MergedYear) -> Self:
        """A year that is merged already."""
        done = Future[MergedYear]()
        done.set_result(merged)
        return cls(merged.year, (), done)

    def blocks(self) -> Iterator[Block]:
        """All blocks in order, as soon as they are known; raises what the merge raises."""
        yield from self.kept
        yield from self.merged.result().blocks[len(self.kept) :]


def merge_years(
    new: pl.DataFrame,
    lead_in: pl.DataFrame,
    dropped: pl.DataFrame,
    stored: StoredYears,
    gate: Gate,
    overwritten: Collection[str] = (),
    *,
    may_be_emptied: Collection[int] = (),
    begin: Callable[[GrowingYear], object] | None = None,
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
        begin: given each year of which later sessions follow on months that stay as they are, before it is merged.

    Raises:
        DataQualityError: the gate refused, or a stored file is damaged.
    """
    filled = sorted({*years_in(new), *years_in(dropped)})
    if not filled:
        return
    merge = _Merge(stored, gate, begin, last_rows(lead_in), overwritten, may_be_emptied)
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
        begin: Callable[[GrowingYear], object] | None,
        lead_in: pl.DataFrame,
        overwritten: Collection[str],
        may_be_emptied: Collection[int],
    ) -> None:
        self._begin = begin
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
        is_new = not new.is_empty() or not dropped.is_empty()
        successors = set[int]() if is_new else self._months_of_successors(year)
        if not is_new and not successors:
            return None
        blocks = {block.month: block for block in self._stored.blocks(year)}
        growing = self._begun(year, new, dropped, blocks)
        try:
            merged = self._merged(year, new, dropped, blocks, successors)
        except BaseException as error:
            if growing is not None:
                growing.set_exception(error)
            raise
        if growing is not None:
            merged.is_begun = True
            growing.set_result(merged)
        return merged if merged.changes or is_new else None

    def _begun(
        self, year: int, new: pl.DataFrame, dropped: pl.DataFrame, blocks: Mapping[int, Block]
    ) -> Future[MergedYear] | None:
        """Hand out a year that certainly changes, and whose first months certainly do not."""
        if self._begin is None or not blocks or new.is_empty() or self._orphans or self._changed_tails.height:
            return None
        days = new.get_column("date")
        first, last = earliest(pl.concat([days, dropped.get_column("date")])), latest(days)
        kept = [block for month, block in sorted(blocks.items()) if first is not None and month < first.month]
        if not kept or last is None or last <= blocks[max(blocks)].last:
            return None
        merged = Future[MergedYear]()
        self._begin(GrowingYear(year, kept, merged))
        return merged

    def _merged(
        self,
        year: int,
        new: pl.DataFrame,
        dropped: pl.DataFrame,
        blocks: Mapping[int, Block],
        successors: Collection[int],
    ) -> MergedYear:
        encoded = blocks
        symbols = SymbolCount(self._stored, year)
        parts: list[RowChanges] = []
        changes = False

        def encode(stretch: tuple[StoredStretch, pl.DataFrame]) -> None:
            nonlocal encoded
            stored, merged = stretch
            encoded = stored.replaced_in(encoded, merged)

        with one_behind(encode) as hand_out:
            for months, rows in stretches(new, dropped, blocks, successors):
                if rows is None and self._changed_tails.is_empty() and not self._orphans:
                    continue
                stored = StoredStretch.read(blocks, months, self._concerned(rows, dropped), dropped)
                filled, preserved = keep_stored(stored.rows, rows, self._overwritten)
                merged, implied = self._stretch(date(year, months[0], 1), stored.rows, filled, dropped)
                difference = RowChanges.between(stored.rows, new.clear() if filled is None else filled, dropped)
                withheld = pl.concat([preserved, lacking(stored.rows, filled, self._overwritten)])
                parts.append(replace(difference, implied=(implied,), withheld=withheld))
                if stored.rows is None or not merged.equals(stored.rows):
                    self._gate(merged, year)
                    hand_out((stored, merged))
                    symbols.add(stored.rows, merged)
                    changes = True
        in_order = [block for _, block in sorted(encoded.items())]
        if not in_order and self._may_empty(year):
            return MergedYear(year, [], symbols=0, differences=RowChanges.of_all(parts), changes=True)
        if not in_order:
            raise DataQualityError(
                f"Dropping {dropped.height} row(s) would leave {year} without any; nothing was changed",
                where=str(year),
                todo=f"run `historical-etl backfill --from {year} --to {year}` first, for all symbols of that year",
            )
        return MergedYear(
            year=year,
            blocks=in_order,
            symbols=symbols.count(),
            differences=RowChanges.of_all(parts),
            changes=changes,
        )

    def _concerned(self, rows: pl.DataFrame | None, dropped: pl.DataFrame) -> list[str]:
        """The symbols of which rows may change in a stretch, sorted."""
        parts = [part for part in (rows, dropped, self._changed_tails) if part is not None and part.height]
        return sorted({*self._orphans, *(symbol for part in parts for symbol in symbols_in(part))})

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


def _upsert(old: pl.DataFrame | None, rows: pl.DataFrame | None) -> pl.DataFrame:
    if old is None or rows is None:
        only = old if rows is None else rows
        return empty_frame() if only is None else only
    if old.height == rows.height and old[list(ORDER)].equals(rows[list(ORDER)]):
        return rows
    # Both are in order, which a stable sort takes advantage of; equal keys then stand together, the new row last.
    both = pl.concat([old, rows]).sort(ORDER, maintain_order=True)
    superseded = pl.all_horizontal(pl.col(key) == pl.col(key).shift(-1) for key in ORDER)
    return both.filter(~superseded.fill_null(value=False))
