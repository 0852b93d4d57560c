"""C2: before a split that is named, some bars are on the new basis and some on the old."""

import polars as pl
import pytest

from historical_etl_tests.field.series import Series, backfill, codes, column, days, update, walk
from historical_etl_tests.proofs.faults.stage import FIRST, PLAIN, SINCE, day, is_true
from historical_etl_tests.proofs.simulation.faults import LostDays
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.proofs.simulation.run import Life
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import KEYS

COUNT, AT = 80, 50


def half_applied(split: float, old: range) -> list[float]:
    """A source that adjusts its close for splits, but for some bars."""
    return [round(price * split, 4) if at in old else price for at, price in enumerate(walk(COUNT, 60.0))]


BARS = {
    "all but the last": range(AT - 1),
    "all but a month": range(AT - 20),
    "one bar": range(AT - 3, AT - 2),
    "the last bar": range(AT - 1, AT),
    "on the day": range(AT, AT + 1),
    "a run": range(AT - 9, AT - 2),
    "none": range(AT),
}


@pytest.mark.parametrize(("split", "adj"), [(5.0, True), (2.0, False), (1.5, True), (0.37, False), (0.0001, True)])
@pytest.mark.parametrize("old", BARS.values(), ids=BARS)
def test_a_split_that_is_applied_to_some_bars_is_held_in_a_first_history(root, old, split, adj):
    close = half_applied(split, old)
    etl, result = backfill(root, Series(close, close if adj else None, [(AT, split, 0.0)], split_adjusted=True))
    assert set(result.held) == {"ACME"}
    assert codes(etl) == ["level_jump"]


@pytest.mark.parametrize("split", [5.0, 0.37])
def test_it_never_replaces_a_good_history(root, split):
    good = walk(COUNT, 60.0)
    source = Series(good, good, [(AT, split, 0.0)], split_adjusted=True)
    backfill(root, source, COUNT - 3)
    bad = half_applied(split, range(COUNT - 6, COUNT - 5))
    source.close = source.adj_close = bad
    etl, result = update(root, source, COUNT - 2)
    assert set(result.held) == {"ACME"}
    assert column(etl, "close") == good[: COUNT - 1], "the stored bar stands, and the new session is let in"


@pytest.mark.parametrize("split", [5.0, 2.0, 0.37])
def test_a_split_that_is_applied_throughout_is_no_alarm(root, split):
    good = walk(COUNT, 60.0)
    etl, result = backfill(root, Series(good, good, [(AT, split, 0.0)], split_adjusted=True))
    assert not result.held
    assert not result.warnings
    assert column(etl, "close") == good


def test_a_crash_by_half_in_the_year_of_a_split_is_no_half_applied_split(root):
    """As AAPL in 2000: two for one in June, a fall of 52 % in September."""
    close = [price * (0.481 if at >= 75 else 1) for at, price in enumerate(walk(COUNT, 60.0))]
    etl, result = backfill(root, Series(close, close, [(10, 2.0, 0.0)], split_adjusted=True))
    assert not result.held
    assert column(etl, "close") == close


@pytest.mark.parametrize("style", ["raw", "split_adjusted"])
def test_a_split_whose_bar_has_not_come_is_known_as_soon_as_the_history_is_on_its_basis(root, style):
    """On the evening of its ex-date the vendor has adjusted all bars before, and has none of the day yet."""
    market = SimMarket(seed=4, symbols=(*PLAIN, SimListing("SPLT", splits=((day(3), 2.0),))), first=FIRST, last=day(8))
    late = LostDays("SPLT", (day(3),), start=day(3), until=day(5))
    life = Life(root, SimVendor(market, [late], style, names_actions=True))
    life.backfill(SINCE)
    life.through(day(3))
    raw = market.table.filter(pl.col("symbol") == "SPLT", pl.col("date") < day(3)).sort(KEYS)
    known = life.etl.scan("SPLT", adjust="none").collect().sort(KEYS)
    assert known["date"].to_list() == raw["date"].to_list()
    assert known["close"].to_list() == pytest.approx(raw["close"].to_list())
    assert known["volume"].to_list() == pytest.approx(raw["volume"].to_list())
    halved = life.etl.scan("SPLT", adjust="splits").collect().sort(KEYS)
    assert halved["close"].to_list() == pytest.approx((raw["close"] / 2).to_list())
    is_true(life)
    known = life.etl.ledger("actions").filter(pl.col("symbol") == "SPLT")
    assert known.select("date", "split").rows() == [(day(3), 2.0)]


PARTS = [
    (2 / 3, range(20, COUNT), 1.5, update),
    (0.8, range(40, COUNT), 1.25, update),
    (5 / 7, range(60, COUNT), 1.4, backfill),
    (0.75, range(30, 60), None, backfill),
    (1.1, range(70, COUNT), None, update),
    (0.95, range(COUNT - 4, COUNT), None, update),
]


@pytest.mark.parametrize("adj", [True, False])
@pytest.mark.parametrize(("ratio", "part", "split", "fetch"), PARTS)
def test_a_part_on_another_basis_never_overwrites_what_is_stored(root, ratio, part, split, fetch, adj):
    """A source that has restated some sessions only: nothing of it is a correction."""
    good = walk(COUNT, 60.0)
    source = Series(good, good if adj else None, [], split_adjusted=True)
    backfill(root, source, COUNT - 2)
    bad = [round(price * ratio, 4) if at in part else price for at, price in enumerate(good)]
    source.close = bad
    source.adj_close = bad if adj else None
    source.events = [(COUNT - 1, split, 0.0)] if split else []
    etl, result = fetch(root, source, COUNT - 1)
    assert set(result.held) == {"ACME"}
    assert codes(etl) == ["level_jump"]
    assert etl.holds().item(0, "session") == days(COUNT)[part.start]
    assert column(etl, "close") == good[: COUNT - 1]


@pytest.mark.parametrize("ratio", [0.75, 1.5, 1.1])
def test_a_stored_part_on_another_basis_is_corrected(root, ratio):
    good = walk(COUNT, 60.0)
    source = Series([price * ratio if 40 <= at < 60 else price for at, price in enumerate(good)], None, [])
    backfill(root, source, COUNT - 2)
    source.close = good
    etl, result = backfill(root, source, COUNT - 1)
    assert not result.held
    assert column(etl, "close")[: COUNT - 1] == good[: COUNT - 1]


def test_single_corrected_bars_are_corrections(root):
    good = walk(COUNT, 60.0)
    source = Series(good, None, [], split_adjusted=True)
    backfill(root, source, COUNT - 2)
    repaired = [price * {75: 1.03, 76: 0.98, 77: 1.05}.get(at, 1) for at, price in enumerate(good)]
    source.close = repaired
    etl, result = update(root, source, COUNT - 1)
    assert not result.held
    assert column(etl, "close") == pytest.approx(repaired)
