"""Price levels: what a bar is judged by, and the ratio of two.

The level of a bar is its `adj_close`, or its `close` where there is none: so a split or a dividend that the source has
adjusted for is no jump, and a crash is one. Judged are ratios only, symbol by symbol: new to stored on the same session
(`overlap`, `histories`), and each session to the one before it (`jumps`).
"""

from typing import Final, Literal

import polars as pl

from historical_etl.quality.suspicion import NEAR_SPLIT
from historical_etl.schema import ORDER, earliest, latest

__all__ = [
    "BEGINNINGS",
    "BOTH_ADJUSTED",
    "LARGE_RATIO",
    "LEVELS",
    "LEVEL_TOLERANCE",
    "NEAR_HUNDRED",
    "SEAM",
    "factor_of",
    "has_same_keys",
    "is_beyond",
    "is_from_the_beginning",
    "is_off",
    "on_dates_of",
    "on_shared_sessions",
    "ratio_of_levels",
    "size_of",
]

#: What a level is judged by; and the volume, which goes with it over splits.
LEVELS: Final = ("symbol", "date", "close", "adj_close", "volume")
#: A ratio further from 1 than this is another level (Yahoo and Tiingo round adjusted prices to six digits or more).
LEVEL_TOLERANCE: Final = 1e-4
#: Moves below this are no candidates for a wrong split.
LARGE_RATIO: Final = 1.9
#: Moves beyond this are looked at where two histories meet.
SEAM: Final = 1.2
#: So near to 100 a ratio may be that of a unit.
NEAR_HUNDRED: Final = 0.05
_MOST_SHARES: Final = 50
#: Whether a level is that of `adj_close`.
BOTH_ADJUSTED: Final = pl.col("adj_close").is_not_null() & pl.col("adj_close_0").is_not_null()
#: Where the comparison of a symbol's levels begins, and where that of its adjusted ones does.
BEGINNINGS: Final = (
    pl.col("date").min().alias("first"),
    pl.col("date").filter("adjusted").min().alias("first_adjusted"),
)


def on_dates_of(others: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows between the first and the last date of others, where those are fewer: all that a join can need."""
    if rows.height <= others.height:
        return rows
    first, last = earliest(others.get_column("date")), latest(others.get_column("date"))
    return rows.filter(pl.col("date").is_between(first, last)) if first and last else rows.clear()


def has_same_keys(rows: pl.DataFrame, others: pl.DataFrame) -> bool:
    """Whether two frames have the same keys in the same order, as on most evenings: then no join is needed."""
    return rows[list(ORDER)].equals(others[list(ORDER)])


def on_shared_sessions(fetched: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """The rows of both on the sessions that both have, the stored values as `…_0`, with their ratios."""
    near = on_dates_of(stored, fetched)
    if has_same_keys(near, stored):
        both = near.hstack([stored.get_column(name).alias(f"{name}_0") for name in stored.columns if name not in ORDER])
    else:
        both = near.join(stored, on=ORDER, how="inner", suffix="_0", maintain_order="left")
    by_close = (pl.col("close") / pl.col("close_0")).alias("close_ratio")
    return both.with_columns(ratio_of_levels().alias("ratio"), by_close, BOTH_ADJUSTED.alias("adjusted"))


def ratio_of_levels() -> pl.Expr:
    """The level to the level `_0`: of adj_close where both have it, else of close."""
    return pl.coalesce(pl.col("adj_close") / pl.col("adj_close_0"), pl.col("close") / pl.col("close_0"))


def is_from_the_beginning() -> pl.Expr:
    """Whether what is off is so on the earliest session that both have, or the earliest on which both are adjusted."""
    return (pl.col("date") == pl.col("first")) | ((pl.col("date") == pl.col("first_adjusted")) & is_off("ratio"))


def is_off(column: str) -> pl.Expr:
    """Whether a ratio is another level."""
    return ((pl.col(column) - 1).abs() > LEVEL_TOLERANCE).fill_null(value=False)


def is_beyond(column: str, size: float) -> pl.Expr:
    """Whether a ratio is further from 1, up or down, than some size."""
    return (pl.max_horizontal(pl.col(column), 1 / pl.col(column)) > size).fill_null(value=False)


def factor_of(ratio: float, near: float = NEAR_SPLIT) -> Literal["split", "100", ""]:
    """Whether a ratio is near one that units (100) or splits (n:1) have; `near` says how near to one of a split."""
    size = max(ratio, 1 / ratio) if ratio > 0 else 0.0
    if abs(size / 100 - 1) <= NEAR_HUNDRED:
        return "100"
    shares = round(size)
    return "split" if 1 < shares <= _MOST_SHARES and abs(size / shares - 1) <= near else ""


def size_of(ratio: float) -> float:
    """How far a ratio is from 1, up or down; 0 for none."""
    return max(ratio, 1 / ratio) if ratio > 0 else 0.0
