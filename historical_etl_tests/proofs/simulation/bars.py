"""Bars that are there and wrong: as `faults`, whose rules hold here, too.

Cells, bases and events are wrong in the ways that people have met; `docs/concepts/trust.md` says what becomes of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import polars as pl

from historical_etl.sources.base import ACTIONS
from historical_etl_tests.proofs.simulation.faults import Fault, View
from historical_etl_tests.proofs.simulation.market import PRICES

_DECIMALS = 6
#: How far outside the range of the day a close may lie.
_OUTSIDE = 0.004


def _of(symbol: str | None) -> pl.Expr:
    return pl.lit(value=True) if symbol is None else pl.col("symbol") == symbol


# ── cells ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class NullHoles(Fault):
    """Some columns are null on some sessions (None: on all) of a symbol (None: of every one)."""

    symbol: str | None
    columns: tuple[str, ...]
    sessions: tuple[date, ...] | None = None

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        if not set(self.columns) <= set(bars.columns):
            return bars
        where = _of(self.symbol)
        if self.sessions is not None:
            where &= pl.col("date").is_in(list(self.sessions))
        return bars.with_columns(pl.when(~where).then(pl.col(name)).alias(name) for name in self.columns)


@dataclass(frozen=True)
class ColumnGone(Fault):
    """A column does not come at all."""

    column: str = "adj_close"

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        return bars.drop(self.column, strict=False)


@dataclass(frozen=True)
class Spike(Fault):
    """One bar is off by a factor, all of its prices alike."""

    symbol: str
    session: date
    factor: float = 10.0

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        where = _of(self.symbol) & (pl.col("date") == self.session)
        return _times(bars, where, pl.lit(self.factor), (*PRICES, "adj_close"))


@dataclass(frozen=True)
class OutsideRange(Fault):
    """On some sessions the close lies above the high, as after an auction that the range leaves out."""

    symbol: str
    sessions: tuple[date, ...]

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        where = _of(self.symbol) & pl.col("date").is_in(list(self.sessions))
        below = (pl.col("close") * (1 - _OUTSIDE)).round(_DECIMALS)
        return bars.with_columns(pl.when(where).then(below).otherwise("high").alias("high"))


@dataclass(frozen=True)
class ZeroOpen(Fault):
    """On some sessions the open is 0, which means that it is missing."""

    symbol: str
    sessions: tuple[date, ...]

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        where = _of(self.symbol) & pl.col("date").is_in(list(self.sessions))
        return bars.with_columns(pl.when(where).then(0.0).otherwise("open").alias("open"))


@dataclass(frozen=True)
class Frozen(Fault):
    """The last bar before `start` comes again each session from then on, of a symbol or of every one."""

    symbol: str | None

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        market, request = view.market, view.request
        late = _of(self.symbol) & (pl.col("date") >= self.start)
        days = [day for day in market.sessions if day < self.start]
        if not days or not bars.select(late.any()).item():
            return bars
        last = market.bars(request.symbols, days[-1], days[-1], view.today, "raw")
        frozen = bars.filter(late).select("date", "symbol").join(last.drop("date"), on="symbol")
        there = pl.concat([bars.filter(~late), frozen.select(bars.columns)])
        return there.sort("date", "symbol")


# ── bases and events ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class HalfSplit(Fault):
    """Some bars before a split are still on the basis of before it."""

    symbol: str
    sessions: tuple[date, ...]
    split: float

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        where = _of(self.symbol) & pl.col("date").is_in(list(self.sessions))
        raw = view.market.bars([self.symbol], min(self.sessions), max(self.sessions), view.today)
        beside = bars.join(raw.select("date", "symbol", raw="close"), on=("date", "symbol"), how="left")
        # Where the source adjusts closes for splits, those are on the old basis, too.
        adjusts = beside.filter(where, (pl.col("close") / pl.col("raw") - 1).abs() > 1e-3).height > 0
        bars = _times(bars, where, pl.lit(self.split), (*(PRICES if adjusts else ()), "adj_close"))
        return _times(bars, where, pl.lit(1 / self.split if adjusts else 1.0), ("volume",))


@dataclass(frozen=True)
class WrongDividend(Fault):
    """A dividend that cannot be, from its ex-date on.

    times: it is so many times the right one, in the name and in adj_close. phantom: there is none. missing: adj_close
    does not contain it. twice: it is counted again on the session after.

    Attributes:
        share: what adj_close contains, as a share of the price before.
        right: what it should contain.
        day: on which it is contained.
    """

    symbol: str
    kind: Literal["times", "phantom", "missing", "twice"]
    day: date
    share: float
    right: float

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        where = _of(self.symbol) & (pl.col("date") < self.day)
        return _times(bars, where, pl.lit((1 - self.share) / (1 - self.right)), ("adj_close",))

    def named(self, actions: pl.DataFrame, view: View) -> pl.DataFrame:
        if self.kind == "missing" or self.symbol not in view.request.symbols:
            return actions
        if not view.request.start <= self.day <= view.request.end:
            return actions
        days = [day for day in view.market.moves(self.symbol) if day < self.day]
        before = view.market.bars([self.symbol], days[-1], days[-1], days[-1])
        cash = round(before["close"][0] * self.share, 4)
        wrong = pl.DataFrame([(self.symbol, self.day, 1.0, cash)], schema=dict(ACTIONS), orient="row")
        others = actions.filter(~((pl.col("symbol") == self.symbol) & (pl.col("date") == self.day)))
        return pl.concat([others, wrong.select(others.columns)]).sort("symbol", "date")


def _times(bars: pl.DataFrame, where: pl.Expr, factor: pl.Expr, names: tuple[str, ...]) -> pl.DataFrame:
    there = [name for name in names if name in bars.columns]
    changed = {n: pl.when(where).then((pl.col(n) * factor).round(_DECIMALS)).otherwise(n) for n in there}
    return bars.with_columns(**changed)


def last_word(faults: Sequence[Fault]) -> Mapping[tuple[date, str], Fault]:
    """What a vendor never puts right, by session and symbol."""
    never = [fault for fault in faults if fault.until == date.max]
    found: dict[tuple[date, str], Fault] = {}
    for fault in never:
        if isinstance(fault, Spike):
            found[fault.session, fault.symbol] = fault
        if isinstance(fault, (OutsideRange, ZeroOpen)):
            found |= {(day, fault.symbol): fault for day in fault.sessions}
    return found
