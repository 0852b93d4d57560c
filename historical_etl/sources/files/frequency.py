"""Rows that are no days: months, weeks, or minutes. Found by the distances of their dates."""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import HistoricalETLError
from historical_etl.sources.files.csv_plan import not_daily
from historical_etl.sources.files.read_plan import BROKEN, ReadPlan

__all__ = ["parts_not_daily", "plans_not_daily"]

#: Calendar days from one row to the next → what such rows are.
_PERIODS: Final = (
    (4, 10, "a week", "weekly"),
    (25, 36, "a month", "monthly"),
    (80, 100, "a quarter", "quarterly"),
    (350, 380, "a year", "yearly"),
)
#: Daily bars are 1.45 days apart on average; what is further apart is looked at.
_SUSPECT_DAYS: Final = 3.0
#: So many dates that are all a period apart make a file that is not daily, if it has no daily ones.
_FEW: Final = 4
#: So many make a symbol of a file that has others.
_MANY: Final = 7
#: So many sessions lack in a file a part of which may be weekly.
_LACKING: Final = 20
_DAYS_APART: Final = 1.45
_WEEK: Final = 7
#: This share of the rows of weeks are seven days apart; what trades seldom has no such order.
_WEEKS: Final = 0.75


def plans_not_daily(
    plans: Sequence[ReadPlan], index: pl.DataFrame, folders: Sequence[Path]
) -> Iterator[tuple[int, str | None, HistoricalETLError]]:
    """The files, or the symbols of files, whose rows are not daily bars: number, symbol (None: all), the refusal."""
    numbers: list[int] = index.get_column("file").unique().to_list()
    timed = [number for number in numbers if plans[number].timed]
    apart = (pl.col("last") - pl.col("first")).dt.total_days() / (pl.col("rows") - 1)
    suspects = index.filter(
        ((pl.col("rows") >= _FEW) & (apart >= _SUSPECT_DAYS)) | (pl.col("file").is_in(timed) & (pl.col("rows") > 1)),
        pl.col("symbol").is_not_null(),
    )
    if suspects.is_empty():
        return
    for found in _steps(plans, suspects, folders).partition_by("file"):
        number: int = found.item(0, "file")
        yield from _judged(number, plans[number], found, index)


def parts_not_daily(plans: Sequence[ReadPlan], index: pl.DataFrame, folders: Sequence[Path]) -> dict[int, ReadPlan]:
    """Plans that leave out the rows of weeks or months of files that have daily bars as well, by their number."""
    span = (pl.col("last") - pl.col("first")).dt.total_days()
    lacking = span / _DAYS_APART - pl.col("rows") >= _LACKING
    suspects = index.filter(lacking, pl.col("rows") > _MANY, pl.col("symbol").is_not_null())
    if suspects.is_empty():
        return {}
    try:
        rows = _dates(plans, suspects, folders).unique().sort("file", "symbol", "date").collect(engine="streaming")
    except BROKEN:  # what reads these files for their bars names the one that is damaged
        return {}
    found: dict[int, ReadPlan] = {}
    for part in rows.partition_by("file", "symbol", maintain_order=True):
        number: int = part.item(0, "file")
        symbol: str = part.item(0, "symbol")
        for first, last, words in _sparse(part.get_column("date").to_list()):
            plan = found.get(number, plans[number])
            found[number] = plan.without(symbol, first, last, words)
    return found


def _sparse(days: Sequence[date]) -> Iterator[tuple[date, date, str]]:
    """Runs of days that are a period apart, among others: first, last, what they are."""
    steps = [(day - before).days for before, day in pairwise(days)]
    for low, high, _, adjective in _PERIODS:
        start = 0
        for at in range(len(steps) + 1):
            if at < len(steps) and low <= steps[at] <= high:
                continue
            run, begin, end = steps[start:at], start, at
            # Beside daily bars, the outermost day is one of theirs.
            begin, end = begin + (begin > 0 and steps[begin - 1] < low), end - (at < len(steps) and steps[at] < low)
            even = low > _WEEK or run.count(_WEEK) >= _WEEKS * len(run)
            if len(run) >= _MANY and even and len(run) < len(steps):
                yield days[begin], days[end], adjective
            start = at + 1


def _judged(
    number: int, plan: ReadPlan, found: pl.DataFrame, index: pl.DataFrame
) -> Iterator[tuple[int, str | None, HistoricalETLError]]:
    several = found.filter(pl.col("most") > 1, pl.lit(plan.timed))
    if several.height:
        row = several.row(0, named=True)
        evidence = f"{row['symbol']} has up to {row['most']} rows for one day, at several times"
        yield number, None, not_daily(evidence, plan.path)
        return
    sparse: dict[str, str] = {}
    for row in found.iter_rows(named=True):
        for low, high, words, adjective in _PERIODS:
            if row["dates"] >= _FEW and low <= row["least"] and row["furthest"] <= high:
                sparse[row["symbol"]] = (
                    f"{row['dates']:,} rows of {row['symbol']} from {row['first']} to {row['last']} are {words} apart "
                    f"throughout ({row['least']} to {row['furthest']} days): they are {adjective}"
                )
    if not sparse:
        return
    others = set(index.filter(pl.col("file") == number, pl.col("rows") > 1).get_column("symbol")) - set(sparse)
    if not others:
        yield number, None, not_daily(next(iter(sparse.values())), plan.path)
        return
    for row in found.filter(pl.col("symbol").is_in(list(sparse)), pl.col("dates") >= _MANY).iter_rows(named=True):
        yield number, row["symbol"], not_daily(sparse[row["symbol"]], plan.path)


def _steps(plans: Sequence[ReadPlan], suspects: pl.DataFrame, folders: Sequence[Path]) -> pl.DataFrame:
    """For each suspected file and symbol: its dates, the least and furthest step between them, the most rows of one."""
    wanted = _dates(plans, suspects, folders)
    step = pl.col("date").diff().dt.total_days()
    try:
        return (
            wanted.group_by("file", "symbol", "date")
            .len()
            .sort("file", "symbol", "date")
            .group_by("file", "symbol", maintain_order=True)
            .agg(
                pl.len().alias("dates"),
                pl.col("len").max().alias("most"),
                step.min().alias("least"),
                step.max().alias("furthest"),
                pl.col("date").first().alias("first"),
                pl.col("date").last().alias("last"),
            )
            .collect(engine="streaming")
        )
    except BROKEN:  # what reads these files for their bars names the one that is damaged
        return pl.DataFrame(
            schema={"file": pl.UInt32(), "symbol": pl.String(), "dates": pl.UInt32(), "most": pl.UInt32()}
        )


def _dates(plans: Sequence[ReadPlan], suspects: pl.DataFrame, folders: Sequence[Path]) -> pl.LazyFrame:
    """The file, symbol and date of each readable row of some."""
    numbers: list[int] = suspects.get_column("file").unique().sort().to_list()
    parts = [
        plans[number].typed().with_columns(pl.lit(number, pl.UInt32).alias("file"))
        for number in numbers
        if not plans[number].is_csv
    ]
    if any(plans[number].is_csv for number in numbers):
        copies = sorted(file for folder in folders for file in folder.rglob("*.parquet"))
        parts.append(pl.scan_parquet(copies, glob=False, hive_partitioning=False))
    rows = [part.filter(~pl.col("_fault")).select("file", "symbol", "date") for part in parts]
    keys = suspects.select("file", "symbol")
    return pl.concat(rows).join(keys.lazy(), on=["file", "symbol"], how="semi")
