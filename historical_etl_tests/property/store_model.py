"""What a store must hold, said without it: a small market that can change its mind, and dicts of rows.

A version is a dict of rows by (symbol, session). What a run does to it is computed from the promises alone: what was
asked for comes as the source has it now, and a symbol whose prices moved to another level is replaced as a whole.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, TypeAlias

import polars as pl

from historical_etl import FetchRequest, FetchResult, Outcome, SourceInfo
from historical_etl.sources.base import Coverage
from historical_etl_tests.scenario import COLUMNS, sessions

__all__ = ["DAYS", "SYMBOLS", "State", "Truth", "TruthSource", "cursors_of", "state_of", "with_window", "with_years"]

SYMBOLS: Final = ("AAA", "BRK.B", "CCC")
#: Sixty-one sessions over the turn of a year.
DAYS: Final[Sequence[date]] = tuple(sessions(date(2012, 12, 3), date(2013, 3, 1)))
#: open, high, low, close, volume, ret, adj_close of each bar.
Values: TypeAlias = tuple[float, float, float, float, float, float | None, float]
State: TypeAlias = Mapping[tuple[str, date], Values]


def _bars() -> State:
    draw = random.Random(7)
    bars: dict[tuple[str, date], Values] = {}
    for symbol in SYMBOLS:
        close, before = draw.uniform(20, 200), None
        for day in DAYS:
            close = round(close * (1 + draw.gauss(0, 0.01)), 2)
            low, high = round(close * 0.98, 2), round(close * 1.02, 2)
            volume = float(draw.randrange(100_000, 900_000))
            bars[symbol, day] = (low, high, low, close, volume, close / before - 1 if before else None, close)
            before = close
    return bars


_BARS: Final = _bars()


@dataclass(frozen=True)
class Truth:
    """What the source says at the moment.

    Attributes:
        levels: the factor on all prices of a symbol: a split for two halves them.
        volumes: of bars that were corrected, before any split.
    """

    levels: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(SYMBOLS, 1.0))
    volumes: Mapping[tuple[str, date], float] = field(default_factory=dict[tuple[str, date], float])

    def split(self, symbol: str, factor: float) -> "Truth":
        """After a split, all prices are told on another level."""
        return replace(self, levels={**self.levels, symbol: self.levels[symbol] * factor})

    def correct(self, symbol: str, day: date, volume: float) -> "Truth":
        """After a correction of one bar."""
        return replace(self, volumes={**self.volumes, (symbol, day): volume})

    def values(self, symbol: str, day: date) -> Values:
        """One bar; factors are powers of two, so that nothing is rounded."""
        first, high, low, close, volume, ret, adjusted = _BARS[symbol, day]
        level = self.levels[symbol]
        volume = self.volumes.get((symbol, day), volume) / level
        return first * level, high * level, low * level, close * level, volume, ret, adjusted * level

    def frame(self, symbols: Iterable[str], start: date, end: date) -> pl.DataFrame:
        """The bars of a range as a vendor gives them: without `ret`."""
        rows = [
            (day, symbol, *(None if at == 5 else value for at, value in enumerate(self.values(symbol, day))))
            for day in DAYS
            for symbol in sorted(symbols)
            if start <= day <= end
        ]
        return pl.DataFrame(rows, schema=COLUMNS, orient="row")


_INFO: Final = SourceInfo("truth", "1", "adj_close for splits", Coverage(DAYS[0]), split_adjusted=True)


@dataclass(frozen=True)
class TruthSource:
    """A source that tells the truth of the moment."""

    truth: Truth
    info: SourceInfo = _INFO

    def fetch(self, request: FetchRequest) -> FetchResult:
        frame = self.truth.frame(request.symbols, request.start, request.end)
        present = set(frame["symbol"])
        found = {symbol: Outcome.OK if symbol in present else Outcome.EMPTY for symbol in request.symbols}
        return FetchResult(frame, found)

    def members(self, start: date | None, end: date | None) -> list[str]:
        return list(SYMBOLS)


def state_of(rows: pl.DataFrame) -> State:
    """The rows of a store as a dict."""
    state: dict[tuple[str, date], Values] = {
        (row[1], row[0]): row[2:] for row in rows.select(list(COLUMNS)).iter_rows()
    }
    assert len(state) == rows.height, "a key comes twice"
    return _settled(state)


def _settled(state: State) -> State:
    """Without `ret` on the first session of each symbol: whether there is one depends on what else was fetched."""
    first = {symbol: min(day for name, day in state if name == symbol) for symbol in {name for name, _ in state}}
    return {
        (symbol, day): (*values[:5], None if first[symbol] == day else values[5], values[6])
        for (symbol, day), values in state.items()
    }


def cursors_of(state: State) -> dict[str, date]:
    """The last session of each symbol; the model never leaves a hole before it."""
    return {symbol: max(day for name, day in state if name == symbol) for symbol in {name for name, _ in state}}


def with_window(state: State, truth: Truth, spans: Mapping[str, tuple[date, date]]) -> State:
    """A version after one commit of what the source has of some symbols, each from one day to another."""
    after = dict(state)
    for symbol, (start, end) in spans.items():
        stored = [day for name, day in state if name == symbol]
        came = [day for day in DAYS if start <= day <= end]
        if came and has_moved(state, truth, symbol):
            came = [day for day in DAYS if min(*stored, came[0]) <= day <= max(*stored, came[-1])]
        after |= {(symbol, day): truth.values(symbol, day) for day in came}
    # A session that was the first one may have a predecessor now.
    return _settled({key: (*values[:5], _BARS[key][5], values[6]) for key, values in after.items()})


def with_years(state: State, truth: Truth, symbols: Iterable[str], start: date, end: date) -> list[State]:
    """The versions that a backfill makes: one for each year."""
    states: list[State] = []
    for year in range(start.year, end.year + 1):
        span = max(start, date(year, 1, 1)), min(end, date(year, 12, 31))
        state = with_window(state, truth, dict.fromkeys(symbols, span))
        states.append(state)
    return states


def has_moved(state: State, truth: Truth, symbol: str) -> bool:
    """Whether what is stored of a symbol is on another level than the source's."""
    return any(values[3] != truth.values(*key)[3] for key, values in state.items() if key[0] == symbol)
