"""Where the factor adj_close / close moves: found in one cheap pass, so that all else is done to few rows."""

from functools import cache
from typing import Final

import polars as pl

from historical_etl.schema import ORDER

__all__ = ["factor_moves", "factor_rounding", "pairs_at"]

_NOISE: Final = 1e-4
#: No factor that moved less, as a ratio or as a logarithm, moved by more than rounding.
_LEAST: Final = 0.999 * _NOISE


def factor_moves(rows: pl.DataFrame) -> pl.Series:
    """The places of rows whose factor may have moved by more than `factor_rounding` since the row before."""
    factor, symbol = pl.col("adj_close") / pl.col("close"), rows.get_column("symbol")
    places = rows.select(((factor / factor.shift() - 1).abs() > _LEAST).arg_true()).to_series()
    return places.filter(symbol[places] == symbol[places - 1])


def pairs_at(rows: pl.DataFrame, places: pl.Series) -> pl.LazyFrame:
    """The rows at some places, each with the one before it of the same symbol, as `…_0`; without that there is none.

    Args:
        rows: columns symbol, date, close and adj_close, sorted by (symbol, date).
        places: in ascending order, without the first of all.
    """
    names = [*ORDER, "close", "adj_close"]
    before = rows[names][places - 1].rename({name: f"{name}_0" for name in names})
    pairs = pl.concat([rows[names][places], before], how="horizontal")
    return pairs.lazy().filter(pl.col("symbol") == pl.col("symbol_0"))


@cache
def factor_rounding() -> pl.Expr:
    """How far rounding of two adjusted prices, `adj_close` and `adj_close_0`, may have moved their factor."""
    return _NOISE + sum((_unit(name) / pl.col(name).abs() for name in ("adj_close", "adj_close_0")), pl.lit(0.0))


def _unit(column: str) -> pl.Expr:
    """The last decimal that prices of a source are rounded to, as their digits show it: 0.01, 0.0001 or less."""
    price = pl.col(column)

    def whole(scale: float) -> pl.Expr:
        return (price * scale - (price * scale).round()).abs() < _NOISE

    return pl.when(whole(1e2)).then(1e-2).when(whole(1e4)).then(1e-4).otherwise(1e-6)
