"""A source of companies whose tickers change, as a vendor gives them, or as files have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from historical_etl import FetchRequest, FetchResult, Outcome, SourceInfo
from historical_etl_tests.scenario import INFO, KEYS, Alter, Listing, Market

#: company → its names: each from a date on.
Tickers = Mapping[str, Sequence[tuple[date, str]]]


@dataclass
class TickerSource:
    """The bars of a market's companies under their tickers.

    Attributes:
        market: its symbols are the companies.
        tickers: their names; a company that is not in it is called as it is.
        gives: `whole` has all of a company under the name of `today`, and does not know former ones; `then` has each
            bar under the name of its day.
        today: the day of the names.
    """

    market: Market
    tickers: Tickers
    gives: str = "whole"
    today: date = date.max
    alter: Alter | None = None
    info: SourceInfo = INFO
    asked: list[FetchRequest] = field(default_factory=list)

    def bars(self) -> pl.DataFrame:
        bars = self.market.bars()
        name = pl.col("symbol")
        for company, names in self.tickers.items():
            for since, ticker in names:
                here = pl.lit(value=self.today >= since) if self.gives == "whole" else pl.col("date") >= since
                name = pl.when((pl.col("symbol") == company) & here).then(pl.lit(ticker)).otherwise(name)
        return bars.with_columns(name.alias("symbol")).sort(KEYS)

    def fetch(self, request: FetchRequest) -> FetchResult:
        self.asked.append(request)
        known = self.bars()
        bars = known.filter(
            pl.col("symbol").is_in(request.symbols), pl.col("date").is_between(request.start, request.end)
        )
        bars = self.alter(bars) if self.alter else bars
        outcomes = dict.fromkeys(set(request.symbols) - set(known["symbol"]), Outcome.NOT_FOUND)
        return FetchResult(bars, outcomes, dict.fromkeys(outcomes, "no such ticker"))

    def members(self, start: date | None, end: date | None) -> list[str]:
        bars = self.bars().filter(pl.col("date").is_between(start or date.min, end or date.max))
        return sorted(bars["symbol"].unique())

    def names_asked(self) -> set[str]:
        return {symbol for request in self.asked for symbol in request.symbols}


def company(symbol: str, **facts: object) -> Listing:
    return Listing(symbol, **facts)  # pyright: ignore[reportArgumentType] - as `Listing` has them
