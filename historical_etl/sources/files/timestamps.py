"""Which day of the exchange a moment is: one that is written with a time, a zone, or as seconds since 1970.

Midnight in Tokyo is the morning of the day before in New York. So a moment counts only where it can be of one day: at
midnight (UTC, or at the exchange), or inside the hours of trading and not when another market's next day begins. Where
a file is full of such moments, the calendar tells: read rightly they fall on its sessions, read wrongly on Sundays.
"""

from collections.abc import Callable
from datetime import time, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

import polars as pl

from historical_etl.sessions import SessionCalendar

__all__ = ["FRIDAY", "Doubt", "day_of", "day_of_text", "doubt_of"]

#: What becomes of moments that may be midnight of the next day elsewhere.
Doubt = Literal["all are days", "closes are days", "none is a day"]
#: Seconds of the day in UTC at which the next day begins at some market: from London in summer to Auckland.
_ELSEWHERE: Final = [*(hour * 3600 for hour in range(11, 24)), 18 * 3600 + 1800, 20 * 3600 + 1800]
_DAY: Final = 86_400
#: As Polars counts weekdays: what comes after it is a weekend.
FRIDAY: Final = 5
#: Hours of trading, where a zone is known, and as they are written without one.
_HOURS: Final = range(8, 18)
_WRITTEN_HOURS: Final = range(8, 19)
#: So few days may all be sessions, read rightly or not.
_ENOUGH: Final = 10


def day_of(
    moment: pl.Expr, calendar: SessionCalendar, doubt: Doubt, *, utc_days: bool = False
) -> tuple[pl.Expr, pl.Expr]:
    """The day of a moment in UTC (without a zone), and whether it could be another one.

    `utc_days`: whether midnight UTC is that day, as in seconds since 1970, whatever it is at the exchange.
    """
    at_midnight = (moment.dt.time() == time()) & utc_days
    local = moment.dt.replace_time_zone("UTC").dt.convert_time_zone(calendar.timezone)
    day = pl.when(at_midnight).then(moment.dt.date()).otherwise(local.dt.date())
    sure = local.dt.hour().is_in(list(_HOURS)) & _passes(moment, local, calendar, doubt)
    return day, ~(at_midnight | (local.dt.time() == time()) | sure)


def day_of_text(moment: pl.Expr, calendar: SessionCalendar, doubt: Doubt) -> tuple[pl.Expr, pl.Expr]:
    """The day of a moment without a zone: the one that is written, if that is no midnight written in UTC."""
    sure = moment.dt.hour().is_in(list(_WRITTEN_HOURS)) & _passes(moment, moment, calendar, doubt)
    return moment.dt.date(), ~sure


def _passes(moment: pl.Expr, local: pl.Expr, calendar: SessionCalendar, doubt: Doubt) -> pl.Expr:
    if doubt == "all are days":
        return pl.lit(value=True)
    doubtful = _is_doubtful(moment, local)
    return ~doubtful if doubt == "none is a day" else ~doubtful | (local.dt.time() == _usual_close(calendar))


def _is_doubtful(moment: pl.Expr, local: pl.Expr) -> pl.Expr:
    """Whether the day after the exchange's begins somewhere at that moment."""
    second = moment.dt.epoch("us") / 1_000_000 % _DAY
    return second.is_in([float(at) for at in _ELSEWHERE]) & (local.dt.date() == moment.dt.date())


def doubt_of(first: pl.Series, everything: Callable[[], pl.Series], calendar: SessionCalendar, *, zoned: bool) -> Doubt:
    """What becomes of the doubtful moments of a file.

    Args:
        first: the moments of its first rows, in UTC or as they are written, without a zone.
        everything: those of all rows, for files whose first rows do not tell.
        calendar: of the exchange.
        zoned: whether they are in UTC.
    """
    if not _mostly_doubtful(first, calendar, zoned=zoned):
        return "closes are days"
    for moments in (lambda: first, everything):
        days = _local(moments().drop_nulls(), calendar, zoned=zoned).dt.date().unique()
        off, off_if_later = _off_sessions(days, calendar), _off_sessions(days + timedelta(days=1), calendar)
        if off != off_if_later and len(days) >= _ENOUGH:
            break
    if off != off_if_later:
        return "all are days" if off < off_if_later else "none is a day"
    closes = _local(first, calendar, zoned=zoned).dt.time() == _usual_close(calendar)
    return "closes are days" if closes.all() else "none is a day"


def _mostly_doubtful(first: pl.Series, calendar: SessionCalendar, *, zoned: bool) -> bool:
    moments = pl.DataFrame({"utc": first, "local": _local(first, calendar, zoned=zoned)}).drop_nulls()
    share = moments.select(_is_doubtful(pl.col("utc"), pl.col("local")).mean()).item()
    return share is not None and share * 2 > 1


def _local(moments: pl.Series, calendar: SessionCalendar, *, zoned: bool) -> pl.Series:
    if not zoned:
        return moments
    return moments.dt.replace_time_zone("UTC").dt.convert_time_zone(calendar.timezone).dt.replace_time_zone(None)


def _off_sessions(days: pl.Series, calendar: SessionCalendar) -> tuple[int, int]:
    """How many days at weekends are no sessions, and how many days are none, of those that the calendar knows."""
    known = days.filter(days.is_between(calendar.known_from, calendar.known_through))
    off = known.filter(~known.is_in(calendar.sessions.implode()))
    return int((off.dt.weekday() > FRIDAY).sum()), len(off)


@lru_cache(8)
def _usual_close(calendar: SessionCalendar) -> time:
    """The time of day at which the exchange closes most often, of late."""
    zone = ZoneInfo(calendar.timezone)
    closes = [calendar.close_of(day).astimezone(zone).time() for day in calendar.sessions.tail(99)]
    return max(set(closes), key=closes.count)
