"""`ret`: the total return of a bar since the symbol's previous stored session.

It depends on one earlier row, which may lie in another month or year. So it is computed where rows are
merged, from the neighbours as they will be stored, and is the same in whatever order the rows arrived.
"""

from typing import Final

import polars as pl

__all__ = ["PRICES", "first_rows", "heads", "last_rows", "with_returns"]

#: What one row must tell its successor.
PRICES: Final = ("symbol", "date", "close", "adj_close")


def last_rows(month: pl.DataFrame) -> pl.DataFrame:
    """The last row of each symbol, columns `PRICES`; `month` is sorted by (symbol, date)."""
    return month.filter(pl.col("symbol") != pl.col("symbol").shift(-1, fill_value="")).select(PRICES)


def first_rows(month: pl.DataFrame) -> pl.DataFrame:
    """The first row of each symbol, all columns; `month` is sorted by (symbol, date)."""
    return month.filter(pl.col("symbol") != pl.col("symbol").shift(1, fill_value=""))


def heads(month: pl.DataFrame) -> pl.DataFrame:
    """The first row of each symbol with all that its `ret` depends on within the month; sorted by symbol.

    Columns `PRICES`, and `unadjusted`: whether the symbol has no `adj_close` in the whole month.
    """
    return first_rows(month.with_columns(_unadjusted(month).alias("unadjusted"))).select(*PRICES, "unadjusted")


def with_returns(month: pl.DataFrame, before: pl.DataFrame, stored: pl.DataFrame | None) -> pl.DataFrame:
    """Compute `ret` for the rows of one month.

    A ratio is taken of `adj_close` where both rows have it. It is taken of `close` only where the symbol has no
    `adj_close` in the whole month, nor in the row before: a single missing value must not mix price bases, so
    there `ret` is null. So a row's `ret` follows from its month and the one row before it, nothing else.

    Args:
        month: rows sorted by (symbol, date).
        before: the row before the month for symbols where it is known, columns `PRICES`.
        stored: the same month as it is stored. A symbol's first row whose predecessor is not known keeps the
            `ret` it was stored with, as long as its prices are the same.
    """
    known = before.select("symbol", pl.col("close").alias("close_0"), pl.col("adj_close").alias("adj_0"))
    old = first_rows(month if stored is None else stored).select(
        "symbol", *(pl.col(name).alias(f"{name}_s") for name in ("date", "close", "adj_close", "ret"))
    )
    if stored is None:
        old = old.clear()
    frame = month.join(
        known.join(old, on="symbol", how="full", coalesce=True), on="symbol", how="left", maintain_order="left"
    )

    first = pl.col("symbol") != pl.col("symbol").shift(1, fill_value="")
    close_before = pl.when(first).then("close_0").otherwise(pl.col("close").shift(1))
    adj_before = pl.when(first).then("adj_0").otherwise(pl.col("adj_close").shift(1))
    unadjusted = _unadjusted(month)
    by_close = unadjusted & adj_before.is_null()
    total = pl.when(by_close).then(pl.col("close") / close_before - 1).otherwise(pl.col("adj_close") / adj_before - 1)
    same_as_stored = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(f"{name}_s")) for name in ("date", "close", "adj_close")
    )
    may_have_ret = pl.col("adj_close").is_not_null() | unadjusted  # the rest of the month may have changed that
    keeps = first & pl.col("close_0").is_null() & same_as_stored & may_have_ret
    return frame.with_columns(pl.when(keeps).then("ret_s").otherwise(total).alias("ret")).select(month.columns)


def _unadjusted(month: pl.DataFrame) -> pl.Expr:
    if not month.get_column("adj_close").null_count():
        return pl.lit(value=False)
    return pl.col("adj_close").is_null().all().over("symbol")
