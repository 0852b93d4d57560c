"""B5: an open, high or low of 0 beside a good close means that there is none: it is null, counted and reported."""

import math
from datetime import date
from pathlib import Path

import pytest

from historical_etl_tests.field.market import Teller, bars, cells, changed, opened, sessions

DAYS = sessions(date(2012, 9, 4), date(2012, 12, 5))
TODAY = DAYS[-1]


def test_sixty_four_opens_of_zero_are_null_counted_and_reported(root: Path):
    assert len(DAYS) == 64
    teller = Teller([*bars("AAA", DAYS, open=0.0), *bars("BBB", DAYS)])
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA", "BBB"], DAYS[0], TODAY)
    assert (result.total_rows, result.rows_rejected, result.complete) == (128, 0, True)
    assert set(cells(etl, "AAA", "open").values()) == {None}
    assert None not in cells(etl, "AAA", "close").values()
    assert None not in cells(etl, "BBB", "open").values()
    assert (result.rows_flagged, result.flagged_by_reason) == (64, {"zero_price": 64})
    (warning,) = result.warnings
    assert "64" in warning
    assert "AAA (64)" in warning
    assert "BBB" not in warning
    flagged = etl.query_sql("SELECT symbol, open, close, reasons FROM flagged_rows")
    assert flagged.height == 64
    assert set(flagged["open"]) == {0.0}
    again = etl.run_incremental_etl()
    assert (again.changed, again.rows_flagged, again.warnings) == (False, 0, ())


@pytest.mark.parametrize("column", ["open", "high", "low"])
@pytest.mark.parametrize(
    ("value", "reason"), [(0.0, "zero_price"), (-3.0, "impossible_price"), (math.inf, "impossible_price")]
)
def test_one_price_that_cannot_be_is_null_and_kept_in_the_ledger(root: Path, column: str, value: float, reason: str):
    teller = Teller(changed(bars("AAA", DAYS), DAYS[7], **{column: value}))
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA"], DAYS[0], TODAY)
    assert result.complete
    assert [day for day, cell in cells(etl, "AAA", column).items() if cell is None] == [DAYS[7]]
    (row,) = etl.ledger("flagged_rows").to_dicts()
    assert (row["date"], row["reasons"], row[column], row["version"]) == (DAYS[7], [reason], value, 1)
    story = etl.explain("AAA", DAYS[7])
    assert reason in story.filter(event="flagged")["why"].item()
    assert column not in story.filter(event="stored")["column"].to_list()
    (finding,) = result.warnings
    assert "AAA (1)" in finding


def test_a_nan_is_a_null_and_nothing_to_report(root: Path):
    teller = Teller(bars("AAA", DAYS, open=math.nan, high=math.nan, low=math.nan))
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA"], DAYS[0], TODAY)
    assert (result.complete, result.rows_flagged, result.warnings) == (True, 0, ())
    assert set(cells(etl, "AAA", "high").values()) == {None}
    assert etl.scan().collect()["open"].null_count() == len(DAYS)
    assert etl.query_sql("SELECT count(*) FROM daily_prices WHERE isnan(open)").item() == 0


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, -math.inf])
def test_an_adjusted_close_that_cannot_be_is_null_and_reported(root: Path, value: float):
    teller = Teller(changed(bars("AAA", DAYS), DAYS[7], adj_close=value))
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA"], DAYS[0], TODAY)
    assert cells(etl, "AAA", "adj_close")[DAYS[7]] is None
    assert cells(etl, "AAA", "close")[DAYS[7]] is not None
    assert result.flagged_by_reason == {"impossible_adj_close": 1}
    assert any("adj_close" in warning and "AAA" in warning for warning in result.warnings)
