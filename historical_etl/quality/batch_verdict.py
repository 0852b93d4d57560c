"""The verdict on a fetched batch: which rows may be stored, which symbols are refused whole, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from historical_etl.quality.cells import CELL_TOLERANCE
from historical_etl.quality.rules import EXCUSED, PRICE_COLUMNS, UNWRITABLE, split_rows
from historical_etl.schema import ORDER, PRIMARY_KEYS, VALUE_COLUMNS, ordered

__all__ = ["BatchVerdict", "collapse_duplicates", "count_reasons", "judge_batch", "unwritable_symbols"]

#: Of fewer rows no share says anything: bad rows among them are refused, and nothing else is.
_ENOUGH: Final = 20


@dataclass(frozen=True)
class BatchVerdict:
    """The result of judging a batch.

    Attributes:
        accepted: rows to store, sorted by (symbol, date), keys unique.
        rejected: refused rows, with `reasons`; those of refused symbols have `batch_refused` among them.
        flagged: accepted rows as fetched, of which something beside the close is wrong (`cells.FLAGGED`).
        refused: symbols whose whole batch was refused → why, in words.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    flagged: pl.DataFrame
    refused: Mapping[str, str]


def count_reasons(rejected: pl.DataFrame) -> dict[str, int]:
    """How many of some refused rows each rule refused; a row that broke several counts for each."""
    return dict(rejected.get_column("reasons").explode().value_counts(sort=True).iter_rows())


def unwritable_symbols(rejected: pl.DataFrame) -> set[str]:
    """Values of the column `symbol` of refused rows that cannot be a symbol."""
    if rejected.is_empty():
        return set()
    rows = rejected.filter(pl.col("reasons").list.contains(UNWRITABLE))
    return set(rows.get_column("symbol").drop_nulls())


def judge_batch(
    frame: pl.DataFrame,
    *,
    symbols: Sequence[str],
    start: date,
    end: date,
    sessions: pl.Series,
    max_rejected_share: float,
) -> BatchVerdict:
    """Separate good rows from bad ones, and refuse a symbol whose batch cannot be trusted.

    A symbol is refused if more than `max_rejected_share` of its rows are bad (of `_ENOUGH` or more, and more than
    one), or if one key was fetched twice with different values: then any choice would be by chance. Rows that nobody
    requested, of days without a session, or without a price count for no share. Rows that were fetched twice with equal
    values are one row.
    """
    split = split_rows(frame, symbols=symbols, start=start, end=end, sessions=sessions)
    good = ordered(split.good)
    refused = _over_threshold(good, split.bad, max_rejected_share)
    good, conflicting = collapse_duplicates(good)
    refused |= {
        symbol: f"{count} key(s) were fetched twice with different values" for symbol, count in conflicting.items()
    }
    if not refused:
        return BatchVerdict(good, split.bad, split.flagged, {})
    is_refused = pl.col("symbol").is_in(list(refused))
    of_refused = ordered(split.original.filter(is_refused).unique(maintain_order=True))
    of_refused_symbols = of_refused.with_columns(pl.lit(["batch_refused"]).alias("reasons"))
    return BatchVerdict(
        good.filter(~is_refused), pl.concat([split.bad, of_refused_symbols]), split.flagged.filter(~is_refused), refused
    )


def _over_threshold(good: pl.DataFrame, bad: pl.DataFrame, share: float) -> dict[str, str]:
    if bad.is_empty():
        return {}
    counted = bad.filter(pl.col("reasons").list.set_intersection(list(EXCUSED)).list.len() == 0)
    if counted.is_empty():
        return {}
    bad_by_symbol = counted.drop_nulls("symbol").group_by("symbol").len("bad")
    good_by_symbol = good.join(bad_by_symbol, on="symbol", how="semi").group_by("symbol").len("good")
    return {
        symbol: f"{n_bad} of {n_bad + n_good} rows are bad, more than {share:.0%}"
        for symbol, n_bad, n_good in bad_by_symbol.join(good_by_symbol, on="symbol", how="left")
        .with_columns(pl.col("good").fill_null(0))
        .sort("symbol")
        .iter_rows()
        if n_bad + n_good >= _ENOUGH and n_bad > max(1, share * (n_bad + n_good))
    }


def collapse_duplicates(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Make one row of those that say the same of a key, in rows sorted by (symbol, date); count the keys that differ.

    Rows say the same if prices are equal up to rounding and one has all that the others have: a null is no other
    value. The fullest one stays; of equally full ones that with the lowest prices, in whatever order they were fetched.
    """
    same_key = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in PRIMARY_KEYS).fill_null(value=False)
    repeats = rows.select(same_key.alias("repeat")).get_column("repeat")
    if not repeats.any():
        return rows, {}
    keys = rows.filter(repeats).select(ORDER).unique()
    distinct = rows.join(keys, on=ORDER, how="semi").unique()
    lacking = pl.sum_horizontal(pl.col(name).is_null() for name in VALUE_COLUMNS)
    first = distinct.sort(*ORDER, lacking, *VALUE_COLUMNS, nulls_last=True).unique(ORDER, keep="first")
    beside = distinct.join(first, on=ORDER, suffix="_kept")
    differs = beside.filter(pl.any_horizontal(_differs(name) for name in VALUE_COLUMNS)).select(ORDER).unique()
    single = rows.join(keys, on=ORDER, how="anti")
    conflicting = distinct.join(differs, on=ORDER, how="semi")
    agreeing = first.join(differs, on=ORDER, how="anti")
    conflicts = dict(differs.group_by("symbol").len().sort("symbol").iter_rows())
    return ordered(pl.concat([single, agreeing.select(rows.columns), conflicting])), conflicts


def _differs(name: str) -> pl.Expr:
    """Whether a row has another value than the one that is kept; where it has none, it does not."""
    value, first = pl.col(name), pl.col(f"{name}_kept")
    equal = value == first
    if name in PRICE_COLUMNS:
        equal = (value - first).abs() <= CELL_TOLERANCE * first
    return value.is_not_null() & ~equal.fill_null(value=False)
