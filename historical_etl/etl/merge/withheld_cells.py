"""What a source does not give again: the one rule for stored cells that come empty, or torn from their bar.

A stored value is never replaced by a null. A bar that comes with a null where one is stored keeps the stored value, as
long as both belong together: an `adj_close` stays only beside the close that it was given with, and a range only around
the prices of its bar. Open, high and low are one: where those that come contradict their close, or lack one of them and
change another, the stored ones stay if they hold the close, unless the fetched bar is another one, with another close
and volume. Where nothing fits, nothing of the fetched bar is taken, and the stored bar stays as a whole. All of it is
reported. A value wins over a null, in whatever order they come.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

import polars as pl

from historical_etl.etl.merge.row_changes import COMPARED
from historical_etl.quality.price_levels import LEVEL_TOLERANCE
from historical_etl.schema import ORDER, ordered
from historical_etl.store.ledger_schemas import SCHEMAS

__all__ = ["OPTIONAL_CELLS", "WITHHELD_SCHEMA", "keep_stored", "lacking", "withheld_messages", "without_adj_close"]

#: Columns that a bar may lack.
OPTIONAL_CELLS: Final = tuple(name for name in COMPARED if name != "close")
#: What is reported of a cell; `stored` is null where a new bar lacks what its series has.
WITHHELD_SCHEMA: Final = pl.Schema(
    {name: SCHEMAS["withheld"][name] for name in ("date", "symbol", "column", "stored", "came")}
)
_RANGE: Final = ("open", "high", "low")
_NAMED: Final = 10


def keep_stored(
    old: pl.DataFrame | None, rows: pl.DataFrame | None, overwritten: Collection[str]
) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """New rows with the stored values that they do not bring, and the cells that the source did not give.

    Args:
        old: the stored rows of the same months.
        rows: the new ones, sorted by (symbol, date).
        overwritten: symbols whose history is replaced by what was fetched, nulls and all, since a person asked for it.
    """
    nothing = pl.DataFrame(schema=WITHHELD_SCHEMA)
    if old is None or rows is None:
        return rows, nothing
    mine = ~pl.col("symbol").is_in(list(overwritten))
    empty = [
        name
        for name in OPTIONAL_CELLS
        if rows.get_column(name).null_count() and old.get_column(name).null_count() < old.height
    ]
    lacks = [pl.col(name).is_null() for name in empty]
    odd = rows.filter(mine, pl.any_horizontal(~_holds(), *lacks))
    if odd.is_empty():
        return rows, nothing
    judged = (
        odd.join(old.select(*ORDER, pl.col(COMPARED).name.suffix("_s")), on=ORDER)
        .with_columns(
            pl.any_horizontal(_is_lost(name) for name in OPTIONAL_CELLS).alias("loses"), _stays().alias("stays")
        )
        .filter(pl.col("loses") | pl.col("stays"))
        .with_columns((pl.col("loses") & ~(_is_on_its_basis() & (_holds_filled() | pl.col("stays")))).alias("stands"))
    )
    if judged.is_empty():
        return rows, nothing
    cells = [
        judged.filter(_is_preserved(name) | pl.col(name).is_null(), _differs(name)).select(
            *ORDER, pl.lit(name).alias("column"), pl.col(f"{name}_s").alias("stored"), pl.col(name).alias("came")
        )
        for name in COMPARED
    ]
    filled = judged.with_columns(
        pl.when(_is_preserved(name)).then(f"{name}_s").otherwise(pl.coalesce(name, f"{name}_s")).alias(name)
        for name in COMPARED
    ).select(rows.columns)
    others = rows.join(filled, on=ORDER, how="anti", maintain_order="left")
    return ordered(pl.concat([others, filled])), _as_cells(cells)


def lacking(old: pl.DataFrame | None, rows: pl.DataFrame | None, overwritten: Collection[str]) -> pl.DataFrame:
    """The cells that new bars lack though their series has them; of `adj_close` after its first one, as far as seen.

    The arguments are those of `keep_stored`.
    """
    nothing = pl.DataFrame(schema=WITHHELD_SCHEMA)
    if rows is None:
        return nothing
    known = rows if old is None else pl.concat([old, rows])
    empty = [
        name
        for name in OPTIONAL_CELLS
        if rows.get_column(name).null_count() and known.get_column(name).null_count() < known.height
    ]
    if not empty:
        return nothing
    new = rows.filter(pl.any_horizontal(pl.col(name).is_null() for name in empty))
    new = new if old is None else new.join(old, on=ORDER, how="anti")
    if new.is_empty():
        return nothing
    if old is not None and overwritten:
        known = pl.concat([old.filter(~pl.col("symbol").is_in(list(overwritten))), rows])
    mine = known.filter(pl.col("symbol").is_in(new.get_column("symbol").unique().implode()))
    since = mine.group_by("symbol").agg(
        pl.col("date").filter(pl.col(name).is_not_null()).min().alias(f"{name}_since") for name in empty
    )
    new = new.join(since, on="symbol")
    cells = [
        new.filter(
            pl.col(name).is_null(),
            pl.col("date") > pl.col("adj_close_since")
            if name == "adj_close"
            else pl.col(f"{name}_since").is_not_null(),
        ).select(*ORDER, pl.lit(name).alias("column"), _NO_VALUE.alias("stored"), _NO_VALUE.alias("came"))
        for name in empty
    ]
    return _as_cells(cells)


def without_adj_close(
    rows: pl.DataFrame,
    added: pl.DataFrame,
    symbols: pl.DataFrame,
    following: Callable[[pl.DataFrame], pl.DataFrame],
    reported: pl.DataFrame,
) -> pl.DataFrame:
    """New bars without an `adj_close`, of symbols that are stored with one, before them or after.

    Before them, it may be that the source has none yet: so it is where the next stored bar has none either, unless that
    was reported; and where other new bars, later ones, have theirs.

    Args:
        rows: what was fetched.
        added: (symbol, date) of the bars among them that are new.
        symbols: the ledger `symbols`, as it was.
        following: the first stored bar after some spans, columns symbol, low and high.
        reported: what was reported so far, columns `WITHHELD_SCHEMA`.
    """
    adjusted = symbols.select("symbol", "adjusted_through").drop_nulls()
    new = rows.join(added, on=ORDER, how="semi").join(adjusted, on="symbol")
    bare = new.filter(pl.col("adj_close").is_null())
    is_later = pl.col("date") > pl.col("adjusted_through")
    begins = new.filter(pl.col("adj_close").is_not_null()).group_by("symbol").agg(pl.col("date").max().alias("given"))
    earlier = bare.filter(~is_later).join(begins, on="symbol", how="left")
    earlier = earlier.filter((pl.col("date") > pl.col("given")).fill_null(value=True))
    if earlier.height:
        known = reported.filter(pl.col("column") == "adj_close", pl.col("stored").is_null()).select(ORDER)
        spans = earlier.group_by("symbol").agg(low=pl.col("date").min(), high=pl.col("date").max())
        after = following(spans)
        gave = [after.filter(pl.col("adj_close").is_not_null()), after.join(known, on=ORDER, how="semi")]
        earlier = earlier.join(pl.concat(gave), on="symbol", how="semi")
    facts = [pl.lit("adj_close").alias("column"), _NO_VALUE.alias("stored"), _NO_VALUE.alias("came")]
    return _as_cells([part.select(*ORDER, *facts) for part in (bare.filter(is_later), earlier)])


def withheld_messages(cells: pl.DataFrame) -> list[str]:
    """A line for each column that was not given again, was not taken, or is lacking."""
    lines: list[str] = []
    refused = cells.filter(pl.col("came").is_not_null())
    whole = refused.filter(~pl.col("column").is_in(_RANGE))
    if (torn := refused.join(whole, on=ORDER, how="anti")).height:
        bars = torn.select(ORDER).unique()
        lines.append(
            f"fetched open, high or low of {bars.height} stored bar(s) contradict the close, or one another; "
            f"the stored ones stay: {_some(bars)}"
        )
    if whole.height:
        bars = whole.select(ORDER).unique()
        lines.append(
            f"{bars.height} bar(s) were fetched with other prices and without stored values; nothing of them was "
            f"taken, the stored bars stay: {_some(bars)}"
        )
    for name in OPTIONAL_CELLS:
        mine = cells.filter(pl.col("column") == name, pl.col("came").is_null()).join(refused, on=ORDER, how="anti")
        known, new = mine.filter(pl.col("stored").is_not_null()), mine.filter(pl.col("stored").is_null())
        if known.height:
            lines.append(f"{name} of {known.height} stored bar(s) did not come again and was kept: {_some(known)}")
        if new.height:
            unknown = "; `ret` and adjust='total' are null there" if name == "adj_close" else ""
            lines.append(f"{name} is lacking on {new.height} new bar(s) of series that have it{unknown}: {_some(new)}")
    return lines


_NO_VALUE: Final = pl.lit(None, pl.Float64)


def _holds(suffix: str = "", close: str = "close") -> pl.Expr:
    """Whether low to high hold open and close, as far as they are known."""
    return _within([pl.col(f"{name}{suffix}") for name in _RANGE], pl.col(close))


def _holds_filled() -> pl.Expr:
    """Whether it is so with the stored values that did not come."""
    return _within([pl.coalesce(name, f"{name}_s") for name in _RANGE], pl.col("close"))


def _within(prices: Sequence[pl.Expr], close: pl.Expr) -> pl.Expr:
    start, high, low = prices
    below_high = high * (1 + LEVEL_TOLERANCE) >= pl.max_horizontal(start, close, low)
    above_low = low * (1 - LEVEL_TOLERANCE) <= pl.min_horizontal(start, close)
    return below_high.fill_null(value=True) & above_low.fill_null(value=True)


def _stays() -> pl.Expr:
    """Whether the stored open, high and low are taken for those that was fetched."""
    changes = pl.any_horizontal(_differs(name) & pl.col(name).is_not_null() for name in _RANGE)
    lost = pl.any_horizontal(_is_lost(name) for name in _RANGE)
    return changes & (lost | ~_holds_filled()) & _holds("_s", "close_s") & _holds("_s") & ~_is_another_bar()


def _is_another_bar() -> pl.Expr:
    """Whether the fetched bar is no correction of the stored one, as where that repeated the bar of the day before."""
    differs = (pl.col("volume") != pl.col("volume_s")).fill_null(value=False)
    return differs & ((pl.col("close") / pl.col("close_s") - 1).abs() > LEVEL_TOLERANCE)


def _is_on_its_basis() -> pl.Expr:
    """Whether a stored `adj_close` that did not come again has its close beside it."""
    same_close = (pl.col("close") / pl.col("close_s") - 1).abs() <= LEVEL_TOLERANCE
    return pl.col("adj_close").is_not_null() | pl.col("adj_close_s").is_null() | same_close


def _is_preserved(name: str) -> pl.Expr:
    return pl.col("stands") | pl.col("stays") if name in _RANGE else pl.col("stands")


def _is_lost(name: str) -> pl.Expr:
    return pl.col(name).is_null() & pl.col(f"{name}_s").is_not_null()


def _differs(name: str) -> pl.Expr:
    return pl.col(name).ne_missing(pl.col(f"{name}_s")) & pl.col(f"{name}_s").is_not_null()


def _as_cells(cells: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=WITHHELD_SCHEMA), *(part.select(list(WITHHELD_SCHEMA)) for part in cells)])


def _some(cells: pl.DataFrame) -> str:
    counts = cells.group_by("symbol").len().sort("symbol")
    names = [f"{symbol} ({count})" if count > 1 else symbol for symbol, count in counts.head(_NAMED).iter_rows()]
    more = f" and {counts.height - _NAMED} more" if counts.height > _NAMED else ""
    return f"{', '.join(names)}{more}"
