"""Restatements of a part: from one session on the new level is another constant times the stored one.

A correction changes single bars, each by what was wrong with it. One ratio over several sessions is another basis, and
where a basis begins inside a series without an event, returns over that session are false.
"""

from math import log

import polars as pl

from historical_etl.quality.price_levels import LEVEL_TOLERANCE, SEAM, is_beyond

__all__ = ["beside", "other_parts", "ratio_rounding"]

#: Ratios nearer than this to each other are one, beside what rounding to cents makes of them.
_ONE_RATIO, _CENT = 5 * LEVEL_TOLERANCE, 0.011
#: A step of the ratio is another basis from here on, and if it is so many times what rounding makes.
_STEP, _TIMES_ROUNDING = 0.01, 4.0


def other_parts(shared: pl.DataFrame) -> pl.DataFrame:
    """Where a part on another basis begins: columns symbol, date, `before`, `ratio` and `step`, in order.

    The ratio there differs from those of the two sessions before and lasts for two sessions or more, and the new level
    moves by more than the stored one does: where it moves by less, the stored bars were wrong and are corrected. After
    sessions that are restated, too, a small step is a dividend that was corrected. Stored bars that repeat were stale.

    Args:
        shared: columns of `on_shared_sessions`, sorted by (symbol, date).
    """
    steps = shared.with_columns(
        ratio_rounding().alias("rounding"),
        *(beside(name, 1).alias(f"{name}_b") for name in ("date", "close", "close_0", "adj_close", "adj_close_0")),
        (pl.col("ratio") / beside("ratio", 1)).alias("step"),
        (pl.col("close_ratio") / beside("close_ratio", 1)).alias("close_step"),
        (pl.col("ratio") / beside("ratio", 2)).alias("step_2"),
        (beside("ratio", 1) / beside("ratio", 2) - 1).abs().alias("off_b"),
        (beside("ratio", -1) / pl.col("ratio") - 1).abs().alias("off_a"),
        (beside("ratio", 1) - 1).abs().alias("moved_b"),
        beside("close_0", -1).alias("close_0_a"),
    )
    lasts = pl.col("off_a") <= pl.col("rounding")
    is_step = _is_step("step") & _is_step("close_step") & _is_step("step_2").fill_null(value=True)
    after_stored = pl.col("moved_b") <= pl.col("rounding")
    after_restated = is_beyond("step", SEAM) & (pl.col("off_b") <= pl.col("rounding")).fill_null(value=True)
    stale = (pl.col("close_0") == pl.col("close_0_b")) & (pl.col("close_0_a") == pl.col("close_0"))
    new, stored = (
        pl.coalesce(
            pl.col(f"adj_close{side}") / pl.col(f"adj_close{side}_b"), pl.col(f"close{side}") / pl.col(f"close{side}_b")
        )
        for side in ("", "_0")
    )
    worse = new.log().abs() > stored.log().abs()
    return steps.filter(is_step, lasts, after_stored | after_restated, ~stale, worse).select(
        "symbol", "date", pl.col("date_b").alias("before"), "ratio", "step"
    )


def ratio_rounding() -> pl.Expr:
    """How far two ratios may be from each other that are one."""
    return _ONE_RATIO + _CENT / pl.min_horizontal("close", "close_0")


def beside(name: str, by: int) -> pl.Expr:
    """The value of the session so many before, or after, of the same symbol."""
    return pl.when(pl.col("symbol") == pl.col("symbol").shift(by)).then(pl.col(name).shift(by))


def _is_step(name: str) -> pl.Expr:
    return pl.col(name).log().abs() > pl.max_horizontal(pl.lit(log(1 + _STEP)), _TIMES_ROUNDING * pl.col("rounding"))
