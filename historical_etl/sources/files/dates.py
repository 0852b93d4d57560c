"""How a file writes its days: found from its values, where they can mean one thing only.

A date that is written with midnight is the day that is written. What other moments are is `moments`' work.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Literal

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.sessions import SessionCalendar
from historical_etl.settings import PREFIX
from historical_etl.sources.files.column_spellings import NULLS
from historical_etl.sources.files.date_order import FIRST_DAY, LAST_DAY, chosen, day_in, swapped
from historical_etl.sources.files.timestamps import Doubt, day_of, day_of_text, doubt_of

__all__ = ["EXCEL", "FIRST_DAY", "LAST_DAY", "AmbiguousDatesError", "DateRule", "Order", "are_days", "date_rule"]

Order = Literal["%m", "%d", "%y"]
TimeOfDay = Literal["none", "midnight", "zoned", "trading"]
_CLOCK: Final = re.compile(
    r"(?:[T ]\s*)(\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s?(AM|PM)?\s?(Z|UTC|[+-]\d{2}:?\d{2})?$", re.IGNORECASE
)
_CLOCK_IN_POLARS: Final = (
    r"(?i)(?:[T ]\s*)(\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s?(?:AM|PM)?\s?(?:Z|UTC|[+-]\d{2}:?\d{2})?$"
)
#: The setting that takes numbers such as 45352 for days as Excel counts them, and the day that is its 0.
EXCEL: Final = "excel"
_ZERO: Final = date(1899, 12, 30)
_COUNTED: Final = re.compile(r"[1-7]\d{4}")
#: Before, a number of Excel's more likely counts days since 1970.
_OLD: Final = date(1990, 1, 1)
#: What pandas writes behind whole numbers.
_FRACTION: Final = r"^(\d+)\.0+$"
_MIDNIGHT: Final = r"^0{1,2}:00(:00([.,]0+)?)?$"
#: How a day may be written, and its readings.
_FORMS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (r"\d{4}-\d{1,2}-\d{1,2}", ("%Y-%m-%d",)),
    (r"\d{4}/\d{1,2}/\d{1,2}", ("%Y/%m/%d",)),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", ("%Y.%m.%d",)),
    (r"\d{8}", ("%Y%m%d",)),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y", "%m.%d.%Y")),
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%m/%d/%Y", "%d/%m/%Y")),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%m-%d-%Y", "%d-%m-%Y")),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", ("%d.%m.%y", "%m.%d.%y", "%y.%m.%d")),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%m/%d/%y", "%d/%m/%y", "%y/%m/%d")),
    (r"\d{1,2}-\d{1,2}-\d{2}", ("%m-%d-%y", "%d-%m-%y", "%y-%m-%d")),
    (r"[A-Za-z]{3,9}\.? \d{1,2}, ?\d{4}", ("%b %d, %Y",)),
    (r"\d{1,2}-[A-Za-z]{3,9}-\d{4}", ("%d-%b-%Y",)),
    (r"\d{1,2}-[A-Za-z]{3,9}-\d{2}", ("%d-%b-%y", "%y-%b-%d")),
    (r"\d{1,2} [A-Za-z]{3,9},? \d{4}", ("%d %b %Y",)),
    (r"\d{1,2}[A-Za-z]{3}\d{4}", ("%d%b%Y",)),
)
#: Readings that are taken where nothing speaks against them: nobody in America writes full stops.
_USUAL: Final = ("%d.%m.%Y", "%d-%b-%y")
#: Digits of a moment since 1970 → how many of its units are a second.
_EPOCHS: Final = {10: 1, 13: 1_000, 16: 1_000_000, 19: 1_000_000_000}
_NANO: Final = 1_000_000_000
#: From one row to the next: days that are a gap, and days that are none.
_GAP, _NEXT = timedelta(days=20), timedelta(days=7)


class AmbiguousDatesError(DataQualityError):
    """Dates that may be read in two ways; the other files may tell which."""


@dataclass(frozen=True)
class DateRule:
    """How the days of one file are read.

    Attributes:
        form: of the day, without its time; empty for a moment since 1970.
        calendar: of the exchange.
        clock: whether a time is written, and what it may be.
        unit: of a moment since 1970, in a second.
        order: what comes first in dates that could be read in two ways; None in others.
        proven: whether the file itself shows the order.
        others: forms of the same dates that another order would give.
        doubt: what becomes of moments that may be midnight of the next day elsewhere.
    """

    form: str
    calendar: SessionCalendar
    clock: TimeOfDay = "none"
    unit: int = 0
    order: Order | None = None
    proven: bool = True
    others: tuple[str, ...] = ()
    doubt: Doubt = "closes are days"

    @property
    def timed(self) -> bool:
        """Whether times are written that are not midnight."""
        return self.clock in {"trading", "zoned"} or bool(self.unit)

    @property
    def has_short_years(self) -> bool:
        """Whether its years have two digits, and no setting says so."""
        return self.order is not None and "%y" in self.form

    def words(self) -> str:
        """What is reported of it; empty for what nobody would ask about."""
        if self.unit:
            return "moments since 1970 are read as days of the exchange"
        if self.clock == "zoned":
            return "moments with a zone are read as days of the exchange"
        if self.form == EXCEL:
            return "dates are read as days that Excel counts"
        times = {"midnight": ", each at midnight", "trading": ", with a time of the trading day"}.get(self.clock, "")
        plain_form = self.form in {"%Y-%m-%d", "%Y%m%d"} and not times
        return "" if plain_form else f"dates are read as {self.form}{times}"

    def parsed(self, text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        """The day that a text names, and whether it names none."""
        if self.unit or self.clock in {"zoned", "trading"}:
            if self.clock == "trading":
                day, doubtful = day_of_text(self.moment(text), self.calendar, self.doubt)
            else:
                day, doubtful = day_of(self.moment(text), self.calendar, self.doubt, utc_days=bool(self.unit))
            return day, _is_no_day(day) | doubtful.fill_null(value=True)
        if self.form == EXCEL:
            number = text.str.replace(_FRACTION, "${1}").cast(pl.Int32, strict=False)
            day = pl.lit(_ZERO) + pl.duration(days=number)
            return day, _is_no_day(day)
        if self.clock == "none":
            bare = text.str.replace(_FRACTION, "${1}") if self.form == "%Y%m%d" else text
            day = bare.str.to_date(self.form, strict=False)
            return day, _is_no_day(day)
        day = self._written_day(text)
        odd = ~text.str.extract(_CLOCK_IN_POLARS, 1).str.contains(_MIDNIGHT).fill_null(value=True)
        return day, _is_no_day(day) | odd.fill_null(value=True)

    def moment(self, text: pl.Expr) -> pl.Expr:
        """The moment that a text names: in UTC, or as it is written without a zone."""
        if self.unit:
            number = text.str.replace(_FRACTION, "${1}").cast(pl.Int64, strict=False)
            return pl.from_epoch(number * 1_000_000 // self.unit if self.unit < _NANO else number // 1_000, "us")
        if self.clock == "zoned":
            form = r"%Y-%m-%dT%H:%M:%S%.f%:z"
            clean = text.str.replace(" ", "T", literal=True).str.replace(r"\s?(Z|UTC)$", "+00:00")
            clean = clean.str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}").str.replace(
                r"(T\d{2}:\d{2})([+-])", "${1}:00${2}"
            )
            moment = clean.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
            return moment.dt.replace_time_zone(None)
        clock = text.str.extract(_CLOCK_IN_POLARS, 1).str.replace(r"^(\d):", "0${1}:").str.replace(r"[.,]\d+$", "")
        whole = pl.when(clock.str.len_chars() == len("hh:mm")).then(clock + ":00").otherwise(clock)
        afternoon = text.str.contains(r"(?i)\dPM|\d PM") & ~whole.str.starts_with("12")
        moment = self._written_day(text).dt.combine(whole.str.to_time("%H:%M:%S", strict=False))
        return pl.when(afternoon).then(moment.dt.offset_by("12h")).otherwise(moment)

    def wanted(self) -> str:
        """What a date of the file has to be, for the message on one that is not."""
        if self.form == EXCEL:
            return "a day as Excel counts them"
        if self.timed:
            where = f"{self.calendar.name} ({self.calendar.timezone})"
            return f"a moment that is of one day of {where}: it may be midnight of the next day elsewhere"
        return f"a day written as {self.form!r}"

    def shown(self, text: pl.Expr) -> pl.Expr:
        """A number of seconds in words."""
        return self.moment(text).dt.strftime(" (%Y-%m-%d %H:%M UTC)").fill_null("") if self.unit else pl.lit("")

    def otherwise(self, text: pl.Expr) -> list[pl.Expr]:
        """The days that a text is in other orders."""
        bare = text.str.replace(_CLOCK_IN_POLARS, "").str.strip_chars()
        return [day_in(bare, form) for form in self.others]

    def turns(self, text: pl.Expr, symbol: pl.Expr | None) -> pl.Expr | None:
        """Whether a row is far from the one before it, and is not if one of them is read in another order.

        None where day and month cannot be taken for each other. `symbol`: of the row; None if all have one.
        """
        if self.order is None:
            return None
        day, before = self._written_day(text), self._written_day(text).shift()
        near = [
            ((other - before).abs() <= _NEXT) | ((day - other.shift()).abs() <= _NEXT) for other in self.otherwise(text)
        ]
        turns = ((day - before).abs() > _GAP) & pl.any_horizontal(near)
        same = pl.lit(value=True) if symbol is None else symbol == symbol.shift()
        return (turns & same).fill_null(value=False)

    def _written_day(self, text: pl.Expr) -> pl.Expr:
        return text.str.replace(_CLOCK_IN_POLARS, "").str.strip_chars().str.to_date(self.form, strict=False)


def _is_no_day(day: pl.Expr) -> pl.Expr:
    return day.is_null() | ~day.is_between(FIRST_DAY, LAST_DAY)


def are_days(texts: Sequence[str]) -> bool:
    """Whether all values of a column are days, and there are some."""
    known = [text for text in texts if text]
    return bool(known) and all(_readings_of(_CLOCK.sub("", text)) for text in known)


def date_rule(
    texts: Sequence[str],
    everything: Callable[[], pl.Series],
    where: str,
    calendar: SessionCalendar,
    hint: Order | None,
    *,
    alone: bool,
    excel: bool,
) -> DateRule:
    """How the days of a file are written.

    Args:
        texts: of its first rows.
        everything: all of them, for dates whose order the first rows do not show.
        where: the file and its first line.
        calendar: of the exchange.
        hint: the order that other files show.
        alone: whether the file is of one symbol, so that a day may have one row only.
        excel: whether numbers of five digits are days as Excel counts them.

    Raises:
        AmbiguousDatesError: day and month could be either.
        DataQualityError: several rows have one day with different times: these are no daily bars. Or days are counted.
    """
    known = [re.sub(_FRACTION, r"\1", text) for text in texts if text not in NULLS]
    if not known:
        return DateRule("%Y-%m-%d", calendar)
    unit = _epoch(known)
    if unit:
        return _without_doubt(DateRule("", calendar, unit=unit), known, everything)
    if all(_COUNTED.fullmatch(text) for text in known):
        if excel:
            return DateRule(EXCEL, calendar)
        raise _counted(known[0], where)
    found = [readings for text in known if (readings := _readings_of(_CLOCK.sub("", text).strip()))]
    if not found:
        return DateRule("%Y-%m-%d", calendar)  # what is no date will be reported row by row
    readings = [_by_letters(form, known) for form in max(set(found), key=found.count)]
    clock = _clock_of(known, where, alone=alone)
    if len(readings) == 1:
        rule = DateRule(readings[0], calendar, clock, others=swapped(readings[0]))
        return _without_doubt(rule, known, everything)

    def bare(texts: pl.Series) -> pl.Series:
        return texts.str.replace(_CLOCK_IN_POLARS, "").str.strip_chars()

    preferred = [form for form in readings if hint and form.startswith(hint)]
    preferred += [form for form in readings if form.replace("%B", "%b") in _USUAL]
    form, proven = chosen(bare(pl.Series(known)), lambda: bare(everything()), readings, calendar, preferred)
    if form is None:
        ways = {2: "two", 3: "three"}[len(readings)]
        raise AmbiguousDatesError(
            f"Dates such as {known[0]!r} may be read in {ways} ways, and nothing in the file tells which",
            where=where,
            todo=_choice(readings),
        )
    order: Order = "%m" if form.startswith("%m") else "%d" if form.startswith("%d") else "%y"
    others = tuple(other for other in readings if other != form)
    rule = DateRule(form, calendar, clock, order=order, proven=proven, others=others)
    return _without_doubt(rule, known, everything)


def _choice(readings: Sequence[str]) -> str:
    """What to do about dates that may be read in several ways."""
    first = {"%m": "the month", "%d": "the day", "%y": "the year"}
    ways = " or ".join(f"{PREFIX}FILES_DATE_FORMAT={form} if {first[form[:2]]} comes first" for form in readings)
    return f"set {ways}"


def _without_doubt(rule: DateRule, texts: Sequence[str], everything: Callable[[], pl.Series]) -> DateRule:
    """The rule, with what becomes of its doubtful moments."""
    if not rule.timed:
        return rule

    def moments(found: pl.Series) -> pl.Series:
        return found.to_frame("text").select(rule.moment(pl.col("text"))).to_series()

    first = moments(pl.Series(list(texts), dtype=pl.String))
    doubt = doubt_of(first, lambda: moments(everything()), rule.calendar, zoned=rule.clock != "trading")
    return replace(rule, doubt=doubt)


def _counted(text: str, where: str) -> DataQualityError:
    """The error for days that are counted: from when on, nothing in the file tells."""
    day, other = _ZERO + timedelta(days=int(text)), date(1970, 1, 1) + timedelta(days=int(text))
    or_else = f", or {other} if they count from 1970" if day < _OLD else ""
    return DataQualityError(
        f"Dates such as {text!r} are counted days: {day} as Excel counts them{or_else}",
        where=where,
        todo=f"if {day} is right, set {PREFIX}FILES_DATE_FORMAT={EXCEL}; else export dates such as 2024-01-02",
    )


def _readings_of(text: str) -> tuple[str, ...]:
    return next((readings for pattern, readings in _FORMS if re.fullmatch(pattern, text)), ())


def _by_letters(form: str, texts: Sequence[str]) -> str:
    """The format with %B where months are written in full, and a full stop where they have one."""
    words = [word for text in texts for word in re.findall(r"[A-Za-z]{3,}", _CLOCK.sub("", text))]
    if any(len(word) > len("Sept") for word in words):
        form = form.replace("%b", "%B")
    return form


def _epoch(texts: Sequence[str]) -> int:
    sizes = {len(text) for text in texts}
    if len(sizes) != 1 or not all(text.isascii() and text.isdigit() for text in texts):
        return 0
    return _EPOCHS.get(sizes.pop(), 0)


def _clock_of(texts: Sequence[str], where: str, *, alone: bool) -> TimeOfDay:
    found = [match for text in texts if (match := _CLOCK.search(text))]
    if not found:
        return "none"
    clocks = [match.group(1) for match in found]
    if all(re.match(_MIDNIGHT, clock) for clock in clocks):
        return "midnight"
    days: dict[str, set[str]] = {}
    for text, clock in zip((text for text in texts if _CLOCK.search(text)), clocks, strict=True):
        days.setdefault(_CLOCK.sub("", text), set()).add(clock)
    day, times = max(days.items(), key=lambda item: len(item[1]))
    if len(times) > 1 and alone:
        raise DataQualityError(
            f"These are not daily bars: {day} has rows at {' and '.join(sorted(times)[:2])}",
            where=where,
            todo="export daily bars, or make them from these: the store takes one row a day",
        )
    return "zoned" if any(match.group(3) for match in found) else "trading"
