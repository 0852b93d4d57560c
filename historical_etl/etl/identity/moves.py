"""Moving stored rows from one symbol to another, over all years, and what that makes of the rows beside them.

Only months in which a row moves, or gets another predecessor, are written again. What was stored under one name has the
`ret` it had; where histories meet, or part, it is computed as in any merge.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from historical_etl.etl.merge import COMPARED, last_rows, with_returns
from historical_etl.etl.symbology import WAS, Move, mapped
from historical_etl.models import SyncManifest
from historical_etl.schema import ORDER, SCHEMA, empty_frame, symbols_in
from historical_etl.store.layout import Layout
from historical_etl.store.parquet import StoredStretch
from historical_etl.store.transaction import Transaction
from historical_etl.store.verified_files import collected, verified_path

__all__ = ["Moved", "move_rows", "seams", "stored_rows_of", "write_moved"]

#: What a bar may lack and have from another one of the same session and close.
_CELLS: Final = ("open", "high", "low", "volume")


@dataclass(frozen=True)
class Moved:
    """The rows of all symbols that a move concerns; sorted by (symbol, date).

    Attributes:
        before: as stored.
        after: under the names they have then, with their `ret`; `was` is the name they are stored under.
        contradicted: rows that give way to another one on the same session with other values: columns as `after`.
    """

    before: pl.DataFrame
    after: pl.DataFrame
    contradicted: pl.DataFrame

    @property
    def count(self) -> int:
        """How many stored rows change their name."""
        gone = self.contradicted.filter(pl.col(WAS) != pl.col("symbol")).height
        return self.after.filter(pl.col(WAS) != pl.col("symbol")).height + gone

    def left(self, symbol: str) -> pl.DataFrame:
        """The rows that a symbol has after the move and had before."""
        return self.after.filter(pl.col("symbol") == symbol, pl.col(WAS) == symbol)


def move_rows(layout: Layout, manifest: SyncManifest | None, moves: Sequence[Move]) -> Moved:
    """What becomes of the stored rows; nothing is written.

    Raises:
        ChecksumMismatchError: a year is damaged.
    """
    concerned = sorted({name for move in moves for name in (move.old, move.new)})
    before = stored_rows_of(layout, manifest, concerned)
    # Where two histories have the same session, the one whose own name it is precedes the other.
    own = (pl.col(WAS) == pl.col("symbol")).alias("own")
    both = mapped(before, moves, pl.col("date")).with_columns(own).sort(*ORDER, "own", WAS)
    keep = pl.struct(ORDER).is_last_distinct()
    after, others = both.filter(keep).drop("own"), both.filter(~keep).drop("own")
    if others.is_empty():
        return Moved(before, _with_returns(before, after), others)
    pairs = others.join(after, on=ORDER, suffix="_kept").with_columns(_agree().alias("agree"))
    return Moved(
        before,
        _with_returns(before, _completed(after, pairs.filter("agree"))),
        pairs.filter(~pl.col("agree")).select(others.columns),
    )


def _agree() -> pl.Expr:
    """Whether two bars of a session say the same; a null says nothing, but of `adj_close`: its basis may differ."""
    cells = [(name, pl.col(name), pl.col(f"{name}_kept")) for name in COMPARED]
    silent = [one.is_null() | other.is_null() if name in _CELLS else pl.lit(value=False) for name, one, other in cells]
    same = [one.eq_missing(other) for _, one, other in cells]
    return pl.all_horizontal(one | other for one, other in zip(same, silent, strict=True))


def _completed(after: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Bars with the cells that only the bar has which gives way to them."""
    given = others.group_by(ORDER).agg(pl.col(_CELLS).drop_nulls().last().name.suffix("_given"))
    return (
        after.join(given, on=ORDER, how="left", maintain_order="left")
        .with_columns(pl.coalesce(name, f"{name}_given").alias(name) for name in _CELLS)
        .select(after.columns)
    )


def seams(moved: Moved) -> pl.DataFrame:
    """Rows whose predecessor had another name: each with the `was_0`, `date_0`, `close_0`, `adj_close_0` before it."""
    names = ("symbol", WAS, "date", "close", "adj_close")
    return (
        moved.after.select(*names, *(pl.col(name).shift(1).alias(f"{name}_0") for name in names))
        .filter(pl.col("symbol") == pl.col("symbol_0"), pl.col(WAS) != pl.col(f"{WAS}_0"))
        .drop("symbol_0")
    )


