"""Points 2 to 5: lost days, failures that look like no data, rate limits, bars that are not finished."""

from datetime import UTC, datetime

import polars as pl
import pytest

from historical_etl import ConfigurationError, Outcome, ProviderUnavailableError, RateLimitedError
from historical_etl.errors import ProviderError
from historical_etl_tests.proofs.faults.stage import FIRST, PLAIN, SINCE, close, count, day, is_true, of
from historical_etl_tests.proofs.simulation.faults import (
    Errors,
    ImpossibleRows,
    LostDays,
    NotFound,
    OpenBar,
    Outage,
    RateLimited,
)
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.proofs.simulation.run import Life
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import as_rows, current_manifest, daily_bytes, store, stored

SUBJ = SimListing("SUBJ")
NAMES = sorted([listing.symbol for listing in PLAIN] + ["SUBJ"])


def test_02_a_lost_day_is_a_gap_that_is_asked_for_until_it_is_filled(stage):
    life = stage(SUBJ, faults=[LostDays("SUBJ", (day(2), day(3)), start=day(2), until=day(4))])
    life.through(day(3))
    gap = of(life.etl, "gaps", "SUBJ")
    assert (gap["first_session"].min(), gap["last_session"].max(), gap["sessions"].sum()) == (day(2), day(3), 2)
    assert gap["status"].unique().to_list() == ["open"]
    assert life.etl.cursors()["SUBJ"] == day(1)
    assert life.etl.cursors()["PLAIN0"] == day(3)
    life.through(day(10))
    assert of(life.etl, "gaps", "SUBJ")["status"].unique().to_list() == ["filled"]
    assert life.etl.cursors()["SUBJ"] == day(10)
    is_true(life)


def test_02_a_day_that_nobody_has_is_not_there_yet(stage):
    life = stage(SUBJ, faults=[LostDays(None, (day(2),), start=day(2), until=day(4))])
    life.through(day(2))
    assert life.etl.gaps(all=True).is_empty()
    assert set(life.etl.cursors().values()) == {day(1)}
    is_true(life)


def test_02_a_gap_is_confirmed_after_three_evenings_on_which_others_have_that_day(stage):
    life = stage(SimListing("SUBJ", halts=(day(2),)))
    attempts = []
    for number in range(2, 14):
        result = life.evening(day(number))
        gap = of(life.etl, "gaps", "SUBJ").row(0, named=True)
        attempts.append(gap["attempts"])
        assert result.sessions_missing == (1 if gap["status"] == "open" else 0)
        if gap["status"] == "confirmed":
            break
        assert life.etl.cursors()["SUBJ"] == day(1)
    assert attempts[-1] == 3
    assert life.etl.gaps().is_empty()
    assert life.etl.cursors()["SUBJ"] == life.vendor.today
    life.through(day(18))
    assert of(life.etl, "gaps", "SUBJ")["status"].to_list() == ["confirmed"]
    is_true(life)


def test_02_a_run_repeated_on_the_same_evening_is_no_further_attempt(stage):
    life = stage(SimListing("SUBJ", halts=(day(2),)))
    life.through(day(3))
    before = life.etl.gaps(all=True)
    version = current_manifest(life.etl).version
    for _ in range(5):
        assert not life.evening(day(3)).changed
    assert life.etl.gaps(all=True).equals(before)
    assert current_manifest(life.etl).version == version


def test_02_a_person_waives_a_gap_with_a_reason(stage):
    life = stage(SimListing("SUBJ", halts=(day(2), day(3))))
    life.evening(day(4))
    assert life.etl.cursors()["SUBJ"] == day(1)
    assert life.etl.waive("SUBJ", day(2), day(3), reason="trading was halted", by="anna") == 2
    gap = of(life.etl, "gaps", "SUBJ").row(0, named=True)
    assert (gap["status"], gap["reason"], gap["by"]) == ("waived", "trading was halted", "anna")
    assert life.etl.cursors()["SUBJ"] == day(4)
    with pytest.raises(ConfigurationError):
        life.etl.waive("SUBJ", day(2), reason="again", by="anna")
    is_true(life)


