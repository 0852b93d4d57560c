"""What goes wrong at a vendor, each kind a few lines. A fault is on from one day to another.

Faults only change what is delivered. Several may be on at once; they act in the order in which a vendor has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import polars as pl

from historical_etl import FetchRequest, Outcome
from historical_etl.errors import RateLimitedError
from historical_etl_tests.proofs.simulation.market import PRICES, SimMarket

FOREVER = date.max
#: Within so many days before a closed one there was a session.
_AN_OPEN_MARKET_AGO = timedelta(days=4)
GarbageKind = Literal[
    "html", "strings", "instants", "midnights", "reordered", "lower_case", "unasked", "tenfold", "nan", "infinite",
    "integers", "extra_columns", "categorical"
]  # fmt: skip


@dataclass(frozen=True)
class View:
    """One request as a fault sees it: `number` counts the requests of the day from 0."""

    market: SimMarket
    request: FetchRequest
    today: date
    number: int


@dataclass(frozen=True, kw_only=True)
class Fault:
    """On from the evening of `start` until that of `until`, on which it is over."""

    start: date = date.min
    until: date = FOREVER

    def on(self, today: date) -> bool:
        return self.start <= today < self.until

    def before(self, view: View) -> None:
        """Raise instead of answering."""

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        return bars

    def outcomes(self, view: View) -> Mapping[str, Outcome]:
        return {}

    def named(self, actions: pl.DataFrame, view: View) -> pl.DataFrame:
        """The splits and dividends as they are named."""
        return actions

    def lag(self, view: View) -> Mapping[str, date]:
        """Symbols whose history is still adjusted as of an earlier date."""
        return {}


def _rows(symbol: str, *days: date) -> pl.Expr:
    return (pl.col("symbol") == symbol) & pl.col("date").is_in(list(days))


def _scaled(bars: pl.DataFrame, where: pl.Expr, factor: float, *names: str) -> pl.DataFrame:
    return bars.with_columns(pl.when(where).then((pl.col(n) * factor).round(6)).otherwise(n).alias(n) for n in names)


# ── rows that do not come ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class LostDays(Fault):
    """The vendor has lost some sessions of a symbol (None: of every symbol)."""

    symbol: str | None
    sessions: tuple[date, ...]

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        lost = pl.col("date").is_in(list(self.sessions))
        return bars.filter(~(lost if self.symbol is None else lost & (pl.col("symbol") == self.symbol)))


class IncompleteHistory(LostDays):
    """As `LostDays`, of sessions that are stored: noticed only when the whole history comes again."""


@dataclass(frozen=True)
class Outage(Fault):
    """A share of the symbols, always the same ones, has no rows, and the vendor says nothing of it."""

    share: float = 1.0

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        names = view.market.names
        return bars.filter(~pl.col("symbol").is_in(names[: round(len(names) * self.share)]))


@dataclass(frozen=True)
class NotFound(Fault):
    """The vendor does not know a symbol."""

    symbol: str

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        return bars.filter(pl.col("symbol") != self.symbol)

    def outcomes(self, view: View) -> Mapping[str, Outcome]:
        return {self.symbol: Outcome.NOT_FOUND}


@dataclass(frozen=True)
class RateLimited(Fault):
    """After some requests of a day the vendor asks to slow down."""

    after: int = 0

    def before(self, view: View) -> None:
        if view.number >= self.after:
            raise RateLimitedError("429 Too Many Requests", where="simulated")


@dataclass(frozen=True)
class Errors(Fault):
    """Requests that contain a symbol (None: all) fail, as clients do: with an exception of their own."""

    symbol: str | None = None

    def before(self, view: View) -> None:
        if self.symbol is None or self.symbol in view.request.symbols:
            raise ConnectionResetError("Connection reset by peer")


# ── rows that are wrong ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class LateCorrection(Fault):
    """Until it is corrected, one cell is wrong by a factor. A wrong close has its adj_close, high and low to match."""

    symbol: str
    session: date
    column: str = "volume"
    factor: float = 0.73

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        names = (*PRICES, "adj_close") if self.column == "close" else (self.column,)
        return _scaled(bars, _rows(self.symbol, self.session), self.factor, *names)


@dataclass(frozen=True)
class Pence(Fault):
    """From a session on, prices come in another unit: a hundred times too high."""

    symbol: str
    since: date
    factor: float = 100.0

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        wrong = (pl.col("symbol") == self.symbol) & (pl.col("date") >= self.since)
        return _scaled(bars, wrong, self.factor, *PRICES, "adj_close")


@dataclass(frozen=True)
class WrongSplit(Pence):
    """From a session on, prices are halved for a split that never was."""

    factor: float = 0.5


@dataclass(frozen=True)
class OpenBar(Fault):
    """The bar of the session after `today`, which has not closed: unfinished, and asked for by nobody."""

    symbol: str

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        later = [day for day in view.market.sessions if day > view.today]
        if not later or self.symbol not in view.request.symbols:
            return bars
        bar = view.market.bars([self.symbol], later[0], later[0], later[0])
        unfinished = bar.with_columns(pl.col("close", "adj_close") * 0.98, pl.col("low") * 0.97, pl.col("volume") // 3)
        return pl.concat([bars, unfinished.with_columns(pl.col("date").cast(bars["date"].dtype))])


@dataclass(frozen=True)
class ImpossibleRows(Fault):
    """A row that cannot be: high below low, a negative or missing price, a negative volume."""

    symbol: str
    session: date
    column: str = "high"
    value: float | None = 0.001

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        value = pl.when(_rows(self.symbol, self.session)).then(pl.lit(self.value, pl.Float64))
        return bars.with_columns(value.otherwise(self.column).alias(self.column))


@dataclass(frozen=True)
class PhantomDays(Fault):
    """Rows on days on which the exchange was closed: the bar of the session before, once more.

    Without a symbol every one has them: a storm closed the exchange, and the vendor fills the days.
    """

    symbol: str | None
    days: tuple[date, ...]

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        extra = [bars]
        mine = pl.lit(value=True) if self.symbol is None else pl.col("symbol") == self.symbol
        for day in self.days:
            if view.request.start <= day <= view.request.end:
                near = pl.col("date").is_between(day - _AN_OPEN_MARKET_AGO, day, closed="left")
                before = bars.filter(mine, near).group_by("symbol", maintain_order=True).last()
                extra.append(before.with_columns(pl.lit(day).alias("date")).select(bars.columns))
        return pl.concat(extra)


@dataclass(frozen=True)
class FrozenFeed(Fault):
    """From one session until another the dates go on, and each bar of a symbol is the last one before."""

    symbol: str
    since: date
    moves: date

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        before = view.market.bars([self.symbol], view.market.first, self.since - timedelta(days=1), view.today)
        last = before.tail(1).row(0, named=True)
        frozen = (pl.col("symbol") == self.symbol) & pl.col("date").is_between(self.since, self.moves, closed="left")
        names = (*PRICES, "volume", "adj_close")
        return bars.with_columns(pl.when(frozen).then(pl.lit(last[n])).otherwise(n).alias(n) for n in names)


@dataclass(frozen=True)
class DuplicateLastRow(Fault):
    """The last row of every symbol comes twice, equal."""

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        return pl.concat([bars, bars.group_by("symbol", maintain_order=True).last().select(bars.columns)])


@dataclass(frozen=True)
class ContradictoryDuplicate(Fault):
    """One key comes twice, with different closes."""

    symbol: str
    session: date

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        again = bars.filter(_rows(self.symbol, self.session))
        return pl.concat([bars, _scaled(again, pl.lit(value=True), 1.01, *PRICES, "adj_close")])


@dataclass(frozen=True)
class LateRestatement(Fault):
    """A split or dividend on `start` adjusts the history before it only from `until` on."""

    symbol: str

    def lag(self, view: View) -> Mapping[str, date]:
        return {self.symbol: self.start - timedelta(days=1)}


# ── answers that are no data ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Garbage(Fault):
    """Answers whose form is wrong.

    With a symbol, only answers to requests that contain it, and where it can be, only the rows of it.
    """

    kind: GarbageKind
    symbol: str | None = None

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        if self.symbol is not None and self.symbol not in view.request.symbols:
            return bars
        mine = pl.lit(value=True) if self.symbol is None else pl.col("symbol") == self.symbol
        return _SPOILT[self.kind](bars, mine)


def _dated(bars: pl.DataFrame, hour: int) -> pl.DataFrame:
    instant = pl.col("date").cast(pl.Datetime("us")) + timedelta(hours=hour)
    return bars.with_columns(instant.dt.replace_time_zone("America/New_York").alias("date"))


def _closing(bars: pl.DataFrame, mine: pl.Expr, value: float) -> pl.DataFrame:
    return bars.with_columns(pl.when(mine).then(value).otherwise("close").alias("close"))


def _in_lower_case(bars: pl.DataFrame, mine: pl.Expr) -> pl.DataFrame:
    padded = pl.format(" {} ", pl.col("symbol").str.to_lowercase())
    return bars.with_columns(pl.when(mine).then(padded).otherwise("symbol").alias("symbol"))


def _with_strangers(bars: pl.DataFrame, _: pl.Expr) -> pl.DataFrame:
    stranger = bars.head(3).with_columns(pl.lit("WHO").alias("symbol"))
    return pl.concat([bars, stranger, bars.head(2).with_columns(pl.lit(date(1999, 1, 4)).alias("date"))])


def _as_integers(bars: pl.DataFrame, _: pl.Expr) -> pl.DataFrame:
    whole = (bars["volume"] % 1 == 0).all()  # volumes that a split has adjusted may not be
    return bars.with_columns(pl.col("volume").cast(pl.Int64)) if whole else bars


_PAGE = pl.DataFrame({"<!DOCTYPE html>": ["<html><body>Service unavailable</body></html>"]})
_SPOILT: Mapping[GarbageKind, Callable[[pl.DataFrame, pl.Expr], pl.DataFrame]] = {
    "html": lambda _, __: _PAGE,
    "strings": lambda bars, _: bars.with_columns(pl.col("close").cast(pl.String) + " USD"),
    "instants": lambda bars, _: _dated(bars, 16),  # which day that is depends on who asks
    "midnights": lambda bars, _: _dated(bars, 0),
    "reordered": lambda bars, _: bars.select(sorted(bars.columns, reverse=True)).reverse(),
    "lower_case": _in_lower_case,
    "unasked": _with_strangers,
    "tenfold": lambda bars, mine: pl.concat([bars, *[bars.filter(mine)] * 9]),
    "nan": lambda bars, mine: _closing(bars, mine, float("nan")),
    "infinite": lambda bars, mine: _closing(bars, mine, float("inf")),
    "integers": _as_integers,
    "extra_columns": lambda bars, _: bars.with_columns(pl.lit("x").alias("currency"), pl.lit(0.5).alias("ret")),
    "categorical": lambda bars, _: bars.with_columns(pl.col("symbol").cast(pl.Categorical)),
}
