"""One symbol whose bars and events a test writes down, and a source that gives them as of an evening.

A second symbol, of which there is nothing to say, keeps it company, so that there is always something to store.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from historical_etl import ETLResult, FetchRequest, FetchResult, HistoricalETL, Outcome, SourceInfo
from historical_etl.sources.base import FOREIGN
from historical_etl_tests.scenario import COLUMNS, sessions, store

FIRST = date(2023, 3, 1)
NAME, COMPANY = "ACME", "PLAIN"
#: (index of the session, new shares for each old one, cash).
Event = tuple[int, float, float]
#: Likewise as a source names it, where a value may be missing.
Name = tuple[int, float | None, float | None]


def days(count: int, first: date = FIRST) -> list[date]:
    """So many sessions from the first one on."""
    return sessions(first, date(first.year + 4, 1, 1))[:count]


def walk(count: int, price: float = 50.0, *, daily: float = 0.01, seed: int = 1) -> list[float]:
    """Closes that move by about `daily` a session."""
    draw = random.Random(seed)
    closes = [price]
    while len(closes) < count:
        closes.append(round(closes[-1] * (1 + draw.gauss(0, daily)), 4))
    return closes


def falling(closes: Sequence[float], *events: Event) -> list[float]:
    """The closes as they trade: from each event on they fall by what it takes out of the price."""
    traded = list(closes)
    for at, split, cash in events:
        share = (traded[at - 1] / split - cash) / traded[at - 1]
        traded[at:] = [round(price * share, 6) for price in traded[at:]]
    return traded


def adjusted(closes: Sequence[float], *events: Event) -> list[float]:
    """adj_close of closes as they trade: a dividend is cash for each new share."""
    factors = [1.0] * len(closes)
    for at, split, cash in events:
        factor = (closes[at - 1] / split - cash) / closes[at - 1]
        factors[:at] = [f * factor for f in factors[:at]]
    return [round(close * factor, 8) for close, factor in zip(closes, factors, strict=True)]


@dataclass
class Series:
    """A full source of one symbol; the test may change any of it between two evenings.

    It names events of so many days before each request as `late` says; `foreign` are dividends in other
    currencies, `missing` sessions without a bar, and `asked` is what it was asked for.
    """

    close: Sequence[float]
    adj_close: Sequence[float | None] | None = None
    events: Sequence[Name] | None = None
    late: int = 0
    foreign: Sequence[tuple[int, float, str]] = ()
    missing: Collection[int] = ()
    split_adjusted: bool = False
    volume: float = 1000.0
    first: date = FIRST
    today: date = date.max
    asked: list[FetchRequest] = field(default_factory=list[FetchRequest])

    @property
    def info(self) -> SourceInfo:
        return SourceInfo("scripted", "1", "as the test says", split_adjusted=self.split_adjusted)

    @property
    def days(self) -> list[date]:
        return days(len(self.close), self.first)

    def fetch(self, request: FetchRequest) -> FetchResult:
        self.asked.append(request)
        adj = self.adj_close if self.adj_close is not None else [None] * len(self.close)
        rows = [
            (day, NAME, close, close, close, close, self.volume, None, adj_close)
            for at, (day, close, adj_close) in enumerate(zip(self.days, self.close, adj, strict=True))
            if at not in self.missing
        ]
        rows += [(day, COMPANY, 20.0, 20.0, 20.0, 20.0, 500.0 + at, None, 20.0) for at, day in enumerate(self.days)]
        low, high = request.start, min(request.end, self.today)
        rows = [row for row in rows if low <= row[0] <= high and row[1] in request.symbols]
        named, named_since = None, {}
        if self.events is not None:
            given = [(NAME, self.days[at], split, cash) for at, split, cash in self.events]
            schema = {"symbol": pl.String(), "date": pl.Date(), "split": pl.Float64(), "dividend": pl.Float64()}
            since = request.start - timedelta(days=self.late)
            named_since = {NAME: since} if self.late and NAME in request.symbols else {}
            inside = pl.col("date").is_between(since, min(request.end, self.today))
            named = pl.DataFrame(given, schema=schema, orient="row").filter(inside & (NAME in request.symbols))
        fetched = {row[1] for row in rows}
        outcomes = {symbol: Outcome.OK if symbol in fetched else Outcome.EMPTY for symbol in request.symbols}
        paid = [(NAME, self.days[at], cash, currency) for at, cash, currency in self.foreign]
        paid = [row for row in paid if low <= row[1] <= high and NAME in request.symbols]
        foreign = pl.DataFrame(paid, schema=FOREIGN, orient="row") if paid else None
        frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
        return FetchResult(frame, outcomes, {}, named, foreign=foreign, named_since=named_since)

    def members(self, start: date | None, end: date | None) -> list[str]:
        return [NAME, COMPANY]


def backfill(root: Path, source: Series, through: int | None = None) -> tuple[HistoricalETL, ETLResult]:
    """A store with the history of a source, up to the session with an index (None: all)."""
    last = source.days[-1 if through is None else through]
    etl = opened(root, source, last)
    return etl, etl.run_full_etl([NAME, COMPANY], source.days[0], last)


def opened(root: Path, source: Series, day: date) -> HistoricalETL:
    source.today = day
    return store(root, source, day)


def update(root: Path, source: Series, at: int) -> tuple[HistoricalETL, ETLResult]:
    """An update on the evening of the session with an index; nobody looks at the catalog."""
    etl = opened(root, source, source.days[at])
    return etl, etl.run_incremental_etl(publish=False)


def column(etl: HistoricalETL, name: str, **options) -> list[Any]:
    """One column of all stored rows, by date."""
    return etl.scan(NAME, **options).collect().sort("date")[name].to_list()


def codes(etl: HistoricalETL) -> list[str]:
    return etl.holds()["code"].to_list()


def actions(etl: HistoricalETL) -> list[dict[str, object]]:
    return etl.ledger("actions").sort("date").to_dicts()
