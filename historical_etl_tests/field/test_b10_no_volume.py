"""B10: an index or a fund has no volume; its bars are stored without one, and no number takes its place."""

import math
from datetime import date
from pathlib import Path

import pytest

from historical_etl import SchemaDriftError
from historical_etl_tests.field.market import Teller, bars, cells, changed, opened, sessions

DAYS = sessions(date(2012, 11, 1), date(2013, 1, 31))
TODAY = DAYS[-1]


@pytest.mark.parametrize("value", [None, math.nan])
def test_an_index_is_stored_without_volume(root: Path, value: float | None):
    teller = Teller([*bars("^GSPC", DAYS, volume=value), *bars("AAA", DAYS)])
    etl = opened(root, teller, DAYS[-3])
    result = etl.run_full_etl(["^GSPC", "AAA"], DAYS[0], DAYS[-3])
    assert (result.complete, result.rows_flagged, result.warnings) == (True, 0, ())
    etl = opened(root, teller, TODAY)
    assert etl.run_incremental_etl().complete
    assert set(cells(etl, "^GSPC", "volume").values()) == {None}
    assert len(cells(etl, "^GSPC", "volume")) == len(DAYS)
    assert None not in cells(etl, "AAA", "volume").values()
    assert etl.verify().ok
    assert not etl.run_incremental_etl().changed


def test_a_source_may_have_no_column_for_it(root: Path):
    teller = Teller(bars("NAV", DAYS))
    teller.alter = lambda frame: frame.drop("volume")
    etl = opened(root, teller, TODAY)
    assert etl.run_full_etl(["NAV"], DAYS[0], TODAY).complete
    assert set(cells(etl, "NAV", "volume").values()) == {None}


@pytest.mark.parametrize("name", ["Volume", "vol", "VOLUME ", "Adj Close", "Adjusted_close", "adjclose", "Open"])
def test_a_column_that_looks_like_ours_is_not_ignored(root: Path, name: str):
    ours = {"v": "volume", "a": "adj_close", "o": "open"}[name[0].lower()]
    teller = Teller(bars("AAA", DAYS))
    teller.alter = lambda frame: frame.rename({ours: name})
    with pytest.raises(SchemaDriftError, match=f"is it {ours}"):
        opened(root, teller, TODAY).run_full_etl(["AAA"], DAYS[0], TODAY)


def test_a_volume_that_lacks_among_others_is_null_and_flagged(root: Path):
    teller = Teller(changed(bars("AAA", DAYS), DAYS[5], volume=None))
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA"], DAYS[0], TODAY)
    assert cells(etl, "AAA", "volume")[DAYS[5]] is None
    assert (result.complete, result.flagged_by_reason) == (True, {"no_volume": 1})


@pytest.mark.parametrize("value", [-1.0, math.inf, -math.inf])
def test_a_volume_that_cannot_be_is_null_and_reported(root: Path, value: float):
    teller = Teller(changed(bars("AAA", DAYS), DAYS[5], volume=value))
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA"], DAYS[0], TODAY)
    assert cells(etl, "AAA", "volume")[DAYS[5]] is None
    assert result.flagged_by_reason == {"impossible_volume": 1}
    assert etl.ledger("flagged_rows")["volume"].to_list() == [value]
    (warning,) = result.warnings
    assert "AAA (1)" in warning


def test_a_session_without_trades_is_a_zero(root: Path):
    teller = Teller(changed(bars("AAA", DAYS), DAYS[5], volume=0.0))
    etl = opened(root, teller, TODAY)
    result = etl.run_full_etl(["AAA"], DAYS[0], TODAY)
    assert (result.complete, result.rows_flagged) == (True, 0)
    assert cells(etl, "AAA", "volume")[DAYS[5]] == 0
