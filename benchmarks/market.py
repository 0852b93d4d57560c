"""A generated market: prices as a random walk on real sessions, kept on disk so that making them costs a run nothing.

`prepare` draws a workload once, year by year; `MarketFetcher` hands its rows out and keeps the time that takes,
so that a case can subtract it from the floor's time and from ours alike.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice, product
from pathlib import Path
from string import ascii_uppercase
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from historical_etl.sessions import get_calendar

__all__ = ["WORKLOADS", "MarketFetcher", "Workload", "prepare"]

_SEED: Final = 20_260_801
_EXCHANGE: Final = "XNYS"
#: Symbols in one file: as many as the package asks for in one request by default.
_PART: Final = 1000
#: Sessions at a year's end that lie in a file of their own, for lead-ins and increments.
_TAIL: Final = 40
#: What a dividend is of the close.
_DIVIDEND: Final = 0.01
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Workload:
    """So many symbols over the calendar years `first` to `last`."""

    name: str
    symbols: int
    first: int
    last: int

    @property
    def years(self) -> range:
        return range(self.first, self.last + 1)

    @property
    def names(self) -> list[str]:
        """The symbols, ascending."""
        threes = ["".join(letters) + "X" for letters in islice(product(ascii_uppercase, repeat=3), self.symbols)]
        return threes + [f"{threes[-1]}{i:04}" for i in range(self.symbols - len(threes))]

    @property
    def parts(self) -> list[tuple[str, ...]]:
        names = self.names
        return [tuple(names[start : start + _PART]) for start in range(0, len(names), _PART)]

    def sessions(self, year: int) -> pl.Series:
        return get_calendar(_EXCHANGE).between(date(year, 1, 1), date(year, 12, 31))


WORKLOADS: Final = {
    "W1": Workload("W1", 500, 2015, 2024),
    "W1x20": Workload("W1x20", 500, 2005, 2024),
    "W1x40": Workload("W1x40", 500, 1985, 2024),
    "W2": Workload("W2", 5000, 2015, 2024),
    **{f"S{symbols}": Workload(f"S{symbols}", symbols, 2020, 2024) for symbols in (500, 5_000, 20_000)},
    "Q": Workload("Q", 50, 2020, 2024),
    "C": Workload("C", 100, 2021, 2024),  # for counts, which are taken on every commit
}


def prepare(workload: Workload, root: Path) -> Path:
    """Draw the workload into a folder below `root`, unless it is there; returns that folder."""
    folder = root / f"market-{workload.name}"
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(_SEED)
    close = np.exp(rng.normal(3.5, 1.0, workload.symbols))
    for year in workload.years:
        sessions = workload.sessions(year)
        for number, (names, path) in enumerate(_walks(workload, rng, close, sessions)):
            frame = _bars(names, sessions, path, workload.last - year, rng)
            frame.write_ipc(partial / f"{year}-{number}.arrow")
            recent = frame.filter(pl.col("date") >= sessions[-min(_TAIL, len(sessions))])
            recent.write_ipc(partial / f"{year}-{number}.tail.arrow")
    partial.rename(folder)
    return folder


def _walks(
    workload: Workload, rng: np.random.Generator, close: Numbers, sessions: pl.Series
) -> Iterator[tuple[Sequence[str], Numbers]]:
    """The closes of one year for one part after the other, and `close` moved on to the year's last."""
    for number, names in enumerate(workload.parts):
        rows = slice(number * _PART, number * _PART + len(names))
        steps = rng.normal(0.0002, 0.018, (len(names), len(sessions)))
        path = np.maximum(close[rows, None] * np.exp(np.cumsum(steps, axis=1)), 1.0)
        close[rows] = path[:, -1]
        yield names, path


def _bars(names: Sequence[str], sessions: pl.Series, path: Numbers, age: int, rng: np.random.Generator) -> pl.DataFrame:
    noise = pl.DataFrame({name: rng.normal(0, 0.006, path.size) for name in ("open", "up", "down")})
    close, body = pl.col("close"), ("open", "close")
    return (
        pl.DataFrame(
            {
                "date": pl.concat([sessions] * len(names)),
                "symbol": pl.Series(names).repeat_by(len(sessions)).explode(),
                "close": path.ravel(),
                "volume": rng.normal(13, 1.2, path.size),
            }
        )
        .with_columns(
            (close * noise["open"].exp()).round(2).alias("open"), close.round(2), pl.col("volume").exp().floor()
        )
        .select(
            "date",
            "symbol",
            "open",
            (pl.max_horizontal(body) * (1 + noise["up"].abs())).round(2).alias("high"),
            (pl.min_horizontal(body) * (1 - noise["down"].abs())).round(2).alias("low"),
            "close",
            "volume",
            (close * 0.98**age).round(4).alias("adj_close"),
        )
        # So that the floor stores as many columns as we do, at no cost of its own. We drop it and compute our own.
        .with_columns(pl.col("adj_close").pct_change().over("symbol").alias("ret"))
    )


class MarketFetcher:
    """The plain fetcher: rows symbol by symbol, as vendors deliver them. `seconds` is what reading them took.

    With `remember` it makes no rows twice: where work is counted, what it is given must not count.
    """

    def __init__(self, workload: Workload, folder: Path, *, remember: bool = False) -> None:
        self.workload = workload
        self.seconds = 0.0
        self._folder = folder
        self._remember = remember
        self._known: dict[tuple[tuple[str, ...], date, date], pl.DataFrame] = {}
        self._dividends: list[tuple[list[str], date]] = []

    def pay(self, symbols: Sequence[str], day: date) -> None:
        """From now on these symbols paid a dividend on a day: their adjusted closes before it are lower."""
        self._dividends.append((list(symbols), day))
        self._known.clear()

    def get_daily_prices(self, symbols: Sequence[str], start_date: date, end_date: date) -> pl.DataFrame:
        question = tuple(symbols), start_date, end_date
        if question in self._known:
            return self._known[question]
        began = time.perf_counter()
        wanted = set(symbols)
        frames = [
            self._rows(year, number, symbols if len(wanted) < len(part) else None, start_date, end_date)
            for number, part in enumerate(self.workload.parts)
            if not wanted.isdisjoint(part)
            for year in range(max(start_date.year, self.workload.first), min(end_date.year, self.workload.last) + 1)
        ]
        frame = self._adjusted(pl.concat(frames).rechunk())
        self.seconds += time.perf_counter() - began
        if self._remember:
            self._known[question] = frame
        return frame

    def _adjusted(self, rows: pl.DataFrame) -> pl.DataFrame:
        for symbols, day in self._dividends:
            before = pl.col("symbol").is_in(symbols) & (pl.col("date") < day)
            lower = (pl.col("adj_close") * (1 - _DIVIDEND)).round(4)
            rows = rows.with_columns(pl.when(before).then(lower).otherwise("adj_close").alias("adj_close"))
        return rows

    def _rows(self, year: int, number: int, symbols: Sequence[str] | None, start: date, end: date) -> pl.DataFrame:
        sessions = self.workload.sessions(year)
        kind = ".tail" if start >= sessions[-min(_TAIL, len(sessions))] else ""
        rows = pl.read_ipc(self._folder / f"{year}-{number}{kind}.arrow")
        if start > sessions[0] or end < sessions[-1]:
            rows = rows.filter(pl.col("date").is_between(start, end))
        return rows if symbols is None else rows.filter(pl.col("symbol").is_in(symbols))
