"""Points 10 to 13: tickers that are taken over, members of the past, writers and readers at once, days that shift."""

import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ConfigurationError, Outcome
from historical_etl_tests.proofs.faults.stage import FIRST, LAST, PLAIN, close, codes, count, day, is_true, of
from historical_etl_tests.proofs.simulation.faults import Fault, Garbage, View
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.proofs.simulation.run import Life, compare
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import KEYS, store, stored

#: Silent for 22 sessions, then another company.
AGAIN = day(25)
TAKEN = SimListing("SUBJ", away=(day(3), day(24)), again=(AGAIN, 3.7))
LONG = day(45)


@dataclass(frozen=True)
class ForgetsTheFirst(Fault):
    """Once the ticker is another company, the bars of the first one are not delivered any more."""

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        return bars.filter((pl.col("symbol") != "SUBJ") | (pl.col("date") >= AGAIN))


@dataclass(frozen=True)
class SomebodyElse(Fault):
    """While this run fetches, another one updates the same store and commits."""

    root: Path

    def before(self, view: View) -> None:
        if view.number == 0:
            other = SimVendor(view.market, today=view.today)
            store(self.root, other, view.today, start=view.market.first, writer_id="other").run_incremental_etl()


@pytest.mark.parametrize("forgets", [False, True])
def test_10_another_company_under_an_old_ticker_is_held_until_a_person_joins_it(stage, forgets):
    faults = [ForgetsTheFirst(start=AGAIN)] if forgets else []
    life = stage(TAKEN, faults=faults, last=LONG)
    life.through(day(24))
    assert of(life.etl, "symbols", "SUBJ")["status"].to_list() == ["ended"]
    rows = count(life.etl, "SUBJ")
    life.through(day(38))
    assert codes(life.etl) == {"SUBJ": "break_after_gap"}
    assert count(life.etl, "SUBJ") == rows
    hold = of(life.etl, "holds", "SUBJ").row(0, named=True)
    assert hold["session"] == AGAIN
    assert hold["ratio"] > 2
    assert hold["evidence"]
    life.etl.accept("SUBJ", reason="another company, we want both", by="anna")
    life.witness.look(life.etl)
    assert close(life.etl, "SUBJ", AGAIN) is not None
    closed = of(life.etl, "holds", "SUBJ").row(-1, named=True)
    assert (closed["status"], closed["reason"], closed["by"]) == ("accepted", "another company, we want both", "anna")
    is_true(life)


def test_10_a_backfill_holds_it_too(root):
    market = SimMarket(symbols=(TAKEN, *PLAIN), first=FIRST, last=LONG)
    life = Life(root, SimVendor(market))
    result = life.backfill(LONG)
    assert result.outcomes["SUBJ"] is Outcome.HELD
    assert codes(life.etl) == {"SUBJ": "break_after_gap"}


def test_10_a_long_silence_without_a_price_break_is_no_other_company(stage):
    life = stage(SimListing("SUBJ", away=(day(3), day(27))), last=LONG)
    life.through(LONG)
    assert not codes(life.etl)
    assert of(life.etl, "symbols", "SUBJ")["status"].to_list() == ["live"]
    is_true(life)


@pytest.mark.parametrize("fault", ["not held", "no reason"])
def test_10_a_person_cannot_accept_what_is_not_held_or_for_no_reason(stage, fault):
    life = stage(SimListing("SUBJ", crashes=((day(2), -0.5),)))
    life.through(day(3))
    symbol, reason = ("PLAIN0", "why not") if fault == "not held" else ("SUBJ", " ")
    with pytest.raises(ConfigurationError):
        life.etl.accept(symbol, reason=reason, by="anna")


@pytest.mark.parametrize("forgets", [None, 3])
def test_11_rows_of_delisted_symbols_stay(stage, forgets):
    """Whether the vendor keeps the history of what is delisted, or does not know it any more."""
    life = stage(SimListing("SUBJ", last=day(4)), forgets=forgets)
    life.through(day(4))
    rows = count(life.etl, "SUBJ")
    life.through(LAST)
    assert count(life.etl, "SUBJ") == rows
    assert of(life.etl, "symbols", "SUBJ")["status"].to_list() == ["ended"]
    assert of(life.etl, "symbols", "SUBJ")["last_session"].to_list() == [day(4)]
    is_true(life)


def test_11_a_year_is_filled_with_who_was_a_member_then(root):
    market = SimMarket(
        symbols=(*PLAIN, SimListing("GONE", last=day(-10)), SimListing("IPOX", first=day(15))), first=FIRST, last=LAST
    )
    vendor = SimVendor(market, today=LAST)
    etl = store(root, vendor, LAST)
    etl.run_year(2012)
    assert "GONE" in stored(etl)["symbol"]
    assert "IPOX" not in etl.cursors()
    etl.run_year(2013)
    compare(etl, market)


def test_12_a_reader_keeps_the_version_that_it_began_with(stage):
    life = stage(SimListing("SUBJ", splits=((day(13), 2.0),)))
    life.through(day(12))
    before, reading = stored(life.etl), life.etl.scan()
    life.evening(day(13))
    assert_frame_equal(reading.collect().sort(KEYS), before, check_exact=True)
    assert not stored(life.etl).equals(before)


@pytest.mark.parametrize("missed", [0, 4])
def test_12_what_was_fetched_is_compared_with_what_another_writer_committed_meanwhile(stage, root, missed):
    life = stage(SimListing("SUBJ", splits=((day(13), 2.0),)))
    life.through(day(12))
    life.vendor.faults = [SomebodyElse(root)]
    result = life.evening(day(13 + missed))
    assert result.outcomes["SUBJ"] is Outcome.OK
    assert of(life.etl, "restatements", "SUBJ").height == 1
    life.vendor.faults = ()
    is_true(life)


def test_12_a_year_is_backfilled_while_increments_go_on(stage, root):
    """A backfill that fetched before a split, and commits after an increment has stored it."""
    life = stage(SimListing("SUBJ", splits=((day(13), 2.0),)))
    life.through(day(12))
    old = SimVendor(life.vendor.market, today=day(12))

    @dataclass(frozen=True)
    class TheIncrement(Fault):
        def before(self, view: View) -> None:
            if view.number == 0:
                life.evening(day(13))

    old.faults = [TheIncrement()]
    store(root, old, day(13)).run_full_etl(["SUBJ"], day(-20), day(10), resume=False)
    life.witness.look(life.etl)
    life.through(day(14))
    is_true(life)


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York"])
def _zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("forms", [True, False])
def test_13_a_bar_keeps_its_session_in_every_time_zone(stage, forms):
    faults = [Garbage("midnights", until=day(8)), Garbage("instants", start=day(8), until=day(10))] if forms else []
    life = stage(SimListing("SUBJ", splits=((day(3), 2.0),)), faults=faults, last=day(12))
    life.through(day(9))
    if forms:
        assert life.etl.cursors()["SUBJ"] == day(7)  # an instant names no session
    is_true(life)
    assert stored(life.etl)["date"].max() == day(12)
