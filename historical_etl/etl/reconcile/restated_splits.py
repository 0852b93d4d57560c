"""Splits that a source takes out of its prices: was what is stored restated by them?

No move of such prices shows a split. What shows it is that bars that were stored before its day come again on its
basis, or did so once, as the ledger `restatements` tells.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from math import log
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl

from historical_etl.models import SyncManifest
from historical_etl.quality.partial_restatements import ratio_rounding
from historical_etl.quality.reported_days import NEARBY
from historical_etl.quality.withdrawn_events import Verdict
from historical_etl.schema import ORDER
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_undamaged

__all__ = ["LevelBefore", "RestatedSplits", "levels_before"]

#: A vendor that restates by a ratio, and within so many days back, has corrected itself.
_TAKEN_BACK: Final = timedelta(days=30)
#: Of the size of a split a ratio may be off by this share: a dividend may go with it.
_NEAR: Final = 0.1
#: A ratio shows a split that is so many times what rounding makes.
_TIMES_ROUNDING: Final = 2.0


@dataclass(frozen=True)
class LevelBefore:
    """The last bar before the day of a split that was fetched and is stored.

    `level` is the stored close to the fetched one, as a logarithm; `rounding` what rounding may make of it.
    """

    session: date
    level: float
    rounding: float


@dataclass(frozen=True)
class RestatedSplits:
    """What one version tells of the splits that were taken out of its prices; its ledgers are read when it is asked.

    Attributes:
        layout: where they lie.
        manifest: the version.
        timezone: of the exchange.
    """

    layout: Layout
    manifest: SyncManifest | None
    timezone: str

    def verdict(self, symbol: str, day: date, split: float, before: LevelBefore | None) -> Verdict:
        """Whether the bars before a split were restated by it, in this run or an earlier one.

        Args:
            symbol: whose.
            day: of the split.
            split: new shares for each old one.
            before: from `levels_before`.
        """
        size = log(split)
        is_plain = before is not None and abs(size) > _TIMES_ROUNDING * before.rounding
        if before is not None and is_plain:
            if _is_near(before.level, size):
                return "restated"
            if _is_near(before.level, -size):
                return "not_restated"
        if self._was_restated(symbol, day, size):
            return "restated"
        if before is None or not is_plain or abs(before.level) > before.rounding:
            return "unknown"
        return "not_restated" if self._was_stored(symbol, before.session, day) else "unknown"

    def _was_restated(self, symbol: str, day: date, size: float) -> bool:
        since = datetime.combine(day - NEARBY, time(), ZoneInfo(self.timezone)).astimezone(UTC)
        moves = (
            self._restatements.filter(pl.col("symbol") == symbol, pl.col("committed_at") >= since)
            .select("committed_at", pl.col("close_ratio").log().alias("move"))
            .drop_nulls()
            .sort("committed_at")
            .rows()
        )
        by_it = [at for at, move in moves if _is_near(move, -size)]
        back = [at for at, move in moves if _is_near(move, size)]
        return any(not any(at < later <= at + _TAKEN_BACK for later in back) for at in by_it)

    def _was_stored(self, symbol: str, session: date, day: date) -> bool:
        """Whether the bar of a session was stored before a day, on the exchange's clock, and never later."""
        times = (
            self._additions.filter(
                pl.lit(session).is_between("first_session", "last_session"), pl.col("symbols").list.contains(symbol)
            )
            .get_column("committed_at")
            .dt.convert_time_zone(self.timezone)
            .dt.date()
        )
        return times.len() > 0 and bool((times < day).all())

    @cached_property
    def _restatements(self) -> pl.DataFrame:
        return read_undamaged(self.layout, self.manifest, "restatements")

    @cached_property
    def _additions(self) -> pl.DataFrame:
        return read_undamaged(self.layout, self.manifest, "additions")


def levels_before(
    events: pl.DataFrame, rows: pl.DataFrame, stored: pl.DataFrame
) -> dict[tuple[str, date], LevelBefore]:
    """Of each event the last session before its day that was fetched and is stored, where there is one.

    Args:
        events: columns symbol and date.
        rows: fetched bars, columns `LEVELS`.
        stored: stored ones, likewise.
    """
    mine = pl.col("symbol").is_in(events.get_column("symbol").unique().implode())
    both = rows.filter(mine).join(stored.select(*ORDER, close_0="close"), on=ORDER).sort("date")
    levels = both.select(
        *ORDER,
        (pl.col("close_0") / pl.col("close")).log().alias("level"),
        ratio_rounding().alias("rounding"),
        session="date",
    )
    found = (
        events.select(ORDER)
        .unique()
        .sort("date")
        .join_asof(levels, on="date", by="symbol", allow_exact_matches=False, check_sortedness=False)
        .drop_nulls("level")
    )
    columns = (*ORDER, "session", "level", "rounding")
    return {(symbol, day): LevelBefore(*before) for symbol, day, *before in found.select(columns).iter_rows()}


def _is_near(move: float, size: float) -> bool:
    return abs(move - size) <= _NEAR * abs(size)
