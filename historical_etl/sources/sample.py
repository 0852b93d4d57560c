"""The `sample` source: 12,154 real daily bars that come with the package (see `data/README.md`)."""

from datetime import date
from functools import cached_property
from importlib.resources import as_file, files

import polars as pl

from historical_etl.models import Outcome
from historical_etl.schema import SCHEMA
from historical_etl.sources.base import (
    Coverage,
    FetchRequest,
    FetchResult,
    SourceInfo,
    check_coverage,
    outcomes_from_rows,
)

__all__ = ["SampleSource"]


class SampleSource:
    """Five US symbols from 2000-03-01 to 2013-03-01: raw prices and volume, and a fully adjusted close."""

    info = SourceInfo(
        name="sample",
        version="bokeh_sampledata 2026.1",
        adjustment="raw open, high, low, close and volume; adj_close for splits and dividends, basis of about 2018",
        coverage=Coverage(date(2000, 3, 1), date(2013, 3, 1)),
        point_in_time=True,
    )

    def fetch(self, request: FetchRequest) -> FetchResult:
        """The packaged bars of the request.

        Raises:
            CoverageError: the range lies wholly outside 2000-03-01 to 2013-03-01.
        """
        check_coverage(self.info, request)
        rows = self._bars.filter(
            pl.col("symbol").is_in(request.symbols), pl.col("date").is_between(request.start, request.end)
        )
        outcomes = outcomes_from_rows(rows, request.symbols)
        unknown = set(request.symbols) - set(self._lives)
        return FetchResult(
            frame=rows,
            outcomes=outcomes | dict.fromkeys(unknown, Outcome.NOT_FOUND),
            details={symbol: f"the sample holds {', '.join(self._lives)}" for symbol in unknown},
        )

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols that traded on any day from `start` to `end` (None: unbounded), sorted."""
        return [
            symbol
            for symbol, (first, last) in self._lives.items()
            if (end is None or first <= end) and (start is None or start <= last)
        ]

    @cached_property
    def _bars(self) -> pl.DataFrame:
        packaged = files("historical_etl") / "data" / "sample_prices.parquet"
        with as_file(packaged) as path:
            bars = pl.read_parquet(path)
        return bars.with_columns(pl.lit(None, pl.Float64).alias("ret")).select(
            pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()
        )

    @cached_property
    def _lives(self) -> dict[str, tuple[date, date]]:
        days = pl.col("date")
        spans = self._bars.group_by("symbol").agg(days.min().alias("first"), days.max().alias("last")).sort("symbol")
        return {symbol: (first, last) for symbol, first, last in spans.iter_rows()}
