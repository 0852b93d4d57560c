"""Trading sessions: the dates an exchange was open on, and which of them have closed.

A session is named by the exchange's local date. They come from the `exchange_calendars` package (`calendar_build`), are
corrected by what comes with this one, and then by a file of the user's own (`calendar_corrections`). All but the last
is cached in the user's cache folder, by release: importing that package takes longer than most commands run.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import polars as pl
from platformdirs import user_cache_path

from historical_etl.calendar_build import FIRST, LAST, TABLE, build, require_known
from historical_etl.calendar_corrections import (
    Correction,
    corrections_text,
    digest_of,
    packaged_text,
    parse_corrections,
)
from historical_etl.calendar_record import NEAR_THE_END, CalendarRecord, installed_release
from historical_etl.durable import write_atomic
from historical_etl.errors import ConfigurationError
from historical_etl.fork_guard import refuse_lost_threads
from historical_etl.regular_files import read_regular

if TYPE_CHECKING:
    from historical_etl.settings import Settings

__all__ = ["SessionCalendar", "calendar_of", "get_calendar"]

_EPOCH: Final = date(1970, 1, 1)
_DIGEST: Final = sha256().digest_size
_NOON: Final = time(12)


class SessionCalendar:
    """The sessions of one exchange, ascending.

    It knows the days from `known_from` to `known_through`, and says nothing of any other: whether the exchange was or
    will be open then has to come from another release of the package, or from a correction.

    Attributes:
        name: the exchange's code (ISO 10383 MIC such as XNYS, or "24/7").
        timezone: IANA name of the exchange's time zone.
        sessions: all sessions, a Date series, ascending and unique.
        known_from: the first day that the calendar knows of.
        known_through: the last one.
        corrections: those from a file of the user's own that concern this exchange.
    """

    def __init__(
        self,
        name: str,
        timezone: str,
        sessions: pl.Series,
        closes: pl.Series,
        *,
        known: tuple[date, date] | None = None,
        corrections: Sequence[Correction] = (),
        own: str = "",
    ) -> None:
        self.name = name
        self.timezone = timezone
        self.sessions = sessions
        self._dates: list[date] = sessions.to_list()
        self._closes: list[datetime] = closes.to_list()
        self.known_from, self.known_through = known or (self._dates[0], self._dates[-1])
        self.corrections = tuple(corrections)
        self._own = own

    @cached_property
    def record(self) -> CalendarRecord:
        """What tells this calendar from another one."""
        days = array("i", self.sessions.cast(pl.Int32).to_list())  # by way of NumPy it would have to be imported
        digest = sha256(days.tobytes()).hexdigest()[:16]
        return CalendarRecord(installed_release(), self.name, self.known_from, self.known_through, digest, self._own)

    @property
    def version(self) -> str:
        """The record in words, as manifests keep it."""
        return str(self.record)

    def between(self, start: date, end: date) -> pl.Series:
        """Sessions from `start` to `end`, both included, as a Date series."""
        low, high = bisect_left(self._dates, start), bisect_right(self._dates, end)
        return self.sessions.slice(low, max(0, high - low))

    def is_session(self, day: date) -> bool:
        """Whether the exchange was open on `day`."""
        return self.position(day) is not None

    def position(self, day: date) -> int | None:
        """The index of session `day` in `sessions`, None if `day` is not a session."""
        index = bisect_left(self._dates, day)
        return index if index < len(self._dates) and self._dates[index] == day else None

    def positions(self, days: pl.Expr) -> pl.Expr:
        """For each date the index of the first session not before it; null for a null, or outside the calendar."""
        return self._looked_up(self._positions, days)

    def positions_before(self, days: pl.Expr) -> pl.Expr:
        """For each date the index of the last session not after it; null for a null, or outside the calendar."""
        return self._looked_up(self._positions_before, days)

    def dates(self, positions: pl.Expr) -> pl.Expr:
        """The session at each index; null for a null, or outside the calendar."""
        return self._sessions.gather(_from_zero(positions), null_on_oob=True)

    def _looked_up(self, found: pl.Expr, days: pl.Expr) -> pl.Expr:
        day_number = days.cast(pl.Date).cast(pl.Int32) - (self._dates[0] - _EPOCH).days
        return found.gather(_from_zero(day_number), null_on_oob=True)

    @cached_property
    def _sessions(self) -> pl.Expr:
        return pl.lit(self.sessions)

    @cached_property
    def _positions(self) -> pl.Expr:
        return pl.lit(self.sessions.search_sorted(self._every_day).cast(pl.Int64))

    @cached_property
    def _positions_before(self) -> pl.Expr:
        return pl.lit(self.sessions.search_sorted(self._every_day, side="right").cast(pl.Int64) - 1)

    @property
    def _every_day(self) -> pl.Series:
        return pl.date_range(self._dates[0], self._dates[-1], eager=True)

    def back(self, day: date, count: int) -> date:
        """The session `count` sessions before `day`, which need not be a session itself.

        Beyond an end of the calendar it is the outermost session: nothing earlier or later can be asked for.
        """
        index = bisect_left(self._dates, day) - count
        return self._dates[max(0, min(index, len(self._dates) - 1))]

    def after(self, day: date) -> date | None:
        """The first session later than `day`; None where the calendar knows of none."""
        index = bisect_right(self._dates, day)
        return self._dates[index] if index < len(self._dates) else None

    def close_of(self, session: date) -> datetime:
        """When `session` closes, in UTC (half-days included)."""
        index = self.position(session)
        if index is None:
            raise ConfigurationError(
                f"{session} is not a session of {self.name}", where="session", todo="give a date on which it was open"
            )
        return self._closes[index]

    def last_closed(self, now: datetime, settle: timedelta = timedelta()) -> date:
        """The last session whose close lies at least `settle` before `now`, as far as the calendar knows.

        Once the calendar has ended, which `has_ended` tells, there may have been later ones.

        Raises:
            ConfigurationError: the calendar begins later.
        """
        index = bisect_right(self._closes, now.astimezone(UTC) - settle) - 1
        if index < 0:
            raise ConfigurationError(
                f"No session of {self.name} has closed by {now:%Y-%m-%d %H:%M} UTC: its calendar begins on "
                f"{self.known_from}",
                where="HISTORICAL_ETL_EXCHANGE",
                todo="check this machine's clock, or use another exchange with the same sessions",
            )
        return self._dates[index]

    def has_ended(self, now: datetime) -> bool:
        """Whether a session may have closed by `now` of which the calendar does not know."""
        unknown = self.known_through - self._dates[-1] + timedelta(days=1)
        return now.astimezone(UTC) >= self._closes[-1] + unknown

    def ends_soon(self, now: datetime) -> bool:
        """Whether the calendar has ended or will within 90 days."""
        today = now.astimezone(ZoneInfo(self.timezone)).date()
        return today > self.known_through - NEAR_THE_END

    def end_in_words(self) -> str:
        """Where the data of this calendar end, and what to do about it."""
        return (
            f"the calendar of {self.name} ends on {self.known_through} in {installed_release()}: later sessions are "
            "not known; upgrade it (pip install --upgrade exchange_calendars), or name them in the file of "
            "HISTORICAL_ETL_CALENDAR_CORRECTIONS"
        )


def get_calendar(exchange: str, corrections: str | Path | None = None) -> SessionCalendar:
    """The calendar of an exchange, from 1900 (or the first day known) to 2050 (or the last day known).

    Args:
        exchange: its code, or another name that `exchange_calendars` has for it.
        corrections: a CSV file of sessions that are added or removed; see `calendar_corrections`.

    Raises:
        ConfigurationError: `exchange_calendars` does not know the name, or cannot build its calendar; or the file
            cannot be used; or this process was forked from one in which Polars had threads.
    """
    refuse_lost_threads()
    if corrections is None:
        return _packaged(exchange)
    path = Path(corrections).absolute()
    return _corrected(exchange, str(path), corrections_text(path))


def calendar_of(settings: "Settings") -> SessionCalendar:
    """The calendar that settings name; raises as `get_calendar`."""
    return get_calendar(settings.exchange, settings.calendar_corrections)


@lru_cache(maxsize=8)
def _packaged(exchange: str) -> SessionCalendar:
    return _from_table(exchange, _table(exchange))


@lru_cache(maxsize=8)
def _corrected(exchange: str, path: str, text: str) -> SessionCalendar:
    table = _table(exchange)
    names = {exchange, table.item(0, "exchange")}
    own = parse_corrections(text, path)
    for unknown in sorted({correction.exchange for correction in own} - names):
        require_known(unknown, path)  # else a misspelt name would correct nothing, without a word
    mine = tuple(correction for correction in own if correction.exchange in names)
    return _from_table(exchange, corrected(table, mine), mine, digest_of(text) if mine else "")


def corrected(table: pl.DataFrame, corrections: Sequence[Correction]) -> pl.DataFrame:
    """A calendar, columns `TABLE`, with some corrections.

    A session that is there already, and one that is not there to be removed, is left as it is: releases of
    `exchange_calendars` learn, too. What is added beyond the ends of the calendar makes them known up to there.
    """
    removed = [correction.day for correction in corrections if correction.change == "removed"]
    known = set(table.get_column("session"))
    added = [c for c in corrections if c.change == "added" and c.day not in known]
    if not removed and not added:
        return table
    zone = ZoneInfo(table.item(0, "timezone"))
    rows = [(c.day, _close(c, table, zone)) for c in added]
    new = pl.DataFrame(rows, schema={name: TABLE[name] for name in ("session", "close")}, orient="row")
    remaining = table.filter(~pl.col("session").is_in(removed))
    days = [c.day for c in added]
    return (
        pl.concat([remaining, new], how="diagonal")
        .sort("session")
        .with_columns(pl.lit(table.item(0, name)).alias(name) for name in ("timezone", "exchange"))
        .with_columns(
            pl.lit(min([table.item(0, "known_from"), *days])).alias("known_from"),
            pl.lit(max([table.item(0, "known_through"), *days])).alias("known_through"),
        )
        .select(list(TABLE))
    )


def _close(correction: Correction, table: pl.DataFrame, zone: ZoneInfo) -> datetime:
    """When a session that is added closes: as stated, else at the hour of the session before it."""
    sessions = table.get_column("session")
    nearest = max(0, int(sessions.search_sorted(correction.day)) - 1)
    at = correction.close
    if at is None:
        close: datetime = table.item(nearest, "close")
        at = close.astimezone(zone).time()
    return datetime.combine(correction.day, at, zone).astimezone(UTC)


def _table(exchange: str) -> pl.DataFrame:
    """The calendar of an exchange with the corrections that come with the package, from the cache or anew."""
    packaged = packaged_text()
    cache = _cache_file(exchange, digest_of(packaged))
    if (cached := _read_cached(cache)) is not None:
        return cached
    table = build(exchange)
    name = table.item(0, "exchange")
    mine = [c for c in parse_corrections(packaged, "calendar_corrections.csv") if c.exchange == name]
    table = corrected(
        table, [c for c in mine if table.item(0, "known_from") <= c.day <= table.item(0, "known_through")]
    )
    _write_cached(cache, table)
    return table


def _from_table(
    exchange: str, table: pl.DataFrame, corrections: Sequence[Correction] = (), own: str = ""
) -> SessionCalendar:
    return SessionCalendar(
        exchange,
        timezone=table.item(0, "timezone"),
        sessions=table["session"],
        closes=table["close"],
        known=(table.item(0, "known_from"), table.item(0, "known_through")),
        corrections=corrections,
        own=own,
    )


def _from_zero(index: pl.Expr) -> pl.Expr:
    """Null where an index is negative: Polars would count it from the end."""
    return pl.when(index >= 0).then(index)


def _cache_file(exchange: str, packaged: str) -> Path:
    """Other releases may know other sessions, or build them for other years, so each has a file of its own."""
    release = f"{version('exchange_calendars')}-pandas-{version('pandas')}-{packaged}"
    name = f"{exchange.replace('/', '-')}-{FIRST.year}-{LAST.year}-{release}.sessions"
    return user_cache_path("historical_etl") / name


def _read_cached(file: Path) -> pl.DataFrame | None:
    try:
        content = read_regular(file)
        if sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        table = pl.read_parquet(BytesIO(content[_DIGEST:]))
    except (OSError, pl.exceptions.PolarsError):
        return None
    return table if table.schema == TABLE else None


def _write_cached(file: Path, table: pl.DataFrame) -> None:
    buffer = BytesIO()
    table.write_parquet(buffer)
    content = buffer.getvalue()
    with suppress(OSError):  # it saves a second, no more
        write_atomic(file, sha256(content).digest() + content)
