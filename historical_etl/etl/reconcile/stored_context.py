"""What is stored around what was fetched, and what the source was asked for: the context in which a batch is judged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl

from historical_etl.etl.reconcile.result import Base
from historical_etl.etl.reconcile.stored_levels import StoredLevels
from historical_etl.schema import ORDER, earliest, latest, ordered, spans_in, symbols_in, years_in
from historical_etl.sessions import SessionCalendar

__all__ = ["StoredContext", "first_after"]

_DAY: Final = timedelta(days=1)
_SPAN: Final = pl.Schema({"symbol": pl.String(), "low": pl.Date(), "high": pl.Date()})


@dataclass(frozen=True)
class StoredContext:
    """The neighbourhood of a batch in one version of the store.

    Attributes:
        base: the version.
        levels: reads its levels.
        lives: first and last stored session of each symbol.
        calendar: the exchange's sessions.
        requested: symbol → first and last date that was asked for.
    """

    base: Base
    levels: StoredLevels
    lives: Mapping[str, tuple[date, date]]
    calendar: SessionCalendar
    requested: Mapping[str, tuple[date, date]]

    def is_stored(self, symbol: str, day: date) -> bool:
        """Whether a session of a symbol is stored."""
        if symbol not in self.lives:
            return False
        first, last = self.lives[symbol]
        here = (pl.col("symbol") == symbol) & (pl.col("first_session") <= day) & (pl.col("last_session") >= day)
        return first <= day <= last and self.base.completeness.gaps.filter(here).is_empty()

    def nearest_stored(self, symbol: str, count: int) -> tuple[date, date] | None:
        """The nearest stored sessions that were not asked for; None if what was asked for holds stored ones."""
        first, last = self.lives[symbol]
        start, end = self.requested[symbol]
        if last < start:
            return self.calendar.back(last, count - 1), last
        if first > end:
            return first, min(self.calendar.back(first, 1 - count), last)
        holes = self.base.completeness.gaps.filter(
            pl.col("symbol") == symbol, pl.col("first_session") <= start, pl.col("last_session") >= start
        )
        if holes.is_empty():
            return None
        hole: date = holes.item(0, "first_session")
        return max(self.calendar.back(hole, count), first), self.calendar.back(hole, 1)

    def was_asked_between(self, symbol: str, before: date, after: date) -> bool:
        """Whether the source was asked for all sessions between two dates, now or earlier."""
        between = self.calendar.between(before + _DAY, after - _DAY)
        start, end = self.requested[symbol]
        earlier = between.filter((between < start) | (between > end))
        if earlier.is_empty():
            return True
        if symbol not in self.lives:
            return False
        mine = self.base.completeness.symbols.filter(pl.col("symbol") == symbol)
        since = mine.item(0, "asked_from") or self.lives[symbol][0]
        unasked = self.base.completeness.gaps.filter(pl.col("symbol") == symbol, pl.col("asked").is_null())
        low, high = (
            pl.max_horizontal("first_session", pl.lit(between[0])),
            pl.min_horizontal("last_session", pl.lit(between[-1])),
        )
        never_asked = unasked.filter(low <= high, (low < start) | (high > end))
        return since <= earlier[0] and earlier[-1] <= mine.item(0, "asked_through") and never_asked.is_empty()

    def on_dates_of(self, seen: pl.DataFrame) -> pl.DataFrame:
        """The stored rows of the fetched symbols on the fetched dates; only files of those years are read."""
        lives = self.base.completeness.symbols
        first, last = earliest(lives.get_column("first_session")), latest(lives.get_column("last_session"))
        near = seen.filter(
            pl.col("date").is_between(pl.lit(first, pl.Date), pl.lit(last, pl.Date)),
            pl.col("symbol").is_in(lives.get_column("symbol").implode()),
        )
        # Of most symbols a few sessions are fetched, and of some all: those would make one long span of both.
        is_whole = pl.col("symbol").is_in(list(self.levels.remembered))
        parts = [near.filter(is_whole), near.filter(~is_whole)] if self.levels.remembered else [near]
        return self.levels.read(span for part in parts for span in _spans_by_year(part))

    def silences(self) -> pl.DataFrame:
        """Sessions between stored ones that the source was asked for the first time: columns symbol, low and high."""
        gaps = self.base.completeness.gaps
        if not gaps.get_column("asked").null_count():
            return pl.DataFrame(schema=_SPAN)
        spans = [(symbol, *span) for symbol, span in self.requested.items()]
        return (
            gaps.lazy()
            .filter(pl.col("asked").is_null())
            .join(pl.LazyFrame(spans, _SPAN, orient="row"), on="symbol")
            .filter(pl.col("first_session") <= pl.col("high"), pl.col("last_session") >= pl.col("low"))
            .group_by("symbol")
            .agg(pl.col("first_session").min().alias("low"), pl.col("last_session").max().alias("high"))
            .collect()
        )

    def beside(self, seen: pl.DataFrame, stored: pl.DataFrame, silences: pl.DataFrame) -> pl.DataFrame:
        """The stored rows on the fetched dates, and those next to them and to silences."""
        if not self.lives:
            return stored
        first, last = pl.col("first"), pl.col("last")
        begins = (pl.col("first_session") < first) & ~(pl.col("first_0") <= first).fill_null(value=False)
        ends = (pl.col("last_session") > last) & ~(pl.col("last_0") >= last).fill_null(value=False)
        fetched = spans_in(seen).join(self.base.completeness.symbols, on="symbol")
        edges = fetched.join(spans_in(stored), on="symbol", how="left", suffix="_0").filter(begins | ends)
        edges = edges.select("symbol", low="first", high="last")
        if edges.is_empty() and silences.is_empty():
            return stored
        spans = pl.concat([edges, silences]).group_by("symbol").agg(pl.col("low").min(), pl.col("high").max())
        more = self.levels.beside(spans).join(stored, on=ORDER, how="anti")
        return ordered(pl.concat([stored, more]))


def _spans_by_year(rows: pl.DataFrame) -> Iterator[tuple[date, date, list[str]]]:
    """First and last date of some rows in each of their years, and the symbols of that year."""
    years = years_in(rows)
    for year in years:
        mine = rows if len(years) == 1 else rows.filter(pl.col("date").dt.year() == year)
        first, last = mine.select(low=pl.col("date").min(), high=pl.col("date").max()).row(0)
        yield first, last, symbols_in(mine).to_list()


def first_after(silences: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """The stored rows that follow on silences."""
    if silences.is_empty():
        return stored.clear()
    after = stored.join(silences, on="symbol").filter(pl.col("date") > pl.col("high"))
    return stored.join(after.group_by("symbol").agg(pl.col("date").min()), on=ORDER, how="semi")
