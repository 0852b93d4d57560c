"""Row rules: each says which rows of a fetched frame cannot be true.

A frame is first conformed to the schema; then bad rows are split from good ones, each with the names of the rules it
broke. A bar is judged by its close: what is wrong beside it is the subject of `cells`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Final

import polars as pl

from historical_etl.errors import SchemaDriftError
from historical_etl.quality.cells import ABSURD, FLAGGED, clean_cells, wrong_closes
from historical_etl.schema import PRIMARY_KEYS, SCHEMA, empty_frame, symbols_in
from historical_etl.symbols import is_symbol

__all__ = ["EXCUSED", "PRICE_COLUMNS", "UNWRITABLE", "Split", "all_valid", "bar_rules", "conform", "split_rows"]

PRICE_COLUMNS: Final = ("open", "high", "low", "close", "adj_close")
#: Columns in which NaN says what null says: that there is no value.
OPTIONAL: Final = ("open", "high", "low", "volume", "adj_close")
REQUIRED_COLUMNS: Final = ("date", "symbol", "close")
UNWRITABLE: Final = "unwritable_symbol"
#: Rows that were not asked for, are of no session, or say that there is no price: they are refused, and say nothing
#: of whether the others can be trusted.
EXCUSED: Final = frozenset({"not_requested", "outside_window", "off_session", "no_close", UNWRITABLE})
_WITH_REASONS: Final = {**SCHEMA, "reasons": pl.List(pl.String)}
#: Names that stand for columns of ours, once written in small letters without signs.
_ALIKE: Final = {
    **{name.replace("_", ""): name for name in SCHEMA},
    "adjustedclose": "adj_close",
    "adjclosing": "adj_close",
    "vol": "volume",
}


@dataclass(frozen=True)
class Split:
    """Rows by the verdict on them.

    Attributes:
        good: rows as they may be stored.
        original: the same rows as fetched.
        bad: rows that may not, with a `reasons` column (list of rule names).
        flagged: good rows as fetched, of which something beside the close is wrong (columns `FLAGGED`).
    """

    good: pl.DataFrame
    original: pl.DataFrame
    bad: pl.DataFrame
    flagged: pl.DataFrame


def conform(frame: object, where: str) -> pl.DataFrame:
    """A fetched frame in the schema's columns, order and dtypes; absent optional columns become null.

    Integers become floats, NaN in an optional column becomes null, a volume of -0.0 zero, a Datetime at midnight its
    own date; further columns are dropped, `ret` is discarded (it is computed), symbols are stripped and upper-cased.

    Raises:
        SchemaDriftError: not a Polars frame, a required column is absent, an optional one goes by another name, or a
            dtype cannot be converted.
    """
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, pl.DataFrame):
        raise SchemaDriftError(
            f"A source must return a polars.DataFrame, not {type(frame).__name__}",
            where=where,
            todo="correct the source: its bars as a frame with the columns of SCHEMA",
        )
    if not frame.columns and not frame.height:
        return empty_frame()
    absent = [name for name in REQUIRED_COLUMNS if name not in frame.columns]
    if absent:
        raise SchemaDriftError(
            f"Column(s) {', '.join(absent)} are missing; got {', '.join(frame.columns) or 'none'}",
            where=where,
            todo="map the source's columns to the schema's names",
        )
    if misspelt := _misspelt(frame.columns):
        raise SchemaDriftError(
            f"Column(s) {', '.join(f'{theirs!r} (is it {ours}?)' for theirs, ours in misspelt.items())} are not known",
            where=where,
            todo="rename them in the source to the schema's names, or leave them out",
        )
    columns = [_column(frame, name, dtype, where) for name, dtype in SCHEMA.items()]
    # Polars takes `x + 0.0` for x.
    volume = pl.when(pl.col("volume") == 0).then(0.0).otherwise(pl.col("volume").fill_nan(None)).alias("volume")
    prices = pl.col(name for name in OPTIONAL if name != "volume").fill_nan(None)
    return _with_clean_symbols(pl.DataFrame(columns).with_columns(prices, volume))


def _misspelt(columns: Sequence[str]) -> dict[str, str]:
    """Columns that look like one of ours which is absent, and which."""
    alike = {name: _ALIKE.get(re.sub(r"[^a-z]", "", name.lower()), "") for name in columns if name not in SCHEMA}
    return {theirs: ours for theirs, ours in alike.items() if ours and ours not in {"ret", *columns}}


def _column(frame: pl.DataFrame, name: str, dtype: pl.DataType, where: str) -> pl.Series:
    if name == "ret" or name not in frame.columns:
        return pl.Series(name, [None], dtype=dtype).new_from_index(0, frame.height)
    series = frame.get_column(name)
    given = series.dtype
    if given == dtype:
        return series
    if dtype == pl.Date and isinstance(given, pl.Datetime) and _is_midnight(series):
        return series.dt.replace_time_zone(None).dt.date()
    if dtype == pl.Float64 and (given.is_numeric() or given == pl.Null):
        return series.cast(pl.Float64)
    if dtype == pl.String and isinstance(given, pl.Categorical | pl.Enum):
        return series.cast(pl.String)
    if given == pl.Null and not frame.height:
        return series.cast(dtype)
    raise SchemaDriftError(
        f"Column {name} has dtype {given}, expected {dtype}",
        where=where,
        todo="convert it in the source; a time of day or a zone other than midnight is never dropped silently",
    )


def _is_midnight(series: pl.Series) -> bool:
    local = series.dt.replace_time_zone(None)
    return bool((local == local.dt.truncate("1d")).fill_null(value=True).all())


def _with_clean_symbols(frame: pl.DataFrame) -> pl.DataFrame:
    # Distinct symbols are few: find out there whether the long column needs any work at all.
    if all(symbol == symbol.strip().upper() for symbol in symbols_in(frame) if symbol):
        return frame
    text = pl.col("symbol").str.strip_chars()
    # Elsewhere some small letters have capitals that are ours, as ß has SS: these rows would be another symbol's.
    ascii_only = text.str.len_bytes() == text.str.len_chars()
    return frame.with_columns(pl.when(ascii_only).then(text.str.to_uppercase()).otherwise(text).alias("symbol"))


def bar_rules() -> dict[str, pl.Expr]:
    """What holds for a bar that is stored: name of the rule → expression that is true on a row that breaks it."""
    numbers = [pl.col(name) for name in (*PRICE_COLUMNS, "volume")]
    return {
        "null_key": pl.any_horizontal(pl.col(name).is_null() for name in PRIMARY_KEYS),
        "no_close": pl.col("close").is_null() | pl.col("close").is_nan(),
        "not_finite": pl.any_horizontal(~number.is_finite() for number in numbers),
        "not_positive": pl.any_horizontal(pl.col(name) <= 0 for name in PRICE_COLUMNS),
        "negative_volume": pl.col("volume") < 0,
    }


def all_valid(frame: pl.DataFrame) -> bool:
    """Whether surely all rows have a close and a volume, and nothing in them is wrong, found by cheap aggregates.

    False is no verdict: ask the rules.
    """
    if any(frame.get_column(name).null_count() for name in (*REQUIRED_COLUMNS, "volume")):
        return False
    if {frame.get_column(name).null_count() for name in ("open", "high", "low")} not in ({0}, {frame.height}):
        return False  # one is held against the close by way of the others
    return bool(frame.select(_validity()).item())


@cache
def _validity() -> pl.Expr:
    prices = [pl.col(name) for name in PRICE_COLUMNS]
    start, high, low, close = (pl.col(name) for name in ("open", "high", "low", "close"))
    valid = [
        *(number.sum().is_finite() for number in [*prices, pl.col("volume")]),  # NaN and infinity stay in a sum
        *(price.min() > 0 for price in prices),
        pl.col("volume").min() >= 0,
        *((price <= high).all() for price in (start, close)),
        *((price >= low).all() for price in (start, close)),
        (high < low * ABSURD).all(),
    ]
    return pl.all_horizontal(test.fill_null(value=True) for test in valid)


def split_rows(frame: pl.DataFrame, *, symbols: Sequence[str], start: date, end: date, sessions: pl.Series) -> Split:
    """Separate the rows of a conformed frame by all rules.

    Args:
        frame: rows in the schema.
        symbols: what was asked for.
        start: the first date that was asked for.
        end: the last date that was asked for.
        sessions: the exchange's sessions from `start` to `end`.
    """
    fetched = {symbol for symbol in symbols_in(frame) if symbol is not None}
    unasked, unwritable = fetched.difference(symbols), {symbol for symbol in fetched if not is_symbol(symbol)}
    days = frame.get_column("date").unique().to_list()
    expected = {day for day in sessions.to_list() if start <= day <= end}
    if not unasked and not unwritable and expected.issuperset(days) and all_valid(frame):
        nothing = pl.DataFrame(schema=_WITH_REASONS)
        return Split(frame, frame, nothing, nothing[list(FLAGGED)])
    day, close = pl.col("date"), pl.col("close")
    rules = {
        "null_key": pl.any_horizontal(pl.col(name).is_null() for name in PRIMARY_KEYS),
        "no_close": close.is_null() | close.is_nan() | (close == 0),
        "not_finite": close.is_infinite(),
        "not_positive": close <= 0,
        "not_requested": pl.col("symbol").is_in(list(unasked)),
        UNWRITABLE: pl.col("symbol").is_in(list(unwritable)),
        "outside_window": ~day.is_between(start, end),
        "off_session": day.is_between(start, end) & ~day.is_in(sessions.implode()),
    }
    broken = pl.any_horizontal(rule.fill_null(value=False) for rule in rules.values())
    verdict = frame.select(broken.alias("bad")).get_column("bad")
    good, bad = frame.filter(~verdict), _with_reasons(frame.filter(verdict), rules)
    wrong = wrong_closes(good)
    if wrong.any():
        contradicted = good.filter(wrong).with_columns(pl.lit(["wrong_close"]).alias("reasons"))
        good, bad = good.filter(~wrong), pl.concat([bad, contradicted])
    cells = clean_cells(good)
    return Split(cells.rows, good, bad, cells.flagged)


def _with_reasons(frame: pl.DataFrame, rules: dict[str, pl.Expr]) -> pl.DataFrame:
    names = [pl.when(rule).then(pl.lit(name)) for name, rule in rules.items()]
    return frame.with_columns(pl.concat_list(names).list.drop_nulls().alias("reasons"))
