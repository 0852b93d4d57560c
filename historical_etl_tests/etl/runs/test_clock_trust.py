"""Runs with a clock that is wrong: what they take for missing or ended, and whether the store recovers from it."""

from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ConfigurationError, CoverageError, HistoricalETL, ProviderUnavailableError
from historical_etl.etl.health.doctor import Check, CheckStatus, examine
from historical_etl.etl.health.status import read_status
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, ScriptedSource, evening, sessions, store, stored
from historical_etl_tests.store.small import Hand

MIDWAY = date(2013, 1, 31)
EVENING = evening(MIDWAY)
YEAR = timedelta(days=365)
AFTER = sessions(date(2013, 2, 1), SHORT.last)


class AsItGoes:
    """A market that has the bars of the true day, whatever day somebody's clock says."""

    def __init__(self) -> None:
        self.day = MIDWAY
        self.fetcher = ScriptedFetcher(SHORT, alter=lambda bars: bars.filter(pl.col("date") <= self.day))


@pytest.fixture
def clock() -> Hand:
    return Hand(evening(MIDWAY))


@pytest.fixture
def market() -> AsItGoes:
    return AsItGoes()


@pytest.fixture
def etl(root, clock, market) -> HistoricalETL:
    etl = store(root, market.fetcher, clock=clock)
    etl.run_full_etl(SHORT.symbols, SHORT.first, MIDWAY)
    return etl


def gaps(etl: HistoricalETL) -> pl.DataFrame:
    """The missing sessions that stand; when they were asked for is another matter."""
    unfilled = etl.gaps(all=True).filter(pl.col("status") != "filled")
    return unfilled.select("symbol", "first_session", "last_session", "sessions", "status")


@pytest.mark.parametrize(
    ("ahead", "runs"), [(YEAR, 1), (10 * YEAR, 3), (timedelta(days=4), 3)], ids=["a year", "ten years", "days"]
)
def test_what_runs_with_the_clock_ahead_took_for_missing_or_ended_is_forgotten(etl, market, clock, ahead, runs):
    """All symbols had ended at the first of them, and were not asked for again for as long as the clock was ahead."""
    for market.day in [MIDWAY, *AFTER][:runs]:
        clock.now = evening(market.day) + ahead
        etl.run_incremental_etl()
    market.day = AFTER[3]
    clock.now = evening(market.day)
    result = etl.run_incremental_etl()
    assert set(result.ended_symbols) <= {"GONE"}
    assert_frame_equal(stored(etl), SHORT.expected(end=AFTER[3]))
    assert set(etl.cursors().values()) == {AFTER[3], date(2012, 11, 30)}
    assert gaps(etl).get_column("symbol").to_list() == ["GONE"]
    assert gaps(etl).item(0, "last_session") <= AFTER[3]


def test_a_clock_that_is_ahead_ends_no_symbol_and_is_reported(etl, market, clock):
    clock.now += YEAR
    result = etl.run_incremental_etl()
    assert set(result.ended_symbols) <= {"GONE"}
    (reported,) = [warning for warning in result.warnings if "If the clock is ahead" in warning]
    assert reported == Saying("no symbol has a bar", "251 sessions", "2013-02-01", "2014-01-30")
    assert etl.gaps().get_column("sessions").max() == 10, "the rest is not believed"
    assert etl.cursors()["BRK.B"] == MIDWAY


def test_a_first_backfill_with_the_clock_ahead_is_gone_on_from(root, market, clock):
    clock.now += YEAR
    etl = store(root, market.fetcher, clock=clock)
    etl.run_full_etl(SHORT.symbols, SHORT.first, date(2013, 12, 31))
    market.day = AFTER[0]
    clock.now = evening(market.day)
    assert {"BRK.B", "SPLT"}.isdisjoint(etl.run_incremental_etl().ended_symbols)
    assert etl.cursors()["BRK.B"] == AFTER[0]
    assert etl.gaps().is_empty()


def test_a_market_that_fell_silent_for_good_ends_after_three_evenings(etl, market, clock):
    """The warning is not for ever."""
    days = sessions(date(2013, 3, 1), date(2013, 3, 8))
    ended: list[tuple[str, ...]] = []
    for clock.now in map(evening, days[:3]):
        ended.append(etl.run_incremental_etl().ended_symbols)
    assert set(ended[1]) <= {"GONE"}
    assert set(ended[2]) == set(SHORT.symbols)
    clock.now = evening(days[3])
    assert etl.run_incremental_etl().warnings == ()


