"""What is different between two versions, bar by bar. Years whose bytes are equal are not read."""

from typing import Final

import polars as pl

from historical_etl.models import SyncManifest
from historical_etl.schema import ORDER, SCHEMA, empty_frame
from historical_etl.store.layout import Layout
from historical_etl.store.sound import sound_path

__all__ = ["DIFFERENCES", "changed_years", "differences"]

_VALUES: Final = [name for name in SCHEMA if name not in ORDER]
#: Columns of a difference: `change` is added, removed or changed, `columns` names the values that changed.
DIFFERENCES: Final = pl.Schema(
    {
        "date": pl.Date(),
        "symbol": pl.String(),
        "change": pl.String(),
        "columns": pl.List(pl.String()),
        **{f"{name}_{side}": SCHEMA[name] for name in _VALUES for side in ("old", "new")},
    }
)


def differences(layout: Layout, old: SyncManifest, new: SyncManifest) -> pl.DataFrame:
    """Every bar that is not the same in both versions, sorted by (symbol, date); columns `DIFFERENCES`.

    Raises:
        ChecksumMismatchError: a file of either version is not what was committed.
    """
    parts = [_of_year(layout, old, new, year) for year in changed_years(old, new)]
    return pl.concat([pl.DataFrame(schema=DIFFERENCES), *parts]).sort(ORDER)


def changed_years(old: SyncManifest, new: SyncManifest) -> list[int]:
    """The years whose bytes are not the same in both versions, ascending."""
    sums = [{partition.year: partition.checksum for partition in version.partitions} for version in (old, new)]
    return sorted(year for year in {*sums[0], *sums[1]} if sums[0].get(year) != sums[1].get(year))


def _of_year(layout: Layout, old: SyncManifest, new: SyncManifest, year: int) -> pl.DataFrame:
    joined = (
        _bars(layout, old, year, "old")
        .join(_bars(layout, new, year, "new"), on=ORDER, how="full", coalesce=True)
        .with_columns(
            pl.when(pl.col("in_old").is_null())
            .then(pl.lit("added"))
            .when(pl.col("in_new").is_null())
            .then(pl.lit("removed"))
            .otherwise(pl.lit("changed"))
            .alias("change"),
        )
    )
    differing = [
        pl.when(pl.col(f"{name}_old").ne_missing(pl.col(f"{name}_new"))).then(pl.lit(name)) for name in _VALUES
    ]
    named = pl.when(pl.col("change") == "changed").then(pl.concat_list(differing).list.drop_nulls()).otherwise([])
    found = joined.with_columns(named.alias("columns")).filter(
        (pl.col("change") != "changed") | (pl.col("columns").list.len() > 0)
    )
    return found.select(pl.col(name).cast(dtype) for name, dtype in DIFFERENCES.items())


def _bars(layout: Layout, version: SyncManifest, year: int, side: str) -> pl.DataFrame:
    partition = version.partition(year)
    rows = pl.read_parquet(sound_path(layout, partition), glob=False) if partition else empty_frame()
    return rows.rename({name: f"{name}_{side}" for name in _VALUES}).with_columns(
        pl.lit(value=True).alias(f"in_{side}")
    )
