"""Which of several readings of a day is meant, where what is written fits more than one: 02/03/04 fits three.

What fits all rows goes first. Among readings that do, the calendar and the distance of the days decide, if they are
clear: daily bars are not at weekends, not to come, and not a month or a year apart. Else it is asked for.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl

from historical_etl.clock import system_clock
from historical_etl.sessions import SessionCalendar

__all__ = ["FIRST_DAY", "LAST_DAY", "chosen", "day_in", "latest_day", "swapped", "to_come"]

#: A two-digit year read with %Y becomes year 20: outside these bounds a date is a misread one.
FIRST_DAY, LAST_DAY = date(1700, 1, 1), date(2200, 12, 31)
_SATURDAY: Final = 6
#: So many days show by their distance that they are daily; fewer may be the first days of months.
_ENOUGH: Final = 6
#: So many in the first rows of a file need not be looked at in all of it.
_MANY: Final = 10
#: Days from one row to the next, on average: of daily bars, and of what is read a year apart.
_NEAR, _FAR = 20, 200
#: No reading with more days at weekends is taken for its distances; so much more is clearly worse.
_WEEKENDS: Final = 0.1


@dataclass(frozen=True)
class _Evidence:
    """What a reading makes of the rows."""

    form: str
    unfit: int
    days: int
    to_come: int
    weekends: float
    step: float

    def beats(self, other: "_Evidence") -> bool:
        """Whether this reading is clearly the better one."""
        if self.to_come or other.to_come:
            return not self.to_come
        closer = self.step < _NEAR and (
            (self.days >= _ENOUGH and self.step * 2 < other.step) or (self.days > 1 and other.step > _FAR)
        )
        if closer and self.weekends <= min(other.weekends, _WEEKENDS):
            return True
        fewer = self.weekends + _WEEKENDS <= other.weekends or self.weekends == 0 < other.weekends
        return fewer and self.step < other.step * 2


def swapped(form: str) -> tuple[str, ...]:
    """The format with day and month the other way round, where it has both as numbers."""
    if "%m" not in form or "%d" not in form:
        return ()
    return (re.sub("%[md]", lambda found: "%d" if found.group() == "%m" else "%m", form),)


def latest_day() -> date:
    """The last day that a bar can have: it is tomorrow's already somewhere."""
    return system_clock().date() + timedelta(days=1)


def to_come(day: pl.Expr) -> pl.Expr:
    """Whether no bar can have a day yet."""
    return (day > latest_day()).fill_null(value=False)


def day_in(text: pl.Expr, form: str) -> pl.Expr:
    """The day that a text is in one form, null where it is none."""
    day = text.str.to_date(form, strict=False)
    valid = day.is_between(FIRST_DAY, LAST_DAY)
    if form.startswith("%y"):
        valid &= text.str.contains(r"^\d{2}\D")
    return pl.when(valid).then(day)


def chosen(
    first: pl.Series,
    everything: Callable[[], pl.Series],
    readings: Sequence[str],
    calendar: SessionCalendar,
    preferred: Sequence[str],
) -> tuple[str | None, bool]:
    """The reading that is meant, and whether the rows themselves show it; None where nothing tells.

    Args:
        first: days of the first rows.
        everything: those of all rows.
        readings: formats of the form that they are written in.
        calendar: of the exchange.
        preferred: readings to take, in this order, where the rows do not tell and do not speak against them.
    """
    fitting: list[_Evidence] = []
    for days in (lambda: first, everything):
        found = _evidence(days().drop_nulls(), readings, calendar)
        fewest = min(one.unfit for one in found)
        fitting = [one for one in found if one.unfit == fewest]
        if len(fitting) == 1 or fewest:  # where some rows fit one reading only and some another, that is reported
            return fitting[0].form, True
        best = next((one for one in fitting if all(one.beats(other) for other in fitting if other is not one)), None)
        if best is not None and best.days >= _MANY:
            return best.form, True
    if best is not None:
        return best.form, True
    left = [one.form for one in fitting if not one.to_come and not any(other.beats(one) for other in fitting)]
    return next((form for form in preferred if form in left), None), False


def _evidence(texts: pl.Series, readings: Sequence[str], calendar: SessionCalendar) -> list[_Evidence]:
    read = texts.to_frame("text").select(day_in(pl.col("text"), form).alias(form) for form in readings)
    read = read.filter(pl.any_horizontal(pl.all().is_not_null()))  # what fits none is reported row by row
    return [_evidence_of(days, calendar) for days in read.get_columns()]


def _evidence_of(read: pl.Series, calendar: SessionCalendar) -> _Evidence:
    days = read.drop_nulls().unique().sort()
    weekends = days.filter((days.dt.weekday() >= _SATURDAY) & ~days.is_in(calendar.sessions.implode()))
    span = (days[-1] - days[0]).days if len(days) else 0
    return _Evidence(
        form=read.name,
        unfit=read.null_count(),
        days=len(days),
        to_come=int((days > latest_day()).sum()),
        weekends=len(weekends) / max(len(days), 1),
        step=span / max(len(days) - 1, 1),
    )
