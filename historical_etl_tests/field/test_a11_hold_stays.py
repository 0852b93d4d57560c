"""A hold stays where the break is, in whatever order the years come; accepting it lets the history in."""

from datetime import date
from hashlib import sha256
from itertools import permutations
from pathlib import Path

import polars as pl
import pytest

from historical_etl import HistoricalETL, Outcome
from historical_etl_tests.proofs.simulation.faults import Fault, View
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.proofs.simulation.run import Life, compare
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import daily_bytes, is_row, store, stored

FIRST, LAST = date(2010, 11, 1), date(2013, 2, 28)
YEARS = (2010, 2011, 2012, 2013)
#: Another company takes the ticker over after a silence of two months.
SILENCE, BREAK = (date(2011, 11, 10), date(2012, 1, 19)), date(2012, 1, 20)
BEFORE = date(2011, 11, 9)
IN_PENCE = date(2010, 12, 14)
TAKEN = SimListing("TAKEN", away=SILENCE, again=(BREAK, 3.7), dividends=((date(2012, 10, 8), 0.02),))
PLAIN = SimListing("PLAIN", dividends=((date(2012, 6, 4), 0.02),))
PIECES = [
    (FIRST, date(2011, 5, 31)),
    (date(2011, 6, 1), date(2011, 12, 12)),
    (date(2011, 12, 13), date(2012, 8, 31)),
    (date(2012, 9, 4), LAST),
]
MARKET = SimMarket(seed=4, symbols=(TAKEN, PLAIN), first=FIRST, last=LAST)


def open_holds(etl: HistoricalETL) -> list[tuple[str, str, date]]:
    return etl.holds().select("symbol", "code", "session").rows()


ONE_HOLD = [("TAKEN", "break_after_gap", BREAK)]


def vendor() -> SimVendor:
    return SimVendor(MARKET, today=LAST)


