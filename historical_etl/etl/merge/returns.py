"""`ret`: the total return of a bar since the symbol's previous stored session.

It depends on one earlier row, which may lie in another month or year. So it is computed where rows are
merged, from the neighbours as they will be stored, and is the same in whatever order the rows arrived.
"""

from typing import Final

import polars as pl

from historical_etl.schema import IS_FIRST, IS_LAST

__all__ = ["PRICES", "first_rows", "heads", "last_rows", "with_returns"]

#: What one row must tell its successor.
PRICES: Final = ("symbol", "date", "close", "adj_close")


def last_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The last row of each symbol, columns `PRICES`; `rows` are sorted by (symbol, date)."""
    return rows.select(PRICES).filter(IS_LAST)


def first_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The first row of each symbol, all columns; `rows` are sorted by (symbol, date)."""
    return rows.filter(IS_FIRST)


def heads(rows: pl.DataFrame) -> pl.DataFrame:
    """The first row of each symbol with all that its `ret` depends on beside its predecessor; sorted by symbol.

    Columns `PRICES`, and `unadjusted`: whether the symbol has no `adj_close` in the whole month of that row.
    """
    return first_rows(rows.select(*PRICES, _unadjusted(rows).alias("unadjusted")))


def with_returns(rows: pl.DataFrame, before: pl.DataFrame, stored: pl.DataFrame | None) -> pl.DataFrame:
    """Compute `ret` for rows of whole months.

    A ratio is taken of `adj_close` where both rows have it. It is taken of `close` only where the symbol has no
    `adj_close` in the whole month, nor in the row before: a single missing value must not mix price bases, so
    there `ret` is null. So a row's `ret` follows from its month and the one row before it, nothing else.

    Args:
        rows: sorted by (symbol, date).
        before: the row before them for symbols where it is known, columns `PRICES`.
        stored: the same months as they are stored. A symbol's first row whose predecessor is not known keeps the
            `ret` it was stored with, as long as its prices are the same.
    """
    day_before = [pl.col(name).shift(1).alias(f"{name}_0") for name in ("close", "adj_close")]
    line = rows.lazy().with_columns(_unadjusted(rows).alias("unadjusted"), *day_before)
    inner, starts = line.select(_total().alias("ret"), IS_FIRST.alias("starts")).collect().get_columns()
    ret = inner.scatter(starts.arg_true(), _first_returns(heads(rows), before, stored))
    return rows.with_columns(ret)


def _first_returns(firsts: pl.DataFrame, before: pl.DataFrame, stored: pl.DataFrame | None) -> pl.Series:
    known = before.select("symbol", "close", "adj_close").rename(lambda n: n if n == "symbol" else f"{n}_0")
    frame = firsts.join(known, on="symbol", how="left", maintain_order="left")
    if stored is None:
        return frame.select(_total()).to_series()
    names = ("date", "close", "adj_close", "ret")
    old = first_rows(stored).select("symbol", *(pl.col(name).alias(f"{name}_s") for name in names))
    frame = frame.join(old, on="symbol", how="left", maintain_order="left")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_s")) for name in names[:-1])
    may_have_ret = pl.col("adj_close").is_not_null() | pl.col(
        "unadjusted"
    )  # what else is in the month may have changed
    keeps = pl.col("close_0").is_null() & same & may_have_ret
    return frame.select(pl.when(keeps).then("ret_s").otherwise(_total())).to_series()


def _total() -> pl.Expr:
    """The ratio of a row to the one before it, `close_0` and `adj_close_0`, less one."""
    by_close = pl.col("unadjusted") & pl.col("adj_close_0").is_null()
    by_adj_close = pl.col("adj_close") / pl.col("adj_close_0") - 1
    return pl.when(by_close).then(pl.col("close") / pl.col("close_0") - 1).otherwise(by_adj_close)


def _unadjusted(rows: pl.DataFrame) -> pl.Expr:
    if not rows.get_column("adj_close").null_count():
        return pl.lit(value=False)
    return pl.col("adj_close").is_null().all().over("symbol", pl.col("date").dt.truncate("1mo"))
