"""Rewritten histories: most closes are others, and no one ratio makes them of the stored ones.

A correction leaves most bars as they were. Where it does not, returns show what was fetched: the stored bars, on a
basis that changes along the history (adjusted forward, for one), or others, as of another company or other dates.
"""

from typing import Final

import polars as pl

from historical_etl.quality.partial_restatements import beside, ratio_rounding
from historical_etl.quality.price_levels import LEVEL_TOLERANCE

__all__ = ["as_a_day_late", "how_it_differs", "other_returns", "returns", "rewritten"]

#: Corrections are of two closes, or of half of them; in a long history of no more than a tenth and a month.
_HALF, _TENTH, _MONTH, _TWO = 0.5, 0.1, 21, 2
#: What is noise, in typical moves of the symbol: of a return, which two closes make, and of a level; and its bounds.
_OF_A_RETURN, _OF_A_LEVEL, _AT_MOST, _AT_LEAST = 1.5, 0.5, 0.02, 0.001
#: Two histories are of one security if this share of their returns agree, up to rounding; one may always differ.
_AGREEING: Final = 0.9
#: A price is rounded to a cent, or to what all stored closes are multiples of; up to this they are whole ones.
_CENT, _UNITS, _WHOLE = 0.011, (1.0, 0.1), 1e-6


def rewritten(shared: pl.DataFrame, *, by_noise: bool = False) -> frozenset[str]:
    """The symbols of which more closes moved than corrections move.

    A close that moves by less than noise counts if it does so by the ratio of the one before it. Stored closes that
    repeat the one before do not count: a stale feed is corrected.

    Args:
        shared: columns of `on_shared_sessions`, sorted by (symbol, date).
        by_noise: count all that rounding does not move. The few sessions of an overlap do not show what noise is.
    """
    stored = (pl.col("close_0") / beside("close_0", 1)).log().abs()
    moves = shared.with_columns(ratio_rounding().alias("rounding"), _typical(stored).over("symbol").alias("typical"))
    noise = pl.lit(0.0) if by_noise else _noise(_OF_A_LEVEL, 0.5).over("symbol")
    moves = moves.with_columns(noise.alias("noise"))
    moved = pl.any_horizontal(_has_moved(name) for name in ("ratio", "close_ratio"))
    counts = moves.group_by("symbol", maintain_order=True).agg(
        (moved & (stored > 0).fill_null(value=True)).sum().alias("closes"), pl.len().alias("sessions")
    )
    most = pl.min_horizontal(_HALF * pl.col("sessions"), _MONTH + _TENTH * pl.col("sessions"))
    return frozenset(counts.filter(pl.col("closes") > pl.max_horizontal(_TWO, most)).get_column("symbol"))


def other_returns(shared: pl.DataFrame) -> frozenset[str]:
    """The symbols whose returns are not the stored ones; `shared` as `rewritten` has it."""
    new, old = returns()
    moves = shared.lazy().with_columns(new.alias("new"), old.alias("old"))
    moves = moves.with_columns(_typical(pl.col("old").log().abs()).over("symbol").alias("typical"))
    cent = _CENT / pl.min_horizontal(pl.coalesce("adj_close", "close"), pl.coalesce("adj_close_0", "close_0"))
    noise = pl.max_horizontal(cent, _noise(_OF_A_RETURN, 1.0).over("symbol"))
    agrees = (pl.col("new") / pl.col("old") - 1).abs() <= noise
    counts = moves.group_by("symbol").agg(agrees.count().alias("compared"), (~agrees).sum().alias("others"))
    most = pl.max_horizontal(pl.lit(1.0), (1 - _AGREEING) * pl.col("compared"))
    return frozenset(counts.filter(pl.col("others") > most).collect().get_column("symbol"))


def as_a_day_late(shared: pl.DataFrame, by: int = 1) -> frozenset[str]:
    """The symbols whose closes that differ, three or more, are those stored of the session before (-1: after)."""
    differs = (pl.col("close_ratio") - 1).abs() > ratio_rounding()
    late = (pl.col("close") / beside("close_0", by) - 1).abs() <= LEVEL_TOLERANCE
    counts = shared.lazy().select("symbol", differs.alias("differs"), (differs & late).alias("late"))
    sums = counts.group_by("symbol").agg(pl.col("differs").sum(), pl.col("late").sum())
    is_late = (pl.col("late") > _TWO) & (pl.col("late") >= _AGREEING * pl.col("differs"))
    return frozenset(sums.filter(is_late).collect().get_column("symbol"))


def how_it_differs(shared: pl.DataFrame) -> str:
    """What the closes of the rewritten history of one symbol are, in words."""
    for by, words in ((1, "before"), (-1, "after")):
        if as_a_day_late(shared, by):
            return f"its closes are those of the session {words}"
    if other_returns(shared):
        return "its daily returns are not the stored ones"
    name = "close_ratio" if shared.select((pl.col("ratio").log().abs() <= ratio_rounding()).all()).item() else "ratio"
    first, last = (shared.row(at, named=True) for at in (0, -1))
    return (
        f"the ratio to the stored ones changes along the history, from {first[name]:.4g} on {first['date']} "
        f"to {last[name]:.4g} on {last['date']}: prices on another basis"
    )


def returns() -> tuple[pl.Expr, pl.Expr]:
    """The new and the stored level to the one of the session before, both of adj_close or both of close."""
    new, old = (pl.col(name) / beside(name, 1) for name in ("adj_close", "adj_close_0"))
    close, close_0 = (pl.col(name) / beside(name, 1) for name in ("close", "close_0"))
    adjusted = new.is_not_null() & old.is_not_null()
    return pl.when(adjusted).then(new).otherwise(close), pl.when(adjusted).then(old).otherwise(close_0)


def _typical(moves: pl.Expr) -> pl.Expr:
    return moves.filter(moves > 0).median().fill_null(_AT_MOST)


def _noise(of_typical: float, of_unit: float) -> pl.Expr:
    """How far off a value may be that says the same."""
    price = pl.col("close_0")
    units = [pl.when(((price / unit - (price / unit).round()).abs() < _WHOLE).all()).then(unit) for unit in _UNITS]
    unit = pl.coalesce(*units, pl.lit(_CENT))
    return pl.max_horizontal(of_typical * pl.col("typical"), of_unit * unit / price).clip(_AT_LEAST, _AT_MOST)


def _has_moved(name: str) -> pl.Expr:
    off = pl.col(name).log()
    far, as_before = off.abs() > pl.col("noise"), (off - beside(name, 1).log()).abs() <= pl.col("rounding")
    return ((off.abs() > pl.col("rounding")) & (far | as_before)).fill_null(value=False)
