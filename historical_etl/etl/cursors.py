"""Cursors: each symbol's last contiguous session, the point from which an increment asks again.

A cursor can always be computed from the data alone (`rebuild`); after an increment it is moved on from where
it stood (`advance`), so that the cost does not grow with the years stored.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl

from historical_etl.models import Partition, SyncManifest
from historical_etl.sessions import SessionCalendar
from historical_etl.store.layout import Layout

__all__ = ["Cursors"]


class Cursors:
    """Computes cursors of one store. What a year's file tells is remembered by its checksum.

    Args:
        layout: where the objects lie.
        calendar: the sessions that count.
    """

    def __init__(self, layout: Layout, calendar: SessionCalendar) -> None:
        self._layout = layout
        self._calendar = calendar
        self._spans: dict[str, pl.DataFrame] = {}

    def rebuild(self, manifest: SyncManifest | None) -> dict[str, date]:
        """The cursor of every stored symbol, from the data."""
        if manifest is None or not manifest.partitions:
            return {}
        spans = pl.concat([self._spans_of(partition) for partition in manifest.partitions]).sort("symbol", "year")
        after_last = pl.col("last_position").shift(1).over("symbol") + 1
        whole = pl.col("last_position") - pl.col("first_position") + 1 == pl.col("rows")
        follows = (pl.col("first_position") == after_last) & whole.shift(1).over("symbol")
        reached = spans.filter(follows.fill_null(value=True).cast(pl.Int8).cum_min().over("symbol") == 1)
        ends = reached.group_by("symbol", maintain_order=True).last().with_columns(whole.alias("whole"))
        cursors = dict(ends.filter("whole").select("symbol", "last").iter_rows())
        # A year with a hole in it must be read: the cursor stands right before the first hole.
        for (year,), holed in ends.filter(~pl.col("whole")).partition_by("year", as_dict=True).items():
            partition = manifest.partition(int(year))
            assert partition is not None  # noqa: S101 - the spans come from this manifest
            days = self._scan(partition).filter(pl.col("symbol").is_in(holed.get_column("symbol").implode()))
            cursors |= self.advance({}, days.select("symbol", "date").collect())
        return dict(sorted(cursors.items()))

    def advance(self, cursors: Mapping[str, date], rows: pl.DataFrame) -> dict[str, date]:
        """Move cursors over the sessions that follow them without a gap.

        Args:
            cursors: where they stand; a symbol without one starts at its first row.
            rows: (symbol, date) of stored rows, on sessions, keys unique.

        Returns:
            The new cursor of each symbol in `rows`; never earlier than the old one.
        """
        stand = pl.DataFrame(
            {"symbol": list(cursors), "cursor": list(cursors.values())}, schema={"symbol": pl.String, "cursor": pl.Date}
        )
        frame = rows.join(stand, on="symbol", how="left").with_columns(self._position("date").alias("position"))
        # Not fill_null on the position: search_sorted finds a place for a null, too.
        before_first = pl.col("position").min().over("symbol") - 1
        start = pl.when(pl.col("cursor").is_null()).then(before_first).otherwise(self._position("cursor"))
        ahead = frame.with_columns(start.alias("start")).filter(pl.col("position") > pl.col("start"))
        ahead = ahead.sort("symbol", "position")
        step = pl.col("position").cum_count().over("symbol")
        run = ahead.filter(pl.col("position") - pl.col("start") == step)
        moved = run.group_by("symbol", maintain_order=True).agg(pl.col("date").last())
        here = {symbol: cursors[symbol] for symbol in rows.get_column("symbol").unique() if symbol in cursors}
        return here | dict(moved.iter_rows())

    def _spans_of(self, partition: Partition) -> pl.DataFrame:
        spans = self._spans.get(partition.checksum)
        if spans is None:
            days = pl.col("date")
            spans = (
                self._scan(partition)
                .group_by("symbol")
                .agg(days.min().alias("first"), days.max().alias("last"), pl.len().cast(pl.Int64).alias("rows"))
                .with_columns(
                    pl.lit(partition.year).alias("year"),
                    self._position("first").alias("first_position"),
                    self._position("last").alias("last_position"),
                )
                .collect()
            )
            self._spans[partition.checksum] = spans
        return spans

    def _scan(self, partition: Partition) -> pl.LazyFrame:
        return pl.scan_parquet(self._layout.resolve(partition.path), glob=False)

    def _position(self, column: str) -> pl.Expr:
        sessions = pl.lit(self._calendar.sessions, dtype=pl.Date)
        return sessions.search_sorted(pl.col(column)).cast(pl.Int64)
