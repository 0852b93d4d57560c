"""C3: ranges that do not contain open or close, and single absurd prices; the close stands."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from historical_etl_tests.field.market import Teller, bars, cells, changed, opened, sessions

DAYS = sessions(date(2012, 9, 4), date(2013, 1, 31))
TODAY = DAYS[-1]


def with_auctions(rows: list[dict[str, Any]], every: int) -> list[dict[str, Any]]:
    """A close or an open some per cent outside of low to high, as closing auctions and thin markets have them."""
    shapes = [(1.02, 1.01, 0.995), (0.97, 1.0, 0.98), (1.0, 0.985, 0.97), (1.0, 1.04, 1.01), (1.0, 0.96, 1.0)]
    for number, row in enumerate(rows):
        if number % every == 0:
            start, high, low = shapes[number // every % len(shapes)]
            close = row["close"]
            row |= {"open": close * start, "high": close * high, "low": close * low}
    return rows


@pytest.mark.parametrize("every", [50, 5, 3, 1])
def test_no_share_of_auctions_refuses_a_symbol_or_needs_a_person(root: Path, every: int):
    rows = with_auctions(bars("THIN", DAYS), every)
    teller = Teller(rows)
    etl = opened(root, teller, DAYS[-4])
    first = etl.run_full_etl(["THIN"], DAYS[0], DAYS[-4])
    assert (first.complete, first.warnings, first.held) == (True, (), {})
    for today in DAYS[-3:]:
        result = opened(root, teller, today).run_incremental_etl()
        assert (result.complete, result.warnings, result.held) == (True, (), {})
    for column in ("open", "high", "low", "close"):
        assert list(cells(etl, "THIN", column).values()) == [row[column] for row in rows], "stored as delivered"
    flagged = etl.ledger("flagged_rows")
    assert sorted(flagged["date"]) == [row["date"] for row in rows[::every]], "each reported once"
    assert flagged["reasons"].explode().unique().to_list() == ["range"]
    assert etl.verify().ok


#: What one price of a bar with a close of 100 is; whether it stays.
SINGLE = [
    ({"high": 10_000.0}, False),
    ({"high": 1.0}, False),
    ({"low": 10_000.0}, False),
    ({"low": 1.0}, False),
    ({"open": 1000.0}, False),
    ({"open": 10.0}, False),
    ({"low": 0.0001}, False),
    ({"high": 45.0}, False),
    ({"open": 250.0}, False),
    ({"high": 180.0}, True),
    ({"low": 60.0}, True),
    ({"high": 60.0}, True),
    ({"high": 300.0}, True),  # a wild day
    ({"low": 30.0}, True),
]


@pytest.mark.parametrize(("values", "stays"), SINGLE)
def test_a_single_price_that_is_absurd_beside_the_close_is_null(root: Path, values: dict[str, float], stays: bool):
    day = DAYS[10]
    teller = Teller(changed(bars("AAA", DAYS), day, **values))
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA"], DAYS[0], TODAY)
    assert (result.complete, result.held) == (True, {})
    ((column, value),) = values.items()
    assert cells(etl, "AAA", column)[day] == (value if stays else None)
    assert None not in cells(etl, "AAA", "close").values()
    others = {"open", "high", "low"} - {column}
    assert all(None not in cells(etl, "AAA", other).values() for other in others)
    assert ("absurd_price" in result.flagged_by_reason) is not stays
    assert bool(result.warnings) is not stays
    if not stays:
        (row,) = etl.ledger("flagged_rows").to_dicts()
        assert (row["date"], row[column]) == (day, value)
        assert "AAA (1)" in result.warnings[0]


def test_a_day_on_which_a_company_lost_nine_tenths_is_stored_as_it_was(root: Path):
    rows = bars("FELL", DAYS[:30]) + bars("FELL", DAYS[30:], price=9.5)
    rows = changed(rows, DAYS[30], open=96.0, high=97.0, low=9.1, close=9.5, adj_close=9.5)
    etl = opened(root, Teller(rows), TODAY)
    result = etl.run_full_etl(["FELL"], DAYS[0], TODAY)
    if not result.held:  # how large a move may be is tested elsewhere
        assert cells(etl, "FELL", "open")[DAYS[30]] == 96.0
    assert result.rows_flagged == 0


def test_a_close_a_hundred_times_off_its_own_bar_is_not_stored(root: Path):
    teller = Teller(changed(bars("AAA", DAYS), DAYS[-2], close=10_000.0))
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA"], DAYS[0], TODAY)
    assert result.rejected_by_reason == {"wrong_close": 1}
    assert not result.complete
    assert DAYS[-2] not in cells(etl, "AAA", "close")
    assert cells(etl, "AAA", "close")[TODAY] in (100.0, 101.0)
