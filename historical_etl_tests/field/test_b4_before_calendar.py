"""Rows of years before the calendar begins: reported, kept aside, and counted against nobody."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETL, get_calendar
from historical_etl_tests.cli.conftest import command_line
from historical_etl_tests.field.calendars import DayVendor, bar, settings
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import store, stored

BEGINS = date(1997, 1, 1)
EARLY = [date(1990, 6, day) for day in (1, 4, 5, 6)] + [date(1996, 12, 30)]
NOW = datetime(1997, 2, 3, 12, tzinfo=UTC)


def sessions() -> list[date]:
    return get_calendar("XTKS").between(BEGINS, date(1997, 1, 31)).to_list()


def vendor() -> DayVendor:
    return DayVendor({"7203.T": [*EARLY, *sessions()], "6758.T": sessions()})


def opened(root: Path) -> HistoricalETL:
    return store(root, vendor(), clock=lambda: NOW, settings=settings("XTKS", start=date(1990, 1, 1)))


def kept_aside(etl: HistoricalETL) -> pl.DataFrame:
    return etl.ledger("rejected_rows").select("symbol", "date", "reasons").sort("date")


def test_a_backfill_reports_them_and_keeps_them_aside(root: Path) -> None:
    etl = opened(root)
    result = etl.run_full_etl(["7203.T", "6758.T"], "1990-01-01", "1997-01-31")

    assert stored(etl).group_by("symbol").len().sort("symbol").rows() == [
        ("6758.T", len(sessions())),
        ("7203.T", len(sessions())),
    ]
    assert kept_aside(etl).rows() == [("7203.T", day, ["before_calendar"]) for day in EARLY]
    assert result.rejected_by_reason == {"before_calendar": len(EARLY)}
    assert not result.complete
    (note,) = result.calendar_notes
    assert "1990-06-01 to 1996-12-30" in note
    assert note == Saying("before", "XTKS", "1997-01-01")


def test_an_update_of_a_new_symbol_does_likewise(root: Path) -> None:
    etl = opened(root)
    result = etl.run_incremental_etl(["7203.T"])
    assert stored(etl).height == len(sessions())
    assert kept_aside(etl).height == len(EARLY)
    assert result.calendar_notes

    again = etl.run_incremental_etl()
    assert again.complete
    assert not again.calendar_notes
    assert kept_aside(etl).height == len(EARLY)


@pytest.mark.parametrize("year", [1990, 1996])
def test_a_year_before_the_calendar_is_refused_by_name(root: Path, year: int) -> None:
    with pytest.raises(ConfigurationError, match=r"before.*XTKS.*1997-01-01"):
        opened(root).run_year(year, ["7203.T"])


def test_adopt_accounts_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pl.DataFrame([bar("7203.T", day) for day in [*EARLY, *sessions()]]).write_csv(tmp_path / "toyota.csv")
    cli = command_line(tmp_path, capsys, monkeypatch)
    cli.set(EXCHANGE="XTKS")

    answer = cli("adopt", "toyota.csv")
    assert answer.code == 3
    assert answer.out == Saying(len(EARLY), "before the calendar")
    assert answer.err.replace("\n", " ") == Saying("before", "XTKS", "1997-01-01")
    assert cli("query", "SELECT count(*) AS n FROM rejected_rows", "--format", "csv").out.split() == ["n", "5"]

    again = cli("--json", "adopt", "toyota.csv")
    adopted = json.loads(again.out)["adopted"]
    assert again.code == 3
    assert (adopted["read"], adopted["taken"], adopted["before_calendar"]) == (
        len(EARLY) + len(sessions()),
        len(sessions()),
        len(EARLY),
    )
    assert adopted["refused"] == 0


def test_a_backfill_of_files_exits_with_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pl.DataFrame([bar("7203.T", day) for day in [*EARLY, *sessions()]]).write_csv(tmp_path / "toyota.csv")
    cli = command_line(tmp_path, capsys, monkeypatch)
    cli.set(EXCHANGE="XTKS", SOURCE="files", FILES_PATH="toyota.csv")
    answer = cli("backfill")
    assert answer.code == 3
    assert answer.err.replace("\n", " ") == Saying("before", "XTKS", "1997-01-01")
