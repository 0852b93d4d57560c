"""Files as people have them, taken in by the command line: what it exits with, says, and stores."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from historical_etl import FetchRequest, FilesSettings, HistoricalETLError, get_calendar
from historical_etl.sources.files import FilesSource
from historical_etl_tests.cli.conftest import Answer, CommandLine, command_line

__all__ = ["Desk", "days", "desk", "lines"]

FINE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3


def days(count: int = 8, first: date = date(2024, 3, 1)) -> list[date]:
    """Sessions of New York, from `first` on."""
    return get_calendar("XNYS").between(first, date(2025, 6, 30)).to_list()[:count]


def lines(header: str, row: str, sessions: list[date], form: str = "%Y-%m-%d") -> str:
    """A file: {d} in a row is the date, {n} counts from 0."""
    rows = [row.format(d=day.strftime(form), n=number) for number, day in enumerate(sessions)]
    return "\n".join([header, *rows]) + "\n"


@dataclass
class Desk:
    """A folder of files, and a command line that fills a store from it."""

    cli: CommandLine
    folder: Path

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def backfill(self, **settings: str) -> Answer:
        self.cli.set(SOURCE="files", FILES_PATH=str(self.folder))
        self.cli.set(**{f"FILES_{name}": value for name, value in settings.items()})
        return self.cli("backfill")

    def read(self, **settings: Any) -> tuple[pl.DataFrame, tuple[str, ...]]:
        """What the source makes of the folder, without a store: all bars, and what it tells."""
        source = FilesSource(FilesSettings(path=str(self.folder), **settings))
        symbols = tuple(source.members(None, None))
        frame = source.fetch(FetchRequest(symbols, date(1900, 1, 1), date(2100, 1, 1))).frame
        return frame, source.notes

    def refusal(self, **settings: Any) -> str:
        with pytest.raises(HistoricalETLError) as caught:
            self.read(**settings)
        return str(caught.value)

    def query(self, sql: str) -> list[dict[str, Any]]:
        return self.cli("query", sql, "--json").document

    def symbols(self) -> dict[str, int]:
        found = self.query("SELECT symbol, count(*) AS n FROM daily_prices GROUP BY symbol ORDER BY symbol")
        return {row["symbol"]: row["n"] for row in found}

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.query(f"SELECT {name} FROM daily_prices ORDER BY symbol, date")]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    folder = tmp_path / "files"
    folder.mkdir()
    return Desk(command_line(tmp_path, capsys, monkeypatch), folder)
