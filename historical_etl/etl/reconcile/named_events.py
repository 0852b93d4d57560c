"""The splits and dividends that a source names, with those that it named before."""

from datetime import date
from typing import Final

import polars as pl

from historical_etl.etl.fetch import Batch
from historical_etl.etl.merge import outside
from historical_etl.etl.reconcile.result import Base
from historical_etl.quality.reported_days import ALIKE, NEARBY
from historical_etl.schema import ORDER
from historical_etl.sources.base import ACTIONS

__all__ = ["all_named", "newly_named", "splits"]

#: Amounts closer than this are one that is written in two ways.
_SAME: Final = 1e-3
_VALUES: Final = ("split", "dividend")
_SINCE: Final = pl.Schema({"symbol": pl.String(), "since": pl.Date(), "start": pl.Date()})


def newly_named(batch: Batch, base: Base) -> pl.DataFrame:
    """The events, columns symbol and date, that were not named before: an inferred one was not.

    Nor was one that was named when no bar of its day or after it had come: now there is something to judge it by. Of
    days before what was asked for those count, too, that are named otherwise now, or no more.
    """
    if batch.actions is None:
        return batch.rows.clear()[list(ORDER)]
    named = batch.actions.select(ORDER)
    if base.actions is None:
        return named if batch.late is None else pl.concat([named, batch.late.select(ORDER)])
    if named.is_empty() and batch.late is None and not batch.named_since:
        return named
    known = _judged(base.actions.filter(~pl.col("inferred")), batch, base)
    new = named.join(known, on=ORDER, how="anti")
    if batch.late is None and not batch.named_since:
        return new
    late = batch.actions.clear() if batch.late is None else batch.late
    # What is held is looked at again after pauses.
    unflagged = known.filter(pl.col("note").is_null(), ~pl.col("symbol").is_in(list(base.held)))
    return pl.concat(
        [new, _new_late(late, known, named), _otherwise(late, unflagged), _no_more(late, unflagged, batch)]
    )


def _judged(known: pl.DataFrame, batch: Batch, base: Base) -> pl.DataFrame:
    """Of known events those that a stored bar tells of, or that none tells of yet."""
    # A waiting event lies after the last stored session, and so in what was asked for.
    recent = known.filter(pl.col("date") >= min(start for start, _ in batch.requested.values()))
    if recent.is_empty():
        return known
    stored = base.completeness.symbols.select("symbol", last="last_session")
    fetched = batch.rows.group_by("symbol").agg(pl.col("date").max().alias("newest"))
    ends = recent.join(stored, on="symbol").join(fetched, on="symbol")
    waiting = ends.filter(pl.col("date") > pl.col("last"), pl.col("date") <= pl.col("newest"))
    return known.join(waiting, on=ORDER, how="anti") if waiting.height else known


def _new_late(late: pl.DataFrame, known: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Of events of days that were not asked for, those of which nothing is known.

    What was put on a day nearby is known: nothing was fetched that could move it. What the source names there itself is
    another event, as of one who pays every week.
    """
    split, dividend = pl.col("split"), pl.col("dividend")
    is_event = ((split != 1) & (split > 0) & split.is_finite()) | ((dividend > 0) & dividend.is_finite())
    new = late.filter(is_event).join(known, on=ORDER, how="anti")
    if new.is_empty():
        return new.select(ORDER)
    moved = known.join(pl.concat([late.select(ORDER), named]), on=ORDER, how="anti")
    near = new.join(moved, on="symbol", suffix="_0").filter(
        (pl.col("date") - pl.col("date_0")).abs() <= NEARBY,
        *((pl.col(name) - pl.col(f"{name}_0")).abs() <= ALIKE * pl.col(name) for name in _VALUES),
    )
    return new.join(near, on=ORDER, how="anti").select(ORDER)


def _otherwise(late: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Days that are named with other values now, as of a dividend that is corrected, or paid beside another one.

    Of several rows of a day all of them together may be what is known, or one that is named no more made it more. What
    was judged of an event is kept, however it is named.
    """
    both = late.unique().join(known, on=ORDER, suffix="_0")
    if both.is_empty():
        return both.select(ORDER)

    def is_near(value: pl.Expr, name: str) -> pl.Expr:
        return (value - pl.col(f"{name}_0").first()).abs() <= _SAME * value

    split, paid = pl.col("split"), pl.col("dividend")
    all_paid = paid.filter((paid > paid.shift(1).over(ORDER) * (1 + _SAME)).fill_null(value=True)).sum()
    days = (
        both.sort(*ORDER, "dividend")
        .group_by(ORDER)
        .agg(
            (is_near(split, "split").any() | is_near(split.product(), "split")).alias("split"),
            (is_near(all_paid, "dividend") | ((pl.len() > 1) & (all_paid < pl.col("dividend_0").first()))).alias(
                "dividend"
            ),
        )
    )
    return days.filter(~(pl.col("split") & pl.col("dividend"))).select(ORDER)


def _no_more(late: pl.DataFrame, known: pl.DataFrame, batch: Batch) -> pl.DataFrame:
    """Days before what was asked for whose event the source has taken back."""
    since = {s: (day, batch.requested[s][0]) for s, day in batch.named_since.items() if s in batch.requested}
    if not since:
        return known.clear().select(ORDER)
    begins = pl.DataFrame([(s, *span) for s, span in since.items()], schema=_SINCE, orient="row")
    before = known.filter(pl.col("date") >= begins.get_column("since").min())
    inside = before.join(begins, on="symbol").filter(pl.col("date").is_between("since", "start", closed="left"))
    return inside.join(late, on=ORDER, how="anti").select(ORDER)


def all_named(batch: Batch, base: Base) -> pl.DataFrame | None:
    """The events that the source names, those of earlier runs included; None if it names none."""
    if batch.actions is None:
        return None
    named = batch.actions.select(list(ACTIONS))
    if base.actions is None or named.is_empty():
        return named
    # What was judged otherwise than it was named is reported there: the name itself is in the new answer, if anywhere.
    before = base.actions.filter(~pl.col("inferred"), pl.col("note").is_null()).select(list(ACTIONS))
    # Where the source was asked, it has taken back what it does not name again, unless the prices show it.
    known = outside(before, batch.spans())
    return pl.concat([named, known.join(named, on=ORDER, how="anti")])


def splits(batch: Batch, base: Base) -> dict[tuple[str, date], float]:
    """(symbol, date) → ratio of the splits that are known."""
    known = [frame for frame in (base.actions, batch.actions) if frame is not None]
    columns = ["symbol", "date", "split"]
    return {
        (symbol, day): split
        for frame in known
        for symbol, day, split in frame[columns].filter(pl.col("split") != 1).iter_rows()
    }
