"""The cells beside a close: prices and volumes that cannot be, or that contradict it.

A bar is judged by its close. What is wrong beside a close that is right becomes null or stays as it is, and the bar is
flagged with the fetched values; it is never refused for them. Only where open, high and low agree with one another
and with the sessions around, and the close alone is far off, is it the close that is wrong.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl

from historical_etl.schema import SCHEMA

__all__ = [
    "ABSURD",
    "CELL_TOLERANCE",
    "FLAGGED",
    "NUMBER_CELLS",
    "WORTH_A_LOOK",
    "Cells",
    "clean_cells",
    "outside_range",
    "wrong_closes",
]

#: Relative slack for comparing prices of one bar: adjusted vendors round each of them on its own.
CELL_TOLERANCE: Final = 1e-6
_OTHERS: Final = ("open", "high", "low")
#: Numbers of a bar that may be null; a NaN there is a null.
NUMBER_CELLS: Final = (*_OTHERS, "volume", "adj_close")
#: Columns of a flagged bar, as fetched; `reasons` says why.
FLAGGED: Final = ("date", "symbol", "open", "high", "low", "close", "volume", "adj_close", "reasons")
_FLAGGED: Final = {name: SCHEMA.get(name, pl.List(pl.String)) for name in FLAGGED}
#: So many times off the close: a closing auction does not lead further than the first; what is alone and is off by
#: the second is an error of a digit or more; by the third no trade of one session is, whatever agrees with it.
_FAR, ABSURD, _BEYOND = 2.0, 8.0, 50.0
#: How many rows away a neighbour may be that bears witness against a close.
_NEAR: Final = 10
#: Reasons that a person should look at, in words. The others are part of how markets and vendors write bars.
WORTH_A_LOOK: Final = {
    "zero_price": "an open, high or low of 0",
    "impossible_price": "a negative or infinite open, high or low",
    "absurd_price": "an open, high or low that is absurd beside the close",
    "impossible_adj_close": "an adj_close that is not above 0",
    "impossible_volume": "a negative or infinite volume",
}


@dataclass(frozen=True)
class Cells:
    """Rows as they may be stored, and those of them that are flagged, as fetched (columns `FLAGGED`)."""

    rows: pl.DataFrame
    flagged: pl.DataFrame


def clean_cells(rows: pl.DataFrame) -> Cells:
    """Make null what cannot be beside a close, and flag the bars concerned. Each close must be finite and above 0."""
    cleaned = rows.with_columns(pl.col(NUMBER_CELLS).fill_nan(None))
    odd = cleaned.select(_may_be_wrong() | _lacks_volume(cleaned)).to_series().fill_null(value=False).arg_true()
    if odd.is_empty():
        return Cells(cleaned, pl.DataFrame(schema=_FLAGGED))
    part = cleaned[odd]
    volume = pl.col("volume")
    possible = part.with_columns(
        *(pl.when(_is_price(name)).then(name).alias(name) for name in (*_OTHERS, "adj_close")),
        pl.when(volume.is_finite() & (volume >= 0)).then(volume).alias("volume"),
    )
    plausible = _without_absurd(possible)
    absurd = [possible.get_column(name).is_not_null() & plausible.get_column(name).is_null() for name in _OTHERS]
    reasons = {
        "range": plausible.select(outside_range()),
        "zero_price": part.select(pl.any_horizontal(pl.col(_OTHERS) == 0)),
        "impossible_price": part.select(pl.any_horizontal(_is_impossible(name) for name in _OTHERS)),
        "absurd_price": pl.DataFrame(absurd).select(pl.any_horizontal(pl.all())),
        "impossible_adj_close": part.select(_is_impossible("adj_close") | (pl.col("adj_close") == 0)),
        "impossible_volume": part.select(_is_impossible("volume")),
        "no_volume": part.select(volume.is_null()),
    }
    if not plausible.select(NUMBER_CELLS).equals(part.select(NUMBER_CELLS)):
        cleaned = cleaned.with_columns(
            cleaned.get_column(name).clone().scatter(odd, plausible.get_column(name)) for name in NUMBER_CELLS
        )
    found = pl.DataFrame([verdict.to_series().alias(name).fill_null(value=False) for name, verdict in reasons.items()])
    return Cells(cleaned, _flagged(rows[odd], _named(found)))


def _without_absurd(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with null for absurd prices; once one is left out, another that agreed with it may be alone."""
    for _ in _OTHERS:
        before = rows
        wrong = {name: _is_absurd(name).fill_null(value=False) for name in _OTHERS}
        rows = rows.with_columns(pl.when(~absurd).then(name).alias(name) for name, absurd in wrong.items())
        if rows.equals(before):
            break
    return rows


