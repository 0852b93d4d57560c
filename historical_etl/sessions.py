"""Trading sessions: the dates an exchange was open on, and which of them have closed.

A session is named by the exchange's local date. Source: the `exchange_calendars` package, asked with an
explicit window, because its default one moves with the wall clock and starts 20 years ago. What it answers is
cached in the user's cache folder, by release: importing it takes longer than most commands run.
"""

from bisect import bisect_left, bisect_right
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

import polars as pl
from platformdirs import user_cache_path

from historical_etl.durable import write_atomic
from historical_etl.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SessionCalendar", "get_calendar"]

_FIRST: Final = date(1900, 1, 1)
_LAST: Final = date(2050, 12, 31)
_EPOCH: Final = date(1970, 1, 1)
_DIGEST: Final = sha256().digest_size


class SessionCalendar:
    """The sessions of one exchange, ascending.

    Attributes:
        name: the exchange's code (ISO 10383 MIC such as XNYS, or "24/7").
        timezone: IANA name of the exchange's time zone.
        sessions: all sessions, a Date series, ascending and unique.
        version: the package and version the sessions come from; kept in manifests.
    """

    def __init__(self, name: str, timezone: str, sessions: pl.Series, closes: pl.Series) -> None:
        self.name = name
        self.timezone = timezone
        self.sessions = sessions
        self.version = f"exchange_calendars {version('exchange_calendars')}"
        self._dates: list[date] = sessions.to_list()
        self._closes: list[datetime] = closes.to_list()

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
        day_number = days.cast(pl.Date).cast(pl.Int32) - (self._dates[0] - _EPOCH).days
        return pl.lit(self._positions).gather(day_number, null_on_oob=True)

    def dates(self, positions: pl.Expr) -> pl.Expr:
        """The session at each index; null for a null, or outside the calendar."""
        return pl.lit(self.sessions).gather(positions, null_on_oob=True)

    @cached_property
    def _positions(self) -> pl.Series:
        every_day = pl.date_range(self._dates[0], self._dates[-1], eager=True)
        return self.sessions.search_sorted(every_day).cast(pl.Int64)

    def back(self, day: date, count: int) -> date:
        """The session `count` sessions before `day`; `day` need not be a session itself."""
        index = bisect_left(self._dates, day) - count
        return self._dates[max(0, min(index, len(self._dates) - 1))]

    def after(self, day: date) -> date:
        """The first session later than `day`."""
        return self._dates[min(bisect_right(self._dates, day), len(self._dates) - 1)]

    def close_of(self, session: date) -> datetime:
        """When `session` closes, in UTC (half-days included)."""
        index = self.position(session)
        if index is None:
            raise ConfigurationError(f"{session} is not a session of {self.name}", where="session")
        return self._closes[index]

    def last_closed(self, now: datetime, settle: timedelta = timedelta()) -> date:
        """The last session whose close lies at least `settle` before `now`."""
        index = bisect_right(self._closes, now.astimezone(UTC) - settle) - 1
        return self._dates[max(0, index)]


@lru_cache(maxsize=8)
def get_calendar(exchange: str) -> SessionCalendar:
    """The calendar of an exchange, from 1900 (or the first year known) to 2050 (or the last year known).

    Raises:
        ConfigurationError: `exchange_calendars` does not know the name, or cannot build its calendar.
    """
    return _read_cached(exchange) or _build(exchange)


def _build(exchange: str) -> SessionCalendar:
    import exchange_calendars  # brings pandas, more than a second of imports: hence the cache

    known = exchange_calendars.get_calendar_names(include_aliases=True)
    if exchange not in known:
        raise ConfigurationError(
            f"Unknown exchange {exchange!r}",
            where="HISTORICAL_ETL_EXCHANGE",
            todo=f"use a code of exchange_calendars, such as {', '.join(sorted(known)[:5])}, XNYS, XLON, XTKS or 24/7",
        )
    # A calendar refuses a window beyond its bounds; only an instance tells them, so a small one is made first.
    probe = exchange_calendars.get_calendar(exchange, start="2024-01-01", end="2024-02-01")
    first, last = probe.bound_min(), probe.bound_max()
    start = _FIRST if first is None else max(_FIRST, first.date())
    end = _LAST if last is None else min(_LAST, last.date())
    try:
        found = exchange_calendars.get_calendar(exchange, start=start.isoformat(), end=end.isoformat())
    except ValueError as error:
        raise ConfigurationError(
            f"exchange_calendars cannot build {exchange} from {start} to {end}: {error}"[:300],
            where="HISTORICAL_ETL_EXCHANGE",
        ) from error
    calendar = cast("_Nanoseconds", found)
    table = pl.DataFrame(
        {
            "session": pl.Series(calendar.sessions_nanos).cast(pl.Datetime("ns")).cast(pl.Date),
            "close": pl.Series(calendar.closes_nanos).cast(pl.Datetime("ns", "UTC")).dt.cast_time_unit("us"),
        }
    ).with_columns(pl.lit(str(calendar.tz)).alias("timezone"))
    _write_cached(exchange, table)
    return _from_table(exchange, table)


class _Nanoseconds(Protocol):
    """What is used of an `exchange_calendars.ExchangeCalendar`: arrays of nanoseconds since 1970, and its zone."""

    sessions_nanos: "Sequence[int]"
    closes_nanos: "Sequence[int]"
    tz: object


def _from_table(exchange: str, table: pl.DataFrame) -> SessionCalendar:
    return SessionCalendar(
        exchange, timezone=table.item(0, "timezone"), sessions=table["session"], closes=table["close"]
    )


def _cache_file(exchange: str) -> Path:
    """Another release of `exchange_calendars` may know other sessions, so it has a file of its own."""
    name = f"{exchange.replace('/', '-')}-{_FIRST.year}-{_LAST.year}-{version('exchange_calendars')}.sessions"
    return user_cache_path("historical_etl") / name


def _read_cached(exchange: str) -> SessionCalendar | None:
    try:
        content = _cache_file(exchange).read_bytes()
        if sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        return _from_table(exchange, pl.read_parquet(BytesIO(content[_DIGEST:])))
    except (OSError, pl.exceptions.PolarsError):
        return None


def _write_cached(exchange: str, table: pl.DataFrame) -> None:
    buffer = BytesIO()
    table.write_parquet(buffer)
    content = buffer.getvalue()
    with suppress(OSError):  # it saves a second, no more
        write_atomic(_cache_file(exchange), sha256(content).digest() + content)
