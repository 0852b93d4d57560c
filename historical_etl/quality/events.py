"""Splits and dividends: what the source names, what adj_close says, and what the price did, held against each other.

On a session there are up to three witnesses: the named event, the move g of the factor adj_close / close, and the move
p of the price. They agree; or the named value is off and adj_close follows the price; or adj_close contradicts the
price, or nothing decides between it and the name: then it is not to be trusted. `docs/concepts/trust.md` has the model.

Moves are logarithms here. A dividend d makes g = 1 / (1 - d / close before), or 1 + d / close after.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import log
from typing import Final

import polars as pl

from historical_etl.quality.event_judgement import Contradiction, Judgement
from historical_etl.quality.event_sessions import (
    CONFIRMED_BY,
    IMPOSSIBLE_MOVE,
    LARGE_MOVE,
    MATTERS,
    SAME,
    SAME_SHARE,
    SHOWN,
    SHOWS,
    SHOWS_ALWAYS,
    TINY,
    WEEK,
    implied_event,
)
from historical_etl.quality.factor_moves import factor_moves, factor_rounding, pairs_at
from historical_etl.quality.split_ratios import SMALLEST_SPLIT
from historical_etl.quality.typical_moves import DECISIVE, SMALLEST_MOVE, usual_move
from historical_etl.schema import ORDER

__all__ = ["EVENTS", "Contradiction", "Findings", "implied_event", "judge_events"]

#: What is known of an event, beside `in_close` and `inferred`.
EVENTS: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "date": pl.Date(),
        "split": pl.Float64(),
        "dividend": pl.Float64(),
        "unexplained": pl.Boolean(),
        "note": pl.String(),
    }
)
_KEYS: Final = pl.Schema({name: EVENTS[name] for name in ORDER})
#: What is named on a session.
_NAMED: Final = pl.Schema(
    {
        **_KEYS,
        "place": pl.get_index_type(),
        "split_n": pl.Float64(),
        "dividend_n": pl.Float64(),
        "named_on": pl.Date(),
        "named_before": pl.List(pl.Date()),
    }
)
#: A dividend that is so many times smaller than the symbol's usual one is looked at.
_OF_OTHERS: Final = 20.0


@dataclass(frozen=True)
class Findings:
    """What the judgement of events found.

    Attributes:
        events: columns `EVENTS`: the events of which more is to be said than their source says.
        contradicted: by symbol, sessions where adj_close contradicts the other witnesses, earliest first.
        warnings: what is reported and causes no hold.
        outdated: (symbol, date) of events that were reported before, and that need no report now.
    """

    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    contradicted: Mapping[str, Sequence[Contradiction]] = field(default_factory=dict[str, Sequence[Contradiction]])
    warnings: tuple[str, ...] = ()
    outdated: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_KEYS))


def judge_events(
    rows: pl.DataFrame,
    judged: Callable[[], pl.DataFrame] | None,
    named: pl.DataFrame | None,
    answered: Collection[str] = (),
    *,
    split_adjusted: bool,
    complete_until: date = date.max,
    reported: pl.DataFrame | None = None,
) -> Findings:
    """Hold named events, adj_close and prices against each other.

    Args:
        rows: columns symbol, date, close, adj_close, sorted by (symbol, date).
        judged: gives (symbol, date) of rows that were judged before with the same prices; None: none was.
        named: the events that the source names: symbol, date, split, dividend; None if it names none.
        answered: symbols for which `named` is complete over the rows in view.
        split_adjusted: whether the source says that it takes splits out of its prices.
        complete_until: later events may be named yet.
        reported: (symbol, date) of events that were reported before.
    """
    lacking = rows.get_column("adj_close").null_count()
    bare = _bare(rows, named) if lacking else []
    if rows.is_empty() or (lacking == rows.height and not bare):
        return Findings()
    is_bare = pl.col("symbol").is_in(bare)
    line = rows.with_columns(pl.when(is_bare).then("close").otherwise("adj_close").alias("adj_close")) if bare else rows
    sessions = _named_sessions(line, named, split_adjusted=split_adjusted)
    places = _places(line, sessions, reported)
    if places.is_empty():
        return Findings()
    pairs = _pairs(line, places, judged() if judged is not None else None)
    looked_at = _looked_at(pairs, reported)
    events = (
        pairs.lazy()
        .join(sessions.lazy().drop("place"), on=ORDER, how="left", maintain_order="left")
        .filter((pl.col("log_g").abs() > pl.col("noise")) | pl.col("split_n").is_not_null())
        .collect()
    )
    if events.is_empty():
        return Findings(outdated=looked_at)
    if bare:
        events = events.with_columns(pl.when(is_bare).then(_factor_of_name()).otherwise("log_g").alias("log_g"))
    events = events.join(_usual_dividend(events, named), on="symbol", how="left", maintain_order="left")
    # A move that is usual for a symbol that hardly moves is so for all others: of most, more need not be known.
    events = _with_anything_odd(events, answered, pl.lit(SMALLEST_MOVE))
    if events.is_empty():
        return Findings(outdated=looked_at)
    usual = _usual(line.filter(pl.col("symbol").is_in(events.get_column("symbol").unique().implode())))
    events = events.join(usual, on="symbol", how="left", maintain_order="left")
    table = _with_anything_odd(events, answered, pl.col("usual"))
    found = Judgement(
        set(answered), _paid_elsewhere(table, named), in_close=not split_adjusted, complete_until=complete_until
    )
    for (symbol,), mine in table.partition_by("symbol", as_dict=True, maintain_order=True).items():
        if mine.get_column("is_new").any():
            judge = found.bare if symbol in bare else found.symbol
            judge(str(symbol), mine.to_dicts())
    news = pl.DataFrame(found.events, schema=EVENTS, orient="row").unique(list(ORDER), keep="last").sort(ORDER)
    contradicted = {symbol: sorted(why, key=lambda one: one.day) for symbol, why in found.contradicted.items()}
    return Findings(news, contradicted, tuple(found.warnings), looked_at.join(news, on=ORDER, how="anti"))


def _looked_at(pairs: pl.DataFrame, reported: pl.DataFrame | None) -> pl.DataFrame:
    """Of reported events those that are looked at anew: their bar, or the one before it, is another."""
    if reported is None or reported.is_empty():
        return pl.DataFrame(schema=_KEYS)
    return pairs.filter("is_new", pl.col("log_g").is_not_null()).join(reported, on=ORDER, how="semi").select(ORDER)


def _bare(rows: pl.DataFrame, named: pl.DataFrame | None) -> list[str]:
    """Symbols without any adj_close of which dividends are named: the price alone can contradict these."""
    if named is None or (paid := named.filter(pl.col("dividend") > 0)).is_empty():
        return []
    mine = rows.filter(pl.col("symbol").is_in(paid.get_column("symbol").unique().implode()))
    given = mine.group_by("symbol").agg(pl.col("adj_close").is_not_null().any().alias("given"))
    return given.filter(~pl.col("given")).get_column("symbol").to_list()


def _factor_of_name() -> pl.Expr:
    """The move of the factor that a named dividend would make."""
    share = (pl.col("dividend_n").fill_null(0.0) / pl.col("close_0")).clip(0.0, IMPOSSIBLE_MOVE)
    return pl.when(pl.col("split_n") == 1).then(-(1 - share).log()).otherwise(0.0)


def _pairs(rows: pl.DataFrame, places: pl.Series, judged: pl.DataFrame | None) -> pl.DataFrame:
    """Rows at some places with the one before: log_p, log_g, `noise`, and whether one of them is new."""
    pairs = pairs_at(rows, places).with_columns(is_known=pl.lit(judged is not None))
    if judged is not None:
        known = judged.lazy().select("symbol", "date", known=pl.lit(value=True))
        for day in ("date", "date_0"):
            is_known = pl.col("is_known") & pl.col("known").is_not_null()
            both = pairs.join(known, left_on=("symbol", day), right_on=ORDER, how="left", maintain_order="left")
            pairs = both.with_columns(is_known).drop("known")
    factor, factor_0 = pl.col("adj_close") / pl.col("close"), pl.col("adj_close_0") / pl.col("close_0")
    return pairs.select(
        *(*ORDER, "date_0", "close", "close_0", "adj_close"),
        (pl.col("close") / pl.col("close_0")).log().alias("log_p"),
        (factor / factor_0).log().fill_nan(None).alias("log_g"),
        factor_rounding().alias("noise"),
        (~pl.col("is_known")).alias("is_new"),
    ).collect()


def _named_sessions(rows: pl.DataFrame, named: pl.DataFrame | None, *, split_adjusted: bool) -> pl.DataFrame:
    """What is named on a session, or since the one before: `split_n`, `dividend_n`, `named_on`, and its `place`.

    Of several days without a bar `named_on` is the last, and `named_before` are the others. A dividend that was paid
    before a split is for old shares, unless the source takes splits out of what it says.
    """
    if named is None or named.is_empty():
        return pl.DataFrame(schema=_NAMED)
    since = pl.when(pl.col("symbol") == pl.col("symbol").shift()).then(pl.col("date").shift())
    sessions = (
        rows.lazy()
        .select("symbol", session="date", since=since)
        .with_row_index("place")
        .filter(pl.col("since").is_not_null(), pl.col("symbol").is_in(named.get_column("symbol").unique().implode()))
        .sort("session")
        .collect()
    )
    later = pl.lit(1.0) if split_adjusted else pl.col("split").cum_prod(reverse=True) / pl.col("split")
    return (
        named.filter((pl.col("split") > 0) & ((pl.col("split") != 1) | (pl.col("dividend") != 0)))
        .sort("date")
        .join_asof(
            sessions, left_on="date", right_on="session", by="symbol", strategy="forward", check_sortedness=False
        )
        .filter(pl.col("date") > pl.col("since"))
        .sort("date")
        .group_by("symbol", "session")
        .agg(
            pl.col("place").first(),
            pl.col("split").product().alias("split_n"),
            (pl.col("dividend") / later).sum().alias("dividend_n"),
            pl.col("date").last().alias("named_on"),
            pl.col("date").slice(0, pl.len() - 1).alias("named_before"),
        )
        .select(pl.col("session").alias("date") if name == "date" else name for name in _NAMED)
    )


def _places(rows: pl.DataFrame, sessions: pl.DataFrame, reported: pl.DataFrame | None) -> pl.Series:
    """Where in some rows there may be an event, or was one: where the factor moves, or one is named or reported."""
    places = [factor_moves(rows)]
    places += [sessions.get_column("place")] if sessions.height else []
    if reported is not None and reported.height:
        symbols = reported.get_column("symbol").unique().implode()
        mine = rows.lazy().select(ORDER).with_row_index("place").filter(pl.col("symbol").is_in(symbols))
        known = mine.join(reported.lazy(), on=ORDER, how="semi").filter(pl.col("place") > 0)
        places.append(known.select("place").collect().to_series())
    return places[0] if len(places) == 1 else pl.concat(places).unique().sort()


def _with_anything_odd(table: pl.DataFrame, answered: Collection[str], usual: pl.Expr) -> pl.DataFrame:
    """The events of those symbols of which there may be anything to say: most pay now and then, and that is all.

    What is plain here is plain in `event_judgement`, which has the rules; it is only found faster. And what is plain
    with a smaller `usual` move is plain with a larger one.
    """
    g, cash = pl.col("log_g"), pl.col("dividend_n") / pl.col("close_0")
    by_before, by_after = -(1 - cash).log(), (1 + pl.col("dividend_n") / pl.col("close")).log()
    off = pl.min_horizontal((g - by_before).abs(), (g - by_after).abs())
    agrees = (off <= pl.col("noise") + SAME + SAME_SHARE * cash) & (pl.col("split_n") == 1) & (cash < SHOWS_ALWAYS)
    usual_size = pl.col("dividend_n") * _OF_OTHERS > pl.col("usual_dividend").fill_null(0.0)
    named = agrees & (cash >= TINY) & usual_size
    unnamed = g.is_between(0, log(SMALLEST_SPLIT), closed="none")
    if answered:
        unnamed &= (g <= MATTERS) | ~pl.col("symbol").is_in(list(answered))
    fell = -pl.col("log_p")
    seen = (g <= LARGE_MOVE * usual) | (g <= SHOWS) | ((fell >= SHOWN * g) & (g - fell <= DECISIVE * usual))
    near = (pl.col("symbol") == pl.col("symbol").shift(1)) & (pl.col("date") - pl.col("date").shift(1) <= WEEK)
    plain = seen & pl.when(pl.col("split_n").is_null()).then(unnamed).otherwise(named)
    odd = table.filter(~plain.fill_null(value=False) | near.fill_null(value=False)).get_column("symbol").unique()
    return table.filter(pl.col("symbol").is_in(odd.implode()))


def _usual(rows: pl.DataFrame) -> pl.DataFrame:
    """The usual move of each symbol's price, and of how many moves it was taken."""
    return rows.group_by("symbol").agg(
        usual_move((pl.col("close") / pl.col("close").shift()).log()).alias("usual"),
        (pl.len() - 1).alias("moves"),
        pl.col("date").slice(1).tail(CONFIRMED_BY).alias("newest"),
    )


def _usual_dividend(events: pl.DataFrame, named: pl.DataFrame | None) -> pl.DataFrame:
    """The dividend that is usual for each symbol that has one, of all that are named, also before what is in view."""
    paid = _paid_by(events.filter(pl.col("dividend_n") > 0), named)
    return paid.group_by("symbol").agg(pl.col("dividend").median().alias("usual_dividend"))


def _paid_elsewhere(table: pl.DataFrame, named: pl.DataFrame | None) -> dict[str, list[float]]:
    """The dividends that are named on days that are not in view, of the symbols that are looked at."""
    others = _paid_by(table, named).join(table.select("symbol", date="named_on"), on=ORDER, how="anti")
    return dict(others.group_by("symbol").agg("dividend").iter_rows())


def _paid_by(events: pl.DataFrame, named: pl.DataFrame | None) -> pl.DataFrame:
    if named is None or events.is_empty():
        return pl.DataFrame(schema={name: EVENTS[name] for name in ("symbol", "date", "dividend")})
    mine = pl.col("symbol").is_in(events.get_column("symbol").unique().implode())
    return named.filter(mine, pl.col("dividend") > 0).select("symbol", "date", "dividend")
