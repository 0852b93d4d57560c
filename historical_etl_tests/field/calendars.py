"""What the tests on calendars share: a vendor of any exchange, and calendars as the next release may have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import polars as pl

from historical_etl import FetchRequest, FetchResult, Outcome, Settings, SourceInfo
from historical_etl_tests.scenario import COLUMNS

HEADER = "exchange,date,change,reason,close"
INFO = SourceInfo(name="days", version="1", adjustment="none")


@dataclass
class DayVendor:
    """Bars of some symbols on the days that a test names, at half the price for some; other days it does not have."""

    days: Mapping[str, Sequence[date]]
    asked: list[FetchRequest] = field(default_factory=list)
    halve: Sequence[str] = ()
    info: SourceInfo = INFO

    def fetch(self, request: FetchRequest) -> FetchResult:
        self.asked.append(request)
        rows = [
            bar(symbol, day, 0.5 if symbol in self.halve else 1.0)
            for symbol in request.symbols
            for day in self.days.get(symbol, ())
            if request.start <= day <= request.end
        ]
        present = {row["symbol"] for row in rows}
        outcomes = {symbol: Outcome.OK if symbol in present else Outcome.EMPTY for symbol in request.symbols}
        return FetchResult(pl.DataFrame(rows, schema=COLUMNS), outcomes)

    def members(self, start: date | None, end: date | None) -> list[str]:
        return sorted(self.days)


def bar(symbol: str, day: date, factor: float = 1.0) -> dict[str, object]:
    """A bar whose close follows from its day, so that every return is known."""
    close = close_of(day) * factor
    return {"date": day, "symbol": symbol, "open": close, "high": close, "low": close, "close": close, "volume": 100.0}


def close_of(day: date) -> float:
    return 100 + (day.toordinal() % 50) / 10


def corrections(folder: Path, *lines: str, name: str = "corrections.csv") -> Path:
    """A file of corrections; another name is what another release may say."""
    file = folder / name
    file.write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    return file


def settings(exchange: str = "XNYS", calendar: Path | None = None, **changes: object) -> Settings:
    fields = {"exchange": exchange, "calendar_corrections": calendar, **changes}
    return Settings(_env_file=None, **fields)  # pyright: ignore[reportCallIssue, reportArgumentType]
