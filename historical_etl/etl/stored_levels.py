"""The price levels that are stored, as far as they are needed to compare with."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl

from historical_etl.errors import ChecksumMismatchError, StorageError
from historical_etl.models import SyncManifest
from historical_etl.quality.levels import LEVELS
from historical_etl.schema import ORDER, SCHEMA, empty_frame
from historical_etl.store.layout import Layout
from historical_etl.store.sound import sound_path

__all__ = ["StoredLevels"]

_log = logging.getLogger(__name__)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class StoredLevels:
    """Reads some columns of one version; only files of the years that are named are opened.

    Rows of `left`, columns (symbol, date), are taken as not stored.
    """

    layout: Layout
    manifest: SyncManifest | None
    columns: Sequence[str] = LEVELS
    left: pl.DataFrame | None = None

    def read(self, spans: Mapping[int, tuple[date, date, list[str]]]) -> pl.DataFrame:
        """The rows of some symbols between two dates, by year; sorted by (symbol, date)."""
        frames = [self._nothing(), *(self._year(year, *span) for year, span in spans.items())]
        return pl.concat(frames).sort(ORDER)

    def whole(self, symbol: str, columns: Sequence[str] = ()) -> pl.DataFrame:
        """All rows of a symbol, sorted by date; `columns` empty takes those of the reader."""
        years = [partition.year for partition in self.manifest.partitions] if self.manifest else []
        frames = [self._year(year, date.min, date.max, [symbol], columns) for year in years]
        return pl.concat([self._nothing(columns), *frames]).sort(ORDER)

    def beside(self, symbol: str, low: date, high: date) -> pl.DataFrame:
        """The last row of a symbol before a range of dates and the first one after it, where there are any."""
        years = [partition.year for partition in self.manifest.partitions] if self.manifest else []
        earlier = ((year, date.min, low - _DAY) for year in reversed(years) if year <= low.year)
        later = ((year, high + _DAY, date.max) for year in years if year >= high.year)
        before = (self.read({year: (first, last, [symbol])}).tail(1) for year, first, last in earlier)
        after = (self.read({year: (first, last, [symbol])}).head(1) for year, first, last in later)
        found = [next((row for row in rows if row.height), self._nothing()) for rows in (before, after)]
        return pl.concat(found)

    def rows(self, symbol: str) -> pl.DataFrame:
        """All rows of a symbol, with all columns, sorted by date.

        Raises:
            ChecksumMismatchError, StorageError: a file cannot be read, so that the history is not whole.
        """
        frames = [empty_frame()]
        for partition in self.manifest.partitions if self.manifest else ():
            rows = pl.scan_parquet(sound_path(self.layout, partition), glob=False)
            frames.append(self._without_left(rows.filter(pl.col("symbol") == symbol).collect()))
        return pl.concat(frames).sort(ORDER)

    def _year(self, year: int, low: date, high: date, symbols: list[str], columns: Sequence[str] = ()) -> pl.DataFrame:
        partition = self.manifest.partition(year) if self.manifest else None
        if partition is None:
            return self._nothing(columns)
        wanted = pl.col("date").is_between(low, high) & pl.col("symbol").is_in(symbols)
        try:
            rows = pl.scan_parquet(sound_path(self.layout, partition), glob=False)
            return self._without_left(rows.filter(wanted).select(columns or self.columns).collect())
        except (ChecksumMismatchError, StorageError) as damage:
            # The commit refuses to build on it, or rebuilds it: here it only means that nothing can be compared.
            _log.warning("%d cannot be compared with: %s", year, damage)
            return self._nothing(columns)

    def _without_left(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows if self.left is None or self.left.is_empty() else rows.join(self.left, on=ORDER, how="anti")

    def _nothing(self, columns: Sequence[str] = ()) -> pl.DataFrame:
        return pl.DataFrame(schema={name: SCHEMA[name] for name in columns or self.columns})