def test_02_a_symbol_that_is_named_is_asked_for_its_gaps_whatever_their_pause(stage):
    life = stage(SUBJ, faults=[LostDays("SUBJ", (day(2),), start=day(2), until=day(4))])
    life.through(day(3))
    life.evening(day(4), ["SUBJ"])
    assert of(life.etl, "gaps", "SUBJ")["status"].to_list() == ["filled"]


def test_02_gaps_in_a_backfill_are_found_and_filled(stage):
    life = stage(SUBJ, faults=[LostDays("SUBJ", (day(-30), day(-29)), until=day(2))])
    assert life.etl.gaps()["sessions"].to_list() == [2]
    assert life.etl.cursors()["SUBJ"] == day(-31)
    life.through(day(4))
    assert life.etl.gaps().is_empty()
    is_true(life)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("plain", [False, True], ids=["source", "plain fetcher"])
def test_03_many_empties_at_once_are_an_outage_and_move_nothing(stage, share, plain):
    life = stage(SUBJ, faults=[Outage(share, start=day(2), until=day(4))], plain=plain)
    life.through(day(1))
    before, cursors = daily_bytes(life.etl), life.etl.cursors()
    for number in (2, 3):
        with pytest.raises(ProviderUnavailableError, match="outage"):
            life.evening(day(number))
    assert daily_bytes(life.etl) == before
    assert life.etl.cursors() == cursors
    assert life.etl.gaps(all=True).is_empty()
    life.evening(day(4))
    failed = life.etl.ledger("runs").filter(pl.col("status") == "failed")
    assert failed.height == 2
    assert failed["message"].str.contains("outage").all()
    is_true(life)


def test_03_one_empty_symbol_is_no_outage(stage):
    life = stage(SUBJ, faults=[NotFound("SUBJ", start=day(2), until=day(3))])
    result = life.evening(day(1))
    rows = count(life.etl, "SUBJ")
    result = life.evening(day(2))
    assert result.outcomes["SUBJ"] is Outcome.NOT_FOUND
    assert result.outcomes["PLAIN0"] is Outcome.OK
    assert count(life.etl, "SUBJ") == rows
    assert not result.complete
    is_true(life)


def test_03_not_found_must_repeat_before_a_symbol_counts_as_gone_and_its_rows_stay(stage):
    life = stage(SUBJ, faults=[NotFound("SUBJ", start=day(2), until=day(20))], last=day(45))
    life.through(day(3))
    assert of(life.etl, "symbols", "SUBJ")["status"].to_list() == ["live"]
    rows = count(life.etl, "SUBJ")
    life.through(day(4))
    life.through(day(9))
    assert of(life.etl, "symbols", "SUBJ")["status"].to_list() == ["ended"]
    assert count(life.etl, "SUBJ") == rows
    life.vendor.asked.clear()
    life.through(day(19))
    asked = sum("SUBJ" in request.symbols for _, request in life.vendor.asked)
    assert 0 < asked < 8  # at growing pauses
    life.through(day(45))  # the vendor has found it again
    assert of(life.etl, "symbols", "SUBJ")["status"].to_list() == ["live"]
    is_true(life)


def test_03_a_failed_request_is_an_error_of_its_symbols_alone(stage):
    life = stage(SUBJ, faults=[Errors("SUBJ", start=day(2), until=day(3))], batch_symbols=1)
    life.through(day(1))
    result = life.evening(day(2))
    assert result.outcomes["SUBJ"] is Outcome.ERROR
    assert "Connection reset by peer" in result.details["SUBJ"]
    assert {outcome for symbol, outcome in result.outcomes.items() if symbol != "SUBJ"} == {Outcome.OK}
    assert life.etl.cursors()["SUBJ"] == day(1)
    assert life.etl.ledger("runs").row(-1, named=True)["error"] == 1
    is_true(life)


