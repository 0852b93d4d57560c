"""Test data that is awkward on purpose, and sources that do as they are asked.

A `Market` makes the bars of a few listings, always the same for the same seed. A `ScriptedFetcher` or a
`ScriptedSource` delivers them, remembers what it was asked, and spoils the answer where a test says so. Answers
that tests compare with are computed here by another route than the core's: rows in a dict, loops, plain floats.
"""

import atexit
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import polars as pl

from historical_etl import (
    FetchRequest,
    FetchResult,
    HistoricalETL,
    Outcome,
    Settings,
    SourceInfo,
    SyncManifest,
    get_calendar,
)
from historical_etl.clock import Clock

#: Restated by hand, so that a change of the schema is noticed here.
COLUMNS = {
    "date": pl.Date(),
    "symbol": pl.String(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "ret": pl.Float64(),
    "adj_close": pl.Float64(),
}
KEYS = ["date", "symbol"]
Rows = dict[tuple[date, str], tuple[float | None, ...]]


@dataclass(frozen=True)
class Listing:
    """One symbol of the market, and what is awkward about it."""

    symbol: str
    first: date = date(1900, 1, 1)
    last: date = date(2100, 1, 1)
    split: date | None = None  # two for one, from this session on
    halted: date | None = None  # a session without a trade
    away: tuple[date, date] = (date.max, date.max)  # suspended: no bars from the one to the other, both included
    adjusted_until: date | None = date(2100, 1, 1)  # None: never has an adj_close


#: 2012 begins on 3 January; 2010, 2011 and 2012 all end on a session.
LISTINGS = (
    Listing("BRK.B"),  # a dot in the ticker
    Listing("SPLT", split=date(2012, 1, 3)),  # splits on the first session of a year
    Listing("HALT", halted=date(2012, 6, 15)),
    Listing("IPOX", first=date(2012, 5, 18)),  # begins in mid-year
    Listing("GONE", last=date(2011, 8, 31)),  # is delisted in mid-year
    Listing("RAWP", adjusted_until=None),
)
SYMBOLS = tuple(listing.symbol for listing in LISTINGS)
#: The same symbols, awkward within four months, for tests that need no long history.
SHORT_LISTINGS = (
    Listing("BRK.B"),
    Listing("SPLT", split=date(2013, 1, 2)),
    Listing("HALT", halted=date(2012, 12, 14)),
    Listing("IPOX", first=date(2012, 11, 15)),
    Listing("GONE", last=date(2012, 11, 30)),
    Listing("RAWP", adjusted_until=None),
)
#: Its vendor stops adjusting in the middle of a month: rows with and without adj_close, and a price basis that ends.
STOPS = Listing("STOP", adjusted_until=date(2011, 12, 14))
FIRST, LAST = date(2010, 1, 4), date(2013, 3, 1)


@dataclass(frozen=True)
class Market:
    """The bars of some listings on the sessions of XNYS from `first` to `last`."""

    listings: tuple[Listing, ...] = LISTINGS
    first: date = FIRST
    last: date = LAST
    seed: int = 1

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(listing.symbol for listing in self.listings)

    def bars(self, symbols: Iterable[str] | None = None, start: date = date.min, end: date = date.max) -> pl.DataFrame:
        """Bars without `ret`, as a vendor delivers them, sorted by (date, symbol)."""
        wanted = self.symbols if symbols is None else tuple(symbols)
        return _all_bars(self).filter(pl.col("symbol").is_in(wanted), pl.col("date").is_between(start, end))

    def expected(
        self, symbols: Iterable[str] | None = None, start: date = date.min, end: date = date.max
    ) -> pl.DataFrame:
        """What a store holds once it was filled with everything: the bars of a range, with their `ret`."""
        rows = with_naive_returns(self.bars(symbols, end=end))
        return rows.filter(pl.col("date").is_between(start, end))


SHORT = Market(SHORT_LISTINGS, first=date(2012, 10, 1))


@cache
def _all_bars(market: Market) -> pl.DataFrame:
    sessions = get_calendar("XNYS").between(market.first, market.last).to_list()
    rows = [row for listing in market.listings for row in _history(listing, sessions, market.seed)]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row").sort(KEYS)


def _history(listing: Listing, sessions: Sequence[date], seed: int):
    draw = random.Random(f"{seed} {listing.symbol}")
    price = draw.uniform(20, 200)
    for day in sessions:
        price *= 1 + draw.gauss(0.0004, 0.015)
        split = 0.5 if listing.split and day < listing.split else 1.0
        close = round(price / split, 2)
        low, high = round(close * draw.uniform(0.97, 1), 2), round(close * draw.uniform(1, 1.03), 2)
        first = round(draw.uniform(low, high), 2)
        volume = float(draw.randrange(100_000, 9_000_000))
        if day == listing.halted:
            first = low = high = close
            volume = 0.0
        adjusted = listing.adjusted_until is not None and day <= listing.adjusted_until
        adj_close = round(close * split, 6) if adjusted else None
        if listing.first <= day <= listing.last and not listing.away[0] <= day <= listing.away[1]:
            yield day, listing.symbol, first, high, low, close, volume, None, adj_close


def with_naive_returns(frame: pl.DataFrame) -> pl.DataFrame:
    """`ret` by loops over dicts: of adj_close, or of close in months in which a symbol has no adj_close at all.

    On the first row of such a month `ret` is null unless the row before it has no adj_close either.
    """
    rows = sorted(frame.iter_rows(named=True), key=lambda row: (row["symbol"], row["date"]))
    adjusted = {(row["symbol"], row["date"].year, row["date"].month) for row in rows if row["adj_close"] is not None}
    before: dict[str, dict[str, Any]] = {}
    for row in rows:
        previous = before.get(row["symbol"])
        row["ret"] = None
        if previous is not None:
            month = (row["symbol"], row["date"].year, row["date"].month)
            if row["adj_close"] is not None and previous["adj_close"] is not None:
                row["ret"] = row["adj_close"] / previous["adj_close"] - 1
            elif month not in adjusted and previous["adj_close"] is None:
                row["ret"] = row["close"] / previous["close"] - 1
        before[row["symbol"]] = row
    return pl.DataFrame(rows, schema=COLUMNS).sort(KEYS)


# ── sources ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Ask:
    """One request that a source got."""

    symbols: tuple[str, ...]
    start: date
    end: date


Alter = Callable[[pl.DataFrame], pl.DataFrame]
Before = Callable[[Ask], object]


class ScriptedFetcher:
    """The least a fetcher must be: one method. `before` may raise or act, `alter` spoils the answer."""

    def __init__(
        self, market: Market, *, alter: Alter | None = None, before: Before | None = None, days_beyond: int = 0
    ) -> None:
        self.market = market
        self.days_beyond = days_beyond  # a vendor that does not look at the end of a request
        self.alter = alter
        self.before = before
        self.asked: list[Ask] = []

    def get_daily_prices(self, symbols: Sequence[str], start_date: date, end_date: date) -> pl.DataFrame:
        ask = Ask(tuple(symbols), start_date, end_date)
        self.asked.append(ask)
        if self.before:
            self.before(ask)
        bars = self.market.bars(symbols, start_date, end_date + timedelta(days=self.days_beyond))
        return self.alter(bars) if self.alter else bars

    @property
    def years(self) -> list[int]:
        """The years asked for, by the end of each request."""
        return [ask.end.year for ask in self.asked]


INFO = SourceInfo(name="scripted", version="1", adjustment="adj_close for splits", point_in_time=True)


@dataclass
class ScriptedSource:
    """A full source: as the fetcher, and it gives outcomes, states what it is and knows its universe."""

    market: Market
    info: SourceInfo = INFO
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    alter: Alter | None = None
    asked: list[FetchRequest] = field(default_factory=list)

    def fetch(self, request: FetchRequest) -> FetchResult:
        self.asked.append(request)
        bars = self.market.bars(request.symbols, request.start, request.end)
        bars = self.alter(bars) if self.alter else bars
        present = set(bars["symbol"])
        found = {symbol: Outcome.OK if symbol in present else Outcome.EMPTY for symbol in request.symbols}
        given = {symbol: outcome for symbol, outcome in self.outcomes.items() if symbol in request.symbols}
        return FetchResult(bars, found | given, {symbol: f"scripted: {outcome}" for symbol, outcome in given.items()})

    def members(self, start: date | None, end: date | None) -> list[str]:
        return sorted(
            listing.symbol
            for listing in self.market.listings
            if (end is None or listing.first <= end) and (start is None or start <= listing.last)
        )


def is_row(symbol: str, day: date) -> pl.Expr:
    return (pl.col("symbol") == symbol) & (pl.col("date") == day)


def changing(symbol: str, day: date, /, **values: object) -> Alter:
    """Spoil one row: set some of its columns."""
    return lambda bars: bars.with_columns(
        pl.when(is_row(symbol, day)).then(pl.lit(value, COLUMNS[name])).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def losing(symbol: str, *days: date) -> Alter:
    """Lose rows; without days, all of a symbol."""
    lost = pl.col("symbol") == symbol
    if days:
        lost &= pl.col("date").is_in(list(days))
    return lambda bars: bars.filter(~lost)


def doubling(symbol: str, day: date, /, **values: object) -> Alter:
    """Deliver one row a second time, with other values where some are given."""

    def alter(bars: pl.DataFrame) -> pl.DataFrame:
        again = bars.filter(is_row(symbol, day))
        return pl.concat([bars, changing(symbol, day, **values)(again) if values else again])

    return alter


def adding(**values: object) -> Alter:
    """Deliver one more row, wherever its date lies."""
    usual = {"open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "volume": 1.0}
    return lambda bars: pl.concat([bars, pl.DataFrame([{**usual, **values}], schema=COLUMNS)])


def in_turn(*steps: Alter) -> Alter:
    def alter(bars: pl.DataFrame) -> pl.DataFrame:
        for step in steps:
            bars = step(bars)
        return bars

    return alter


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def evening(day: date) -> datetime:
    """23:00 UTC: XNYS has closed at least two hours before, in summer and in winter."""
    return datetime(day.year, day.month, day.day, 23, tzinfo=UTC)


def at(day: date) -> Clock:
    """A clock that stands in the evening of a day."""
    return lambda: evening(day)


@dataclass
class Ticking:
    """A clock that goes a second further each time someone looks."""

    now: datetime = datetime(2013, 3, 1, 23, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def sessions(start: date, end: date) -> list[date]:
    return get_calendar("XNYS").between(start, end).to_list()


# ── stores ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def plain_settings() -> Settings:
    """Settings that no file changes."""
    return _settings_in(Path.cwd(), frozenset(os.environ.items()))


@lru_cache(maxsize=16)
def _settings_in(folder: Path, environment: frozenset[tuple[str, str]]) -> Settings:
    """They are frozen, and reading them takes longer than opening a store does."""
    return Settings(_env_file=None)  # pyright: ignore[reportCallIssue] - an argument of pydantic-settings


def store(root: Path, fetcher: object, today: date = LAST, **options) -> HistoricalETL:
    """A store on which nothing depends but its arguments: no environment, no `.env`, no wall clock."""
    options.setdefault("clock", at(today))
    if "settings" not in options:
        options["settings"] = plain_settings()
    return HistoricalETL.open(root, fetcher, **options)  # pyright: ignore[reportArgumentType]


def folder_in_memory() -> Path | None:
    """A folder on a volume in memory, where there is one: for what need not outlive the tests."""
    memory = Path("/dev/shm")  # noqa: S108 - folders of their own are made in it
    return memory if os.access(memory, os.W_OK) else None


_MADE: Final[dict[Hashable, Path]] = {}


def made_once(root: Path, name: Hashable, make: Callable[[Path], object]) -> None:
    """Let a store lie in `root` as `make` makes it; of each name it is made once in a process, and then copied.

    For tests of what happens after it. The copy has the links of the original; its catalog is that of another place.
    """
    if name not in _MADE:
        folder = Path(tempfile.mkdtemp(prefix="historical-etl-made-", dir=folder_in_memory()))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        make(folder / "data")
        _MADE[name] = folder / "data"
    root.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--", _MADE[name], root], check=True)  # `shutil` would copy each link as a file


def filled(
    root: Path, market: Market, until: date | None = None, symbols: Iterable[str] | None = None, **options
) -> HistoricalETL:
    """A store with all that a market has until an evening, published."""
    end, names = until or market.last, tuple(market.symbols if symbols is None else symbols)

    def make(folder: Path) -> None:
        store(folder, ScriptedFetcher(market), end).run_full_etl(names, market.first, end)

    etl = store(root, ScriptedFetcher(market), end, **options)
    made_once(root, (market, end, names), make)
    etl.publish_catalog()
    return etl


def stored(etl: HistoricalETL) -> pl.DataFrame:
    """Everything a store holds, sorted by (date, symbol)."""
    return etl.scan().collect().sort(KEYS)


def current_manifest(etl: HistoricalETL) -> SyncManifest:
    """The current version, which the test knows to be there."""
    manifest = etl.manifest()
    assert manifest is not None
    return manifest


def as_rows(frame: pl.DataFrame) -> Rows:
    """(date, symbol) → the other columns; fails on a key that comes twice."""
    rows = {(row[0], row[1]): row[2:] for row in frame.select(list(COLUMNS)).iter_rows()}
    assert len(rows) == frame.height
    return rows


def daily_bytes(etl: HistoricalETL) -> dict[str, bytes]:
    """What any other tool sees: the bytes of each file in daily/."""
    return {path.name: path.read_bytes() for path in sorted(etl.layout.daily.glob("*.parquet"))}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path, to prove that nothing changed; notes of failed runs aside."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "runs"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
