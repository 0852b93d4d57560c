"""The vendor of a simulated market: a full source whose day the test sets, with the faults of that day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import polars as pl

from historical_etl import FetchRequest, FetchResult, Outcome, SourceInfo
from historical_etl_tests.proofs.simulation.faults import Fault, Garbage, View
from historical_etl_tests.proofs.simulation.market import BAR_COLUMNS, SimMarket, Style

_NOBODY = Outcome.NOT_FOUND
_ADJUSTMENT = {
    "raw": "raw OHLCV; adj_close for splits and dividends, basis of the day it is asked",
    "split_adjusted": "OHLCV for splits, adj_close for splits and dividends, basis of the day it is asked",
    "unadjusted": "raw OHLCV, no adj_close",
}


@dataclass
class SimVendor:
    """Answers on the evening of `today`.

    Attributes:
        market: the truth.
        faults: what goes wrong, each on some days.
        style: what it adjusts.
        names_actions: whether it names splits and dividends in the range that it is asked for.
        forgets: after so many sessions it does not know a symbol any more that is not listed; None: it keeps them.
        today: set by the test.
        asked: every request.
    """

    market: SimMarket
    faults: Sequence[Fault] = ()
    style: Style = "raw"
    names_actions: bool = False
    forgets: int | None = None
    today: date = date.max
    asked: list[tuple[date, FetchRequest]] = field(default_factory=list)

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(
            name="simulated",
            version="1",
            adjustment=_ADJUSTMENT[self.style],
            point_in_time=True,
            split_adjusted=self.style == "split_adjusted",
        )

    def fetch(self, request: FetchRequest) -> FetchResult:
        number = sum(day == self.today for day, _ in self.asked)
        self.asked.append((self.today, request))
        names = self.market.newest_names(self.today)
        # Faults and bars go by the newest ticker, the answer by the one of today.
        asked, mine = request, tuple(names[symbol] for symbol in request.symbols if symbol in names)
        if not mine:
            return FetchResult(self.market.table.clear().select(BAR_COLUMNS), dict.fromkeys(asked.symbols, _NOBODY))
        request = replace(request, symbols=mine)
        view = View(self.market, request, self.today, number)
        faults = [fault for fault in self.faults if fault.on(self.today)]
        for fault in faults:
            fault.before(view)
        lag = {symbol: day for fault in faults for symbol, day in fault.lag(view).items()}
        known = self.known(request.symbols)
        bars = self.market.bars(known, request.start, request.end, self.today, self.style, lag)
        for fault in sorted(faults, key=lambda fault: isinstance(fault, Garbage)):  # what is wrong, then its form
            bars = fault.alter(bars, view)
        outcomes = self._outcomes(bars, request, known)
        for fault in faults:
            outcomes |= {s: outcome for s, outcome in fault.outcomes(view).items() if s in request.symbols}
        actions = None
        if self.names_actions:
            actions = self.market.actions(known, request.start, min(request.end, self.today))
            for fault in faults:
                actions = fault.named(actions, view)
            actions = _renamed(actions, names)
        outcomes = {s: outcomes[names[s]] if s in names else _NOBODY for s in asked.symbols}
        details = {s: f"simulated: {outcome}" for s, outcome in outcomes.items() if outcome is not Outcome.OK}
        return FetchResult(_renamed(bars, names), outcomes, details, actions)

    def known(self, symbols: Sequence[str]) -> list[str]:
        """Those of some symbols, by their newest names, that it knows today."""
        listed = set(self.market.members(None, self.today))
        if self.forgets is not None:
            since = max((d for d in self.market.sessions if d <= self.today), default=self.today)
            at = self.market.sessions.index(since) if since in self.market.sessions else 0
            low = self.market.sessions[max(0, at - self.forgets)]
            listed &= set(self.market.members(low, self.today))
        return [symbol for symbol in symbols if symbol in listed]

    def members(self, start: date | None, end: date | None) -> list[str]:
        newest = self.market.members(start, min(end or self.today, self.today))
        today = {new: old for old, new in self.market.newest_names(self.today).items()}
        return sorted(today[symbol] for symbol in newest)

    @staticmethod
    def _outcomes(bars: pl.DataFrame, request: FetchRequest, known: Sequence[str]) -> dict[str, Outcome]:
        fetched = set[str]()
        if "symbol" in bars.columns:
            fetched = {symbol.strip().upper() for symbol in bars["symbol"].unique().cast(pl.String) if symbol}
        return {
            symbol: Outcome.OK if symbol in fetched else Outcome.EMPTY if symbol in known else Outcome.NOT_FOUND
            for symbol in request.symbols
        }


def _renamed(frame: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """Rows by the tickers of today, however they are spelled."""
    before = {new: old for old, new in names.items() if old != new}
    if not before or "symbol" not in frame.columns:
        return frame
    spelled = before | {f" {new.lower()} ": f" {old.lower()} " for new, old in before.items()}
    symbol = pl.col("symbol").cast(pl.String).replace(spelled).cast(frame.schema["symbol"])
    return frame.with_columns(symbol)


@dataclass
class SimFetcher:
    """The same, as the least that a fetcher must be: rows, and nothing said about them."""

    vendor: SimVendor

    def get_daily_prices(self, symbols: Sequence[str], start_date: date, end_date: date) -> pl.DataFrame:
        return self.vendor.fetch(FetchRequest(tuple(symbols), start_date, end_date)).frame