def _flagged(rows: pl.DataFrame, reasons: pl.Series) -> pl.DataFrame:
    return rows.with_columns(reasons.alias("reasons")).filter(pl.col("reasons").list.len() > 0).select(FLAGGED)


def _named(found: pl.DataFrame) -> pl.Series:
    """The names of the columns that are true, row by row: few combinations occur, so each list is made once."""
    code = found.select(pl.sum_horizontal(pl.col(name).cast(pl.Int32) * 2**n for n, name in enumerate(found.columns)))
    codes = code.to_series().alias("code")
    distinct = codes.unique()
    lists = [[name for n, name in enumerate(found.columns) if value >> n & 1] for value in distinct]
    names = pl.DataFrame({"code": distinct, "names": pl.Series(lists, dtype=pl.List(pl.String))})
    return codes.to_frame().join(names, on="code", how="left", maintain_order="left").get_column("names")


def _lacks_volume(rows: pl.DataFrame) -> pl.Expr:
    """Whether the volume is null among the numbers of its symbol; a symbol may have none at all."""
    if not rows.get_column("volume").null_count():
        return pl.lit(value=False)
    with_numbers = rows.filter(pl.col("volume").is_not_null()).get_column("symbol").unique()
    return pl.col("volume").is_null() & pl.col("symbol").is_in(with_numbers.implode())


def wrong_closes(rows: pl.DataFrame) -> pl.Series:
    """Which closes alone are off, `ABSURD` times or more, from open, high, low and the sessions around."""
    prices, close = [pl.col(name) for name in _OTHERS], pl.col("close")
    lowest, highest = pl.min_horizontal(prices), pl.max_horizontal(prices)
    agree = pl.all_horizontal(_is_price(name) for name in _OTHERS) & (highest <= _FAR * lowest)
    alone = agree & ((close >= ABSURD * highest) | (close * ABSURD <= lowest))
    suspects = rows.select(alone.fill_null(value=False)).to_series()
    if not suspects.any():
        return suspects
    ordered = rows.with_columns(suspects.alias("suspect")).with_row_index("place").sort("symbol", "date")
    trusted = pl.when(~pl.col("suspect")).then(close)
    before, after = (fill.over("symbol") for fill in (trusted.forward_fill(_NEAR), trusted.backward_fill(_NEAR)))
    witness = pl.coalesce(before, after)
    supported = (witness <= _FAR * highest) & (witness * _FAR >= lowest)
    verdict = ordered.select("place", (pl.col("suspect") & supported).fill_null(value=False).alias("wrong"))
    return verdict.sort("place").get_column("wrong")


@cache
def outside_range() -> pl.Expr:
    """Whether open or close lies outside low to high, or low above high; what is null contradicts nothing."""
    high, low, body = pl.col("high") * (1 + CELL_TOLERANCE), pl.col("low") * (1 - CELL_TOLERANCE), ("open", "close")
    outside = [*(pl.col(name) > high for name in body), *(pl.col(name) < low for name in body), low > high]
    return pl.any_horizontal(test.fill_null(value=False) for test in outside)


@cache
def _may_be_wrong() -> pl.Expr:
    """Whether anything may be wrong beside a close, a volume that lacks aside; found by cheap tests."""
    prices, close, infinite = [pl.col(name) for name in _OTHERS], pl.col("close"), float("inf")
    tests = [
        outside_range(),
        *((price <= 0) | (price == infinite) for price in (*prices, pl.col("adj_close"))),
        (pl.col("volume") < 0) | (pl.col("volume") == infinite),
        *((price >= ABSURD * close) | (price * ABSURD <= close) for price in prices),
    ]
    return pl.any_horizontal(test.fill_null(value=False) for test in tests)


def _is_price(name: str) -> pl.Expr:
    return pl.col(name).is_finite() & (pl.col(name) > 0)


def _is_impossible(name: str) -> pl.Expr:
    return pl.col(name).is_infinite() | (pl.col(name) < 0)


def _is_absurd(name: str) -> pl.Expr:
    """Whether a price is too far off the close: alone in it, in contradiction to the others, or beyond belief."""
    price, close, high, low = (pl.col(column) for column in (name, "close", "high", "low"))
    off = pl.max_horizontal(price / close, close / price)
    start = pl.col("open")
    above = price > close
    contradicts, agrees = {
        "open": (
            (start > high) | (start < low),
            pl.when(above).then(high >= start / _FAR).otherwise(low <= start * _FAR),
        ),
        "high": ((high < close) | (high < start) | (high < low), start >= high / _FAR),
        "low": ((low > close) | (low > start) | (low > high), start <= low * _FAR),
    }[name]
    alone = ~agrees.fill_null(value=False)
    return ((off > _FAR) & contradicts.fill_null(value=False)) | ((off >= ABSURD) & alone) | (off >= _BEYOND)
