"""From a vendor's rows to frames in the schema. Nothing is judged here: bad rows go to the quality rules as they came.

A null stays a null and a NaN becomes one, a volume too: it is not 0. Rows that are equal in all columns become one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import Final, cast

import polars as pl

from historical_etl.schema import ORDER, SCHEMA, empty_frame
from historical_etl.sources.base import ACTIONS

__all__ = [
    "FormError",
    "Row",
    "actions_frame",
    "bars_frame",
    "day_of",
    "divided",
    "empty_actions",
    "local_days",
    "rows_of",
    "turn_page",
]

Row = Mapping[str, object]
#: Of 50 tickers or more each.
_MOST_PAGES: Final = 100_000
_NUMBERS: Final = ("open", "high", "low", "close", "volume", "adj_close")


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
) -> pl.DataFrame:
    """Rows as bars in the schema, sorted by (symbol, date), within `start` to `end`.

    Args:
        rows: the vendor's rows.
        names: the vendor's name of each column that it has; `date` and `close` it must have.
        symbols: the symbol of all rows, or ours by the vendor's; rows of other symbols are left out.
        start: the first date.
        end: the last date.
        days: reads the vendor's dates.

    Raises:
        FormError: a column is missing in all rows, or a value has another type.
    """
    if not rows:
        return empty_frame()
    for theirs in names.values():
        if not any(theirs in row for row in rows):
            raise FormError(f"no row has {theirs!r}")
    columns = {
        ours: _numbers([row.get(theirs) for row in rows], theirs) for ours, theirs in names.items() if ours in _NUMBERS
    }
    columns["date"] = days(_plain([row.get(names["date"]) for row in rows], names["date"]))
    if columns["date"].null_count():
        raise FormError(f"a row has no {names['date']!r}")
    if isinstance(symbols, str):
        columns["symbol"] = pl.repeat(symbols, len(rows), dtype=pl.String, eager=True)
    else:
        theirs = names["symbol"]
        columns["symbol"] = pl.Series([symbols.get(str(row.get(theirs))) for row in rows], dtype=pl.String)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in columns]
    frame = pl.DataFrame(columns).with_columns(missing).select(SCHEMA.names())
    return (
        frame.filter(pl.col("symbol").is_not_null(), pl.col("date").is_between(start, end))
        .unique(maintain_order=True)
        .sort(ORDER, maintain_order=True)
    )


def divided(new: float, old: float) -> float:
    """New shares for each old one, from the two numbers of a split.

    Raises:
        FormError: no number can hold it.
    """
    try:
        return new / old
    except ArithmeticError:
        raise FormError("a split is of numbers that cannot be divided") from None


def turn_page(following: object, seen: Collection[str]) -> str:
    """Where the next page is; asking for the same one again would never end.

    Raises:
        FormError: it was there before, there are more pages than any answer has, or it is no token or address.
    """
    address = str(following)
    if not (address.isascii() and address.isprintable()):
        raise FormError(f"the next page is at {address[:80]!a}")
    if address in seen or len(seen) >= _MOST_PAGES:
        raise FormError(f"the pages do not end: {address[:80]!r} comes after {len(seen)} others")
    return address


def empty_actions() -> pl.DataFrame:
    """Zero actions: the vendor was asked, and named none."""
    return pl.DataFrame(schema=ACTIONS)


def actions_frame(events: Sequence[tuple[str | None, object, object, object]], start: date, end: date) -> pl.DataFrame:
    """Events as actions, a row for each as they came, sorted by (symbol, date), within `start` to `end`.

    Args:
        events: symbol, ex-date in ISO, new shares for each old one (None: no split), cash (None: no dividend).
        start: the first date.
        end: the last date.

    Raises:
        FormError: a value has another type.
    """
    if not events:
        return empty_actions()
    symbols, days, splits, dividends = zip(*events, strict=True)
    frame = pl.DataFrame(
        {
            "symbol": _series("symbol", symbols, pl.String()),
            "date": day_of(_plain(list(days), "date")),
            "split": _numbers(list(splits), "split").fill_null(1.0),
            "dividend": _numbers(list(dividends), "dividend").fill_null(0.0),
        },
        schema=ACTIONS,
    )
    return frame.filter(
        pl.col("symbol").is_not_null(),
        pl.col("date").is_between(start, end),
        (pl.col("split") != 1) | (pl.col("dividend") != 0),
    ).sort(ORDER, maintain_order=True)


def _numbers(values: list[object], name: str) -> pl.Series:
    try:
        series = pl.Series(name, values, dtype=pl.Float64, strict=True)
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