def a_store(root: Path, **options: object) -> HistoricalETL:
    return store(root, vendor(), LAST, start=FIRST, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """The bytes of a store that was never held: all of it in one go, and accepted."""
    etl = a_store(tmp_path_factory.mktemp("whole"))
    etl.run_full_etl(MARKET.names, FIRST, LAST)
    accept(etl)
    assert not compare(etl, MARKET).held
    return digests(etl)


def digests(etl: HistoricalETL) -> dict[str, str]:
    return {name: sha256(content).hexdigest() for name, content in daily_bytes(etl).items()}


def accept(etl: HistoricalETL) -> None:
    result = etl.accept("TAKEN", reason="another company, both are wanted", by="anna")
    assert result.held == {}
    assert result.outcomes["TAKEN"] is Outcome.OK


def test_a11_a_backfill_over_years_leaves_one_hold_at_the_break_and_one_accept_lets_all_in(root):
    etl = a_store(root)
    etl.run_full_etl(["TAKEN", "PLAIN"], FIRST, LAST)
    assert open_holds(etl) == ONE_HOLD
    assert etl.ledger("holds").height == 1, "no hold was released to open another one"
    assert etl.ledger("holds")["attempts"].to_list() == [1], "all years were asked for on one evening"
    assert etl.cursors()["TAKEN"] == BEFORE
    accept(etl)
    assert not compare(etl, MARKET).held
    assert etl.gaps(all=True).filter(symbol="TAKEN", status="filled")["last_session"].max() == LAST
    assert etl.run_incremental_etl().held == {}


@pytest.mark.parametrize("years", [*permutations(YEARS[1:]), YEARS, YEARS[::-1]], ids=str)
def test_a11_years_in_any_order_end_in_the_same_hold_and_accepted_in_the_same_bytes(root, whole, years):
    etl = a_store(root)
    for year in sorted(YEARS, key=(*years, *YEARS).index):
        etl.run_year(year, ["TAKEN", "PLAIN"], publish=False)
    assert open_holds(etl) == ONE_HOLD
    accept(etl)
    assert digests(etl) == whole


@pytest.mark.parametrize("order", ["0213", "0321", "1203", "2013", "2130", "3201"])
def test_a11_ranges_in_any_order_and_updates_after_them(root, whole, order):
    """The history cut on both sides of the silence and in it: once all was asked for there is one hold, and it stays.

    Of a symbol without stored bars nothing arrived either: the update asks for it again.
    """
    etl = a_store(root)
    for piece in order:
        start, end = PIECES[int(piece)]
        etl.run_full_etl(["TAKEN", "PLAIN"], start, end, resume=False)
    for _ in range(2):
        etl.run_incremental_etl(publish=False)
        assert open_holds(etl) == ONE_HOLD
    accept(etl)
    assert digests(etl) == whole


@pytest.mark.parametrize("order", ["021", "201"])
def test_a11_a_silence_that_is_asked_for_last_opens_the_hold(root, whole, order):
    """Both sides are stored, and what nobody had asked for between them brings no bar: the break is seen now."""
    etl = a_store(root)
    parts = [(FIRST, BEFORE), SILENCE, (BREAK, LAST)]
    for piece in order:
        etl.run_full_etl(["TAKEN", "PLAIN"], *parts[int(piece)], resume=False)
        assert open_holds(etl) == (ONE_HOLD if piece == order[-1] else [])
    accept(etl)
    assert digests(etl) == whole


def test_a11_a_first_history_that_is_held_from_its_first_year_on_comes_as_a_whole(root, whole):
    """Nothing is stored of the symbol when it is held, and the setting `start` lies later than what was kept out."""
    etl = store(root, vendor(), LAST, start=date(2012, 6, 1))
    etl.run_full_etl(["PLAIN"], FIRST, LAST)
    etl.run_full_etl(["TAKEN"], date(2011, 6, 1), date(2012, 8, 31), resume=False)
    assert open_holds(etl) == ONE_HOLD
    accept(etl)
    rows = stored(etl).filter(symbol="TAKEN")
    assert (rows["date"].min(), rows["date"].max()) == (date(2011, 6, 1), LAST)


def test_a11_evenings_after_a_hold_repeat_it_and_nothing_else(root):
    market = SimMarket(seed=4, symbols=(TAKEN, PLAIN), first=FIRST, last=LAST)
    life = Life(root, SimVendor(market))
    life.backfill(date(2012, 1, 18))
    life.through(date(2012, 2, 3))
    assert open_holds(life.etl) == ONE_HOLD
    assert life.etl.ledger("holds").height == 1
    life.etl.accept("TAKEN", reason="another company", by="anna")
    life.witness.look(life.etl)
    life.through(date(2012, 2, 10))
    assert not life.etl.holds().height
    assert stored(life.etl).filter(symbol="TAKEN")["date"].max() == date(2012, 2, 10)


class Hundredfold(Fault):
    """One stored session comes in a hundredth of the unit."""

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        wrong = is_row("TAKEN", IN_PENCE)
        names = ("open", "high", "low", "close", "adj_close")
        return bars.with_columns(pl.when(wrong).then(pl.col(n) * 100).otherwise(n).alias(n) for n in names)


def test_a11_two_holds_of_one_symbol_stand_side_by_side_and_each_ends_by_itself(root):
    a_store(root).run_full_etl(["TAKEN", "PLAIN"], FIRST, LAST)
    spoilt = store(root, SimVendor(MARKET, [Hundredfold()], today=LAST), LAST, start=FIRST)
    spoilt.run_year(2010, ["TAKEN"])
    assert sorted(open_holds(spoilt)) == [*ONE_HOLD, ("TAKEN", "level_jump", IN_PENCE)]
    spoilt.run_year(2012, ["TAKEN"])
    assert sorted(open_holds(spoilt)) == [*ONE_HOLD, ("TAKEN", "level_jump", IN_PENCE)]
    etl = a_store(root)
    etl.run_year(2010, ["TAKEN"])
    assert open_holds(etl) == ONE_HOLD
    assert etl.holds(all=True).filter(code="level_jump")["status"].to_list() == ["released"]
    accept(etl)
    assert not compare(etl, MARKET).held
