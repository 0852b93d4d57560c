"""A market that lives for years and knows the truth about itself, so that a store can be compared with it.

A `SimMarket` has companies that list, pay dividends, split, crash, halt and end, and tickers that a second company
takes over. `bars` gives them as a perfect vendor would on the evening of a session: raw, with an `adj_close` for all
splits and dividends known by then. Each event restates the history before it. Equal arguments give equal bars, to the
last bit: between two events of a symbol its history does not change.

The faults of real vendors are in `faults`, a source that has them in `vendor`.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import polars as pl

from historical_etl import get_calendar
from historical_etl.sources.base import ACTIONS

#: What a vendor delivers: the schema without `ret`.
BAR_COLUMNS = ("date", "symbol", "open", "high", "low", "close", "volume", "adj_close")
PRICES = ("open", "high", "low", "close")
#: raw: raw bars and a total-return adj_close. split_adjusted: all of OHLCV follows the splits too, as Yahoo's does.
#: unadjusted: raw bars, and no adj_close at all.
Style = Literal["raw", "split_adjusted", "unadjusted"]
_DECIMALS = 6
_FIRST_PRICE = 80.0
_NEVER = (date.max, date.max)


@dataclass(frozen=True)
class SimListing:
    """One ticker and what happens to it. All dates are sessions on which it trades, unless they say that it does not.

    Attributes:
        symbol: the ticker.
        first: its first session; None is that of the market.
        last: its last one; None is that of the market.
        splits: (ex-date, new shares for each old one): 2.0 halves the price, 0.1 makes it ten times as high.
        dividends: (ex-date, share of the price before).
        crashes: (session, return of that day): real moves that no event explains.
        halts: sessions without a bar.
        quiet: sessions with a bar without volume.
        away: suspended from the one to the other session, both included.
        again: from this session on the ticker is another company, at the second number times the price; the first one
            has no bar from `away[0]` on.
        formerly: another ticker that it had before a session: of `symbol` nobody had heard until then.
        has_volume: whether its source knows how much is traded: not of an index.
    """

    symbol: str
    first: date | None = None
    last: date | None = None
    splits: tuple[tuple[date, float], ...] = ()
    dividends: tuple[tuple[date, float], ...] = ()
    crashes: tuple[tuple[date, float], ...] = ()
    halts: tuple[date, ...] = ()
    quiet: tuple[date, ...] = ()
    away: tuple[date, date] = _NEVER
    again: tuple[date, float] | None = None
    formerly: tuple[str, date] | None = None
    has_volume: bool = True


@dataclass(frozen=True)
class SimMarket:
    """The listings of one exchange from `first` to `last`.

    Attributes:
        seed: of all that is random.
        symbols: the listings, or how many to make up: a tenth of them split, a tenth end, and so on.
        first: the first date.
        last: the last date.
        calendar: code of the exchange.
        closed: days on which it was closed, though the calendar has a session.
        opened: days on which it was open, though the calendar has none.
    """

    seed: int = 1
    symbols: int | tuple[SimListing, ...] = 40
    first: date = date(2010, 1, 4)
    last: date = date(2011, 12, 30)
    calendar: str = "XNYS"
    closed: tuple[date, ...] = ()
    opened: tuple[date, ...] = ()

    @cached_property
    def sessions(self) -> list[date]:
        known = get_calendar(self.calendar).between(self.first, self.last).to_list()
        return sorted({*known, *self.opened} - set(self.closed))

    @cached_property
    def listings(self) -> tuple[SimListing, ...]:
        if isinstance(self.symbols, tuple):
            return self.symbols
        return tuple(_made_up(number, self.seed, self.sessions) for number in range(self.symbols))

    @cached_property
    def names(self) -> list[str]:
        return sorted(listing.symbol for listing in self.listings)

    @cached_property
    def former(self) -> dict[str, tuple[str, date]]:
        """Former ticker → the one that followed it, and since when. Everything else here goes by the newest one."""
        return {x.formerly[0]: (x.symbol, x.formerly[1]) for x in self.listings if x.formerly}

    def newest_names(self, today: date) -> dict[str, str]:
        """Each ticker that is known on an evening → the newest one of its company."""
        before = {new: old for old, (new, since) in self.former.items() if today < since}
        return {before.get(symbol, symbol): symbol for symbol in self.names}

    def truth(self, as_of: date | None = None, style: Style = "raw") -> pl.DataFrame:
        """All bars as they are right on the evening of a session (default: the last), sorted by (date, symbol)."""
        return self.bars(self.names, self.first, self.last, self.last if as_of is None else as_of, style)

    def bars(
        self,
        symbols: Iterable[str],
        start: date,
        end: date,
        as_of: date,
        style: Style = "raw",
        lag: Mapping[str, date] | None = None,
    ) -> pl.DataFrame:
        """Bars of a range on the evening of `as_of`, sorted by (date, symbol), columns `BAR_COLUMNS`.

        `lag` names symbols whose history is adjusted for the events up to an earlier date only.
        """
        rows = self._rows(list(symbols), start, min(end, as_of))
        basis = _basis(self, as_of)
        if lag:
            late = [_basis(self, day).filter(pl.col("symbol") == symbol) for symbol, day in lag.items()]
            basis = pl.concat([basis.filter(~pl.col("symbol").is_in(list(lag))), *late])
        rows = rows.join(basis, on=("symbol", "life"), how="left", maintain_order="left")
        return rows.select(_as_adjusted(style))

    @cached_property
    def events(self) -> pl.DataFrame:
        """Every split and dividend: symbol, life, date, split, dividend (cash), epoch, factor, shares; by date."""
        return _built(self)[1]

    @cached_property
    def table(self) -> pl.DataFrame:
        """Every raw bar, with `life` (which company), `epoch` (events so far), their products `factor`, `shares`."""
        return _built(self)[0]

    def actions(self, symbols: Iterable[str], start: date, end: date) -> pl.DataFrame:
        """Events in a range as a source names them: cash for each new share."""
        return self._named.filter(pl.col("symbol").is_in(list(symbols)) & pl.col("date").is_between(start, end))

    @cached_property
    def _named(self) -> pl.DataFrame:
        named = self.events.with_columns(pl.col("dividend") / pl.col("split"))
        return named.select(list(ACTIONS)).sort("symbol", "date")

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols that are listed on any day of a range."""
        low, high = start or self.first, end or self.last
        lives = [(x.symbol, x.first or self.first, x.last or self.last) for x in self.listings]
        return sorted(symbol for symbol, first, last in lives if first <= high and low <= last)

    def trades(self, symbol: str, start: date, end: date) -> bool:
        """Whether a symbol has a bar on every session of a range."""
        days = [day for day in self.sessions if start <= day <= end]
        return bool(days) and self._by_symbol[symbol]["date"].is_between(start, end).sum() == len(days)

    def moves(self, symbol: str) -> dict[date, float]:
        """Session → the true return of that day."""
        rows = self._by_symbol[symbol]
        ratio = (rows["close"] / rows["factor"]).pct_change()
        return dict(zip(rows["date"], ratio.fill_null(0.0), strict=True))

    def has_events(self, start: date, end: date, symbol: str | None = None) -> bool:
        """Whether a symbol (None: any) splits or pays a dividend in a range."""
        near = self.events["date"].is_between(start, end)
        return bool((near if symbol is None else near & (self.events["symbol"] == symbol)).any())

    def _rows(self, symbols: list[str], start: date, end: date) -> pl.DataFrame:
        few = len(symbols) <= 3
        known = [symbol for symbol in symbols if symbol in self._by_symbol]
        rows = pl.concat([self.table.clear(), *(self._by_symbol[s] for s in known)]) if few else self.table
        if few:
            return rows.filter(pl.col("date").is_between(start, end)).sort("date", "symbol")
        low, high = rows["date"].search_sorted(start, "left"), rows["date"].search_sorted(end, "right")
        return rows.slice(low, high - low).filter(pl.col("symbol").is_in(symbols))

    @cached_property
    def _by_symbol(self) -> dict[str, pl.DataFrame]:
        parts = self.table.partition_by("symbol", as_dict=True)
        return {str(key[0]): rows for key, rows in parts.items()}


