"""Prices on another basis than they are stored on, and which of them nobody can know.

Inside one series all prices that are given are on one basis. Where the basis of a bar is not known, or where the
events that it takes are not, as before one that is unexplained, the prices are null: never a guess, and never the
stored price in place of an adjusted one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import log
from typing import Final, Literal

import polars as pl

from historical_etl.models import UNSTATED
from historical_etl.schema import ORDER

__all__ = ["Adjust", "adjusted", "unknown_bases"]

Adjust = Literal["none", "splits", "total"]
_NAMED: Final = 10
_FACTS: Final = ("symbol", "names_events", "split_adjusted", "adjustment")
#: An unexplained event over which the close moves by less is no split that prices would have to be scaled for.
_MAY_BE_SPLIT: Final = 1.1
_PRICES: Final = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Unknown:
    """Symbols of which prices are null, by why: all of their bars, those without an `adj_close`, or the first ones.

    Of `unsplit` the bars without an `adj_close` are null, since it alone shows their splits; of `bare` they are, too.
    `before` has (symbol, day) of the last event that moves the close and is not explained: it may be a split; `paid`
    likewise of the last dividend whose cash is not known.
    """

    whole: tuple[str, ...]
    unsplit: tuple[str, ...]
    bare: tuple[str, ...]
    before: tuple[tuple[str, date], ...] = ()
    paid: tuple[tuple[str, date], ...] = ()

    def why(self, rows: pl.LazyFrame, adjust: Adjust) -> Iterator[tuple[str, str]]:
        """Which symbols of some rows are null, and why; in words."""
        if self.whole:
            missing = {"none": "splits", "splits": "splits", "total": "splits and dividends"}[adjust]
            yield _some(self.whole), f"the source names no {missing}, and there is no adj_close to tell them from"
        if self.bare or self.unsplit:
            bare = rows.filter(pl.col("symbol").is_in([*self.bare, *self.unsplit]), pl.col("adj_close").is_null())
            symbols = bare.select(pl.col("symbol").unique().sort()).collect().get_column("symbol")
            if symbols.len():
                yield _some(symbols), "their bars without adj_close, since the series has it elsewhere"
        if self.before:
            what = "volumes, and prices without adj_close," if adjust == "total" else "bars"
            days = [f"{symbol} before {day}" for symbol, day in self.before]
            yield _some(days), f"{what} before an event that is unexplained in `actions`, since it may be a split"
        if self.paid:
            days = [f"{symbol} before {day}" for symbol, day in self.paid]
            yield _some(days), "prices without adj_close before a dividend that `actions` does not have as it is named"


def _some(symbols: Sequence[str] | pl.Series) -> str:
    more = f" and {len(symbols) - _NAMED} more" if len(symbols) > _NAMED else ""
    return f"{', '.join(symbols[:_NAMED])}{more}"


def unknown_bases(rows: pl.LazyFrame, actions: pl.DataFrame, symbols: pl.DataFrame, adjust: Adjust) -> Unknown:
    """What `adjusted` cannot give.

    Args:
        rows: bars as stored, of all sessions.
        actions: the ledger `actions`.
        symbols: the ledger `symbols`.
        adjust: as in `adjusted`.
    """
    given = pl.col("adj_close").is_not_null()
    counts = rows.group_by("symbol").agg(given.any().alias("adjusted"), given.all().alias("throughout")).collect()
    named = set(actions.filter(~pl.col("inferred")).get_column("symbol"))
    facts = {symbol: (names, by_splits, basis) for symbol, names, by_splits, basis in symbols[list(_FACTS)].iter_rows()}
    whole: list[str] = []
    unsplit: list[str] = []
    bare: list[str] = []
    for symbol, is_adjusted, throughout in counts.sort("symbol").iter_rows():
        names, by_splits, basis = facts.get(symbol, (None, None, None))
        is_known = names or symbol in named
        if adjust == "none":
            # The ledger was lost and counted anew from the rows, which do not tell whether splits are taken out.
            is_lost = by_splits is None and basis == UNSTATED
            is_known = is_known or not (by_splits or is_lost)
        else:
            if is_adjusted and not throughout:
                unsplit += [] if is_known or by_splits else [symbol]
                bare += [symbol] if adjust == "total" else []
            is_known = is_known or is_adjusted or (adjust == "splits" and by_splits)
        whole += [] if is_known else [symbol]
    return Unknown(
        tuple(whole),
        tuple(unsplit),
        tuple(bare),
        _unexplained(rows, actions, adjust),
        _unpaid(actions, symbols, adjust),
    )


def _unexplained(rows: pl.LazyFrame, actions: pl.DataFrame, adjust: Adjust) -> tuple[tuple[str, date], ...]:
    """(symbol, day) of the last event of each symbol that nobody can explain, and that may have moved the close."""
    events = actions.filter(pl.col("unexplained").fill_null(value=False))
    if adjust == "none":
        events = events.filter(~pl.col("in_close"), pl.col("split") != 1)
    else:
        events = events.filter("in_close", (pl.col("split") != 1) | (pl.col("dividend") == 0))
    if events.is_empty():
        return ()
    mine = pl.col("symbol").is_in(events.get_column("symbol").unique().implode())
    before = pl.when(pl.col("symbol") == pl.col("symbol").shift(1)).then(pl.col("close").shift(1))
    moves = rows.filter(mine).sort(ORDER).select(*ORDER, move=(pl.col("close") / before).log().abs()).collect()
    found = (
        events.select(ORDER)
        .sort("date")
        .join_asof(
            moves.select("symbol", "move", "date").sort("date"),
            on="date",
            by="symbol",
            strategy="forward",
            check_sortedness=False,
        )
    )
    moved = pl.col("move").is_not_null() if adjust == "none" else pl.col("move") > log(_MAY_BE_SPLIT)
    found = found.filter(moved)
    return tuple(found.group_by("symbol").agg(pl.col("date").max()).sort("symbol").iter_rows())


def _unpaid(actions: pl.DataFrame, symbols: pl.DataFrame, adjust: Adjust) -> tuple[tuple[str, date], ...]:
    """(symbol, day) of the last dividend of each symbol that is named and contradicted.

    Where splits are taken out of the prices, what adj_close contains may be for shares of another day.
    """
    if adjust != "total":
        return ()
    by_splits = pl.col("symbol").is_in(symbols.filter("split_adjusted").get_column("symbol").implode())
    is_other = pl.col("unexplained") | (by_splits & pl.col("note").is_not_null())
    events = actions.filter(is_other.fill_null(value=False), pl.col("dividend") > 0)
    return tuple(events.group_by("symbol").agg(pl.col("date").max()).sort("symbol").iter_rows())


def adjusted(
    rows: pl.LazyFrame, actions: pl.DataFrame, history: pl.LazyFrame, adjust: Adjust, unknown: Unknown
) -> pl.LazyFrame:
    """Bars with open, high, low, close and volume on another basis than they are stored on.

    Args:
        rows: bars as stored.
        actions: the ledger `actions`.
        history: all bars of these symbols: what happened after `rows` counts, too.
        adjust: `none` for prices as they were traded, `splits` for prices comparable over splits, `total` for
            prices on the basis of `adj_close`, so that their returns are total returns. Volume follows splits only.
        unknown: of these symbols.
    """
    explained = actions.filter(~pl.col("unexplained").fill_null(value=False))
    known = _on_basis(rows, explained, history, adjust, unknown)
    if unknown.before:
        bridged = pl.col("adj_close").is_not_null() if adjust == "total" else pl.lit(value=False)
        known = _from(known, unknown.before, {**dict.fromkeys(_PRICES, bridged), "volume": pl.lit(value=False)})
    if unknown.paid:
        known = _from(known, unknown.paid, dict.fromkeys(_PRICES, pl.col("adj_close").is_not_null()))
    if not unknown.whole:
        return known
    guessed = pl.col("symbol").is_in(unknown.whole)
    return known.with_columns(pl.when(~guessed).then(name).alias(name) for name in (*_PRICES, "volume"))


def _from(known: pl.LazyFrame, days: Sequence[tuple[str, date]], bridged: Mapping[str, pl.Expr]) -> pl.LazyFrame:
    """Bars with nulls before a day of their symbol, in some columns and where nothing bridges it."""
    since = pl.DataFrame(days, schema={"symbol": pl.String, "since": pl.Date}, orient="row").lazy()
    joined = known.join(since, on="symbol", how="left", maintain_order="left")
    is_known = (pl.col("date") >= pl.col("since")).fill_null(value=True)
    columns = [pl.when(is_known | anyhow).then(name).alias(name) for name, anyhow in bridged.items()]
    return joined.with_columns(columns).drop("since")


def _on_basis(
    rows: pl.LazyFrame, actions: pl.DataFrame, history: pl.LazyFrame, adjust: Adjust, unknown: Unknown
) -> pl.LazyFrame:
    visible, hidden = actions.filter("in_close"), actions.filter(~pl.col("in_close"))
    if adjust == "none":
        return _scaled(rows, _later_splits(hidden), pl.col("later"), 1 / pl.col("later"))
    by_splits = _scaled(rows, _later_splits(visible), 1 / pl.col("later"), pl.col("later"))
    if unknown.unsplit:
        is_known = ~pl.col("symbol").is_in(unknown.unsplit) | pl.col("adj_close").is_not_null()
        by_splits = by_splits.with_columns(pl.when(is_known).then(name).alias(name) for name in (*_PRICES, "volume"))
    if adjust == "splits":
        return by_splits
    by_actions = _scaled(by_splits, _later_dividends(actions, history), pl.col("later"), pl.lit(1.0))
    factor = (pl.col("adj_close") / pl.col("close")).alias("factor")
    stored = rows.select(*ORDER, factor, *(pl.col(price).alias(f"{price}_s") for price in _PRICES))
    bare = pl.col("symbol").is_in(unknown.bare)
    prices = [
        pl.when(pl.col("factor").is_not_null())
        .then(pl.col(f"{price}_s") * pl.col("factor"))
        .when(~bare)
        .then(price)
        .alias(price)
        for price in _PRICES
    ]
    joined = by_actions.join(stored, on=ORDER, how="left", maintain_order="left")
    return joined.with_columns(prices).select(rows.collect_schema().names())


def _scaled(rows: pl.LazyFrame, later: pl.LazyFrame, prices: pl.Expr, volume: pl.Expr) -> pl.LazyFrame:
    """Rows scaled by what happens after them; `later` has the product of all factors from each ex-date on."""
    names = rows.collect_schema().names()
    return (
        rows.sort("date")
        .join_asof(
            later.sort("date"),
            on="date",
            by="symbol",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .with_columns(pl.col("later").fill_null(1.0))
        .with_columns(
            *(pl.col(price) * prices for price in _PRICES),
            pl.col("volume") * volume,
        )
        .select(names)
        .sort(ORDER)
    )


def _later_splits(actions: pl.DataFrame) -> pl.LazyFrame:
    return _from_each_on(actions.select(*ORDER, factor="split").lazy())


def _later_dividends(actions: pl.DataFrame, history: pl.LazyFrame) -> pl.LazyFrame:
    # A dividend is reported for the shares of its day: so the close it is held against is the one that was traded then.
    hidden = actions.filter(~pl.col("in_close"))
    traded = _scaled(history, _later_splits(hidden), pl.col("later"), 1 / pl.col("later"))
    paid = actions.lazy().filter(pl.col("dividend") > 0).join(traded.select(*ORDER, "close"), on=ORDER)
    return _from_each_on(paid.select(*ORDER, (1 / (1 + pl.col("dividend") / pl.col("close"))).alias("factor")))


def _from_each_on(factors: pl.LazyFrame) -> pl.LazyFrame:
    return (
        factors.sort(ORDER)
        .with_columns(pl.col("factor").cum_prod(reverse=True).over("symbol").alias("later"))
        .drop("factor")
    )
