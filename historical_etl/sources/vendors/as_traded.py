"""From what a vendor adjusts for splits to what was traded: the shares of a bar's own day, where prices are raw.

A vendor adjusts as of the fetch, for all splits after a bar. Some it lists before its data have reached them, or never
respects: `adj_close`, which it adjusts in the same way, tells which of them are in.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, timedelta
from math import prod
from typing import Final

import polars as pl

from historical_etl.schema import ORDER
from historical_etl.sources.vendors.event_rows import VendorEvent, event_day, ratio_of
from historical_etl.sources.vendors.frames import FormError

__all__ = ["NEAR", "applicable", "shares_after", "splits_of", "volumes_as_traded"]

#: A split: its ex-date, new shares for each old one.
_SPLITS: Final = pl.Schema({"symbol": pl.String(), "date": pl.Date(), "split": pl.Float64()})
#: A level or a split, as a logarithm, on its day.
_Log = tuple[date, float]
#: With no session after the range but such as lie so near, the newest bar is on the level of the fetch.
NEAR: Final = timedelta(days=7)
#: Vendors give `adj_close` with four decimals: a smaller one is too coarse to tell a split by.
_DECISIVE: Final = 0.01
#: So much of a split, by logarithm, at least is in a level that contains it.
_CONTAINED: Final = 0.5


def splits_of(events: Iterable[VendorEvent]) -> pl.DataFrame:
    """The splits among events, columns `symbol, date, split`; those that cannot be read are left out."""
    found: list[tuple[str, date, float]] = []
    for symbol, day, split, *_ in events:
        with suppress(FormError):
            found += [(symbol, event_day(day), ratio_of(split))] if symbol is not None else []
    return pl.DataFrame(found, schema=_SPLITS, orient="row")


def applicable(splits: pl.DataFrame, bars: pl.DataFrame, end: date, today: date) -> pl.DataFrame:
    """Of the listed splits those that the vendor has adjusted its data for, one row for each symbol and ex-date.

    A split counts if `adj_close` / `close` moves by it from the bar before to the one after, or to 1 where the bars
    reach to the present and none follows. Where neither is known, it counts if its ex-date is over.

    Args:
        splits: columns as `splits_of` has them, as listed; equal rows count once.
        bars: with the schema's columns, as fetched.
        end: the last day that bars were asked for.
        today: the day of the fetch.
    """
    listed = splits.filter(pl.col("split") > 0, pl.col("split") != 1).unique()
    listed = listed.group_by(ORDER).agg(pl.col("split").product()).filter(pl.col("split") != 1).sort(ORDER)
    levels = bars.join(listed, on="symbol", how="semi").filter(pl.col("adj_close") >= _DECISIVE, pl.col("close") > 0)
    levels = levels.select(*ORDER, level=(pl.col("adj_close") / pl.col("close")).log()).sort(ORDER)
    of = {symbol: part.select("date", "level").rows() for (symbol,), part in levels.group_by("symbol")}
    newest = (today, 0.0) if today - end <= NEAR else None
    found = [listed.clear()]
    for part in listed.partition_by("symbol"):
        mine, days = of.get(part.item(0, "symbol"), []), part.select("date", pl.col("split").log()).rows()
        contained = [_contains(mine, day, days, newest) for day, _ in days]
        counts = [
            day < today if is_contained is None else is_contained
            for (day, _), is_contained in zip(days, contained, strict=True)
        ]
        found.append(part.filter(pl.Series(counts, dtype=pl.Boolean)))
    return pl.concat(found)


def shares_after(splits: pl.DataFrame, symbol: str | None, day: object) -> float:
    """How many shares of the fetch one share of a day has become, by splits that count; 1 where it is no day."""
    try:
        later = splits.filter(pl.col("symbol") == symbol, pl.col("date") > event_day(day))
    except FormError:
        return 1.0
    return prod(later.get_column("split"))


def volumes_as_traded(bars: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Bars whose volume, adjusted for splits, is given back in shares of its day; a whole number stays whole.

    Args:
        bars: with the schema's columns, sorted.
        splits: that the volume is adjusted for: columns as `splits_of` has them.
    """
    keys = bars.select(ORDER).unique(maintain_order=True)
    after = keys.join(splits.rename({"date": "on"}), on="symbol").filter(pl.col("on") > pl.col("date"))
    shares = after.group_by(ORDER).agg(pl.col("split").product().alias("shares"))
    volume, traded = pl.col("volume"), pl.col("volume") / pl.col("shares")
    whole = pl.when(volume == volume.floor()).then(traded.round()).otherwise(traded.round(6))
    return (
        bars.join(shares, on=ORDER, how="left", maintain_order="left")
        .with_columns(pl.when(pl.col("shares") != 1).then(whole).otherwise(volume).alias("volume"))
        .select(bars.columns)
    )


def _contains(levels: Sequence[_Log], day: date, splits: Sequence[_Log], newest: _Log | None) -> bool | None:
    """Whether the level moves over an ex-date by the splits that lie between its bars; None where they do not tell."""
    before = next((level for level in reversed(levels) if level[0] < day), None)
    after = next((level for level in levels if level[0] >= day), newest)
    if before is None or after is None:
        return None
    between = sum(split for on, split in splits if before[0] < on <= after[0])
    return (after[1] - before[1]) / between >= _CONTAINED if between else None
