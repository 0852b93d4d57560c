"""Files as people have them: CSV, zipped CSV and Parquet side by side, with rows planted that must not pass.

What becomes of every row is known when it is written, so that an adoption can be held against it.
"""

import gzip
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import polars as pl

from historical_etl import get_calendar
from historical_etl.clock import Clock
from historical_etl_tests.scenario import at

Row = tuple[date, float | None, float | None, float | None, float | None, float | None]
NAMES = ("Date", "Open", "High", "Low", "Close", "Volume")


@dataclass
class Foreign:
    """A folder of files, and what must become of its rows; `fate` counts them by the names of `RowAccount`."""

    folder: Path
    symbols: int
    first_year: int
    years: int
    seed: int = 1
    fate: Counter[str] = field(default_factory=Counter[str])
    good: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])

    @property
    def rows(self) -> int:
        return self.fate.total()

    @property
    def today(self) -> date:
        """The files go on for some sessions after this one."""
        return date(self.first_year + self.years - 1, 12, 10)

    @property
    def clock(self) -> Clock:
        return at(self.today)

    def write(self) -> None:
        """Half of the symbols as a CSV each, a quarter together in a zipped one, the rest as Parquet, year by year."""
        self.folder.mkdir(parents=True)
        names = [f"S{number:03d}" for number in range(self.symbols)]
        half, quarter = self.symbols // 2, 3 * self.symbols // 4
        for symbol in names[:half]:
            (self.folder / f"{symbol.lower()}.csv").write_text("".join(_lines(self.history(symbol))))
        with gzip.open(self.folder / "together.csv.gz", "wt", compresslevel=1) as stream:
            stream.write("Symbol," + ",".join(NAMES) + "\n")
            for symbol in names[half:quarter]:
                stream.writelines(f"{symbol},{line}" for line in _lines(self.history(symbol), header=False))
        frames = [
            pl.DataFrame(self.history(symbol), schema=NAMES, orient="row").with_columns(pl.lit(symbol).alias("Symbol"))
            for symbol in names[quarter:]
        ]
        if frames:
            rows = pl.concat(frames)
            for (year,), part in rows.group_by(pl.col("Date").dt.year()):
                part.write_parquet(self.folder / f"prices_{year}.parquet")

    def history(self, symbol: str) -> list[Row]:
        """The rows of a symbol as its file has them, out of order where they come again."""
        draw = random.Random(f"{self.seed} {symbol}")
        price, rows = draw.uniform(20, 200), list[Row]()
        for year in range(self.first_year, self.first_year + self.years):
            days = get_calendar("XNYS").between(date(year, 1, 1), date(year, 12, 31)).to_list()
            bars: list[Row] = []
            for day in days:
                price = min(max(price * (1 + draw.gauss(0, 0.01)), 5), 5000)
                low, high = round(price * 0.99, 2), round(price * 1.01, 2)
                bars.append(
                    (day, round(draw.uniform(low, high), 2), high, low, round(price, 2), draw.randrange(10**6) + 1.0)
                )
            closed = [bar for bar in bars if bar[0] <= self.today]
            self.fate["not_closed"] += len(bars) - len(closed)
            rows += [*self._spoilt(symbol, year, closed, draw), *bars[len(closed) :]]
        return rows

    def _spoilt(self, symbol: str, year: int, bars: list[Row], draw: random.Random) -> Iterator[Row]:
        """The closed bars of a year, some of them spoilt, and some more."""
        marked = iter(draw.sample(range(2, len(bars)), 8))  # under 5 % of them: else the whole batch is refused
        wrong: dict[int, Row] = {}
        flagged: dict[int, Row] = {}
        for _ in range(2):
            at = next(marked)
            wrong[at] = (*bars[at][:4], None, bars[at][5])  # no close
            at = next(marked)
            day, first, high, low, close, volume = bars[at]
            flagged[at] = (day, first, low, high, close, volume)  # high and low exchanged
        negative = next(marked)
        again = [bars[next(marked)] for _ in range(3)]
        free = next(day for day in (date(year, 6, n) for n in range(1, 8)) if not get_calendar("XNYS").is_session(day))
        more: list[Row] = [(free, *bars[0][1:]), (date(year, 1, 1), *bars[0][1:])]
        contradicted = draw.random() < 0.02
        if contradicted:
            more.append((*bars[0][:4], bars[0][3], bars[0][5]))
        flagged[negative] = (*bars[negative][:5], None)
        stored = [(at, flagged.get(at, bar)) for at, bar in enumerate(bars)]
        self.fate["not_session"] += 1
        self.fate["repeated"] += len(again)
        if contradicted:
            self.fate["refused"] += len(bars) + len(more) - 1
        else:
            self.fate["refused"] += len(wrong) + 1
            self.fate["taken"] += len(bars) - len(wrong)
            self.good.setdefault(symbol, []).extend(bar for at, bar in stored if at not in wrong)
        flagged[negative] = (*bars[negative][:5], -1.0)
        yield from (wrong.get(at, flagged.get(at, bar)) for at, bar in enumerate(bars))
        yield from again
        yield from more


def _lines(rows: Sequence[Row], *, header: bool = True) -> Iterator[str]:
    if header:
        yield ",".join(NAMES) + "\n"
    for day, *numbers in rows:
        yield ",".join([day.isoformat(), *("" if number is None else repr(number) for number in numbers)]) + "\n"