@pytest.mark.parametrize("behind", [timedelta(hours=30), YEAR], ids=["hours", "a year"])
def test_a_clock_that_is_behind_loses_nothing_and_is_reported(etl, market, clock, behind):
    before, known = stored(etl), gaps(etl)
    clock.now -= behind
    with pytest.raises(CoverageError, match="No session to fetch in 2013"):
        etl.run_full_etl(SHORT.symbols, date(2013, 2, 1), date(2013, 2, 28))
    result = etl.run_incremental_etl(["BRK.B"])
    assert Saying("behind now", "ahead then") in result.warnings
    assert_frame_equal(stored(etl), before)
    assert_frame_equal(gaps(etl), known)
    (finding,) = [finding for finding in etl.verify().findings if finding.field == "clock"]
    assert finding.severity == "warning"
    assert "vacuum --keep-days 0" in finding.todo


class Dated(ScriptedSource):
    """A vendor that says in each answer what time it is: ours is two hours ahead."""

    clock_offset = timedelta(hours=-2)


def test_a_run_reports_a_clock_that_is_not_the_vendor_s(root, clock):
    etl = store(root, Dated(SHORT), clock=clock)
    reported = etl.run_full_etl(SHORT.symbols, date(2013, 1, 1), MIDWAY).warnings
    assert len(reported) == 1
    assert reported[0] == Saying("clock", "7,200 s ahead")


@pytest.mark.parametrize("jump", [-YEAR, YEAR], ids=["back", "ahead"])
def test_the_last_run_is_known_to_have_failed_or_not_whatever_the_clock_does(etl, market, clock, jump):
    right = clock.now
    clock.now = right + jump
    market.fetcher.before = outage
    with pytest.raises(ProviderUnavailableError):
        etl.run_incremental_etl()
    assert [finding.field for finding in etl.verify().findings if finding.field == "last run"] == ["last run"]
    assert not read_status(etl.layout, clock).failed_newest[0].since_then
    clock.now = right
    market.fetcher.before = None
    etl.run_incremental_etl(["BRK.B"])
    assert [finding.field for finding in etl.verify().findings if finding.field == "last run"] == []


ASKING_NO_SOURCE = {
    "rollback": lambda etl: etl.rollback(1),
    "repack": lambda etl: etl.repack(),
    "repair": lambda etl: (etl.layout.progress_file().unlink(), etl.repair()),
    "a rename": lambda etl: etl.rename("BRK.B", "BRKB", date(2012, 12, 20), reason="a new name", by="anna", force=True),
}


@pytest.mark.parametrize("name", ASKING_NO_SOURCE)
def test_what_asks_no_source_ends_no_failure(etl, market, clock, name):
    etl.run_incremental_etl(["BRK.B"])
    clock.now += timedelta(minutes=1)
    market.fetcher.before = outage
    with pytest.raises(ProviderUnavailableError):
        etl.run_incremental_etl()
    clock.now += timedelta(minutes=1)
    ASKING_NO_SOURCE[name](etl)
    assert [finding.field for finding in etl.verify().findings if finding.field == "last run"] == ["last run"]
    assert not read_status(etl.layout, etl.clock).failed_newest[0].since_then


def outage(_: object) -> None:
    raise ProviderUnavailableError("the vendor is out", where="scripted", todo="wait")


def test_status_and_doctor_report_a_clock_behind_the_newest_version(etl, clock):
    settings = etl.settings.changed({"data_dir": etl.layout.root})

    def doctor() -> Check:
        return examine(settings, offline=True, clock=clock).check("clock")

    assert read_status(etl.layout, clock, settings).clock_notes == ()
    assert doctor().verdict is CheckStatus.OK
    clock.now -= timedelta(minutes=30)
    (note,) = read_status(etl.layout, clock, settings).clock_notes
    assert note == Saying("the clock says 2013-01-31 22:30:00 UTC", "newest version", "at 2013-01-31")
    assert doctor().verdict is CheckStatus.WARNING
    assert doctor().what == note


def test_a_clock_that_is_right_is_not_spoken_of(etl, market, clock):
    for market.day in AFTER[:2]:
        clock.now = evening(market.day) - timedelta(minutes=1)
        result = etl.run_incremental_etl()
        assert result.warnings == ()
    assert [finding for finding in etl.verify().findings if finding.field == "clock"] == []


@pytest.mark.parametrize("reported", [EVENING.replace(tzinfo=None), EVENING.date(), EVENING.isoformat(), None])
def test_a_clock_without_a_time_zone_is_refused_before_anything_is_fetched(root, market, reported):
    etl = store(root, market.fetcher, clock=lambda: reported)
    with pytest.raises(ConfigurationError, match="no moment in a time zone"):
        etl.run_full_etl(SHORT.symbols, SHORT.first, MIDWAY)
    with pytest.raises(ConfigurationError, match="no moment in a time zone"), etl.manifests.acquire_lock("anna"):
        pass
    assert market.fetcher.asked == []
    assert etl.manifest() is None
