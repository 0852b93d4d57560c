"""A frozen feed: which symbols repeat their last bar, and whether that is an outage of the source."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from historical_etl.errors import ProviderUnavailableError
from historical_etl.etl.fetch import Batch
from historical_etl.etl.reconcile.result import Base
from historical_etl.etl.reconcile.stored_levels import StoredLevels
from historical_etl.quality.stale_bars import BARS, REPORTED_AFTER, repeating_symbols, stretches
from historical_etl.quality.suspicion import Suspicion
from historical_etl.schema import latest
from historical_etl.sessions import SessionCalendar
from historical_etl.store.layout import Layout

__all__ = ["FrozenFeed", "Stale"]

#: Stored sessions that are read before what was fetched, of symbols whose bar repeats.
_SESSIONS_BEFORE: Final = 40
#: One repetition is an outage with so many symbols at once, longer ones with two.
_MANY, _SAMPLE = 5, 5


@dataclass(frozen=True)
class Stale:
    """What repeats: who is held for it, every stretch with a new row, and the same in words."""

    suspects: dict[str, Suspicion]
    stretches: pl.DataFrame
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FrozenFeed:
    """Looks for it in the fetched rows.

    Attributes:
        layout: where the stored files lie.
        calendar: the exchange's sessions.
        held_from: from so many equal bars on a symbol is held while its feed is stale.
        max_share: more symbols than this share that stand still at once are an outage.
        latest: the newest session that the source can have.
    """

    layout: Layout
    calendar: SessionCalendar
    held_from: int
    max_share: float
    latest: date

    def find(self, batch: Batch, base: Base, suspects: Collection[str]) -> Stale:
        """What repeats in a batch, of symbols that are not suspected of something else.

        Raises:
            ProviderUnavailableError: too many symbols stand still at once.
        """
        repeating = sorted(set(repeating_symbols(batch.rows, batch.context)) - set(suspects))
        if not repeating:
            return Stale({}, pl.DataFrame(), ())
        mine = pl.col("symbol").is_in(repeating)
        new, stored = batch.rows.filter(mine), self._stored(batch, base, repeating)
        context = batch.context.filter(mine)
        bars = pl.concat([frame.select(BARS) for frame in (new, context, stored)])
        bars = bars.unique(["symbol", "date"], keep="first").sort("symbol", "date")
        found = _with_news(bars, new.join(stored, on=["symbol", "date"], how="anti"))
        newest = self._newest(batch, base)
        # What is stored at that length was accepted by a person, or moved again when it was fetched.
        still = pl.col("last_session") == pl.lit(newest, pl.Date)
        now = found.filter(still, pl.col("known") < self.held_from, "moves")
        self._refuse_outage(batch, newest, now)
        reported = found.filter(pl.col("sessions") >= REPORTED_AFTER)
        held = now.filter(pl.col("sessions") >= self.held_from)
        return Stale(
            {row["symbol"]: self._suspicion(row["days"], _words(row)) for row in held.iter_rows(named=True)},
            reported,
            tuple(_words(row) for row in reported.iter_rows(named=True)),
        )

    def _suspicion(self, days: list[date], words: str) -> Suspicion:
        return Suspicion("stale", words, None, days[self.held_from - 1])

    def _stored(self, batch: Batch, base: Base, symbols: list[str]) -> pl.DataFrame:
        spans = [batch.requested[symbol] for symbol in symbols if symbol in batch.requested]
        low = self.calendar.back(min(start for start, _ in spans), _SESSIONS_BEFORE)
        high = max(end for _, end in spans)
        return StoredLevels(self.layout, base.manifest, BARS, base.left).between(symbols, low, high)

    def _newest(self, batch: Batch, base: Base) -> date | None:
        """The newest bar of any symbol, if the source was asked for all that it has; else None."""
        if max(end for _, end in batch.requested.values()) < self.latest:
            return None
        days = pl.concat([batch.rows.get_column("date"), base.completeness.symbols.get_column("last_session")])
        return latest(days)

    def _refuse_outage(self, batch: Batch, newest: date | None, now: pl.DataFrame) -> None:
        fetched = batch.rows.filter(pl.col("date") == pl.lit(newest, pl.Date)).height
        share = self.max_share * fetched
        longer = now.filter(pl.col("sessions") >= REPORTED_AFTER)
        if now.height <= max(_MANY - 1.0, share) and longer.height <= max(1.0, share):
            return
        sample = ", ".join(now.get_column("symbol").head(_SAMPLE))
        raise ProviderUnavailableError(
            f"{now.height} of the {fetched} symbols with a bar on {newest} repeat the bar before it, volume included: "
            f"the feed is stale ({sample}{', …' if now.height > _SAMPLE else ''}). Nothing was stored",
            where=batch.source,
            todo="run it again later; if these prices are real, raise HISTORICAL_ETL_MAX_EMPTY_SHARE once",
        )


def _with_news(bars: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """The stretches that have new rows; `known` counts the sessions of each that are not new."""
    found = stretches(bars.select(BARS))
    days = found.select("symbol", "first_session", pl.col("days").alias("date")).explode("date")
    news = days.join(new, on=["symbol", "date"], how="semi").group_by("symbol", "first_session").len("news")
    return (
        found.join(news, on=["symbol", "first_session"], maintain_order="left")
        .with_columns((pl.col("sessions") - pl.col("news")).alias("known"))
        .drop("news")
    )


def _words(row: dict[str, object]) -> str:
    return (
        f"{row['symbol']} repeats the bar of {row['first_session']} (close {row['close']:g}), volume included, on "
        f"{row['sessions']} sessions to {row['last_session']}"
    )
