"""Points 14, 15, 18 and 19: days that are no sessions, rows that come twice or cannot be, answers that are no data."""

from datetime import date
from typing import get_args

import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETLError, Outcome
from historical_etl_tests.proofs.faults.stage import PLAIN, close, codes, count, day, is_true, of
from historical_etl_tests.proofs.simulation.faults import (
    ContradictoryDuplicate,
    DuplicateLastRow,
    Garbage,
    GarbageKind,
    ImpossibleRows,
    PhantomDays,
)
from historical_etl_tests.proofs.simulation.market import SimListing
from historical_etl_tests.scenario import current_manifest, daily_bytes

SUBJ = SimListing("SUBJ")
#: Forms that differ from the schema's and say the same.
HARMLESS = {"midnights", "reordered", "lower_case", "tenfold", "integers", "extra_columns", "categorical"}
HARMFUL = sorted(set(get_args(GarbageKind)) - HARMLESS - {"unasked"})


@pytest.mark.parametrize(("phantom", "seen"), [(date(2012, 12, 25), day(9)), (date(2012, 12, 15), day(3))])
def test_14_rows_of_days_without_a_session_are_quarantined(stage, phantom, seen):
    """Christmas, and a Saturday."""
    life = stage(SUBJ, faults=[PhantomDays("SUBJ", (phantom,))])
    life.through(seen)
    assert close(life.etl, "SUBJ", phantom) is None
    refused = of(life.etl, "rejected_rows", "SUBJ")
    assert refused.select("date", "reasons").rows() == [(phantom, ["off_session"])]
    assert life.etl.cursors()["SUBJ"] == seen
    life.vendor.faults = ()
    is_true(life)


def test_14_holidays_are_no_gaps_and_half_days_count(stage):
    life = stage(SUBJ)
    life.through(day(14))
    assert life.etl.gaps(all=True).is_empty()
    assert close(life.etl, "SUBJ", date(2012, 12, 24)) is not None
    assert close(life.etl, "SUBJ", date(2012, 11, 23)) is not None
    assert current_manifest(life.etl).calendar.startswith("exchange_calendars ")


def test_15_equal_duplicates_are_one_row(stage):
    life = stage(SUBJ, faults=[DuplicateLastRow()])
    result = life.evening(day(1))
    assert result.complete
    is_true(life)


def test_15_contradictory_duplicates_refuse_the_symbol_alone(stage):
    life = stage(SUBJ, faults=[ContradictoryDuplicate("SUBJ", day(2), start=day(2), until=day(4))])
    life.through(day(1))
    rows = count(life.etl, "SUBJ")
    result = life.evening(day(2))
    assert result.outcomes["SUBJ"] is Outcome.REFUSED
    assert result.outcomes["PLAIN0"] is Outcome.OK
    assert codes(life.etl) == {"SUBJ": "refused"}
    assert count(life.etl, "SUBJ") == rows
    refused = of(life.etl, "rejected_rows", "SUBJ")
    assert refused.filter(date=day(2)).height == 2
    with pytest.raises(ConfigurationError):
        life.etl.accept("SUBJ", reason="the second one", by="anna")
    life.through(day(4))
    assert of(life.etl, "holds", "SUBJ")["status"].to_list() == ["released"]
    is_true(life)


IMPOSSIBLE = [
    ("close", -3.0, "not_positive"),
    ("close", 0.0, "not_positive"),
    ("close", None, "no_close"),
    ("close", float("nan"), "no_close"),
    ("close", float("inf"), "not_finite"),
]
BESIDE = [
    ("high", 0.001, "absurd_price"),
    ("low", 1e6, "absurd_price"),
    ("open", 1e6, "absurd_price"),
    ("open", 0.0, "zero_price"),
    ("low", -1.0, "impossible_price"),
    ("adj_close", float("inf"), "impossible_adj_close"),
    ("adj_close", 0.0, "impossible_adj_close"),
    ("volume", -1.0, "impossible_volume"),
    ("volume", None, "no_volume"),
]


@pytest.mark.parametrize(("column", "value", "reason"), IMPOSSIBLE)
def test_18_impossible_rows_are_quarantined_with_reasons_and_asked_for_again(stage, column, value, reason):
    life = stage(SUBJ, faults=[ImpossibleRows("SUBJ", day(2), column, value, start=day(2), until=day(4))], last=day(6))
    life.through(day(3))
    assert close(life.etl, "SUBJ", day(2)) is None
    assert close(life.etl, "SUBJ", day(3)) is not None
    refused = of(life.etl, "rejected_rows", "SUBJ").row(0, named=True)
    assert refused["date"] == day(2)
    assert reason in refused["reasons"]
    assert of(life.etl, "rejected_rows", "SUBJ").height == 1  # reported once, however often it arrived
    is_true(life)


