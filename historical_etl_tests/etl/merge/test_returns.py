"""`ret` of one month against loops: predecessors from before the month, nulls, and months without adj_close."""

from datetime import date

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from historical_etl.etl.merge.returns import PRICES, last_rows, with_returns
from historical_etl_tests.scenario import COLUMNS, KEYS, SHORT, sessions, with_naive_returns
from historical_etl_tests.shares import examples

DAYS = sessions(date(2012, 12, 27), date(2013, 1, 8))
row = st.tuples(st.sampled_from([1.0, 3.0, 0.7]), st.sampled_from([None, None, 1.0, 2.0]))
rows = st.dictionaries(st.tuples(st.sampled_from(DAYS), st.sampled_from(["A", "B"])), row, min_size=1)


def frame_of(table) -> pl.DataFrame:
    records = [
        {"date": day, "symbol": symbol, "close": close, "volume": 1.0, "adj_close": adj}
        for (day, symbol), (close, adj) in table.items()
    ]
    return pl.DataFrame(records, schema=COLUMNS).sort("symbol", "date")


@given(rows)
@settings(max_examples=examples(60))
def test_ret_of_a_month_equals_the_loops(table):
    everything = frame_of(table)
    before = everything.filter(pl.col("date") < date(2013, 1, 1))
    month = everything.filter(pl.col("date") >= date(2013, 1, 1))
    expected = with_naive_returns(everything).filter(pl.col("date") >= date(2013, 1, 1))
    assert_frame_equal(with_returns(month, last_rows(before), None).sort(KEYS), expected, check_exact=True)


@given(rows)
@settings(max_examples=examples(30))
def test_an_unknown_predecessor_leaves_the_stored_ret_of_an_equal_first_row(table):
    everything = frame_of(table)
    month = everything.filter(pl.col("date") >= date(2013, 1, 1))
    known = everything.filter(pl.col("date") < date(2013, 1, 1))
    stored = with_returns(month, last_rows(known), None)
    again = with_returns(month, pl.DataFrame(schema={name: COLUMNS[name] for name in PRICES}), stored)
    assert_frame_equal(again, stored, check_exact=True)


def test_a_split_does_not_show_in_ret_and_shows_in_close():
    """SPLT halves its price on 2 January 2013."""
    days = SHORT.expected(["SPLT"], date(2012, 12, 31), date(2013, 1, 2))
    last, first = days.rows(named=True)
    assert first["close"] / last["close"] < 0.6
    assert 0.9 < first["adj_close"] / last["adj_close"] < 1.1
    assert first["ret"] == first["adj_close"] / last["adj_close"] - 1


def test_one_missing_adj_close_mixes_no_price_bases():
    table = {(DAYS[i], "A"): (10.0, None if i == 4 else 5.0) for i in range(3, 7)}
    ret = with_returns(frame_of(table), frame_of(table).clear().select(PRICES), None)["ret"].to_list()
    assert ret == [None, None, None, 0.0]
