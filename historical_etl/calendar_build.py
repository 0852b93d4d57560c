"""The sessions of an exchange as `exchange_calendars` has them, over the widest window that it can build.

It is asked with an explicit window, because its default one moves with the wall clock and starts 20 years ago. Some of
its calendars know a few years only, some build for a part of their years only, and some not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Protocol, cast

import polars as pl

from historical_etl.errors import ConfigurationError
from historical_etl.masking import display_value

__all__ = ["FIRST", "LAST", "TABLE", "build", "require_known"]

FIRST: Final = date(1900, 1, 1)
LAST: Final = date(2050, 12, 31)
#: Columns of a calendar: its sessions and closes, and in every row the zone, the first and last day that is known, and
#: the exchange itself, where the name asked for is an alias.
TABLE: Final = pl.Schema(
    {
        "session": pl.Date(),
        "close": pl.Datetime("us", "UTC"),
        "timezone": pl.String(),
        "known_from": pl.Date(),
        "known_through": pl.Date(),
        "exchange": pl.String(),
    }
)
_WHERE: Final = "HISTORICAL_ETL_EXCHANGE"
#: Windows so short that a calendar builds for one of them if it builds at all.
_TRIED_FIRST: Final = tuple((date(year, 6, 1), date(year, 8, 1)) for year in (2024, 2026, 2027, 2020, 2010, 2000))
_WORKING: Final = "XNYS, XLON, XTKS, XTSE, XETR, XPAR, XAMS, XSWX, XHKG, XSHG, XBOM, XASX, XKRX, XJSE, BVMF, 24/7"
_REASON: Final = 200  # characters of somebody else's message
_DAY: Final = timedelta(days=1)


class _Built(Protocol):
    """What is used of an `exchange_calendars.ExchangeCalendar`: arrays of nanoseconds since 1970, zone, bounds."""

    sessions_nanos: Sequence[int]
    closes_nanos: Sequence[int]
    tz: object

    def bound_min(self) -> "_Day | None": ...
    def bound_max(self) -> "_Day | None": ...


class _Day(Protocol):
    def date(self) -> date: ...


def build(exchange: str) -> pl.DataFrame:
    """The calendar of an exchange, columns `TABLE`, from 1900 (or the first day known) to 2050 (or the last).

    Raises:
        ConfigurationError: `exchange_calendars` does not know the name, or cannot build its calendar.
    """
    from exchange_calendars import resolve_alias  # brings pandas, more than a second of imports: hence the cache

    require_known(exchange)
    window = _Window(exchange)
    found, start, end = window.widest()
    return pl.DataFrame(
        {
            "session": pl.Series(found.sessions_nanos).cast(pl.Datetime("ns")).cast(pl.Date),
            "close": pl.Series(found.closes_nanos).cast(pl.Datetime("ns", "UTC")).dt.cast_time_unit("us"),
        }
    ).with_columns(
        pl.lit(str(found.tz)).alias("timezone"),
        pl.lit(start).alias("known_from"),
        pl.lit(end).alias("known_through"),
        pl.lit(resolve_alias(exchange)).alias("exchange"),
    )


def require_known(exchange: str, where: str = _WHERE) -> None:
    """Raises ConfigurationError if `exchange_calendars` does not know the name."""
    from exchange_calendars import get_calendar_names

    known = get_calendar_names(include_aliases=True)
    if exchange not in known:
        raise ConfigurationError(
            f"Unknown exchange {display_value(exchange, known)}",
            where=where,
            todo=f"use a code of exchange_calendars, such as {', '.join(sorted(known)[:5])}, XNYS, XLON, XTKS or 24/7",
        )


@dataclass(frozen=True)
class _Window:
    """Looks for the widest window in which an exchange's calendar builds."""

    exchange: str

    def widest(self) -> tuple[_Built, date, date]:
        """The calendar, and the first and last day that it knows.

        Raises:
            ConfigurationError: it builds in no window that is tried.
        """
        small, low, high = self._any()
        first, last = small.bound_min(), small.bound_max()
        start = FIRST if first is None else max(FIRST, first.date())
        end = LAST if last is None else min(LAST, last.date())
        if isinstance(found := self._try(start, end), Exception):
            # Whatever it fails on lies before or after the small window: what builds is narrowed down to the day.
            start = _earliest(start, low, lambda day: not isinstance(self._try(day, high), Exception))
            end = _latest(high, end, lambda day: not isinstance(self._try(start, day), Exception))
            found = self._try(start, end)
        if isinstance(found, Exception):
            raise self._refused(found)
        return found, start, end

    def _any(self) -> tuple[_Built, date, date]:
        failed: Exception | None = None
        for low, high in _TRIED_FIRST:
            found = self._try(low, high)
            if not isinstance(found, Exception):
                return found, low, high
            failed = failed or found
        raise self._refused(failed)

    def _try(self, start: date, end: date) -> _Built | Exception:
        import exchange_calendars

        try:
            found = exchange_calendars.get_calendar(self.exchange, start=start.isoformat(), end=end.isoformat())
        except Exception as error:  # noqa: BLE001 - whatever the package fails on, the calendar cannot be had
            return error
        return cast("_Built", cast("object", found))

    def _refused(self, error: Exception | None) -> ConfigurationError:
        reason = f"{type(error).__name__}: {error}"[:_REASON]
        return ConfigurationError(
            f"The calendar of {self.exchange} cannot be built by the exchange_calendars installed here ({reason})",
            where=_WHERE,
            todo=f"use another exchange with the same sessions, or install another release of exchange_calendars and "
            f"pandas; among those that work are {_WORKING}, and docs/concepts/calendars.md lists all",
        )


def _earliest(low: date, high: date, builds: "_Judge") -> date:
    """The earliest day from which on it builds; it does from `high` on."""
    if builds(low):
        return low
    while (high - low) > _DAY:
        middle = low + (high - low) // 2
        low, high = (low, middle) if builds(middle) else (middle, high)
    return high


def _latest(low: date, high: date, builds: "_Judge") -> date:
    """The latest day up to which it builds; it does up to `low`."""
    if builds(high):
        return high
    while (high - low) > _DAY:
        middle = low + (high - low) // 2
        low, high = (middle, high) if builds(middle) else (low, middle)
    return low


class _Judge(Protocol):
    def __call__(self, day: date, /) -> bool: ...
