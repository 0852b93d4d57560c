"""B2: a vendor fills days on which the exchange was closed; they are refused, and cost the symbol nothing."""

from datetime import date
from pathlib import Path

import pytest

from historical_etl import DataQualityError, Outcome
from historical_etl_tests.field.market import Teller, bars, cells, opened, sessions

START = date(2012, 10, 1)
STORM = [date(2012, 10, 29), date(2012, 10, 30)]
WEEKENDS = [date(2012, 10, 27), date(2012, 10, 28)]


@pytest.mark.parametrize("phantom", [STORM, WEEKENDS, [*WEEKENDS, *STORM]])
def test_phantom_days_stop_no_symbol_in_any_window(root: Path, phantom: list[date]):
    days = sessions(START, date(2012, 11, 30))
    teller = Teller([*bars("AAA", days), *bars("AAA", phantom, price=101.0), *bars("BBB", days)])
    since = date(2012, 10, 26)
    opened(root, teller, since).run_full_etl(["AAA", "BBB"], START, since)
    rejected = 0
    for today in sessions(date(2012, 10, 31), date(2012, 11, 16)):
        etl = opened(root, teller, today)
        result = etl.run_incremental_etl()
        assert set(result.outcomes.values()) == {Outcome.OK}
        assert etl.cursors() == {"AAA": today, "BBB": today}
        assert not result.held
        assert result.complete is (result.rows_rejected == 0)
        rejected += result.rejected_by_reason.get("off_session", 0)
        assert result.rows_rejected == result.rejected_by_reason.get("off_session", 0)
    assert rejected >= len(phantom)
    etl = opened(root, teller, date(2012, 11, 16))
    assert list(cells(etl, "AAA", "close")) == sessions(START, date(2012, 11, 16))
    reported = etl.ledger("rejected_rows")
    assert sorted(reported["date"]) == sorted(phantom), "each once, however often it arrived"
    assert {reason for reasons in reported["reasons"] for reason in reasons} == {"off_session"}


def test_a_first_history_with_all_weekends_filled_is_stored_without_them(root: Path):
    days = sessions(START, date(2012, 12, 31))
    weekends = [
        day for n in range(13) for day in (date.fromordinal(date(2012, 10, 6).toordinal() + 7 * n + k) for k in (0, 1))
    ]
    teller = Teller([*bars("AAA", days), *bars("AAA", weekends)])
    etl = opened(root, teller, date(2012, 12, 31))
    result = etl.run_full_etl(["AAA"], START, date(2012, 12, 31))
    assert result.outcomes == {"AAA": Outcome.OK}
    assert (result.total_rows, result.rejected_by_reason) == (len(days), {"off_session": 26})


def test_phantom_days_alone_are_no_history(root: Path):
    teller = Teller(bars("AAA", WEEKENDS))
    etl = opened(root, teller, date(2012, 11, 2))
    with pytest.raises(DataQualityError, match="off_session: 2"):
        etl.run_full_etl(["AAA"], START, date(2012, 11, 2))
    assert etl.manifest() is None
