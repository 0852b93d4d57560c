"""Splits and dividends: told by the source, or inferred from `close` and `adj_close`.

The factor of a bar is f = adj_close / close. On an ex-date it moves by g = f / (f of the session before): by the ratio
of a split, or by 1 + dividend / close, which is what makes `ret` the total return. Anything smaller than what rounding
does to the two prices is no event.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from historical_etl.schema import ORDER

__all__ = ["inferred", "with_implied", "with_named"]

#: From here on a simple ratio is a split; a special dividend of a fifth of the price is rare.
_SMALLEST_SPLIT: Final = 1.2
_MOST_SHARES: Final = 100
_SMALL_TERMS: Final = (2, 3, 4, 5)
_CLOSE_TO_SPLIT: Final = 1e-3
_NOISE: Final = 1e-4


def inferred(rows: pl.DataFrame, before: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The events that the prices of some rows imply, and for which sessions of each symbol that was looked at.

    Args:
        rows: bars sorted by (symbol, date).
        before: the row before them for symbols where it is known; columns symbol, date, close, adj_close.

    Returns:
        Events (symbol, date, split, dividend), and spans (symbol, low, high) inside which there are no others.
    """
    is_first = pl.col("symbol").ne_missing(pl.col("symbol").shift(1))
    known = before.select("symbol", pl.col("close").alias("close_b"), pl.col("adj_close").alias("adj_close_b"))
    firsts = rows.filter(is_first).select("symbol", "date").join(known, on="symbol", how="left")
    lasts = rows.filter(pl.col("symbol").ne_missing(pl.col("symbol").shift(-1))).select("symbol", high="date")
    low = pl.when(pl.col("close_b").is_null()).then(pl.col("date").dt.offset_by("1d")).otherwise("date")
    spans = firsts.join(lasts, on="symbol").select("symbol", low.alias("low"), "high")
    moves = rows.select(
        *ORDER,
        "close",
        "adj_close",
        pl.when(~is_first).then(pl.col("close").shift(1)).alias("close_0"),
        pl.when(~is_first).then(pl.col("adj_close").shift(1)).alias("adj_close_0"),
    )
    inner = moves.filter(pl.col("close_0").is_not_null())
    head = rows.select(*ORDER, "close", "adj_close").join(
        firsts.filter(pl.col("close_b").is_not_null()).rename({"close_b": "close_0", "adj_close_b": "adj_close_0"}),
        on=ORDER,
    )
    return _events(pl.concat([inner, head.select(inner.columns)])), spans


def _events(pairs: pl.DataFrame) -> pl.DataFrame:
    now, then = pl.col("adj_close") / pl.col("close"), pl.col("adj_close_0") / pl.col("close_0")
    noise = _NOISE + sum((_unit(name) / pl.col(name) for name in ("adj_close", "adj_close_0")), pl.lit(0.0))
    found = pairs.with_columns((now / then).alias("move")).filter((pl.col("move") - 1).abs() > noise)
    split = _split(pl.col("move"))
    return (
        found.with_columns(split.alias("split"))
        .with_columns(
            pl.when(pl.col("split") == 1).then((pl.col("move") - 1) * pl.col("close")).otherwise(0.0).alias("dividend")
        )
        .select(*ORDER, "split", pl.col("dividend").round(6))
        .sort(ORDER)
    )


def _unit(column: str) -> pl.Expr:
    """The last decimal that prices of a source are rounded to, as their digits show it: 0.01, 0.0001 or less."""
    price = pl.col(column)

    def whole(scale: float) -> pl.Expr:
        return (price * scale - (price * scale).round()).abs() < _NOISE

    return pl.when(whole(1e2)).then(1e-2).when(whole(1e4)).then(1e-4).otherwise(1e-6)


def _split(move: pl.Expr) -> pl.Expr:
    """The simple ratio that a move of the factor is, 1.0 if it is none: n:1, 1:n, 3:2, 4:3, 5:2 and the like."""
    size = pl.max_horizontal(move, 1 / move)
    ratio = pl.lit(None, pl.Float64)
    for terms in reversed(_SMALL_TERMS):
        near = (size * terms).round() / terms
        ratio = pl.when((size / near - 1).abs() <= _CLOSE_TO_SPLIT).then(near).otherwise(ratio)
    near = size.round()
    ratio = pl.when((size / near - 1).abs() <= _CLOSE_TO_SPLIT).then(near).otherwise(ratio)
    simple = (size >= _SMALLEST_SPLIT) & (size <= _MOST_SHARES) & ratio.is_not_null()
    return pl.when(simple & (move > 1)).then(ratio).when(simple).then(1 / ratio).otherwise(1.0)


def with_named(stored: pl.DataFrame, named: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The ledger `actions` with what the source names, in place of all that was known of the ranges it answers for.

    Args:
        stored: the ledger as it was.
        named: symbol, date, split, dividend and `in_close`.
        asked: (symbol, low, high) of the ranges that were asked for.
    """
    events = named.filter((pl.col("split") != 1) | (pl.col("dividend") != 0)).with_columns(inferred=pl.lit(value=False))
    return _together(_outside(stored, asked), events)


def with_implied(stored: pl.DataFrame, implied: Sequence[tuple[pl.DataFrame, pl.DataFrame]]) -> pl.DataFrame:
    """The ledger `actions` with what prices imply, in place of what they implied before; named events stay.

    Args:
        stored: the ledger as it was.
        implied: events and spans from `inferred`, of all months that the commit visited.
    """
    named, guessed = stored.filter(~pl.col("inferred")), stored.filter("inferred")
    if guessed.height:
        for _, spans in implied:
            guessed = _outside(guessed, spans)
    found = [events for events, _ in implied if events.height]
    if not found:
        return _together(named, guessed)
    events = pl.concat(found).filter(~pl.col("symbol").is_in(named.get_column("symbol").unique().implode()))
    new = events.with_columns(in_close=pl.lit(value=True), inferred=pl.lit(value=True))
    return _together(pl.concat([named, guessed]), new)


def _together(known: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([known, new.select(known.columns)]).unique(list(ORDER), keep="last").sort(ORDER)


def _outside(actions: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    inside = actions.join(spans, on="symbol").filter(pl.col("date").is_between("low", "high")).select(ORDER)
    return actions.join(inside, on=ORDER, how="anti")
