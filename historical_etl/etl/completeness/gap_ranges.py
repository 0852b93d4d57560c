"""Gaps as ranges of sessions, and as single sessions: the account reckons with these and keeps those.

A session is its position in the calendar here.
"""

from typing import Final

import polars as pl

from historical_etl.schema import symbols_in
from historical_etl.sessions import SessionCalendar
from historical_etl.store.ledger_schemas import SCHEMAS, empty_ledger

__all__ = ["GAP_FACTS", "as_ranges", "days_between", "days_of", "exploded", "in_order", "of_symbols", "positions_of"]

#: What is known of a gap beside its symbol and sessions.
GAP_FACTS: Final = (
    *("status", "why", "attempts", "asked", "due"),
    *("reason", "by", "decided_version", "decided_at"),
    *("version", "committed_at"),
)
#: Gaps as single sessions, zero of them.
_NO_DAYS: Final = pl.DataFrame(
    schema={
        "symbol": pl.String(),
        "position": pl.Int64(),
        **{name: SCHEMAS["open_gaps"][name] for name in GAP_FACTS},
        "date": pl.Date(),
    }
)


def of_symbols(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The few rows of `rows` that a join with `others` can need: hashing a whole year is slow."""
    return rows.filter(pl.col("symbol").is_in(list(symbols_in(others))))


def days_between(frame: pl.DataFrame, *ends: tuple[pl.Expr, pl.Expr]) -> pl.DataFrame:
    """(symbol, position) of every session between some ends, both included; nulls give none."""
    some = frame.filter(pl.any_horizontal(low <= high for low, high in ends))  # mostly none, and lists are slow
    if some.is_empty():
        return days_of(some)
    lows, highs = zip(*ends, strict=True)
    ranges = some.select("symbol", pl.concat_list(lows).alias("low"), pl.concat_list(highs).alias("high"))
    return days_of(ranges.explode("low", "high").filter(pl.col("low") <= pl.col("high")))


def days_of(ranges: pl.DataFrame) -> pl.DataFrame:
    """(symbol, position) of every session in ranges (symbol, low, high)."""
    if ranges.is_empty():
        return _NO_DAYS[["symbol", "position"]]
    days = pl.int_ranges("low", pl.col("high") + 1).alias("position")
    return ranges.select("symbol", days).explode("position").drop_nulls("position")


def positions_of(rows: pl.DataFrame, calendar: SessionCalendar) -> pl.DataFrame:
    """(symbol, position) of rows (symbol, date)."""
    if rows.is_empty():
        return _NO_DAYS[["symbol", "position"]]
    return rows.select("symbol", calendar.positions(pl.col("date")).alias("position"))


def exploded(gaps: pl.DataFrame, calendar: SessionCalendar) -> pl.DataFrame:
    """Ranges as single sessions: symbol, position, date, and the facts of the range."""
    if gaps.is_empty():
        return _NO_DAYS.clone()
    # The ends of a range may have left the calendar.
    low, high = calendar.positions(pl.col("first_session")), calendar.positions_before(pl.col("last_session"))
    days = gaps.select("symbol", pl.int_ranges(low, high + 1).alias("position"), *GAP_FACTS).explode("position")
    return days.drop_nulls("position").with_columns(calendar.dates(pl.col("position")).alias("date"))


def as_ranges(days: pl.DataFrame, calendar: SessionCalendar) -> pl.DataFrame:
    """Single sessions as ranges of neighbours about which the same is known."""
    if days.is_empty():
        return empty_ledger("open_gaps")
    ordered = days.sort("symbol", "position")
    keys = ("symbol", *GAP_FACTS)
    breaks = pl.any_horizontal(
        pl.col("position") != pl.col("position").shift(1) + 1,
        *(pl.col(key).ne_missing(pl.col(key).shift(1)) for key in keys),
    )
    return (
        ordered.with_columns(breaks.fill_null(value=True).cum_sum().alias("run"))
        .group_by("run", maintain_order=True)
        .agg(
            pl.col("position").min().alias("low"),
            pl.col("position").max().alias("high"),
            *(pl.col(key).first() for key in keys),
        )
        .with_columns(
            calendar.dates(pl.col("low")).alias("first_session"),
            calendar.dates(pl.col("high")).alias("last_session"),
            (pl.col("high") - pl.col("low") + 1).cast(pl.Int64).alias("sessions"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMAS["open_gaps"].items())
    )


def in_order(gaps: pl.DataFrame) -> pl.DataFrame:
    """Ranges sorted by symbol and first session."""
    return gaps.sort("symbol", "first_session")
