"""What a store must hold, said without it: a small market that can change its mind, and dicts of rows.

A version is a dict of rows by (symbol, session). What a run does to it is computed from the promises alone: what was
asked for comes as the source has it now, and a symbol whose prices moved to another level is replaced as a whole. A
volume that the source does not give any more stays. Rows on a day that leaves the calendar go with the next run, and a
day that joins it is a gap that updates ask for. The source has bars on both days all the time.
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

__all__ = [
    "CLOSED",
    "DAYS",
    "OPENED",
    "SYMBOLS",
    "State",
    "Truth",
    "TruthSource",
    "cursors_of",
    "has_moved",
    "lacks_volume",
    "state_of",
    "with_window",
    "with_years",
]

SYMBOLS: Final = ("AAA", "BRK.B", "CCC")
#: Sixty-one sessions over the turn of a year.
DAYS: Final[Sequence[date]] = tuple(sessions(date(2012, 12, 3), date(2013, 3, 1)))
#: What a later release of the calendar takes out and puts in: a Wednesday and a Saturday.
CLOSED, OPENED = date(2013, 1, 16), date(2013, 1, 26)
_ALL: Final = tuple(sorted({*DAYS, OPENED}))
_RELEASED: Final = tuple(day for day in _ALL if day != CLOSED)
#: open, high, low, close, volume, ret, adj_close of each bar.
Values: TypeAlias = tuple[float, float, float, float, float | None, float | None, float]
State: TypeAlias = Mapping[tuple[str, date], Values]


def _bars() -> State:
    draw = random.Random(7)
    bars: dict[tuple[str, date], Values] = {}
    for symbol in SYMBOLS:
        close = draw.uniform(20, 200)
        for day in _ALL:
            close = round(close * (1 + draw.gauss(0, 0.01)), 2)
            low, high = round(close * 0.98, 2), round(close * 1.02, 2)
            volume = float(draw.randrange(100_000, 900_000))
            bars[symbol, day] = (low, high, low, close, volume, None, close)
    return bars


_BARS: Final = _bars()


@dataclass(frozen=True)
class Truth:
    """What the source says at the moment.

    Attributes:
        levels: the factor on all prices of a symbol: a split for two halves them.
        volumes: of bars that were corrected, before any split.
        forgotten: bars whose volume it does not give.
        released: whether the calendar is the later one.
    """

    levels: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(SYMBOLS, 1.0))
    volumes: Mapping[tuple[str, date], float] = field(default_factory=dict[tuple[str, date], float])
    forgotten: frozenset[tuple[str, date]] = frozenset()
    released: bool = False

    @property
    def days(self) -> Sequence[date]:
        """The sessions, by the calendar of the moment."""
        return _RELEASED if self.released else DAYS

    def split(self, symbol: str, factor: float) -> "Truth":
        """After a split, all prices are given on another level."""
        return replace(self, levels={**self.levels, symbol: self.levels[symbol] * factor})

    def correct(self, symbol: str, day: date, volume: float) -> "Truth":
        """After a correction of one bar."""
        return replace(self, volumes={**self.volumes, (symbol, day): volume})

    def forget(self, symbol: str, day: date) -> "Truth":
        """After the volume of a bar was lost, or found again."""
        return replace(self, forgotten=self.forgotten ^ {(symbol, day)})

    def values(self, symbol: str, day: date) -> Values:
        """One bar, without `ret`; factors are powers of two, so that nothing is rounded."""
        first, high, low, close, volume, _, adjusted = _BARS[symbol, day]
        level = self.levels[symbol]
        volume = None if (symbol, day) in self.forgotten else self.volumes.get((symbol, day), volume or 0.0) / level
        return first * level, high * level, low * level, close * level, volume, None, adjusted * level

    def frame(self, symbols: Iterable[str], start: date, end: date) -> pl.DataFrame:
        """The bars of a range as a vendor gives them: also on days that are no sessions."""
        rows = [
            (day, symbol, *self.values(symbol, day))
            for day in _ALL
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
    first = {symbol: min(day for name, day in state if name == symbol) for symbol in {name for name, _ in state}}
    return {key: (*v[:5], None if key[1] == first[key[0]] else v[5], v[6]) for key, v in state.items()}


def _settled(state: State) -> State:
    """With the `ret` that follows from the row before, which the first session of each symbol has not.

    A store may have one there: that depends on what else was fetched.
    """
    before: dict[str, float] = {}
    settled: dict[tuple[str, date], Values] = {}
    for (symbol, day), values in sorted(state.items()):
        ret = values[3] / before[symbol] - 1 if symbol in before else None
        settled[symbol, day] = (*values[:5], ret, values[6])
        before[symbol] = values[3]
    return settled


def cursors_of(state: State, truth: Truth) -> dict[str, date]:
    """The last session of each symbol before which none is missing."""
    there: dict[str, set[date]] = {}
    for symbol, day in _in_calendar(state, truth):
        there.setdefault(symbol, set()).add(day)
    cursors: dict[str, date] = {}
    for symbol, days in there.items():
        lacking = [day for day in truth.days if min(days) < day < max(days) and day not in days]
        cursors[symbol] = max(day for day in days if not lacking or day < lacking[0])
    return cursors


def with_window(state: State, truth: Truth, spans: Mapping[str, tuple[date, date]]) -> State:
    """A version after one commit of what the source has of some symbols, each from one day to another."""
    after = dict(_in_calendar(state, truth))
    for symbol, (start, end) in spans.items():
        stored = [day for name, day in after if name == symbol]
        fetched = [day for day in truth.days if start <= day <= end]
        if fetched and has_moved(state, truth, symbol):
            fetched = [day for day in truth.days if min(*stored, fetched[0]) <= day <= max(*stored, fetched[-1])]
        for day in fetched:
            reported = truth.values(symbol, day)
            kept = after[symbol, day][4] if (symbol, day) in after and reported[4] is None else reported[4]
            after[symbol, day] = (*reported[:4], kept, *reported[5:])
    return _settled(after)


def _in_calendar(state: State, truth: Truth) -> State:
    return {key: values for key, values in state.items() if key[1] in truth.days}


def with_years(state: State, truth: Truth, symbols: Iterable[str], start: date, end: date) -> list[State]:
    """The versions that a backfill makes: one for each year."""
    states: list[State] = []
    for year in range(start.year, end.year + 1):
        span = max(start, date(year, 1, 1)), min(end, date(year, 12, 31))
        state = with_window(state, truth, dict.fromkeys(symbols, span))
        states.append(state)
    return states


def lacks_volume(state: State, truth: Truth, symbol: str) -> bool:
    """Whether a volume is stored of a symbol that the source does not give any more."""
    mine = {key for key, values in state.items() if key[0] == symbol and values[4] is not None}
    return not mine.isdisjoint(truth.forgotten)


def has_moved(state: State, truth: Truth, symbol: str) -> bool:
    """Whether what is stored of a symbol is on another level than the source's."""
    return any(values[3] != truth.values(*key)[3] for key, values in state.items() if key[0] == symbol)
