"""What is different between two versions, bar by bar. Years whose bytes are equal are not read."""

from typing import Final

import polars as pl

from historical_etl.etl.symbology import Move, Names, mapped
from historical_etl.models import SyncManifest
from historical_etl.schema import ORDER, SCHEMA, empty_frame
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_undamaged
from historical_etl.store.verified_files import collected, verified_path

__all__ = ["DIFF_SCHEMA", "changed_years", "version_diff"]

_ALIAS: Final = ("alias", "symbol", "last_session")
_VALUES: Final = [name for name in SCHEMA if name not in ORDER]
#: Columns of a difference: `change` is added, removed, changed or renamed, `columns` names the values that changed.
DIFF_SCHEMA: Final = pl.Schema(
    {
        "date": pl.Date(),
        "symbol": pl.String(),
        "change": pl.String(),
        "columns": pl.List(pl.String()),
        **{f"{name}_{side}": SCHEMA[name] for name in _VALUES for side in ("old", "new")},
    }
)


def version_diff(layout: Layout, old: SyncManifest, new: SyncManifest) -> pl.DataFrame:
    """Every bar that is not the same in both versions, sorted by (symbol, date); columns `DIFF_SCHEMA`.

    A bar that another symbol has in the new version, since it was renamed, is `renamed`, under that symbol.

    Raises:
        ChecksumMismatchError: a file of either version is not what was committed.
    """
    moves = [_moves_of(layout, version, other) for version, other in ((old, new), (new, old))]
    parts = [_of_year(layout, (old, moves[0]), (new, moves[1]), year) for year in changed_years(old, new)]
    return pl.concat([pl.DataFrame(schema=DIFF_SCHEMA), *parts]).sort(ORDER)


def changed_years(old: SyncManifest, new: SyncManifest) -> list[int]:
    """The years whose bytes are not the same in both versions, ascending."""
    sums = [{partition.year: partition.checksum for partition in version.partitions} for version in (old, new)]
    return sorted(year for year in {*sums[0], *sums[1]} if sums[0].get(year) != sums[1].get(year))


def _moves_of(layout: Layout, version: SyncManifest, other: SyncManifest) -> list[Move]:
    """What the other version calls otherwise than this one."""
    mine, theirs = (read_undamaged(layout, manifest, "aliases") for manifest in (version, other))
    known = set(mine.select(_ALIAS).iter_rows())
    return [Move(*owner) for owner in Names(theirs).owners() if (owner[0], owner[1], owner[3]) not in known]


def _of_year(
    layout: Layout, old: tuple[SyncManifest, list[Move]], new: tuple[SyncManifest, list[Move]], year: int
) -> pl.DataFrame:
    in_old, in_new = pl.col("was_old").is_not_null(), pl.col("was_new").is_not_null()
    change = (
        pl.when(~in_old)
        .then(pl.lit("added"))
        .when(~in_new)
        .then(pl.lit("removed"))
        .when(pl.col("was_old") != pl.col("was_new"))
        .then(pl.lit("renamed"))
        .otherwise(pl.lit("changed"))
    )
    joined = (
        _bars(layout, *old, year, "old")
        .join(_bars(layout, *new, year, "new"), on=ORDER, how="full", coalesce=True)
        .with_columns(change.alias("change"), pl.coalesce("was_new", "was_old").alias("symbol"))
    )
    differing = [
        pl.when(pl.col(f"{name}_old").ne_missing(pl.col(f"{name}_new"))).then(pl.lit(name)) for name in _VALUES
    ]
    both = pl.col("change").is_in(["changed", "renamed"])
    named = pl.when(both).then(pl.concat_list(differing).list.drop_nulls()).otherwise([])
    found = joined.with_columns(named.alias("columns")).filter(
        (pl.col("change") != "changed") | (pl.col("columns").list.len() > 0)
    )
    return found.select(pl.col(name).cast(dtype) for name, dtype in DIFF_SCHEMA.items())


def _bars(layout: Layout, version: SyncManifest, moves: list[Move], year: int, side: str) -> pl.DataFrame:
    """The bars of a year by the names of both versions, and `was`, their name in this one."""
    partition = version.partition(year)
    rows = empty_frame()
    if partition:
        path = verified_path(layout, partition)
        rows = collected(pl.scan_parquet(path, glob=False), path)
    named = mapped(rows, moves, pl.col("date")) if moves else rows.with_columns(pl.col("symbol").alias("was"))
    return named.rename({name: f"{name}_{side}" for name in (*_VALUES, "was")})
