"""C4: sessions for which a source sends a row without a price, for years; they are refused, the rest is stored."""

import math
from datetime import date
from pathlib import Path

import pytest

from historical_etl import DataQualityError, Outcome
from historical_etl.cli.run_summary import RunSummary
from historical_etl_tests.field.market import Teller, bars, cells, opened, sessions

FIRST = date(2007, 1, 3)
LISTED = date(2010, 3, 1)
TODAY = date(2011, 1, 31)
BEFORE, SINCE = sessions(FIRST, date(2010, 2, 26)), sessions(LISTED, TODAY)
NOTHING = dict.fromkeys(("open", "high", "low", "adj_close", "volume"))


@pytest.mark.parametrize("nothing", [None, 0.0, math.nan])
def test_years_without_a_price_before_a_listing_cost_nothing(root: Path, nothing: float | None):
    teller = Teller([*bars("NEW", BEFORE, close=nothing, **NOTHING), *bars("NEW", SINCE)])
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["NEW"], FIRST, TODAY)
    assert list(cells(etl, "NEW", "close")) == SINCE
    assert result.total_rows == len(SINCE)
    assert result.rejected_by_reason["no_close"] == len(BEFORE)
    assert result.held == {}
    assert RunSummary(etl, None, result).code == 3
    assert etl.ledger("rejected_rows").height == len(BEFORE), "also of the years of which nothing was stored"
    assert etl.gaps().is_empty()
    assert etl.verify().ok
    update = etl.run_incremental_etl()
    assert (update.complete, update.changed) == (True, False)


def test_a_year_without_a_price_in_the_middle_is_a_gap_that_is_confirmed(root: Path):
    days = sessions(FIRST, TODAY)
    hole = [day for day in days if day.year == 2009]
    rows = [*bars("AAA", [day for day in days if day.year != 2009]), *bars("AAA", hole, close=None, **NOTHING)]
    teller = Teller([*rows, *bars("BBB", days)])
    later = sessions(TODAY, date(2011, 2, 28))[1:]
    teller.rows += [*bars("AAA", later), *bars("BBB", later)]
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA", "BBB"], FIRST, TODAY)
    assert result.rejected_by_reason == {"no_close": len(hole)}
    assert result.outcomes["BBB"] is Outcome.OK
    assert cells(etl, "AAA", "close").keys() == set(days) - set(hole)
    for today in later[:4]:
        etl = opened(root, teller, today)
        result = etl.run_incremental_etl()
    assert etl.gaps(all=True)["status"].to_list() == ["confirmed"]
    assert etl.cursors()["AAA"] == later[3]


def test_a_year_of_which_nothing_remains_does_not_stop_the_symbols_beside_it(root: Path):
    days = sessions(FIRST, TODAY)
    teller = Teller([*bars("NONE", days, close=0.0), *bars("AAA", days)])
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA", "NONE"], FIRST, TODAY)
    assert result.outcomes == {"AAA": Outcome.OK, "NONE": Outcome.REFUSED}
    assert "no_close" in result.details["NONE"]
    assert len(cells(etl, "AAA", "close")) == len(days)


@pytest.mark.parametrize("value", [None, -1.0, math.inf])
def test_a_run_of_which_nothing_at_all_can_be_stored_fails(root: Path, value: float | None):
    teller = Teller([*bars("AAA", [*BEFORE, *SINCE], close=value), *bars("BBB", BEFORE, close=value)])
    etl = opened(root, teller, TODAY)
    with pytest.raises(DataQualityError, match=r"All \d+ rows that Teller delivered"):
        etl.run_full_etl(["AAA", "BBB"], FIRST, TODAY)
    assert etl.manifest() is None


def test_an_update_of_which_nothing_can_be_stored_fails(root: Path):
    teller = Teller(bars("AAA", SINCE))
    etl = opened(root, teller, SINCE[-3])
    etl.run_full_etl(["AAA"], LISTED, SINCE[-3])
    teller.rows = bars("AAA", SINCE, close=None)
    etl = opened(root, teller, TODAY)
    with pytest.raises(DataQualityError, match="none of them is stored"):
        etl.run_incremental_etl()
    assert etl.cursors() == {"AAA": SINCE[-3]}
