"""The verdict on a fetched batch: which rows may be stored, which symbols are refused whole, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from historical_etl.quality.rules import SURPLUS_RULES, split_rows
from historical_etl.schema import PRIMARY_KEYS, ordered

__all__ = ["Verdict", "judge_batch"]


@dataclass(frozen=True)
class Verdict:
    """The result of judging a batch.

    Attributes:
        accepted: rows to store, sorted by (symbol, date), keys unique.
        rejected: rows set aside, with `reasons`; those of refused symbols have `batch_refused` among them.
        refused: symbols whose whole batch was refused → why, in words.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    refused: Mapping[str, str]

    def by_reason(self) -> dict[str, int]:
        """How many rows each rule refused; a row that broke several counts for each."""
        counts = self.rejected.get_column("reasons").explode().value_counts(sort=True)
        return dict(counts.iter_rows())


def judge_batch(
    frame: pl.DataFrame,
    *,
    symbols: Sequence[str],
    start: date,
    end: date,
    sessions: pl.Series,
    max_rejected_share: float,
) -> Verdict:
    """Separate good rows from bad ones, and refuse a symbol whose batch cannot be trusted.

    A symbol is refused if more than `max_rejected_share` of its rows are bad (one bad row alone never
    refuses a batch), or if one key came twice with different values: then any choice would be by chance.
    Rows that came twice and are equal are one row.
    """
    split = split_rows(frame, symbols=symbols, start=start, end=end, sessions=sessions)
    good = ordered(split.good)
    refused = _over_threshold(good, split.bad, max_rejected_share)
    good, conflicting = _collapse_duplicates(good)
    refused |= {symbol: f"{count} key(s) came twice with different values" for symbol, count in conflicting.items()}
    if not refused:
        return Verdict(good, split.bad, {})
    is_refused = pl.col("symbol").is_in(list(refused))
    set_aside = good.filter(is_refused).with_columns(pl.lit(["batch_refused"]).alias("reasons"))
    return Verdict(good.filter(~is_refused), pl.concat([split.bad, set_aside]), refused)


def _over_threshold(good: pl.DataFrame, bad: pl.DataFrame, share: float) -> dict[str, str]:
    counted = bad.filter(pl.col("reasons").list.set_difference(list(SURPLUS_RULES)).list.len() > 0)
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
        if n_bad > max(1, share * (n_bad + n_good))
    }


def _collapse_duplicates(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Drop equal repeats of a key from rows sorted by (symbol, date); name symbols with unequal ones."""
    same_key = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in PRIMARY_KEYS).fill_null(value=False)
    repeats = rows.select(same_key.alias("repeat")).get_column("repeat")
    if not repeats.any():
        return rows, {}
    twice = rows.join(rows.filter(repeats).select(PRIMARY_KEYS).unique(), on=PRIMARY_KEYS, how="semi").unique()
    unequal = twice.group_by(PRIMARY_KEYS).len().filter(pl.col("len") > 1)
    conflicts = dict(unequal.group_by("symbol").len().sort("symbol").iter_rows())
    collapsed = rows.unique(maintain_order=True)
    return collapsed, conflicts
