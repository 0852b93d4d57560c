"""The simulator itself: what it calls the truth is consistent, the same each time, and restated by events."""

from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import FetchRequest, Outcome
from historical_etl.quality.rules import all_valid, conform
from historical_etl_tests.proofs.simulation.faults import Fault, Garbage, LateCorrection, LostDays
from historical_etl_tests.proofs.simulation.market import BAR_COLUMNS, SimListing, SimMarket, with_returns
from historical_etl_tests.proofs.simulation.schedule import QUIET_END, random_faults
from historical_etl_tests.proofs.simulation.vendor import SimVendor

MARKET = SimMarket(seed=3, symbols=40)
EX = MARKET.sessions[100]
ONE = SimMarket(symbols=(SimListing("ONE", splits=((EX, 2.0),), dividends=((MARKET.sessions[200], 0.01),)),))


def kinds(faults: tuple[Fault, ...]) -> set[str]:
    return {type(fault).__name__ for fault in faults}


def test_equal_arguments_give_equal_bars():
    assert_frame_equal(SimMarket(seed=3).truth(), MARKET.truth(), check_exact=True)
    assert not SimMarket(seed=4).truth().equals(MARKET.truth())


@pytest.mark.parametrize("style", ["raw", "split_adjusted", "unadjusted"])
def test_bars_are_valid_and_sorted(style):
    bars = MARKET.truth(style=style)
    assert tuple(bars.columns) == BAR_COLUMNS
    assert all_valid(conform(bars.filter(pl.col("symbol").str.starts_with("INDX").not_()), "test"))
    assert bars.select("date", "symbol").is_unique().all()
    assert bars.equals(bars.sort("date", "symbol"))


def test_history_is_restated_by_events_and_by_nothing_else():
    days = ONE.sessions
    first = {day: ONE.truth(day)["adj_close"][0] for day in days[90:210]}
    changes = [day for day, before in zip(days[91:210], days[90:209], strict=True) if first[day] != first[before]]
    assert changes == [EX, days[200]]
    assert first[EX] == pytest.approx(first[days[99]] / 2)
    assert first[days[200]] == pytest.approx(first[EX] * 0.99, rel=1e-4)


def test_the_newest_bar_is_never_adjusted_and_returns_do_not_see_events():
    last = ONE.truth(EX).row(-1, named=True)
    assert last["adj_close"] == last["close"]
    assert with_returns(ONE.truth())["ret"].drop_nulls().is_between(-0.06, 0.06).all()


def test_a_split_adjusted_vendor_restates_all_columns():
    raw, adjusted = ONE.truth(EX), ONE.truth(EX, "split_adjusted")
    before = pl.col("date") < EX
    for name, factor in (("open", 0.5), ("close", 0.5), ("volume", 2.0)):
        assert adjusted.filter(before)[name].to_list() == pytest.approx((raw.filter(before)[name] * factor).to_list())
    assert_frame_equal(adjusted.filter(~before), raw.filter(~before), check_exact=True)
    assert adjusted["adj_close"].equals(raw["adj_close"])


def test_asking_for_a_few_symbols_gives_the_rows_of_asking_for_all():
    names, (start, end) = MARKET.names, (MARKET.sessions[50], MARKET.sessions[300])
    whole = MARKET.bars(names, start, end, end)
    for few in (names[:1], names[:3], names[:9]):
        assert_frame_equal(MARKET.bars(few, start, end, end), whole.filter(pl.col("symbol").is_in(few)))


def test_a_schedule_has_every_kind_of_fault_and_is_over_in_time():
    faults = [random_faults(SimMarket(seed=seed), seed, MARKET.sessions[150]) for seed in range(4)]
    everything = {cls.__name__ for cls in _leaves(Fault) if cls.__module__.endswith((".faults", ".bars"))}
    everything.remove("FrozenFeed")  # of the recorded stores; in a schedule `Frozen` is that fault
    assert set().union(*map(kinds, faults)) == everything
    lasting = [{fault.until for fault in some if fault.until > MARKET.sessions[-QUIET_END]} for some in faults]
    assert lasting == [{date.max}] * 4  # what the vendor never puts right
    again = random_faults(SimMarket(seed=0), 0, MARKET.sessions[150])
    assert list(map(str, faults[0])) == list(map(str, again))  # a NaN is not equal to itself


def _leaves(cls: type) -> set[type]:
    return {cls} - {Fault} | {leaf for sub in cls.__subclasses__() for leaf in _leaves(sub)}


def test_a_vendor_errs_while_a_fault_is_on():
    days = MARKET.sessions
    faults = [LostDays("SPLT0", (days[10],), start=days[11], until=days[12]), LateCorrection("DIVD0", days[10])]
    vendor = SimVendor(MARKET, faults)
    request = FetchRequest(("DIVD0", "SPLT0", "NONE"), days[9], days[10])
    true = MARKET.bars(["DIVD0", "SPLT0"], days[9], days[10], days[11])
    for vendor.today, rows in ((days[11], 3), (days[12], 4)):
        answer = vendor.fetch(request)
        assert answer.frame.height == rows
        assert answer.outcomes["NONE"] is Outcome.NOT_FOUND
        assert answer.frame["volume"].sum() < true["volume"].sum()


def test_garbage_is_of_the_symbol_it_names():
    vendor = SimVendor(MARKET, [Garbage("nan", "SPLT0")], today=MARKET.last)
    frame = vendor.fetch(FetchRequest(("DIVD0", "SPLT0"), MARKET.last, MARKET.last)).frame
    assert frame.select("symbol", pl.col("close").is_nan()).rows() == [("DIVD0", False), ("SPLT0", True)]


def test_members_are_those_of_their_time():
    market = SimMarket(symbols=(SimListing("OLD", last=date(2010, 6, 1)), SimListing("NEW", first=date(2010, 7, 1))))
    assert market.members(None, date(2010, 6, 1)) == ["OLD"]
    assert market.members(date(2010, 6, 2), None) == ["NEW"]
