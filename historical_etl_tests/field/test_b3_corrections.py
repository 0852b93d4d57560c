"""Calendars are sometimes wrong: corrections by file, those that come with the package, and days waived for all."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETL, get_calendar
from historical_etl.calendar_corrections import packaged_text, parse_corrections
from historical_etl.etl.health.doctor import examine
from historical_etl_tests.cli.conftest import command_line
from historical_etl_tests.field.calendars import HEADER, DayVendor, bar, corrections, settings
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import current_manifest, store, stored

SATURDAYS = [date(1950, 1, day) for day in (7, 14, 21, 28)]


# ── what comes with the package ────────────────────────────────────────────────────────────────────────────────────


def test_new_york_traded_on_saturdays_until_1952() -> None:
    nyse = get_calendar("XNYS")
    saturdays = nyse.sessions.filter(nyse.sessions.dt.weekday() == 6)
    assert saturdays.dt.year().max() == 1952
    assert saturdays[-1] == date(1952, 5, 24)
    assert not any(nyse.is_session(day) for day in (date(1950, 7, 1), date(1951, 8, 4)))  # closed in summer
    assert nyse.close_of(SATURDAYS[0]) == datetime(1950, 1, 7, 17, tzinfo=UTC)  # at noon


def test_new_york_was_closed_in_1914_and_on_its_holidays() -> None:
    nyse = get_calendar("XNYS")
    closed = nyse.between(date(1914, 7, 31), date(1914, 12, 11))
    assert closed.is_empty()
    assert nyse.is_session(date(1914, 7, 30))
    assert nyse.is_session(date(1914, 12, 12))  # a Saturday
    holidays = [date(1929, 7, 4), date(1933, 3, 13), date(1950, 2, 22), date(1963, 11, 25), date(1968, 7, 5)]
    assert not any(nyse.is_session(day) for day in [*holidays, date(1969, 12, 25)])
    assert nyse.between(date(1929, 1, 1), date(1929, 12, 31)).len() == 291


def test_bombay_has_its_sessions_at_weekends() -> None:
    assert all(get_calendar("XBOM").is_session(day) for day in (date(2024, 1, 20), date(2025, 2, 1)))
    assert not get_calendar("XBOM").is_session(date(2024, 3, 2))


def test_bars_of_1950_are_stored(root: Path) -> None:
    days = get_calendar("XNYS").between(date(1950, 1, 1), date(1950, 3, 31)).to_list()
    assert len(days) == 74
    etl = store(root, DayVendor({"GM": days}), clock=lambda: datetime(1950, 4, 1, 12, tzinfo=UTC), settings=settings())
    result = etl.run_full_etl(["GM"], "1950-01-01", "1950-03-31")
    assert result.complete
    assert stored(etl)["date"].to_list() == days
    assert etl.gaps(all=True).is_empty()


def test_what_comes_with_the_package_says_each_day_once_and_why() -> None:
    found = parse_corrections(packaged_text(), "packaged")
    assert {c.exchange for c in found} == {"XNYS", "XBOM"}
    assert all(c.reason and c.day.year < 2026 for c in found)
    mine = [c for c in found if c.exchange == "XNYS"]
    nyse = get_calendar("XNYS")
    assert all(nyse.is_session(c.day) == (c.change == "added") for c in mine)


# ── a file of one's own ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_adds_and_removes_sessions(tmp_path: Path) -> None:
    file = corrections(
        tmp_path,
        "# what the exchange has announced",
        "",
        "XBOM,2024-03-02,added,session to try the other site,12:30",
        "XBOM,2024-05-18,added,session to try the other site,",
        "XBOM,2024-05-20,removed,elections,",
        "XHKG,2023-09-08,removed,black rainstorm,",
    )
    calendar = get_calendar("XBOM", file)
    plain = get_calendar("XBOM")
    assert set(calendar.sessions) ^ set(plain.sessions) == {date(2024, 3, 2), date(2024, 5, 18)}
    assert not calendar.is_session(date(2024, 5, 20))  # which it knew before
    assert calendar.close_of(date(2024, 3, 2)) == datetime(2024, 3, 2, 7, tzinfo=UTC)
    assert calendar.close_of(date(2024, 5, 18)) == plain.close_of(date(2024, 5, 17)) + timedelta(days=1)
    assert [c.day for c in calendar.corrections] == [date(2024, 3, 2), date(2024, 5, 18), date(2024, 5, 20)]
    assert calendar.version != plain.version
    assert calendar.version.startswith("exchange_calendars 4.")


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    file = corrections(tmp_path, "XNYS,2024-03-02,added,first,")
    assert get_calendar("XNYS", file).is_session(date(2024, 3, 2))
    corrections(tmp_path, "XNYS,2024-03-09,added,second,")
    assert not get_calendar("XNYS", file).is_session(date(2024, 3, 2))
    assert get_calendar("XNYS", str(file)).is_session(date(2024, 3, 9))


def test_an_alias_takes_the_corrections_of_its_exchange(tmp_path: Path) -> None:
    file = corrections(tmp_path, "XNYS,2024-03-02,added,for both names,", "NYSE,2024-03-09,added,for one,")
    assert get_calendar("NYSE", file).is_session(date(2024, 3, 2))
    assert get_calendar("NYSE", file).is_session(date(2024, 3, 9))
    assert not get_calendar("XNYS", file).is_session(date(2024, 3, 9))


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "no header"),
        ("exchange,date,change\n", 1, "its columns are exchange, date, change"),
        ("exchange,date,change,reason,clsoe\n", 1, "clsoe"),
        (f"{HEADER}\nXNYS,2024-13-02,added,why,\n", 2, "'2024-13-02' is not a date"),
        (f"{HEADER}\n\nXNYS,2024-03-02,add,why,\n", 3, "change is 'add'"),
        (f"{HEADER}\nXNYS,2024-03-02,added,,\n", 2, "reason is blank"),
        (f"{HEADER}\nXNYS,2024-03-02,added,why,noon\n", 2, "'noon' is not a time"),
        (f"{HEADER}\nXNYS,2024-03-02,removed,why,12:00\n", 2, "has no close"),
        (f"{HEADER}\nXNYS,2024-03-02,added,why, because,12:00\n", 2, "6 value"),
        (f"{HEADER}\nXNYS,2024-03-02,added,a,\nXNYS,2024-03-02,removed,b,\n", 3, "was corrected in line 2"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_line(tmp_path: Path, text: str, line: int, why: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        get_calendar("XNYS", file)
    assert caught.value.where == f"{file}:{line}"
    assert f"line {line}" in caught.value.what
    assert why in caught.value.what
    assert "exchange, date, change, reason, close" in caught.value.todo


def test_a_misspelt_exchange_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Unknown exchange 'XNSY'"):
        get_calendar("XNYS", corrections(tmp_path, "XNSY,2024-03-02,added,a slip,"))
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        get_calendar("XNYS", tmp_path / "none.csv")


def test_a_run_goes_by_the_file_and_the_manifest_and_the_doctor_name_it(root: Path, tmp_path: Path) -> None:
    file = corrections(tmp_path, "XNYS,2024-03-02,added,a Saturday of this test,")
    days = get_calendar("XNYS", file).between(date(2024, 2, 26), date(2024, 3, 8)).to_list()
    assert date(2024, 3, 2) in days
    chosen = settings(calendar=file, data_dir=root)
    now = datetime(2024, 3, 8, 23, tzinfo=UTC)
    etl = store(root, DayVendor({"ACME": days}), clock=lambda: now, settings=chosen)

    assert etl.run_full_etl(["ACME"], days[0], days[-1]).complete
    assert stored(etl)["date"].to_list() == days
    assert "; own corrections " in current_manifest(etl).calendar
    checked = examine(chosen, offline=True, clock=lambda: now).check("calendar")
    assert checked.verdict == "ok"
    assert checked.what == Saying("1 day", file, "2024-03-02 added", "a Saturday of this test")


def test_a_wrong_file_fails_a_command_as_any_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = command_line(tmp_path, capsys, monkeypatch)
    (tmp_path / "mine.csv").write_text(f"{HEADER}\nXNYS,yesterday,added,why,\n")
    cli.set(CALENDAR_CORRECTIONS="mine.csv")
    answer = cli("backfill", "--from", "2012", "--to", "2012")
    assert answer.code == 2
    assert "mine.csv:2" in answer.err
    doctor = cli("--json", "doctor", "--offline")
    checks = {check["check"]: check for check in json.loads(doctor.out)["checks"]}
    assert checks["calendar"]["verdict"] == "problem"


# ── a day that the whole market was closed ─────────────────────────────────────────────────────────────────────────

TYPHOON = date(2023, 9, 8)
HONG_KONG = [f"{number:04}.HK" for number in range(1, 6)]


def lacking_a_day(root: Path) -> HistoricalETL:
    days = get_calendar("XHKG").between(date(2023, 9, 4), date(2023, 9, 13)).to_list()
    assert TYPHOON in days
    source = DayVendor({symbol: [day for day in days if day != TYPHOON] for symbol in HONG_KONG})
    now = datetime(2023, 9, 13, 20, tzinfo=UTC)
    etl = store(root, source, clock=lambda: now, settings=settings("XHKG"))
    etl.run_full_etl(HONG_KONG, "2023-09-04", "2023-09-13")
    return etl


def test_a_day_is_waived_for_every_symbol_in_one_commit(root: Path) -> None:
    etl = lacking_a_day(root)
    version = current_manifest(etl).version
    assert etl.completeness().missing() == len(HONG_KONG)

    assert etl.waive(None, TYPHOON, reason="black rainstorm", by="anna") == len(HONG_KONG)

    assert current_manifest(etl).version == version + 1
    assert etl.gaps().is_empty()
    waived = etl.gaps(all=True)
    assert waived.select("symbol", "status", "reason", "by").rows() == [
        (symbol, "waived", "black rainstorm", "anna") for symbol in HONG_KONG
    ]
    assert set(etl.cursors().values()) == {date(2023, 9, 13)}
    with pytest.raises(ConfigurationError, match="open gap of any symbol"):
        etl.waive(None, TYPHOON, reason="again", by="anna")
    assert etl.run_incremental_etl().complete


def test_the_command_line_waives_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = command_line(tmp_path, capsys, monkeypatch)
    days = get_calendar("XHKG").between(date(2023, 9, 4), date(2023, 9, 13)).to_list()
    rows = [bar(symbol, day) for symbol in HONG_KONG for day in days if day != TYPHOON]
    pl.DataFrame(rows).write_csv(tmp_path / "hk.csv")
    cli.set(EXCHANGE="XHKG", SOURCE="files", FILES_PATH="hk.csv")
    assert cli("backfill").code == 3

    assert cli("gaps", "waive", "--from", str(TYPHOON), "--reason", "rain").code == 2
    assert cli("gaps", "waive", HONG_KONG[0], "--all", "--from", str(TYPHOON), "--reason", "rain").code == 2
    answer = cli(
        "gaps", "waive", "--all", "--from", "2023-09-07", "--to", "2023-09-11", "--reason", "rain", "--by", "me"
    )
    assert answer.code == 0
    assert answer.out == Saying("5 session", "all symbols", "waived by me", "rain")
    assert cli("update").code == 0
    one = cli("--json", "gaps", "--all")
    assert {gap["status"] for gap in json.loads(one.out)["gaps"]} == {"waived"}
