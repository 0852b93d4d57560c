"""The data of some exchanges' calendars end with a year: it is reported before, and nothing is silent after it."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ConfigurationError, Coverage, FilesSettings, HistoricalETL, get_calendar
from historical_etl.etl.adopt import adopt, opened_for
from historical_etl.etl.health.doctor import examine
from historical_etl.etl.health.status import read_status
from historical_etl_tests.field.calendars import INFO, DayVendor, bar, corrections, settings
from historical_etl_tests.scenario import store, stored

ENDS = "XBOM"
LAST = date(2026, 12, 31)
BEFORE, AFTER = datetime(2026, 8, 3, 12, tzinfo=UTC), datetime(2027, 1, 11, 12, tzinfo=UTC)


def vendor() -> DayVendor:
    days = get_calendar(ENDS).between(date(2026, 12, 1), LAST).to_list()
    return DayVendor({"TCS": days, "INFY": days})


def opened(root: Path, at: datetime, calendar: Path | None = None) -> HistoricalETL:
    return store(root, vendor(), clock=lambda: at, settings=settings(ENDS, calendar))


def filled(root: Path) -> HistoricalETL:
    """A store that was brought up to 2026-12-28."""
    etl = opened(root, datetime(2026, 12, 28, 20, tzinfo=UTC))
    etl.run_full_etl(["TCS", "INFY"], "2026-12-01", "2026-12-28")
    return etl


def test_the_calendar_of_this_release_ends_as_these_tests_take_it() -> None:
    assert get_calendar(ENDS).known_through == LAST


def test_the_last_known_session_is_stored_and_then_the_update_fails(root: Path) -> None:
    filled(root)
    etl = opened(root, AFTER)

    with pytest.raises(ConfigurationError) as caught:
        etl.run_incremental_etl()

    assert "ends on 2026-12-31 in exchange_calendars 4." in caught.value.what
    assert "pip install --upgrade exchange_calendars" in caught.value.todo
    assert stored(etl)["date"].max() == LAST
    assert stored(etl).filter(pl.col("date") == LAST).height == 2
    with pytest.raises(ConfigurationError, match="ends on 2026-12-31"):
        etl.run_incremental_etl()  # and again, when nothing is left to store


def test_on_the_last_evening_all_is_well(root: Path) -> None:
    filled(root)
    result = opened(root, datetime(2026, 12, 31, 20, tzinfo=UTC)).run_incremental_etl()
    assert result.complete
    assert stored(opened(root, AFTER))["date"].max() == LAST


@pytest.mark.parametrize(("start", "end"), [("2026-12-01", "2027-01-08"), ("2026-12-30", "2027-12-31")])
def test_a_backfill_over_the_end_stores_what_is_known_and_fails(root: Path, start: str, end: str) -> None:
    etl = opened(root, AFTER)
    with pytest.raises(ConfigurationError, match="ends on 2026-12-31"):
        etl.run_full_etl(["TCS"], start, end)
    assert stored(etl)["date"].max() == LAST


def test_a_backfill_beyond_the_end_fails_at_once(root: Path) -> None:
    etl = opened(root, AFTER)
    with pytest.raises(ConfigurationError, match="ends on 2026-12-31"):
        etl.run_year(2027, ["TCS"])
    assert etl.manifest() is None


def test_a_backfill_of_known_years_goes_on_for_ever(root: Path) -> None:
    assert opened(root, AFTER).run_full_etl(["TCS"], "2026-12-01", "2026-12-31").complete


def test_a_correction_carries_a_calendar_over_its_end(root: Path, tmp_path: Path) -> None:
    filled(root)
    file = corrections(tmp_path, *(f"XBOM,2027-01-{day:02},added,as the exchange announced," for day in (1, 4, 5)))
    etl = opened(root, datetime(2027, 1, 4, 20, tzinfo=UTC), calendar=file)
    assert etl.available_through() == date(2027, 1, 4)
    etl.run_incremental_etl()
    assert stored(etl)["date"].max() == LAST
    assert etl.completeness().missing() == 2  # the vendor of this test lacks the first of January


def test_rows_of_files_after_the_end_are_accounted_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("historical_etl.sources.files.date_order.system_clock", lambda: AFTER)
    days = [date(2026, 12, 30), LAST, date(2027, 1, 1), date(2027, 1, 4)]
    pl.DataFrame([bar("TCS", day) for day in days]).write_csv(tmp_path / "tata.csv")
    chosen = settings(ENDS, data_dir=root, files=FilesSettings(path=str(tmp_path / "tata.csv")))

    done = adopt(opened_for(chosen, clock=lambda: AFTER))

    assert stored(opened(root, AFTER))["date"].to_list() == days[:2]
    completeness = done.row_counts
    assert (completeness.read, completeness.taken, completeness.after_calendar, completeness.not_closed) == (4, 2, 2, 0)
    assert not done.complete


def test_files_that_end_with_the_calendar_lack_nothing(root: Path) -> None:
    source = DayVendor(vendor().days, info=replace(INFO, coverage=Coverage(date(2026, 12, 1), LAST)))
    etl = store(root, source, clock=lambda: AFTER, settings=settings(ENDS))
    assert etl.run_incremental_etl(["TCS"]).complete


@pytest.mark.parametrize(
    ("at", "verdict"),
    [
        (BEFORE, "ok"),
        (datetime(2026, 10, 2, 12, tzinfo=UTC), "ok"),
        (datetime(2026, 10, 3, 12, tzinfo=UTC), "warning"),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), "warning"),
        (AFTER, "problem"),
    ],
)
def test_doctor_and_status_warn_from_ninety_days_before(root: Path, at: datetime, verdict: str) -> None:
    etl = filled(root)
    checked = examine(settings(ENDS, data_dir=root), offline=True, clock=lambda: at).check("calendar")
    found = read_status(etl.layout, lambda: at, settings(ENDS))

    assert checked.verdict == verdict
    assert (verdict == "ok") == (not checked.todo)
    assert any("ends on 2026-12-31" in note for note in found.calendar_notes) == (verdict != "ok")


def test_counting_at_the_ends_is_reported_and_not_guessed() -> None:
    calendar = get_calendar(ENDS)
    first, last = calendar.sessions[0], calendar.sessions[-1]
    assert calendar.after(last) is None
    assert calendar.back(first, 3) == first
    with pytest.raises(ConfigurationError, match="its calendar begins on 1997-01-01"):
        calendar.last_closed(datetime(1996, 5, 1, tzinfo=UTC))
    days = pl.DataFrame({"day": [date(1996, 12, 31), date(1990, 1, 1), first, last, date(2027, 1, 1)]})
    positions = days.select(calendar.positions(pl.col("day"))).to_series().to_list()
    assert positions == [None, None, 0, len(calendar.sessions) - 1, None]
    indices = pl.DataFrame({"index": [-1, 0, 10**6]})
    assert indices.select(calendar.dates(pl.col("index"))).to_series().to_list() == [None, first, None]
