"""What another calendar than the one a version was judged by means to what is stored: days leave it, and days join it.

A release of `exchange_calendars`, or a file of corrections, may say that a stored day was no session, or that a day on
which nothing is stored was one. The manifest records the calendar, so that looking for such days costs nothing as long
as it is the same. Rows on days that have left it go to `replaced_rows` with the next commit; sessions that have joined
it are gaps of the symbols that were alive then.

Days that the calendar knows nothing of are neither: a calendar that knows fewer years than what is stored is refused.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from historical_etl.calendar_corrections import packaged_text, parse_corrections
from historical_etl.calendar_record import CalendarRecord, installed_release
from historical_etl.errors import ChecksumMismatchError, ConfigurationError, StorageError
from historical_etl.etl.completeness.completeness import GAP_OPEN, Completeness
from historical_etl.etl.completeness.gap_ranges import GAP_FACTS, as_ranges, days_of, exploded, in_order
from historical_etl.models import Partition, SyncManifest
from historical_etl.schema import ORDER, SCHEMA
from historical_etl.sessions import SessionCalendar
from historical_etl.store.layout import Layout
from historical_etl.store.ledger_schemas import SCHEMAS
from historical_etl.store.verified_files import collected, verified_path

__all__ = ["CalendarChange", "joined_in_words", "misfit", "rebased"]

_log = logging.getLogger(__name__)
_KEYS: Final = pl.Schema({"symbol": pl.String(), "date": pl.Date()})
_JOINED: Final = "the calendar has gained this session"
_NAMED: Final = 5
#: No release of a calendar drops more days than this, or than this share of them; another exchange's does.
_FEW, _SHARE = 20, 0.02


@dataclass(frozen=True)
class CalendarChange:
    """What is stored, held against a calendar that may be another than its own.

    Attributes:
        left: (symbol, date) of the stored rows on days that are no sessions any more.
        joined: sessions among those stored on which no row is stored; whether they are new, the account tells.
        stored_days: how many different days are stored.
        was: the calendar that the version was judged by, as its manifest says.
        now: the one that counts.
    """

    left: pl.DataFrame
    joined: pl.Series
    stored_days: int = 0
    was: str = ""
    now: str = ""

    @classmethod
    def none(cls) -> "CalendarChange":
        """Where the calendar is the same."""
        return cls(pl.DataFrame(schema=_KEYS), pl.Series(dtype=pl.Date))

    @classmethod
    def of(cls, layout: Layout, manifest: SyncManifest | None, calendar: SessionCalendar) -> "CalendarChange":
        """Look for days that have left a calendar or joined it; reads dates, and those only where it has changed."""
        if manifest is None or manifest.calendar == calendar.version:
            return cls.none()
        recorded = CalendarRecord.parse(manifest.calendar)
        if recorded is not None and recorded.sessions == calendar.record.sessions:
            return cls.none()
        days = [days for partition in manifest.partitions for days in _days(layout, partition)]
        stored = pl.concat([pl.Series(dtype=pl.Date), *days]).unique().sort()
        inside = stored.filter(stored.is_between(calendar.known_from, calendar.known_through))
        gone = inside.filter(~inside.is_in(calendar.sessions.implode()))
        rows = [pl.DataFrame(schema=_KEYS)]
        for partition in manifest.partitions:
            if (here := gone.filter(gone.dt.year() == partition.year)).len():
                path = verified_path(layout, partition)
                left = pl.scan_parquet(path, glob=False).filter(pl.col("date").is_in(here.implode())).select(ORDER)
                rows.append(collected(left, path))
        if manifest.start_date is None or manifest.end_date is None:
            return cls(pl.concat(rows), stored, 0, manifest.calendar, calendar.version)
        sessions = calendar.between(manifest.start_date, manifest.end_date)
        empty = sessions.filter(~sessions.is_in(stored.implode()))
        return cls(pl.concat(rows).sort(ORDER), empty, stored.len(), manifest.calendar, calendar.version)

    @property
    def left_days(self) -> list[date]:
        """The days that have left the calendar, ascending."""
        return self.left.get_column("date").unique().sort().to_list()

    def left_in_words(self) -> str:
        """Which rows are of days that have left the calendar; empty if none do."""
        if self.left.is_empty():
            return ""
        days = self.left_days
        more = f" and {len(days) - _NAMED:,} more" if len(days) > _NAMED else ""
        named = ", ".join(str(day) for day in days[:_NAMED])
        return (
            f"{self.left.height:,} stored row(s) lie on {len(days):,} day(s) that are no session any more "
            f"({named}{more}): the calendar was {_release(self.was)} and is {_release(self.now)}"
        )


def rebased(completeness: Completeness, change: CalendarChange, calendar: SessionCalendar) -> Completeness:
    """An account as the calendar of today has it: without days that have left it, with gaps where one has joined.

    Args:
        completeness: as an earlier calendar had it.
        change: what is stored, held against the calendar.
        calendar: the one that counts now.
    """
    if change.was == change.now:
        return completeness
    gaps = exploded(completeness.gaps, calendar)
    gaps = pl.concat([gaps, _joined(completeness, gaps, change, calendar)])
    symbols = _lives(completeness.symbols, gaps, calendar)
    gaps = gaps.join(symbols, on="symbol", how="semi")
    return Completeness(symbols, in_order(as_ranges(gaps, calendar))).with_cursors(calendar)


def _joined(
    completeness: Completeness, gaps: pl.DataFrame, change: CalendarChange, calendar: SessionCalendar
) -> pl.DataFrame:
    """Sessions on which nothing is stored, and that no gap speaks of, for the symbols that were alive."""
    lives = completeness.symbols.select("symbol", "first_session", "last_session")
    days = pl.DataFrame({"date": change.joined}).with_columns(calendar.positions(pl.col("date")).alias("position"))
    alive = days.join_where(lives, pl.col("date") > pl.col("first_session"), pl.col("date") < pl.col("last_session"))
    new = alive.join(gaps, on=("symbol", "position"), how="anti")
    dtypes = SCHEMAS["open_gaps"]
    facts = {"status": GAP_OPEN, "why": _JOINED, "attempts": 0}
    return (
        new.with_columns(
            pl.lit(facts.get(name), dtypes[name]).alias(name)
            for name in GAP_FACTS
            if name not in ("version", "committed_at")
        )
        .with_columns(
            pl.lit(None, dtypes["version"]).alias("version"), pl.lit(None, dtypes["committed_at"]).alias("committed_at")
        )
        .select(gaps.columns)
    )


def _lives(symbols: pl.DataFrame, gaps: pl.DataFrame, calendar: SessionCalendar) -> pl.DataFrame:
    """The symbols, with ends that lie on days that have left moved to the nearest session that is stored."""
    first, last = calendar.positions(pl.col("first_session")), calendar.positions_before(pl.col("last_session"))
    known = symbols.with_columns(
        first.alias("low"),
        last.alias("high"),
        calendar.dates(calendar.positions_before(pl.col("asked_through"))).alias("asked_through"),
    )
    ends = (calendar.dates(pl.col("low")) != pl.col("first_session")) | (
        calendar.dates(pl.col("high")) != pl.col("last_session")
    )
    moved = known.filter(ends)
    stored = days_of(moved.select("symbol", "low", "high").filter(pl.col("low") <= pl.col("high"))).join(
        gaps, on=("symbol", "position"), how="anti"
    )
    spans = stored.group_by("symbol").agg(pl.col("position").min().alias("low"), pl.col("position").max().alias("high"))
    moved_ranges = moved.drop("low", "high").join(spans, on="symbol")  # a symbol of which nothing is left is not known
    return (
        pl.concat([known.filter(~ends), moved_ranges.select(known.columns)])
        .with_columns(
            calendar.dates(pl.col("low")).alias("first_session"), calendar.dates(pl.col("high")).alias("last_session")
        )
        .select(symbols.columns)
        .sort("symbol")
    )


def joined_in_words(completeness: Completeness) -> str:
    """Which sessions a rebased account has gained; empty if none."""
    if not completeness.gaps.get_column("version").null_count():
        return ""
    new = completeness.gaps.filter(pl.col("version").is_null())
    spans = new.select("first_session", "last_session").unique().sort("first_session")
    first, last = spans.item(0, 0), spans.item(-1, 1)
    days = f"{first}" if first == last else f"{first} to {last}"
    count, symbols = int(new.get_column("sessions").sum()), new.get_column("symbol").n_unique()
    return (
        f"the calendar has gained {count:,} session(s) of {symbols:,} symbol(s) on which nothing was stored ({days}): "
        "updates ask for them"
    )


def misfit(
    manifest: SyncManifest | None, calendar: SessionCalendar, change: CalendarChange
) -> ConfigurationError | None:
    """Why a calendar is not another release of the one that is stored, but another one; None if all is well.

    It is another exchange's, or does not know all days that are stored.
    """
    if manifest is None or change.was == change.now:
        return None
    recorded = CalendarRecord.parse(manifest.calendar)
    if recorded is not None and recorded.exchange != calendar.name:
        return ConfigurationError(
            f"The store was filled by the sessions of {recorded.exchange}, and the exchange is now {calendar.name}",
            where="HISTORICAL_ETL_EXCHANGE",
            todo=f"set it to {recorded.exchange}, or use another data folder for {calendar.name}",
        )
    first, last = manifest.start_date, manifest.end_date
    if first and last and (first < calendar.known_from or last > calendar.known_through):
        return ConfigurationError(
            f"Stored are {first} to {last}; the calendar of {calendar.name} knows "
            f"{calendar.known_from} to {calendar.known_through} only, in {installed_release()}",
            where="exchange_calendars",
            todo=f"install the release that the store was filled with ({_release(manifest.calendar)}), or name the "
            "sessions that are stored in the file of HISTORICAL_ETL_CALENDAR_CORRECTIONS",
        )
    expected = set(_removed_by_us(calendar.name))
    strange = [day for day in change.left_days if day not in expected]
    if recorded is None and len(strange) > max(_FEW, _SHARE * change.stored_days):
        return ConfigurationError(
            f"{len(strange):,} of {change.stored_days:,} stored days are no sessions of {calendar.name}: the store was "
            "filled by the sessions of another exchange",
            where="HISTORICAL_ETL_EXCHANGE",
            todo="set it to that exchange, or use another data folder",
        )
    return None


def _removed_by_us(exchange: str) -> Iterator[date]:
    for correction in parse_corrections(packaged_text(), "calendar_corrections.csv"):
        if correction.exchange == exchange and correction.change == "removed":
            yield correction.day


def _release(calendar: str) -> str:
    """What to call a calendar that a manifest names."""
    recorded = CalendarRecord.parse(calendar)
    if recorded is None:
        return calendar or "not recorded"
    return f"{recorded.release}{' with own corrections' if recorded.own else ''}"


def _days(layout: Layout, partition: Partition) -> Iterator[pl.Series]:
    try:
        path = verified_path(layout, partition)
        days = collected(pl.scan_parquet(path, glob=False).select(pl.col("date").unique()), path)
        yield days.get_column("date").cast(SCHEMA["date"])
    except (ChecksumMismatchError, StorageError) as damage:
        _log.warning("%s Whether its days have left the calendar is not known", damage)