def write_moved(transaction: Transaction, moved: Moved, gate: Callable[[pl.DataFrame, int], None]) -> None:
    """Write the years in which anything changes; not yet committed.

    Raises:
        DataQualityError: a stored year is damaged, or the gate refused a month.
        DiskSpaceError, StorageError: nothing is committed.
    """
    before, after = moved.before, moved.after.select(list(SCHEMA))
    differing = [
        one.join(other, on=list(SCHEMA), how="anti", nulls_equal=True).select("date")
        for one, other in ((after, before), (before, after))
    ]
    changed = pl.concat(differing).select(
        pl.col("date").dt.year().alias("year"), pl.col("date").dt.month().alias("month")
    )
    concerned = pl.concat([before.get_column("symbol"), after.get_column("symbol")]).unique()
    for (year,), months in changed.unique().partition_by("year", as_dict=True).items():
        of_year = pl.col("date").dt.year() == year
        _write_year(
            transaction, int(year), set(months["month"]), before.filter(of_year), after.filter(of_year), concerned, gate
        )


def _write_year(
    transaction: Transaction,
    year: int,
    months: Collection[int],
    before: pl.DataFrame,
    after: pl.DataFrame,
    concerned: pl.Series,
    gate: Callable[[pl.DataFrame, int], None],
) -> None:
    partition = transaction.base.partition(year) if transaction.base else None
    assert partition is not None  # noqa: S101 - its rows were read
    blocks = {block.month: block for block in transaction.stored_blocks(year)}
    in_months = pl.col("date").dt.month().is_in(months)
    stored = StoredStretch.read(blocks, sorted(months), sorted(concerned), before.filter(in_months))
    merged = after.filter(in_months)
    gate(merged, year)
    written = [block for _, block in sorted(stored.replaced_in(blocks, merged).items())]
    symbols = partition.symbols - symbols_in(before).len() + symbols_in(after).len()
    transaction.write_year(year, written, symbols)


def stored_rows_of(layout: Layout, manifest: SyncManifest | None, symbols: Sequence[str]) -> pl.DataFrame:
    """All stored rows of some symbols, sorted by (symbol, date).

    Raises:
        ChecksumMismatchError, StorageError: a year is damaged, or cannot be read.
    """
    wanted = pl.col("symbol").is_in(symbols)
    years = [
        collected(pl.scan_parquet(path, glob=False).filter(wanted), path)
        for path in (verified_path(layout, partition) for partition in (manifest.partitions if manifest else ()))
    ]
    return pl.concat([empty_frame(), *years]).sort(ORDER)


def _with_returns(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """`ret` anew in months whose rows are others than before, or whose first one has another predecessor."""
    month = pl.col("date").dt.truncate("1mo").alias("month")
    previous = pl.col("date").shift(1).over("symbol")
    known = before.select(pl.col("symbol").alias(WAS), "date", previous.alias("previous_0"))
    rows = after.with_columns(
        month, previous.alias("previous"), pl.col(WAS).shift(1).over("symbol").alias("was_0")
    ).join(known, on=[WAS, "date"], how="left", maintain_order="left")
    follows = pl.col("previous").eq_missing(pl.col("previous_0")) & (pl.col("was_0") == pl.col(WAS)).fill_null(
        value=True
    )
    now = after.group_by("symbol", WAS, month).len()
    then = before.group_by(pl.col("symbol").alias(WAS), month).len()
    other = now.join(then, on=[WAS, "month"]).filter(pl.col("len") != pl.col("len_right")).select("symbol", "month")
    anew = pl.concat([rows.filter(~follows).select("symbol", "month"), other]).unique()
    computed = [
        _returns_of(part, after)
        for part in rows.join(anew, on=["symbol", "month"], how="semi", maintain_order="left").partition_by("month")
    ]
    if not computed:
        return after
    # A first row without a predecessor, then as now, has the `ret` that it was fetched with.
    first = pl.col("previous").is_null() & pl.col("previous_0").is_null()
    return (
        rows.join(pl.concat(computed), on=ORDER, how="left", maintain_order="left")
        .with_columns(pl.when(first | pl.col("anew").is_null()).then("ret").otherwise("ret_new").alias("ret"))
        .select(after.columns)
    )


def _returns_of(part: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """`ret` of the rows of one month: symbol, date, ret_new, anew."""
    mine = pl.col("symbol").is_in(symbols_in(part).implode())
    earlier = last_rows(after.filter(mine, pl.col("date") < part.item(0, "month")))
    found = with_returns(part.select(list(SCHEMA)), earlier, None)
    return found.select(*ORDER, pl.col("ret").alias("ret_new"), pl.lit(value=True).alias("anew"))
