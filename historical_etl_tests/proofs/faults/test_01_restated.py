"""Point 1: splits and dividends restate history. Point 20: the answers of a source that remembers too much."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import Outcome
from historical_etl_tests.proofs.faults.stage import FIRST, SINCE, changes_of, close, codes, count, day, is_true, of
from historical_etl_tests.proofs.simulation.faults import Fault, IncompleteHistory, LateRestatement, View
from historical_etl_tests.proofs.simulation.market import SimListing
from historical_etl_tests.scenario import KEYS, current_manifest

#: On the first session of a year, so that the history before it lies in another file.
EX = day(13)
SPLIT = SimListing("SUBJ", splits=((EX, 2.0),))


@dataclass(frozen=True)
class HistoryFails(Fault):
    """Requests that reach far back fail."""

    def before(self, view: View) -> None:
        if view.request.start < SINCE:
            raise TimeoutError("read timed out")


@dataclass(frozen=True)
class StaleHistory(Fault):
    """Requests that reach far back are answered from a cache of the evening before `start`."""

    symbol: str

    def lag(self, view: View) -> Mapping[str, date]:
        return {self.symbol: self.start - timedelta(days=1)} if view.request.start < SINCE else {}


@pytest.mark.parametrize("style", ["raw", "split_adjusted"])
@pytest.mark.parametrize("names_actions", [False, True])
def test_01_a_split_restates_the_whole_history_in_one_commit(stage, style, names_actions):
    life = stage(SPLIT, style=style, names_actions=names_actions)
    life.through(day(12))
    before, version = close(life.etl, "SUBJ", FIRST), current_manifest(life.etl).version
    old = life.etl.scan("SUBJ").collect().sort(KEYS)
    result = life.evening(EX)
    assert result.restated_symbols == ("SUBJ",)
    assert result.version == version + 1
    assert result.years_written == (2012, 2013)
    assert before is not None
    assert close(life.etl, "SUBJ", FIRST) == pytest.approx(before / 2)
    story = of(life.etl, "restatements", "SUBJ").row(0, named=True)
    assert story["ratio"] == pytest.approx(0.5)
    assert story["close_ratio"] == pytest.approx(0.5 if style == "split_adjusted" else 1.0)
    assert (story["version"], story["rows_replaced"]) == (version + 1, old.height)
    assert (story["first_session"], story["last_session"]) == (FIRST, day(12))
    assert story["evidence"]
    replaced = of(life.etl, "replaced_rows", "SUBJ").sort(KEYS).select(old.columns)
    assert_frame_equal(replaced, old, check_exact=True)
    assert of(life.etl, "corrections", "SUBJ").is_empty()
    is_true(life)


def test_01_explain_says_what_a_restated_cell_was(stage):
    life = stage(SPLIT)
    life.through(day(12))
    before = close(life.etl, "SUBJ", FIRST)
    life.evening(EX)
    assert changes_of(life.etl, "SUBJ", FIRST, "adj_close") == [
        (None, before),
        (before, close(life.etl, "SUBJ", FIRST)),
    ]


@pytest.mark.parametrize("style", ["raw", "split_adjusted"])
@pytest.mark.parametrize("share", [0.0015, 0.02, 0.37])  # 0.4 would be read as a split of 5:3
def test_01_a_dividend_restates_history_too(stage, style, share):
    life = stage(SimListing("SUBJ", dividends=((day(4), share),)), style=style)
    life.through(day(4))
    assert of(life.etl, "restatements", "SUBJ")["ratio"].to_list() == [pytest.approx(1 - share, abs=1e-4)]
    is_true(life)


def test_01_events_of_a_week_without_a_run_are_caught_up_in_one(stage):
    events = SimListing("SUBJ", splits=((day(3), 3.0), (day(5), 0.1)), dividends=((day(4), 0.01),))
    life = stage(events, style="split_adjusted")
    life.through(day(9), evenings=[day(9)])
    assert of(life.etl, "restatements", "SUBJ").height == 1
    is_true(life)


def test_01_a_year_alone_is_held_against_its_stored_neighbours(stage):
    life = stage(SimListing("SUBJ", splits=((day(15), 2.0),)))
    life.through(day(14))
    life.vendor.today = day(17)
    life.etl.run_year(2012)
    life.witness.look(life.etl)
    assert of(life.etl, "restatements", "SUBJ").height == 1
    is_true(life)


def test_01_while_the_history_cannot_be_fetched_nothing_of_the_symbol_moves(stage):
    life = stage(SPLIT, faults=[HistoryFails(start=EX, until=day(15))])
    life.through(day(12))
    rows = count(life.etl, "SUBJ")
    result = life.evening(EX)
    assert result.outcomes["SUBJ"] is Outcome.ERROR
    assert "read timed out" in result.details["SUBJ"]
    assert result.outcomes["PLAIN0"] is Outcome.OK
    assert count(life.etl, "SUBJ") == rows
    life.evening(day(15))
    assert of(life.etl, "restatements", "SUBJ").height == 1
    is_true(life)


def test_01_a_history_that_lacks_stored_sessions_is_held(stage):
    lost = (day(-20), day(-19))
    life = stage(SPLIT, faults=[IncompleteHistory("SUBJ", lost, start=EX, until=day(16))])
    life.through(day(12))
    result = life.evening(EX)
    assert result.outcomes["SUBJ"] is Outcome.HELD
    assert codes(life.etl) == {"SUBJ": "incomplete_history"}
    assert str(lost[0]) in result.held["SUBJ"]
    assert close(life.etl, "SUBJ", lost[0]) is not None
    life.through(day(16))
    assert not codes(life.etl)
    assert life.etl.holds(all=True)["status"].to_list() == ["released"]
    is_true(life)


def test_01_a_split_that_adjusts_history_late_is_held_meanwhile(stage):
    life = stage(SPLIT, faults=[LateRestatement("SUBJ", start=EX, until=day(20))], last=day(24))
    life.through(EX)
    assert codes(life.etl) == {"SUBJ": "level_jump"}
    life.through(day(19))
    assert close(life.etl, "SUBJ", EX) is None
    is_true(life)


def test_01_prices_that_nobody_adjusts_jump_with_a_split_that_the_source_names(stage):
    life = stage(SPLIT, style="unadjusted", names_actions=True)
    life.through(day(16))
    assert not codes(life.etl)
    is_true(life)


def test_01_prices_that_nobody_adjusts_are_held_at_a_split_that_nobody_names(stage):
    life = stage(SPLIT, style="unadjusted")
    life.through(day(16))
    assert codes(life.etl) == {"SUBJ": "level_jump"}
    life.etl.accept("SUBJ", reason="two for one, says the exchange", by="anna")
    life.witness.look(life.etl)
    is_true(life)


def test_20_the_source_is_asked_afresh_for_a_restated_history(stage):
    life = stage(SPLIT)
    life.through(day(12))
    life.vendor.asked.clear()
    life.evening(EX)
    histories = [request for _, request in life.vendor.asked if request.start <= FIRST]
    assert [(request.symbols, request.end) for request in histories] == [(("SUBJ",), EX)]


@pytest.mark.parametrize("names_actions", [False, True])
@pytest.mark.parametrize("listing", [SPLIT, SimListing("SUBJ", dividends=((EX, 0.02),))], ids=["split", "dividend"])
def test_20_a_history_from_a_cache_contradicts_the_overlap_and_is_not_stored(stage, listing, names_actions):
    """The overlap says that an event was adjusted for, the whole history does not know of it."""
    stale = StaleHistory("SUBJ", start=EX, until=day(17))
    life = stage(listing, faults=[stale], names_actions=names_actions)
    for number in range(1, 17):
        life.evening(day(number))  # each version is looked at: none may mix the two
    life.through(day(17))
    is_true(life)


def test_01_a_symbol_that_is_restated_keeps_others_as_they_are(stage):
    life = stage(SPLIT)
    life.through(day(12))
    others = pl.col("symbol") != "SUBJ"
    before = life.etl.scan().filter(others).collect().sort(KEYS)
    life.evening(EX)
    after = life.etl.scan(end=day(12)).filter(others).collect().sort(KEYS)
    assert_frame_equal(after, before, check_exact=True)