@pytest.mark.parametrize(("column", "value", "reason"), BESIDE)
def test_18_what_is_impossible_beside_a_close_is_null_until_it_is_given(stage, column, value, reason):
    life = stage(SUBJ, faults=[ImpossibleRows("SUBJ", day(2), column, value, start=day(2), until=day(4))], last=day(6))
    life.through(day(2))
    assert close(life.etl, "SUBJ", day(2), "close") is not None
    assert close(life.etl, "SUBJ", day(2), column) is None
    life.through(day(3))
    flagged = of(life.etl, "flagged_rows", "SUBJ").row(0, named=True)
    assert (flagged["date"], flagged[column], flagged["reasons"]) == (day(2), value, [reason])
    assert of(life.etl, "flagged_rows", "SUBJ").height == 1  # reported once, however often it arrived
    assert of(life.etl, "rejected_rows", "SUBJ").is_empty()
    is_true(life)


def test_18_too_many_bad_rows_refuse_the_symbols_whole_batch(stage):
    life = stage(SUBJ, overlap_sessions=30)
    life.through(day(1))
    life.vendor.faults = [ImpossibleRows("SUBJ", day(n), "close", -1.0, start=day(2), until=day(5)) for n in (1, 2)]
    result = life.evening(day(2))
    assert result.outcomes["SUBJ"] is Outcome.REFUSED
    assert "2 of" in result.details["SUBJ"]
    assert codes(life.etl) == {"SUBJ": "refused"}
    is_true(life)


def test_18_in_a_short_window_bad_rows_are_refused_and_the_good_ones_stored(stage):
    faults = [ImpossibleRows("SUBJ", day(n), "close", -1.0, start=day(1), until=day(5)) for n in (1, 2)]
    life = stage(SUBJ, faults=faults)
    life.through(day(2))
    result = life.evening(day(3))
    assert result.outcomes["SUBJ"] is Outcome.OK
    assert close(life.etl, "SUBJ", day(3)) is not None
    assert codes(life.etl) == {}
    is_true(life)


def test_18_a_halt_without_volume_is_no_bad_row(stage):
    life = stage(SimListing("SUBJ", quiet=(day(2), day(3))))
    assert life.evening(day(3)).complete
    assert close(life.etl, "SUBJ", day(3), "volume") == 0
    is_true(life)


@pytest.mark.parametrize("kind", HARMFUL)
def test_19_an_answer_that_is_no_data_is_a_clear_outcome_of_its_symbols(stage, kind):
    life = stage(SUBJ, faults=[Garbage(kind, "SUBJ", start=day(2), until=day(4))], batch_symbols=1)
    life.through(day(1))
    rows = count(life.etl, "SUBJ")
    result = life.evening(day(2))
    assert result.outcomes["SUBJ"] in {Outcome.ERROR, Outcome.REFUSED}
    assert result.details["SUBJ"]
    assert {result.outcomes[listing.symbol] for listing in PLAIN} == {Outcome.OK}
    assert count(life.etl, "SUBJ") == rows
    assert life.etl.cursors()["SUBJ"] == day(1)
    assert life.etl.cursors()["PLAIN0"] == day(2)
    is_true(life)


@pytest.mark.parametrize("kind", HARMFUL)
def test_19_when_nothing_else_comes_the_run_fails_and_nothing_moves(stage, kind):
    life = stage(SUBJ, faults=[Garbage(kind, start=day(2), until=day(4))])
    life.through(day(1))
    before = daily_bytes(life.etl)
    with pytest.raises(HistoricalETLError) as failure:
        life.evening(day(2))
    assert failure.value.what
    assert daily_bytes(life.etl) == before
    is_true(life)


@pytest.mark.parametrize("kind", sorted(HARMLESS))
def test_19_another_form_that_says_the_same_is_understood(stage, kind):
    life = stage(SUBJ, faults=[Garbage(kind, start=day(2), until=day(5))])
    for number in range(1, 6):
        assert life.evening(day(number)).complete
    is_true(life)


def test_19_rows_that_nobody_asked_for_are_refused(stage):
    life = stage(SUBJ, faults=[Garbage("unasked", start=day(2), until=day(4))])
    result = life.evening(day(2))
    assert set(result.outcomes.values()) == {Outcome.OK}
    reasons = life.etl.ledger("rejected_rows").explode("reasons")["reasons"].unique().sort().to_list()
    assert reasons == ["not_requested", "outside_window"]
    assert stored_symbols(life) == {listing.symbol for listing in PLAIN} | {"SUBJ"}
    is_true(life)


def stored_symbols(life) -> set[str]:
    return set(life.etl.scan().select(pl.col("symbol").unique()).collect()["symbol"])
