"""Restatements too small for a level: all sessions from the first one on come times one ratio.

A dividend of a hundredth of a percent moves `adj_close` by no more than rounding and noise may. But those move each
price by itself, and a restatement moves all of them by one ratio, to the last digit that they are rounded to.
"""

from typing import Final

import polars as pl

from historical_etl.quality.price_levels import LEVEL_TOLERANCE

__all__ = ["moved_uniformly"]

#: A single bar that moved may be a correction.
_FEWEST: Final = 2
#: How far binary fractions, of 24 bits with some vendors, may be from each other; and a ratio shows from so many on.
_NOISE, _TIMES_NOISE = 5e-7, 4.0
#: Ratios that rounding may make of one that is no other level.
_NEAR: Final = 2 * LEVEL_TOLERANCE
#: The most decimals that prices are rounded to; a price is a multiple of a decimal up to this part of the price.
_DECIMALS, _BINARY = 8, 1e-7


def moved_uniformly(shared: pl.DataFrame) -> pl.DataFrame:
    """The sessions of symbols whose prices, up to the last one that moved, are times one ratio near 1.

    Sessions that are plainly on another level are left out: those are judged by their size.

    Args:
        shared: columns of `on_shared_sessions`, sorted by (symbol, date).
    """
    near = shared.filter(pl.all_horizontal((pl.col(name) - 1).abs() <= _NEAR for name in ("ratio", "close_ratio")))
    found = [_times_one_ratio(near.filter("adjusted"), "adj_close"), _times_one_ratio(near, "close")]
    return pl.concat(found).unique(("symbol", "date"), maintain_order=True)


def _times_one_ratio(near: pl.DataFrame, name: str) -> pl.DataFrame:
    new, old = pl.col(name), pl.col(f"{name}_0")
    last = pl.col("date").filter(new != old).max().over("symbol")
    moved = near.filter(pl.col("date") <= last)
    if moved.is_empty():
        return moved
    rounding = _unit(name).over("symbol") / 2 * (1 / new + 1 / old) + _NOISE
    moves = moved.with_columns((new / old - 1).alias("move"), rounding.alias("rounding"))
    low, high = (pl.col("move") - pl.col("rounding")).max(), (pl.col("move") + pl.col("rounding")).min()
    beyond = _TIMES_NOISE * _NOISE
    is_uniform = (low <= high) & ((low > beyond) | (high < -beyond)) & (pl.col("move") != 0).all()
    symbols = moves.group_by("symbol").agg(((pl.len() >= _FEWEST) & is_uniform).alias("is_uniform"))
    return moved.join(symbols.filter(pl.col("is_uniform")), on="symbol", how="semi", maintain_order="left")


def _unit(name: str) -> pl.Expr:
    """The last decimal that the new and the stored prices of a symbol are rounded to; 0 where none shows."""
    units = [
        pl.when(
            pl.all_horizontal(
                ((price * 10**places - (price * 10**places).round()).abs() <= _BINARY * price * 10**places).all()
                for price in (pl.col(name), pl.col(f"{name}_0"))
            )
        ).then(10.0**-places)
        for places in range(_DECIMALS + 1)
    ]
    return pl.coalesce(*units, pl.lit(0.0))
