"""From a vendor's rows to frames in the schema. Values are not judged here: they go to the quality rules as they came.

A null stays a null and a NaN becomes one, a volume too: it is not 0. Rows that are equal in all columns become one.
Rows of symbols that nobody asked for are left out first. Of the others, one whose date or close cannot be read is told
and left out, and the rest is taken; where none can be read, the vendor's form has changed. Another cell that cannot be
read is null, and told.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, cast

import polars as pl

from historical_etl.schema import ORDER, SCHEMA, empty_frame
from historical_etl.sources.base import ACTIONS

__all__ = [
    "Bars",
    "Event",
    "Events",
    "FormError",
    "Mark",
    "Pages",
    "Row",
    "actions_frame",
    "amount_of",
    "bars_frame",
    "cells_told",
    "counted",
    "day_of",
    "empty_actions",
    "event_day",
    "joined",
    "local_days",
    "ratio_of",
    "rows_of",
]

Row = Mapping[str, object]


class Mark(NamedTuple):
    """What tells events of one symbol, day and value apart; both empty where the vendor does not say."""

    kind: str = ""
    id: str = ""


#: Symbol (None: of nobody who was asked for), ex-date in ISO, new shares for each old one, cash for each share; None
#: where there is no split or no dividend. A split may also be a pair of numbers: new shares, and old ones.
Event = tuple[str | None, object, object, object] | tuple[str | None, object, object, object, Mark]
#: Of 50 tickers or more each.
_MOST_PAGES: Final = 100_000
#: In a row without any row.
_MOST_BARREN: Final = 5
_NUMBERS: Final = ("open", "high", "low", "close", "volume", "adj_close")
#: What a bar is judged by: a row without one of them, as it came, is no bar.
_NEEDED: Final = frozenset({"date", "close"})
_REJECTED: Final = pl.Schema({**SCHEMA, "reasons": pl.List(pl.String())})
#: Parts of an event that bears a mark.
_MARKED: Final = 5
#: Amounts closer than this are one that is written in two ways.
_SAME: Final = 1e-3
_CELLS: Final = pl.Schema({"symbol": pl.String(), "date": pl.Date(), "column": pl.String(), "text": pl.String()})
#: So much of a cell is kept.
_KEPT: Final = 1000
#: So many events or cells that cannot be read are named; the others are counted.
_NAMED: Final = 5
_SHOWN: Final = 40


@dataclass(frozen=True)
class Bars:
    """Bars in the schema, and what of the rows cannot be read.

    Attributes:
        frame: the bars.
        rejected: rows without a date or a close that can be read, as far as they go, with `reasons`.
        cells: the other cells that cannot be read: `symbol`, `date`, `column`, and the `text` as it came.
    """

    frame: pl.DataFrame
    rejected: pl.DataFrame
    cells: pl.DataFrame


@dataclass(frozen=True)
class Events:
    """Events as actions; `notes` name those that cannot be read, and those that are entered several times."""

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()


class FormError(ValueError):
    """Rows have another form than they should; says where."""


def rows_of(value: object, what: str) -> list[Row]:
    """`value` as rows of JSON.

    Raises:
        FormError: it is not an array of objects.
    """
    if not isinstance(value, list):
        raise FormError(f"{what} is no array but {type(value).__name__}")
    items = cast("list[object]", value)
    for item in items:
        if not isinstance(item, dict):
            raise FormError(f"{what} holds {type(item).__name__} where it should hold objects")
    return cast("list[Row]", items)


def day_of(text: pl.Series) -> pl.Series:
    """The dates that ISO texts begin with, as in 2012-05-18T00:00:00.000Z.

    Raises:
        FormError: a text does not begin with a date.
    """
    try:
        return text.str.slice(0, 10).str.to_date("%Y-%m-%d")
    except pl.exceptions.PolarsError:
        raise FormError("a date is not written as YYYY-MM-DD") from None


def local_days(timezone: str) -> Callable[[pl.Series], pl.Series]:
    """A reader of moments, in ms since 1970 or ISO with a zone, as dates in `timezone`."""

    def read(moments: pl.Series) -> pl.Series:
        try:
            if moments.dtype == pl.String:
                utc = moments.str.to_datetime("%+", time_unit="ms", time_zone="UTC")
            else:
                utc = moments.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
            return utc.dt.convert_time_zone(timezone).dt.date()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # it panics beyond the year 262142
            raise FormError("a time is neither in ms nor as 2012-05-18T04:00:00Z") from None

    return read


def bars_frame(
    rows: Sequence[Row],
    names: Mapping[str, str],
    *,
    symbols: str | Mapping[str, str],
    start: date,
    end: date,
    days: Callable[[pl.Series], pl.Series] = day_of,
) -> Bars:
    """Rows as bars in the schema, sorted by (symbol, date), within `start` to `end`.

    Args:
        rows: the vendor's rows.
        names: the vendor's name of each column that it has; `date` and `close` it must have.
        symbols: the symbol of all rows, or ours by the vendor's; rows of other symbols are left out.
        start: the first date.
        end: the last date.
        days: reads the vendor's dates.

    Raises:
        FormError: a column is missing in all rows, or no row can be read.
    """
    for theirs in names.values() if rows else ():
        if not any(theirs in row for row in rows):
            raise FormError(f"no row has {theirs!r}")
    owners = [symbols] * len(rows) if isinstance(symbols, str) else [_ours(row, names, symbols) for row in rows]
    mine = [(owner, row) for owner, row in zip(owners, rows, strict=True) if owner is not None]
    if not mine:
        return joined(())
    try:
        read = Bars(_read(mine, names, days), pl.DataFrame(schema=_REJECTED), pl.DataFrame(schema=_CELLS))
    except FormError:
        judged = [_judged(owner, row, names, days) for owner, row in mine]
        others = (row for owner, row in zip(owners, rows, strict=True) if owner is None)
        if all(_is_rejected(odd) for _, odd in judged) and all(
            _is_rejected(_judged("", row, names, days)[1]) for row in others
        ):
            raise
        read = _parted(judged)
    inside = pl.col("date").is_between(start, end)
    return Bars(
        read.frame.filter(inside).unique(maintain_order=True).sort(ORDER, maintain_order=True),
        read.rejected.filter(inside | pl.col("date").is_null()),
        read.cells.filter(inside),
    )


def joined(parts: Iterable[Bars]) -> Bars:
    """Bars of several answers as one, sorted by (symbol, date)."""
    found = list(parts)
    return Bars(
        pl.concat([empty_frame(), *(bars.frame for bars in found)]).sort(ORDER, maintain_order=True),
        pl.concat([pl.DataFrame(schema=_REJECTED), *(bars.rejected for bars in found)]),
        pl.concat([pl.DataFrame(schema=_CELLS), *(bars.cells for bars in found)]),
    )


def cells_told(cells: pl.DataFrame, clean: Callable[[str], str]) -> str:
    """What to tell of cells that cannot be read: the first ones, and how many more there are.

    Args:
        cells: as `Bars` has them, at least one.
        clean: takes the secrets out of a text.
    """
    some = ", ".join(
        f"{column} of {symbol} on {day} ({clean(text)[:_SHOWN]})"
        for symbol, day, column, text in cells.head(_NAMED).iter_rows()
    )
    more = f" and {cells.height - _NAMED:,} more" if cells.height > _NAMED else ""
    return f"Values that cannot be read beside a close are null: {some}{more}"


class Pages:
    """The pages of one answer. Asking for the same one again would never end, nor would pages that bring nothing."""

    def __init__(self) -> None:
        self._seen = set[str]()
        self._barren = 0

    def turn(self, following: object, *, brought: bool) -> str:
        """Where the next page is, by its token or address; the one before it `brought` some row, or not.

        Raises:
            FormError: it was there before, the pages are too many, too many bring nothing, or it is no address.
        """
        address = str(following)
        if not (address.isascii() and address.isprintable()):
            raise FormError(f"the next page is at {address[:80]!a}")
        if address in self._seen or len(self._seen) >= _MOST_PAGES:
            raise FormError(f"the pages do not end: {address[:80]!r} comes after {len(self._seen)} others")
        self._barren = 0 if brought else self._barren + 1
        if self._barren >= _MOST_BARREN:
            raise FormError(f"the pages do not end: {self._barren} in a row bring nothing, and tell of a next one")
        self._seen.add(address)
        return address


def empty_actions() -> pl.DataFrame:
    """Zero actions: the vendor was asked, and named none."""
    return pl.DataFrame(schema=ACTIONS)


def actions_frame(events: Iterable[Event], start: date, end: date) -> Events:
    """Events as actions, as `counted` has them, within `start` to `end`.

    Args:
        events: as the vendor tells them. One with neither a split nor a dividend cannot be read.
        start: the first date.
        end: the last date.

    Raises:
        FormError: there are several, and none can be read.
    """
    found: list[tuple[str, date, float, float, Mark]] = []
    odd: list[str] = []
    readable, unreadable = 0, list[FormError]()
    for told in events:
        symbol, day, split, dividend, mark = told if len(told) == _MARKED else (*told, Mark())
        try:
            on = event_day(day)
            event = _event(split, dividend) if start <= on <= end else (1.0, 0.0)
        except FormError as error:
            unreadable.append(error)
            odd += [f"{symbol} on {day!s:.20} ({error})"] if symbol is not None else []
            continue
        readable += 1
        if symbol is not None and event != (1.0, 0.0):
            found.append((symbol, on, *event, mark))
    if len(unreadable) > 1 and not readable:  # of a single one nothing tells whether all are like it
        raise unreadable[0]
    read = counted(found)
    return Events(read.frame, (*_noted("Splits or dividends that cannot be read are left out", odd), *read.notes))


def counted(events: Iterable[tuple[str, date, float, float, Mark]]) -> Events:
    """Events as actions, sorted by (symbol, date), of which each counts as often as it happened.

    Dividends of one symbol, day and amount that are of different kinds are so many payments: they add up in one row,
    since equal rows count once. Those of one kind, or of a kind that is not told, are one that is entered several
    times; so are equal splits of any kind. If their ids differ, `notes` tell.

    Args:
        events: symbol, ex-date, new shares for each old one, cash for each share, and what tells them apart.
    """
    alike: dict[tuple[str, date, float], list[list[tuple[float, Mark]]]] = {}
    for symbol, day, split, cash, mark in events:
        groups = alike.setdefault((symbol, day, split), [])
        group = next((group for group in groups if abs(group[0][0] - cash) <= _SAME * abs(cash)), None)
        if group is None:
            groups.append(group := [])
        group.append((cash, mark))
    found: list[tuple[str, date, float, float]] = []
    twice: list[str] = []
    for (symbol, day, split), groups in alike.items():
        for group in groups:
            paid = {mark.kind: cash for cash, mark in reversed(group)}
            known = [cash for kind, cash in paid.items() if kind] if split == 1 else []
            found.append((symbol, day, split, sum(known) if len(known) > 1 else group[0][0]))
            entries, payments = len({mark.id for _, mark in group}), max(1, len(known))
            if entries > payments:
                what = f"a split of {split:g}" if split != 1 else f"a dividend of {group[0][0]:g}"
                twice.append(f"{symbol} on {day} ({what}: {entries} entries, {payments} counted)")
    frame = pl.DataFrame(found, schema=ACTIONS, orient="row").sort(ORDER, maintain_order=True)
    return Events(frame, _noted("Splits or dividends that are entered several times count once", twice))


def _noted(what: str, events: Sequence[str]) -> tuple[str, ...]:
    more = f" and {len(events) - _NAMED} more" if len(events) > _NAMED else ""
    return (f"{what}: {', '.join(events[:_NAMED])}{more}",) if events else ()


def event_day(value: object) -> date:
    """The date that an ISO text begins with.

    Raises:
        FormError: it is none.
    """
    text = value[:10] if isinstance(value, str) else ""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise FormError("no date") from None
    if day.isoformat() != text:  # 20130102 and 2013-W01-3 are dates too, and not as this vendor writes them
        raise FormError("no date")
    return day


def amount_of(value: object, what: str) -> float:
    """A finite number; `what` it is, for the error.

    Raises:
        FormError: it is none.
    """
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise FormError(f"{what} is {f'{value!r}'[:40]}")
    return number


def _ours(row: Row, names: Mapping[str, str], symbols: Mapping[str, str]) -> str | None:
    theirs = row.get(names["symbol"])
    return symbols.get(theirs) if isinstance(theirs, str) else None


def _read(
    mine: Sequence[tuple[str, Row]], names: Mapping[str, str], days: Callable[[pl.Series], pl.Series]
) -> pl.DataFrame:
    """All rows at once."""
    rows = [row for _, row in mine]
    columns = {
        ours: _numbers([row.get(theirs) for row in rows], theirs) for ours, theirs in names.items() if ours in _NUMBERS
    }
    columns["date"] = days(_plain([row.get(names["date"]) for row in rows], names["date"]))
    if columns["date"].null_count():
        raise FormError(f"a row has no {names['date']!r}")
    columns["symbol"] = pl.Series([owner for owner, _ in mine], dtype=pl.String)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in columns]
    return pl.DataFrame(columns).with_columns(missing).select(SCHEMA.names())


def _judged(
    owner: str, row: Row, names: Mapping[str, str], days: Callable[[pl.Series], pl.Series]
) -> tuple[dict[str, object], dict[str, object]]:
    """One row as far as it can be read, and the values of it that cannot, by our columns."""
    bar: dict[str, object] = {**dict.fromkeys(SCHEMA), "symbol": owner}
    odd: dict[str, object] = {}
    for ours, theirs in names.items():
        if ours == "symbol":
            continue
        value = [row.get(theirs)]
        try:
            bar[ours] = (_numbers(value, theirs) if ours in _NUMBERS else days(_plain(value, theirs))).item()
            is_read = ours != "date" or bar[ours] is not None
        except ValueError:  # a FormError is one, and so is a day in the year 10000
            is_read = False
        if not is_read:
            odd[ours] = value[0]
    return bar, odd


def _is_rejected(odd: Mapping[str, object]) -> bool:
    return not _NEEDED.isdisjoint(odd)


def _parted(judged: Sequence[tuple[dict[str, object], dict[str, object]]]) -> Bars:
    """Rows that `_judged` has read, those without a date or a close apart."""
    bars = [(bar, odd) for bar, odd in judged if not _is_rejected(odd)]
    rejected = [{**bar, "reasons": [f"unreadable_{name}" for name in odd]} for bar, odd in judged if _is_rejected(odd)]
    cells = [
        {"symbol": bar["symbol"], "date": bar["date"], "column": name, "text": f"{value!r}"[:_KEPT]}
        for bar, odd in bars
        for name, value in odd.items()
    ]
    return Bars(
        pl.DataFrame([bar for bar, _ in bars], schema=SCHEMA),
        pl.DataFrame(rejected, schema=_REJECTED),
        pl.DataFrame(cells, schema=_CELLS),
    )


def _numbers(values: list[object], name: str) -> pl.Series:
    try:
        # A column of numbers would take true for 1.
        column = [str(value) for value in values] if bool in map(type, values) else values
        series = pl.Series(name, column, dtype=pl.Float64, strict=True)
    except (TypeError, OverflowError, UnicodeError, pl.exceptions.PolarsError):
        raise FormError(f"{name!r} is not always a number") from None
    return series.fill_nan(None)


def _plain(values: list[object], name: str) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1 or not kinds <= {str, int}:
        raise FormError(f"{name!r} is not always a date")
    return _series(name, values, pl.Int64() if kinds == {int} else pl.String())


def _series(name: str, values: Sequence[object], dtype: pl.DataType) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=dtype)
    except (UnicodeError, OverflowError, TypeError, pl.exceptions.PolarsError):  # half a character, too large a number
        raise FormError(f"{name!r} holds what no column can") from None


def _event(split: object, dividend: object) -> tuple[float, float]:
    if split is None and dividend is None:
        raise FormError("neither a split nor a dividend")
    return ratio_of(split), 0.0 if dividend is None else amount_of(dividend, "a dividend")


def ratio_of(split: object) -> float:
    """New shares for each old one, from a number or from both; 1 where there is no split.

    Raises:
        FormError: it is none.
    """
    if split is None:
        return 1.0
    if not isinstance(split, tuple):
        return amount_of(split, "a split")
    new, old = cast("tuple[object, object]", split)
    shares = amount_of(new, "the new shares of a split"), amount_of(old, "the old shares of a split")
    try:
        return amount_of(shares[0] / shares[1], "the ratio of a split")
    except ArithmeticError:
        raise FormError(f"a split from {old!r} to {new!r}") from None
