"""From a vendor's rows to frames in the schema. Values are not judged here: they go to the quality rules as fetched.

A null stays a null and a NaN becomes one, a volume too: it is not 0. Rows that are equal in all columns become one.
Rows of symbols that nobody asked for are left out first. Of the others, one whose date or close cannot be read is
refused, and the rest is taken; where none can be read, the vendor's form has changed. Another cell that cannot be
read is null, with a note.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, cast

import polars as pl

from historical_etl.schema import ORDER, SCHEMA, empty_frame

__all__ = [
    "Bars",
    "FormError",
    "Pages",
    "VendorRow",
    "bars_frame",
    "cells_message",
    "days_of_text",
    "joined",
    "local_days",
    "rows_of",
]

VendorRow = Mapping[str, object]


#: Of 50 tickers or more each.
_MOST_PAGES: Final = 100_000
#: In a row without any row.
_MOST_BARREN: Final = 5
#: Bytes of all pages: for each bar that was asked for, thrice those of a real one; at least; for events of a market.
_OF_A_BAR, _AT_LEAST, _OF_EVENTS = 400, 1 << 26, 1 << 29
#: Characters of where a page is.
_LONGEST: Final = 1 << 13
_NUMBERS: Final = ("open", "high", "low", "close", "volume", "adj_close")
#: What a bar is judged by: a row without one of them, as fetched, is no bar.
_NEEDED: Final = frozenset({"date", "close"})
_REJECTED: Final = pl.Schema({**SCHEMA, "reasons": pl.List(pl.String())})
_CELLS: Final = pl.Schema({"symbol": pl.String(), "date": pl.Date(), "column": pl.String(), "text": pl.String()})
#: So much of a cell is kept.
_MOST_TEXT: Final = 1000
#: So many cells that cannot be read are named; the others are counted.
_NAMED: Final = 5
_SHOWN: Final = 40


@dataclass(frozen=True)
class Bars:
    """Bars in the schema, and what of the rows cannot be read.

    Attributes:
        frame: the bars.
        rejected: rows without a date or a close that can be read, as far as they go, with `reasons`.
        cells: the other cells that cannot be read: `symbol`, `date`, `column`, and the `text` as fetched.
    """

    frame: pl.DataFrame
    rejected: pl.DataFrame
    cells: pl.DataFrame


class FormError(ValueError):
    """Rows have another form than they should; says where."""


def rows_of(value: object, what: str) -> list[VendorRow]:
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
    return cast("list[VendorRow]", items)


def days_of_text(text: pl.Series) -> pl.Series:
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
    rows: Sequence[VendorRow],
    names: Mapping[str, str],
    *,
    symbols: str | Mapping[str, str],
    start: date,
    end: date,
    days: Callable[[pl.Series], pl.Series] = days_of_text,
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


def cells_message(cells: pl.DataFrame, clean: Callable[[str], str]) -> str:
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
    """The pages of one answer. Asking for the same one again would never end, nor would pages that bring nothing.

    Args:
        bars: as many as it can have, where that is known.
    """

    def __init__(self, bars: int | None = None) -> None:
        self._left = _OF_EVENTS if bars is None else _AT_LEAST + bars * _OF_A_BAR
        self._seen = set[str]()
        self._barren = 0

    def turn(self, following: object, *, brought: bool, size: int) -> str:
        """Where the next page is, by its token or address; the one before it `brought` some row, or not.

        Raises:
            FormError: it was there before, the pages are too many or too large, too many bring nothing, or it is no
                address.
        """
        address = str(following)
        if not (address.isascii() and address.isprintable() and len(address) <= _LONGEST):
            raise FormError(f"the next page is at {address[:80]!a}")
        self._left -= size
        if self._left < 0:
            raise FormError(f"the pages do not end: {len(self._seen) + 1} hold more than all that was asked for")
        if address in self._seen or len(self._seen) >= _MOST_PAGES:
            raise FormError(f"the pages do not end: {address[:80]!r} comes after {len(self._seen)} others")
        self._barren = 0 if brought else self._barren + 1
        if self._barren >= _MOST_BARREN:
            raise FormError(f"the pages do not end: {self._barren} in a row bring nothing, and tell of a next one")
        self._seen.add(address)
        return address


def _ours(row: VendorRow, names: Mapping[str, str], symbols: Mapping[str, str]) -> str | None:
    theirs = row.get(names["symbol"])
    return symbols.get(theirs) if isinstance(theirs, str) else None


def _read(
    mine: Sequence[tuple[str, VendorRow]], names: Mapping[str, str], days: Callable[[pl.Series], pl.Series]
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
    owner: str, row: VendorRow, names: Mapping[str, str], days: Callable[[pl.Series], pl.Series]
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
        {"symbol": bar["symbol"], "date": bar["date"], "column": name, "text": f"{value!r}"[:_MOST_TEXT]}
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
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
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
    except (ValueError, OverflowError, TypeError, pl.exceptions.PolarsError):  # half a character, too large a number
        raise FormError(f"{name!r} holds what no column can") from None