def with_returns(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars as a store holds them once all are there: with `ret`, in the schema's columns, sorted by (date, symbol)."""
    level = pl.coalesce("adj_close", "close")
    ret = (level / level.shift(1).over("symbol") - 1).alias("ret")
    return (
        bars.sort("symbol", "date")
        .with_columns(ret)
        .select(*BAR_COLUMNS[:7], "ret", "adj_close")
        .sort("date", "symbol")
    )


@cache
def _as_adjusted(style: Style) -> list[pl.Expr]:
    """`BAR_COLUMNS` of raw rows beside a basis."""
    behind = pl.col("epoch") < pl.col("basis_epoch").fill_null(0)
    total = pl.when(behind).then(pl.col("basis_factor") / pl.col("factor")).otherwise(1.0)
    shares = pl.when(behind).then(pl.col("basis_shares") / pl.col("shares")).otherwise(1.0)
    changes = {"adj_close": pl.lit(None, pl.Float64)}
    if style != "unadjusted":
        changes["adj_close"] = _times("close", total)
    if style == "split_adjusted":
        changes |= {name: _times(name, 1 / shares) for name in PRICES}
        changes["volume"] = _times("volume", shares)
    return [changes.get(name, pl.col(name)).alias(name) for name in BAR_COLUMNS]


def _times(name: str, factor: pl.Expr) -> pl.Expr:
    """Raw values as they are: only what is adjusted is rounded."""
    return pl.when(factor == 1).then(name).otherwise((pl.col(name) * factor).round(_DECIMALS))


@lru_cache(maxsize=64)
def _basis(market: SimMarket, as_of: date) -> pl.DataFrame:
    """For each company the events up to a date: columns symbol, life, basis_epoch, basis_factor, basis_shares."""
    known = market.events.filter(pl.col("date") <= as_of).group_by("symbol", "life", maintain_order=True).last()
    return known.select("symbol", "life", *(pl.col(n).alias(f"basis_{n}") for n in ("epoch", "factor", "shares")))


@lru_cache(maxsize=4)
def _built(market: SimMarket) -> tuple[pl.DataFrame, pl.DataFrame]:
    bars: list[pl.DataFrame] = []
    events: list[pl.DataFrame] = []
    for listing in market.listings:
        first, last = listing.first or market.first, listing.last or market.last
        if listing.again is None:
            lives = [(first, last, 1.0)]
        else:
            lives = [(first, listing.away[0] - timedelta(days=1), 1.0), (listing.again[0], last, listing.again[1])]
        price = _FIRST_PRICE
        for life, (begin, end, level) in enumerate(lives):
            days = [day for day in market.sessions if begin <= day <= end]
            rows, happened = _company(listing, life, days, price * level, market.seed)
            price = rows["close"][-1]
            bars.append(rows)
            events.append(happened)
    return pl.concat(bars).sort("date", "symbol"), pl.concat(events).sort("date", "symbol")


def _company(
    listing: SimListing, life: int, days: Sequence[date], price: float, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng([seed, zlib.crc32(f"{listing.symbol} {life}".encode())])
    at = {day: index for index, day in enumerate(days)}
    splits = {day: ratio for day, ratio in listing.splits if day in at}
    yields = {day: share for day, share in listing.dividends if day in at}
    steps = np.clip(rng.normal(0.0003, 0.014, len(days)), -0.05, 0.05)
    for day, move in listing.crashes:
        if day in at:
            steps[at[day]] = np.log1p(move)
    silent = [at[day] for day in listing.quiet if day in at]
    steps[silent] = 0.0
    fall = np.ones(len(days))
    for day, ratio in splits.items():
        fall[at[day]] /= ratio
    for day, share in yields.items():
        fall[at[day]] *= 1 - share
    close = np.maximum((price * np.cumprod(np.exp(steps) * fall)).round(2), 0.05)
    opened = (close * np.exp(rng.normal(0, 0.005, len(days)))).round(2)
    high = (np.maximum(opened, close) * (1 + np.abs(rng.normal(0, 0.004, len(days))))).round(2)
    low = np.maximum((np.minimum(opened, close) * (1 - np.abs(rng.normal(0, 0.004, len(days))))).round(2), 0.01)
    volume = rng.integers(100_000, 9_000_000, len(days)).astype(float)
    volume[silent] = 0.0
    if not listing.has_volume:
        volume[:] = np.nan
    for prices in (opened, high, low):
        prices[silent] = close[silent]
    gone = set(listing.halts) | {d for d in days if listing.again is None and listing.away[0] <= d <= listing.away[1]}
    rows = pl.DataFrame(
        {"date": days, "open": opened, "high": high, "low": low, "close": close, "volume": volume},
        schema_overrides={"date": pl.Date},
        nan_to_null=True,
    ).filter(~pl.col("date").is_in(list(gone)))
    before = dict(zip(rows["date"], rows["close"].shift(1), strict=True))
    happened: list[tuple[object, ...]] = []
    factor = shares = 1.0
    for day in sorted(splits.keys() | yields.keys()):
        cash = round(before[day] * yields.get(day, 0.0), 4)
        ratio = splits.get(day, 1.0)
        factor *= (1 - cash / before[day]) / ratio
        shares *= ratio
        # Cash for a share as it is from that day on.
        happened.append((listing.symbol, life, day, ratio, cash / ratio, len(happened) + 1, factor, shares))
    events = pl.DataFrame(happened, schema=_EVENTS, orient="row")
    known = events.select("date", "epoch", "factor", "shares")
    rows = rows.join_asof(known, on="date").with_columns(
        pl.lit(listing.symbol).alias("symbol"),
        pl.lit(life, pl.Int64).alias("life"),
        pl.col("epoch").fill_null(0),
        pl.col("factor", "shares").fill_null(1.0),
    )
    return rows.select("date", "symbol", *PRICES, "volume", "life", "epoch", "factor", "shares"), events


_EVENTS = {
    "symbol": pl.String(),
    "life": pl.Int64(),
    "date": pl.Date(),
    "split": pl.Float64(),
    "dividend": pl.Float64(),
    "epoch": pl.Int64(),
    "factor": pl.Float64(),
    "shares": pl.Float64(),
}

# ── made-up listings ───────────────────────────────────────────────────────────────────────────────────────────────

_ROLES = ("SPLT", "DIVD", "IPOX", "GONE", "HALT", "FALL", "NEXT", "AWAY", "RSPL", "BOTH", "INDX", "NEWN")
_RATIOS = (2.0, 3.0, 1.5, 4.0, 7.0, 1.25)
#: Falls and rises that no split has: a fall by half to the cent would rightly be held.
_MOVES = (-0.52, -0.37, 0.45, -0.55, 0.65)


def _made_up(number: int, seed: int, sessions: Sequence[date]) -> SimListing:
    rng = np.random.default_rng([seed, 77, number])
    role = _ROLES[number % len(_ROLES)]
    symbol = f"{role}{number // len(_ROLES)}" if number != len(_ROLES) else "BRK.B"
    facts, low, high = _life(role, number // len(_ROLES), rng, sessions)
    taken: list[int] = []

    def some(apart: int = 3) -> date:
        """A session in this part of the market's life, not near another one taken."""
        while True:
            index = int(rng.integers(int(low * len(sessions)), int(high * len(sessions))))
            if all(abs(index - other) > apart for other in taken):
                taken.append(index)
                return sessions[index]

    years = max(len(sessions) / 252, 1)
    if role == "HALT":
        facts |= {"halts": tuple(some() for _ in range(3)), "quiet": tuple(some() for _ in range(3))}
    if role == "FALL":
        facts["crashes"] = tuple((some(), float(rng.choice(_MOVES))) for _ in range(2))
    if role in {"SPLT", "BOTH", "IPOX"}:
        facts["splits"] = tuple((some(), float(rng.choice(_RATIOS))) for _ in range(min(max(1, round(years / 2)), 3)))
    if role == "RSPL":
        facts["splits"] = ((some(), 0.1),)
    if role in {"DIVD", "BOTH", "GONE", "AWAY", "NEWN"}:
        count = round(4 * years * (high - low))
        paid = tuple((some(15), float(rng.uniform(0.004, 0.03))) for _ in range(count))
        # Both on one day, and little enough of it to be distinguished beside any ratio.
        beside = tuple((day, 0.008) for day, _ in facts.get("splits", ())[:1])
        facts["dividends"] = (*paid, *beside)
    return SimListing(symbol, **facts)  # pyright: ignore[reportArgumentType] - built for its fields


def _life(
    role: str, number: int, rng: np.random.Generator, sessions: Sequence[date]
) -> tuple[dict[str, Any], float, float]:
    """When a listing trades, and by which ticker; and in which part of the market's life it may have events."""
    count = len(sessions)
    index = int(count * rng.uniform(0.5, 0.7))
    if role == "IPOX":
        return {"first": sessions[int(count * 0.6)]}, 0.63, 0.97
    if role == "GONE":
        return {"last": sessions[int(count * rng.uniform(0.6, 0.75))]}, 0.03, 0.58
    if role == "AWAY":
        return {"away": (sessions[index], sessions[index + min(int(rng.integers(4, 35)), count // 5)])}, 0.03, 0.48
    if role == "NEXT":
        back = index + min(int(rng.integers(30, 50)), max(count // 8, 22))
        level = float(rng.choice([3.7, 0.23, 6.3]))
        return {"away": (sessions[index], sessions[back - 1]), "again": (sessions[back], level)}, 0.03, 0.48
    others = {"INDX": {"has_volume": False}, "NEWN": {"formerly": (f"OLDN{number}", sessions[index])}}
    return others.get(role, {}), 0.03, 0.97