def test_04_after_a_rate_limit_the_rest_is_not_asked_and_comes_the_next_time(stage):
    life = stage(SUBJ, faults=[RateLimited(2, start=day(2), until=day(3))], batch_symbols=2)
    life.through(day(1))
    life.vendor.asked.clear()
    result = life.evening(day(2))
    assert len(life.vendor.asked) == 3
    assert [result.outcomes[name].value for name in NAMES] == ["ok"] * 4 + ["rate_limited"] * 3
    assert [life.etl.cursors()[name] for name in NAMES] == [day(2)] * 4 + [day(1)] * 3
    assert life.etl.gaps().filter(pl.col("attempts") > 0).is_empty()  # nobody was asked
    life.vendor.asked.clear()
    assert life.evening(day(3)).complete
    assert len(life.vendor.asked) < 6
    is_true(life)


def test_04_a_backfill_that_was_rate_limited_resumes_without_asking_again(root):
    market = SimMarket(symbols=(SUBJ, *PLAIN), first=FIRST, last=day(30))
    vendor = SimVendor(market, [RateLimited(1, start=day(30), until=day(31))], today=day(30))
    etl = store(root, vendor, day(30))
    with pytest.raises(RateLimitedError):
        etl.run_full_etl(NAMES, FIRST, day(30))
    assert [partition.year for partition in current_manifest(etl).partitions] == [2012]
    vendor.faults = ()
    vendor.asked.clear()
    etl.run_full_etl(NAMES, FIRST, day(30))
    assert {request.end.year for _, request in vendor.asked} == {2013}
    assert as_rows(stored(etl)).keys() == as_rows(market.truth().with_columns(ret=0.0)).keys()


def test_05_an_unfinished_bar_is_left_for_a_later_run(root):
    market = SimMarket(symbols=(SUBJ, *PLAIN), first=FIRST, last=day(8))
    vendor = SimVendor(market, [OpenBar("SUBJ")])
    life = Life(root, vendor)
    life.backfill(SINCE)
    for number in range(1, 6):
        result = life.evening(day(number))
        assert result.rows_rejected == 0
        assert close(life.etl, "SUBJ", day(number + 1)) is None
    vendor.faults = ()
    is_true(life)


def test_05_a_bar_with_volume_and_no_price_is_quarantined_with_its_reason(stage):
    life = stage(SUBJ, faults=[ImpossibleRows("SUBJ", day(2), "close", None, start=day(2), until=day(3))])
    life.through(day(2))
    refused = of(life.etl, "rejected_rows", "SUBJ").row(0, named=True)
    assert (refused["date"], refused["reasons"]) == (day(2), ["no_close"])
    assert close(life.etl, "SUBJ", day(2)) is None
    assert of(life.etl, "gaps", "SUBJ")["first_session"].to_list() == [day(2)]
    is_true(life)


def test_05_a_session_counts_only_once_it_has_closed_and_settled(stage):
    life = stage(SUBJ)
    life.vendor.today = day(1)
    for moment, last in (
        (datetime(2012, 12, 13, 21, 30, tzinfo=UTC), SINCE),
        (datetime(2012, 12, 13, 22, tzinfo=UTC), day(1)),
    ):
        etl = store(life.etl.layout.root, life.vendor, clock=lambda moment=moment: moment)
        etl.run_incremental_etl(publish=False)
        assert current_manifest(etl).end_date == last


def test_03_a_backfill_during_an_outage_stores_nothing(root):
    market = SimMarket(symbols=(SUBJ, *PLAIN), first=FIRST, last=day(8))
    vendor = SimVendor(market, [Errors(until=day(2))], today=SINCE)
    etl = store(root, vendor, SINCE)
    with pytest.raises(ProviderError):
        etl.run_full_etl(NAMES, FIRST, SINCE)
    assert etl.manifest() is None
