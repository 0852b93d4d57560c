"""Which months of a year are merged at once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import polars as pl

from historical_etl.schema import IS_FIRST
from historical_etl.store.parquet import Block

__all__ = ["stretches"]

#: The most rows of several months that are merged at once.
_STRETCH_ROWS: Final = 1_500_000
#: Months are merged at once if they change so many times as many symbols, or as few.
_ALIKE: Final = 4
_FEW: Final = 20


def stretches(
    new: pl.DataFrame, dropped: pl.DataFrame, blocks: Mapping[int, Block], successors: Collection[int]
) -> Iterator[tuple[list[int], pl.DataFrame | None]]:
    """The months of a year in runs that are merged at once, each with its new rows; None: only successors may change.

    Months with the changes of a few symbols, such as a restated history has, are not merged with those of many: all
    that is read is of symbols that change anywhere in the run. A stored month between two of a run belongs to it.
    """
    counts = _changes_by_month(new, dropped)
    runs: list[list[int]] = []
    for month in sorted(counts):
        if runs and _belongs(month, runs[-1], counts, blocks):
            runs[-1].append(month)
        else:
            runs.append([month])
    of_run = {month: run for run in runs for month in range(run[0], run[-1] + 1)}
    month_of_row = new.get_column("date").dt.month() if len(runs) > 1 else pl.Series(dtype=pl.Int8)
    for month in sorted({*of_run, *successors, *(blocks if counts else ())}):
        run = of_run.get(month)
        if run is None:
            yield [month], None
        elif month == run[0]:
            months = [within for within in range(run[0], run[-1] + 1) if within in counts or within in blocks]
            rows = new if len(runs) == 1 else new.filter(month_of_row.is_between(run[0], run[-1]))
            yield months, rows


def _changes_by_month(new: pl.DataFrame, dropped: pl.DataFrame) -> dict[int, tuple[int, int]]:
    """The number of rows, and of symbols, that change in each month."""
    month, place = pl.col("month"), pl.col("place")
    # Those of a symbol in a month stand together: only the first of them is looked at.
    counted = (
        pl.concat([rows.lazy().select("symbol", pl.col("date").dt.month().alias("month")) for rows in (new, dropped)])
        .select("month", starts=IS_FIRST | (month != month.shift()))
        .with_row_index("place")
        .filter("starts")
        .select("month", rows=place.shift(-1, fill_value=new.height + dropped.height) - place)
        .group_by("month")
        .agg(pl.col("rows").sum(), pl.len())
        .collect()
    )
    return {month: (rows, symbols) for month, rows, symbols in counted.iter_rows()}


def _belongs(
    month: int, run: Sequence[int], counts: Mapping[int, tuple[int, int]], blocks: Mapping[int, Block]
) -> bool:
    """Whether a month is merged together with those before it."""
    months = [*run, month]
    stored = [blocks[between] for between in range(run[0], month + 1) if between in blocks]
    symbols = [counts[changed][1] for changed in months]
    if stored and max(symbols) > _ALIKE * (min(symbols) + _FEW):
        return False
    most = max(symbols)
    read = sum(block.rows * min(1.0, most / len(block.groups)) for block in stored)
    return read + sum(counts[changed][0] for changed in months) <= _STRETCH_ROWS
