"""The price levels that are stored, as far as they are needed to compare with."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

import polars as pl

from historical_etl.errors import ChecksumMismatchError
from historical_etl.models import SyncManifest
from historical_etl.quality.price_levels import LEVELS
from historical_etl.schema import ORDER, SCHEMA, empty_frame, ordered
from historical_etl.store.layout import Layout
from historical_etl.store.verified_files import collected, verified_path

__all__ = ["StoredLevels"]

_log = logging.getLogger(__name__)
#: Histories of so many symbols are remembered: those of a dividend are compared twice in a run.
_REMEMBERED: Final = 500


@dataclass(frozen=True)
class StoredLevels:
    """Reads some columns of one version; only files of the years that are named are opened.

    Rows of `left`, columns (symbol, date), are taken as not stored, and so are those of a file that is damaged. Where a
    file cannot be read, every method raises StorageError.
    """

    layout: Layout
    manifest: SyncManifest | None
    columns: Sequence[str] = LEVELS
    left: pl.DataFrame | None = None
    _histories: dict[str, pl.DataFrame] = field(default_factory=dict[str, pl.DataFrame], repr=False, compare=False)

    @property
    def remembered(self) -> Collection[str]:
        """The symbols whose whole histories are in memory."""
        return self._histories.keys()

    def read(self, spans: Iterable[tuple[date, date, Sequence[str]]]) -> pl.DataFrame:
        """The rows of some symbols between two dates of one year, for each span; sorted by (symbol, date)."""
        unread = [self._nothing().lazy()]
        known: list[pl.Expr] = []
        for low, high, symbols in spans:
            in_span = pl.col("date").is_between(low, high)
            others = [symbol for symbol in symbols if symbol not in self._histories]
            if others:
                rows = self._year(low.year).filter(in_span & pl.col("symbol").is_in(others))
                unread.append(rows.select(self.columns))
            if len(others) < len(symbols):
                known.append(in_span & pl.col("symbol").is_in(symbols))
        frames = [pl.concat(unread).collect()]
        if known:
            frames.append(pl.concat(self._histories.values()).filter(pl.any_horizontal(known)))
        return ordered(pl.concat(frames))

    def between(self, symbols: Sequence[str], start: date, end: date) -> pl.DataFrame:
        """The rows of some symbols between two dates; sorted by (symbol, date)."""
        years = range(start.year, end.year + 1)
        return self.read((max(start, date(y, 1, 1)), min(end, date(y, 12, 31)), symbols) for y in years)

    def whole(self, symbol: str) -> pl.DataFrame:
        """All rows of a symbol, sorted by date."""
        return self._histories[symbol] if symbol in self._histories else self.histories([symbol])

    def histories(self, symbols: Sequence[str], beside: Sequence[str] = ()) -> pl.DataFrame:
        """All rows of some symbols, sorted by (symbol, date), with other columns `beside` those of the reader."""
        columns = tuple(dict.fromkeys((*self.columns, *beside)))
        years = [partition.year for partition in self.manifest.partitions] if self.manifest else []
        mine = [self._year(year).filter(pl.col("symbol").is_in(symbols)).select(columns) for year in years]
        rows = ordered(pl.concat([self._nothing(columns).lazy(), *mine]).collect())
        self._remember(symbols, rows.select(self.columns))
        return rows

    def _remember(self, symbols: Sequence[str], rows: pl.DataFrame) -> None:
        if len(self._histories) + len(symbols) <= _REMEMBERED:
            self._histories.update(dict.fromkeys(symbols, self._nothing()))
            self._histories.update((mine.item(0, "symbol"), mine) for mine in rows.partition_by("symbol"))

    def beside(self, spans: pl.DataFrame) -> pl.DataFrame:
        """The last row of each symbol before its span and the first one after it, where there are any.

        Args:
            spans: columns symbol (unique), low and high.
        """
        if spans.is_empty() or self.manifest is None:
            return self._nothing()
        years = [partition.year for partition in self.manifest.partitions]
        last = spans.select(pl.col("low").dt.year().max()).item()
        before = self._nearest(spans, [y for y in reversed(years) if y <= last], pl.col("date") < pl.col("low"), "last")
        return pl.concat([before, self.after(spans)])

    def after(self, spans: pl.DataFrame) -> pl.DataFrame:
        """The first row of each symbol after its span, where there is one; `spans` as `beside` has them."""
        if spans.is_empty() or self.manifest is None:
            return self._nothing()
        first = spans.select(pl.col("high").dt.year().min()).item()
        years = [partition.year for partition in self.manifest.partitions if partition.year >= first]
        return self._nearest(spans, years, pl.col("date") > pl.col("high"), "first")

    def _nearest(
        self, spans: pl.DataFrame, years: Sequence[int], outside: pl.Expr, keep: Literal["first", "last"]
    ) -> pl.DataFrame:
        """Of each symbol the row outside its span that is met first in years that lead away from it."""
        found = [self._nothing()]
        for year in years:
            if spans.is_empty():
                break
            mine = pl.col("symbol").is_in(spans.get_column("symbol").implode())
            rows = ordered(self._year(year).filter(mine).select(self.columns).collect())
            rows = rows.join(spans, on="symbol").filter(outside).select(self.columns)
            found.append(rows.unique("symbol", keep=keep))
            spans = spans.join(rows, on="symbol", how="anti")
        return pl.concat(found)

    def rows(self, symbol: str) -> pl.DataFrame:
        """All rows of a symbol, with all columns, sorted by date.

        Raises:
            ChecksumMismatchError, StorageError: a file cannot be read, so that the history is not whole.
        """
        frames = [empty_frame().lazy()]
        for partition in self.manifest.partitions if self.manifest else ():
            rows = pl.scan_parquet(verified_path(self.layout, partition), glob=False)
            frames.append(self._without_left(rows.filter(pl.col("symbol") == symbol)))
        return ordered(collected(pl.concat(frames), self.layout.objects))

    def _year(self, year: int) -> pl.LazyFrame:
        """The rows of a year, to be read together with those of others: one query takes half the time of one a year."""
        partition = self.manifest.partition(year) if self.manifest else None
        if partition is None:
            return empty_frame().lazy()
        try:
            return self._without_left(pl.scan_parquet(verified_path(self.layout, partition), glob=False))
        except ChecksumMismatchError as damage:
            # The commit refuses to build on it, or rebuilds it: here it only means that nothing can be compared. A file
            # that cannot be read now may be readable then, and would be merged with what it was not compared with.
            _log.warning("%d cannot be compared with: %s", year, damage)
            return empty_frame().lazy()

    def _without_left(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows if self.left is None or self.left.is_empty() else rows.join(self.left.lazy(), on=ORDER, how="anti")

    def _nothing(self, columns: Sequence[str] = ()) -> pl.DataFrame:
        return pl.DataFrame(schema={name: SCHEMA[name] for name in columns or self.columns})
