"""Splits and dividends: reported by the source, or inferred from `close` and `adj_close`.

The factor of a bar is f = adj_close / close. On an ex-date it moves by g = f / (f of the session before): by the ratio
of a split, or by 1 + dividend / close, which is what makes `ret` the total return. Anything smaller than what rounding
does to the two prices is no event.
"""

from collections.abc import Sequence

import polars as pl

from historical_etl.etl.merge.returns import PRICES, first_rows
from historical_etl.quality.event_sessions import DAYS_OFF
from historical_etl.quality.events import EVENTS, implied_event
from historical_etl.quality.factor_moves import factor_moves, factor_rounding, pairs_at
from historical_etl.quality.reported_days import ALIKE
from historical_etl.quality.split_ratios import SMALLEST_SPLIT
from historical_etl.quality.withdrawn_events import NO_MORE, NOT_RESTATED
from historical_etl.schema import IS_LAST, ORDER, together

__all__ = ["inferred", "inside", "outside", "with_implied", "with_judged", "with_named", "without_outdated"]


def inferred(rows: pl.DataFrame, before: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The events that the prices of some rows imply, and for which sessions of each symbol that was looked at.

    Args:
        rows: bars sorted by (symbol, date).
        before: the row before them for symbols where it is known; columns symbol, date, close, adj_close.

    Returns:
        Events, columns `EVENTS`, and spans (symbol, low, high) inside which there are no others.
    """
    known = before.select("symbol", close_0="close", adj_close_0="adj_close")
    heads = first_rows(rows[list(PRICES)]).join(known, on="symbol", how="left", maintain_order="left")
    low = pl.when(pl.col("close_0").is_null()).then(pl.col("date").dt.offset_by("1d")).otherwise("date")
    high = rows.select(pl.col("date").filter(IS_LAST)).to_series()
    spans = heads.select("symbol", low.alias("low"), high.alias("high"))
    inner = pairs_at(rows, factor_moves(rows)).select(heads.columns)
    return _events(pl.concat([inner, heads.lazy()])), spans


def _events(pairs: pl.LazyFrame) -> pl.DataFrame:
    now, then = pl.col("adj_close") / pl.col("close"), pl.col("adj_close_0") / pl.col("close_0")
    moves = pairs.with_columns((now / then).alias("move"), factor_rounding().alias("noise"))
    found = moves.filter((pl.col("move") - 1).abs() > pl.col("noise")).collect()
    if found.is_empty():
        return pl.DataFrame(schema=EVENTS)
    is_cash = pl.col("move").is_between(1, SMALLEST_SPLIT, closed="left")
    cash = found.filter(is_cash).select(
        *ORDER,
        pl.lit(1.0).alias("split"),
        ((pl.col("move") - 1) * pl.col("close")).round(6).alias("dividend"),
        pl.lit(value=False).alias("unexplained"),
        pl.lit(None, pl.String).alias("note"),
    )
    rows = found.filter(~is_cash).select(*ORDER, "move", "close", "noise").iter_rows()  # seldom any
    others = [(symbol, day, *implied_event(move, close, noise)) for symbol, day, move, close, noise in rows]
    return pl.concat([cash, pl.DataFrame(others, schema=EVENTS, orient="row")]).sort(ORDER)


def with_named(stored: pl.DataFrame, named: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The ledger `actions` with what the source names, in place of all that was known of the ranges it answers for.

    The verdict on an event is kept: its bars did not change since, else it would be judged anew.

    Args:
        stored: the ledger as it was.
        named: symbol, date, split, dividend and `in_close`.
        asked: (symbol, low, high) of the ranges that were asked for.
    """
    events = named.filter((pl.col("split") != 1) | (pl.col("dividend") != 0)).with_columns(
        inferred=pl.lit(value=False), unexplained=pl.lit(value=False), note=pl.lit(None, pl.String)
    )
    ledger = _together(outside(stored, asked), events)
    annotated = stored.filter(pl.col("note").is_not_null())
    if annotated.is_empty():
        return ledger
    unnamed = annotated.filter("inferred").join(_named_now(annotated, events), on=ORDER, how="anti")
    # Whether a name is missing, or nothing was restated by it, is judged anew whenever the source was asked.
    is_other = pl.col("inferred") | pl.col("note").str.contains_any([NO_MORE, NOT_RESTATED])
    still = pl.concat([unnamed, annotated.filter(~is_other).join(events, on=ORDER, how="semi")])
    return _together(ledger, still)


def _named_now(annotated: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Of inferred events those that are named now: on their day, or likewise on one nearby."""
    guessed = annotated.filter("inferred").select(*ORDER, "split", "dividend").sort("date")
    new = events.select("symbol", "split", "dividend", on="date").sort("on")
    if guessed.is_empty() or new.is_empty():
        return guessed.select(ORDER).clear()
    both = guessed.join_asof(
        new, left_on="date", right_on="on", by="symbol", strategy="nearest", tolerance=DAYS_OFF, check_sortedness=False
    )
    alike = [(pl.col(f"{name}_right") - pl.col(name)).abs() <= ALIKE * pl.col(name) for name in ("split", "dividend")]
    return both.filter((pl.col("on") == pl.col("date")) | pl.all_horizontal(alike)).select(ORDER)


def with_judged(ledger: pl.DataFrame, judged: pl.DataFrame, *, in_close: bool) -> pl.DataFrame:
    """The ledger `actions` with what was judged of single events in place of what was named or implied.

    Args:
        ledger: with all that is named or implied.
        judged: columns `EVENTS`.
        in_close: whether the stored close jumps with an event that nobody names.
    """
    if judged.is_empty():
        return ledger
    known = judged.join(ledger.select(*ORDER, "in_close", "inferred"), on=ORDER, how="left").with_columns(
        pl.col("in_close").fill_null(in_close), pl.col("inferred").fill_null(value=True)
    )
    return _together(ledger, known)


def without_outdated(stored: pl.DataFrame, outdated: pl.DataFrame) -> pl.DataFrame:
    """The ledger `actions` without what was reported some events (symbol, date): inferred ones are none any more.

    So it is once the sessions are stored over which an event was inferred, and once its `adj_close` is another.
    """
    if outdated.is_empty():
        return stored
    inferred_ones = stored.filter("inferred").join(outdated, on=ORDER, how="semi")
    known = _without(stored, inferred_ones).join(
        outdated.with_columns(is_outdated=True), on=ORDER, how="left", maintain_order="left"
    )
    is_outdated = pl.col("is_outdated").fill_null(value=False)
    return known.with_columns(
        pl.col("unexplained") & ~is_outdated, pl.when(~is_outdated).then("note").alias("note")
    ).drop("is_outdated")


def with_implied(stored: pl.DataFrame, implied: Sequence[tuple[pl.DataFrame, pl.DataFrame]]) -> pl.DataFrame:
    """The ledger `actions` with what prices imply, in place of what they implied before; named events stay.

    Args:
        stored: the ledger as it was.
        implied: events and spans from `inferred`, of all months that the commit visited.
    """
    guessed = stored.filter("inferred")
    for _, spans in implied if guessed.height else ():
        stored = _without(stored, inside(guessed, spans))
    found = [events for events, _ in implied if events.height]
    if not found:
        return stored
    named = stored.filter(~pl.col("inferred")).get_column("symbol").unique()
    events = pl.concat(found).filter(~pl.col("symbol").is_in(named.implode()))
    return _together(stored, events.with_columns(in_close=pl.lit(value=True), inferred=pl.lit(value=True)))


def _together(known: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """The ledger with some events in place of those on their days; it stays in order."""
    last = new[known.columns].unique(ORDER, keep="last").sort(ORDER)
    return together([_without(known, last), last])


def outside(actions: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The events outside some spans (symbol, low, high)."""
    return _without(actions, inside(actions, spans))


def _without(actions: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    return actions.join(others, on=ORDER, how="anti", maintain_order="left") if others.height else actions


def inside(actions: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The events inside some spans (symbol, low, high), with the span of each."""
    low, high = spans.get_column("low").min(), spans.get_column("high").max()
    near = actions.filter(pl.col("date").is_between(pl.lit(low, pl.Date), pl.lit(high, pl.Date)))
    return near.join(spans, on="symbol").filter(pl.col("date").is_between("low", "high"))
