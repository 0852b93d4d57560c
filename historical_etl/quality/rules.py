"""Row rules: each says which rows of a fetched frame cannot be true. They separate, they never repair.

A frame is first conformed to the schema; then bad rows are split from good ones, each with the names of the
rules it broke. What a source delivers beyond the request counts as refused too, but not against the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from historical_etl.errors import SchemaDriftError
from historical_etl.schema import PRIMARY_KEYS, SCHEMA, empty_frame, symbols_in

__all__ = ["PRICE_COLUMNS", "TOLERANCE", "Split", "all_sound", "conform", "price_rules", "split_rows"]

PRICE_COLUMNS: Final = ("open", "high", "low", "close", "adj_close")
#: Columns in which NaN says what null says: that there is no value.
OPTIONAL: Final = ("open", "high", "low", "volume", "adj_close")
REQUIRED_COLUMNS: Final = ("date", "symbol", "close", "volume")
#: Relative slack for comparing prices of one bar: adjusted vendors round each of them on its own.
TOLERANCE: Final = 1e-6
#: Rules about the request, not about the data: rows that break them do not count against a symbol's batch.
SURPLUS_RULES: Final = frozenset({"not_requested", "outside_window"})


@dataclass(frozen=True)
class Split:
    """Rows that passed, and rows that did not with a `reasons` column (list of rule names)."""

    good: pl.DataFrame
    bad: pl.DataFrame


def conform(frame: object, where: str) -> pl.DataFrame:
    """A fetched frame in the schema's columns, order and dtypes; absent optional columns become null.

    Integers become floats, NaN in an optional column becomes null, a Datetime at midnight its own date; further columns
    are dropped, `ret` is discarded (it is computed), symbols are stripped and upper-cased.

    Raises:
        SchemaDriftError: not a Polars frame, a required column is absent, or a dtype cannot be converted.
    """
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, pl.DataFrame):
        raise SchemaDriftError(f"A source must return a polars.DataFrame, not {type(frame).__name__}", where=where)
    if not frame.columns and not frame.height:
        return empty_frame()
    absent = [name for name in REQUIRED_COLUMNS if name not in frame.columns]
    if absent:
        raise SchemaDriftError(
            f"Column(s) {', '.join(absent)} are missing; got {', '.join(frame.columns) or 'none'}",
            where=where,
            todo="map the source's columns to the schema's names",
        )
    columns = [_column(frame, name, dtype, where) for name, dtype in SCHEMA.items()]
    return _with_clean_symbols(pl.DataFrame(columns))


def _column(frame: pl.DataFrame, name: str, dtype: pl.DataType, where: str) -> pl.Series:
    if name == "ret" or name not in frame.columns:
        return pl.Series(name, [None], dtype=dtype).new_from_index(0, frame.height)
    series = frame.get_column(name)
    given = series.dtype
    if given == dtype:
        return series.fill_nan(None) if name in OPTIONAL else series
    if dtype == pl.Date and isinstance(given, pl.Datetime) and _is_midnight(series):
        return series.dt.replace_time_zone(None).dt.date()
    if dtype == pl.Float64 and (given.is_numeric() or given == pl.Null):
        return series.cast(pl.Float64).fill_nan(None) if name in OPTIONAL else series.cast(pl.Float64)
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
    distinct = symbols_in(frame)
    if (distinct == distinct.str.strip_chars().str.to_uppercase()).fill_null(value=True).all():
        return frame
    text = pl.col("symbol").str.strip_chars()
    # Elsewhere some small letters have capitals that are ours, as ß has SS: these rows would be another symbol's.
    ascii_only = text.str.len_bytes() == text.str.len_chars()
    return frame.with_columns(pl.when(ascii_only).then(text.str.to_uppercase()).otherwise(text).alias("symbol"))


def price_rules() -> dict[str, pl.Expr]:
    """The rules that a bar must pass on its own: name → expression that is true on a bad row."""
    prices = [pl.col(name) for name in PRICE_COLUMNS]
    above = pl.col("high") * (1 + TOLERANCE)
    below = pl.col("low") * (1 - TOLERANCE)
    body = [pl.col("open"), pl.col("close")]
    return {
        "null_key": pl.any_horizontal(pl.col(name).is_null() for name in PRIMARY_KEYS),
        "no_close": pl.col("close").is_null() | pl.col("close").is_nan(),
        "not_finite": pl.any_horizontal(~price.is_finite() for price in [*prices, pl.col("volume")]),
        "not_positive": pl.any_horizontal(price <= 0 for price in prices),
        "high_low": pl.any_horizontal(below > above, *(p > above for p in body), *(p < below for p in body)),
        "no_volume": pl.col("volume").is_null() | pl.col("volume").is_nan(),
        "negative_volume": pl.col("volume") < 0,
    }


def all_sound(frame: pl.DataFrame) -> bool:
    """Whether surely no row breaks `price_rules`, told by cheap aggregates. False is no verdict: ask the rules."""
    if any(frame.get_column(name).null_count() for name in REQUIRED_COLUMNS):
        return False
    prices = [pl.col(name) for name in PRICE_COLUMNS]
    high, low, body = pl.col("high"), pl.col("low"), (pl.col("open"), pl.col("close"))
    sound = [
        *(number.sum().is_finite() for number in [*prices, pl.col("volume")]),  # NaN and infinity stay in a sum
        *(price.min() > 0 for price in prices),
        pl.col("volume").min() >= 0,
        *((price <= high).all() for price in (*body, low)),
        *((price >= low).all() for price in body),
    ]
    return bool(frame.select(pl.all_horizontal(test.fill_null(value=True) for test in sound)).item())


def split_rows(frame: pl.DataFrame, *, symbols: Sequence[str], start: date, end: date, sessions: pl.Series) -> Split:
    """Separate the rows of a conformed frame by all rules.

    Args:
        frame: rows in the schema.
        symbols: what was asked for.
        start: the first date that was asked for.
        end: the last date that was asked for.
        sessions: the exchange's sessions from `start` to `end`.
    """
    day = pl.col("date")
    rules = {
        **price_rules(),
        "not_requested": ~pl.col("symbol").is_in(list(symbols)),
        "outside_window": ~day.is_between(start, end),
        "off_session": day.is_between(start, end) & ~day.is_in(sessions.implode()),
    }
    expected = sessions.filter(sessions.is_between(start, end))
    days = frame.get_column("date").unique()
    if all_sound(frame) and days.is_in(expected.implode()).all() and set(symbols).issuperset(symbols_in(frame)):
        return Split(frame, _with_reasons(frame.clear(), rules))
    broken = pl.any_horizontal(rule.fill_null(value=False) for rule in rules.values())
    verdict = frame.select(broken.alias("bad")).get_column("bad")
    if not verdict.any():
        return Split(frame, _with_reasons(frame.clear(), rules))
    return Split(frame.filter(~verdict), _with_reasons(frame.filter(verdict), rules))


def _with_reasons(frame: pl.DataFrame, rules: dict[str, pl.Expr]) -> pl.DataFrame:
    names = [pl.when(rule).then(pl.lit(name)) for name, rule in rules.items()]
    return frame.with_columns(pl.concat_list(names).list.drop_nulls().alias("reasons"))
