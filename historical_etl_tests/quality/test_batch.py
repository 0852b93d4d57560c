"""The verdict on a batch: good rows, bad rows with reasons, and symbols that cannot be trusted at all."""

import math
from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import SchemaDriftError
from historical_etl.quality.batch_verdict import count_reasons, judge_batch
from historical_etl.quality.rules import conform
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import (
    COLUMNS,
    KEYS,
    SHORT,
    adding,
    changing,
    doubling,
    in_turn,
    sessions,
)

START, END = date(2013, 1, 2), date(2013, 1, 31)
DAYS = pl.Series(sessions(START, END))
ASKED = ("BRK.B", "HALT")


def judge(*alters, share: float = 0.05):
    frame = in_turn(*alters)(SHORT.bars(ASKED, START, END)).sample(fraction=1, shuffle=True, seed=11)
    return judge_batch(frame, symbols=ASKED, start=START, end=END, sessions=DAYS, max_rejected_share=share)


def test_good_rows_are_accepted_sorted():
    verdict = judge()
    assert_frame_equal(verdict.accepted, SHORT.bars(ASKED, START, END).sort("symbol", "date"))
    assert verdict.rejected.is_empty()
    assert verdict.rejected.schema == {**COLUMNS, "reasons": pl.List(pl.String)}
    assert verdict.refused == {}
    assert count_reasons(verdict.rejected) == {}


def test_equal_duplicates_are_one_row():
    verdict = judge(doubling("HALT", date(2013, 1, 15)), doubling("HALT", date(2013, 1, 15)))
    assert verdict.accepted.height == 42
    assert verdict.rejected.is_empty()


@pytest.mark.parametrize("column", ["open", "close", "volume", "adj_close"])
def test_unequal_duplicates_refuse_the_symbol_whatever_column_differs(column):
    day = date(2013, 1, 15)
    value = SHORT.bars(["HALT"], day, day)[column][0] * 1.0001
    verdict = judge(doubling("HALT", day, **{column: value}, high=9e6, low=0.001))
    assert verdict.refused == {"HALT": Saying("1 key", "twice", "different values")}
    assert set(verdict.accepted["symbol"]) == {"BRK.B"}
    assert verdict.rejected.height == 22
    assert count_reasons(verdict.rejected) == {"batch_refused": 22}


def test_a_null_beside_a_value_is_no_other_value():
    verdict = judge(doubling("HALT", date(2013, 1, 15), open=None, volume=None))
    assert verdict.refused == {}
    assert verdict.rejected.is_empty()
    assert_frame_equal(verdict.accepted, SHORT.bars(ASKED, START, END).sort("symbol", "date"))


def test_a_price_rounded_apart_is_the_same_price():
    day = date(2013, 1, 15)
    price = SHORT.bars(["HALT"], day, day)["adj_close"][0]
    verdict = judge(doubling("HALT", day, adj_close=price * (1 + 4e-8)), doubling("HALT", day, open=None))
    assert verdict.refused == {}
    assert_frame_equal(verdict.accepted, SHORT.bars(ASKED, START, END).sort("symbol", "date"), abs_tol=0, rel_tol=0)


def test_two_rows_that_each_have_what_the_other_lacks_are_not_put_together():
    day = date(2013, 1, 15)
    first = SHORT.bars(["HALT"], day, day)["open"][0]
    verdict = judge(changing("HALT", day, open=None), doubling("HALT", day, open=first, volume=None))
    assert list(verdict.refused) == ["HALT"]


def test_one_bad_row_never_refuses_a_batch():
    verdict = judge(changing("HALT", date(2013, 1, 15), close=-1.0), share=0.0)
    assert verdict.refused == {}
    assert verdict.accepted.height == 41
    assert count_reasons(verdict.rejected)["not_positive"] == 1


def test_more_bad_rows_than_allowed_refuse_the_batch_and_it_is_said_in_words():
    bad = [changing("HALT", day, close=-1.0) for day in (date(2013, 1, 15), date(2013, 1, 16))]
    verdict = judge(*bad)
    assert verdict.refused == {"HALT": Saying("2 of 21 rows", "5%")}
    assert set(verdict.accepted["symbol"]) == {"BRK.B"}
    reasons = dict(verdict.rejected.select("date", "reasons").rows())
    assert "batch_refused" not in reasons[date(2013, 1, 15)]
    assert reasons[date(2013, 1, 17)] == ["batch_refused"]
    assert judge(*bad, share=2 / 21).refused == {}


def test_what_was_not_asked_for_is_refused_but_not_held_against_the_batch():
    verdict = judge(
        *(adding(date=day, symbol="OTHER") for day in DAYS),
        *(adding(date=day, symbol="HALT") for day in sessions(date(2013, 2, 1), date(2013, 2, 15))),
    )
    assert verdict.refused == {}
    assert verdict.accepted.height == 42
    assert count_reasons(verdict.rejected) == {"not_requested": 21, "outside_window": 11}


def test_rows_without_a_key_are_refused():
    verdict = judge(
        changing("BRK.B", date(2013, 1, 15), date=None),
        lambda bars: bars.with_columns(
            pl.when(pl.col("date") == date(2013, 1, 16)).then(None).otherwise("symbol").alias("symbol")
        ),
    )
    assert count_reasons(verdict.rejected)["null_key"] == 3
    assert verdict.accepted.height == 39


def test_a_row_names_every_rule_it_broke():
    verdict = judge(changing("HALT", date(2013, 1, 15), close=-1.0, volume=-1.0))
    assert verdict.rejected["reasons"].to_list() == [["not_positive"]]
    verdict = judge(
        changing("HALT", date(2013, 1, 15), close=0.0), adding(date=date(2013, 1, 19), symbol="HALT", close=0)
    )
    assert sorted(verdict.rejected["reasons"].to_list()) == [
        ["no_close", "not_positive"],
        ["no_close", "not_positive", "off_session"],
    ]


def test_rows_of_a_refused_batch_are_refused_as_they_arrived():
    day, other = date(2013, 1, 15), date(2013, 1, 16)
    verdict = judge(changing("HALT", other, open=0.0), doubling("HALT", day, volume=1.0))
    assert list(verdict.refused) == ["HALT"]
    assert verdict.rejected.filter(date=other)["open"].to_list() == [0.0]
    assert verdict.flagged.is_empty()


def test_a_short_window_refuses_no_symbol_for_some_bad_rows():
    days = sessions(START, END)
    for last, refused in ((days[18], False), (days[19], True)):  # 19 and 20 rows
        bars = SHORT.bars(ASKED, START, last)
        frame = in_turn(*(changing("HALT", day, close=-1.0) for day in days[:5]))(bars)
        verdict = judge_batch(frame, symbols=ASKED, start=START, end=last, sessions=DAYS, max_rejected_share=0.05)
        assert ("HALT" in verdict.refused) is refused
        assert count_reasons(verdict.rejected)["not_positive"] == 5


def test_rows_without_a_session_or_a_price_count_for_no_share():
    phantom = [adding(date=date(2013, 1, day), symbol="HALT") for day in (5, 6, 12, 13, 19, 20, 26, 27)]
    empty = [
        changing("HALT", day, close=value) for day, value in zip(DAYS[:6], [None, 0.0, float("nan")] * 2, strict=True)
    ]
    verdict = judge(*phantom, *empty)
    assert verdict.refused == {}
    assert count_reasons(verdict.rejected) == {"off_session": 8, "no_close": 6, "not_positive": 2}
    assert verdict.accepted.height == 42 - 6


def test_a_close_alone_against_all_others_is_the_one_that_is_wrong():
    """Open, high and low agree with the sessions around: it is refused. Where the level moves with it, it is not."""
    day = date(2013, 1, 15)
    price = SHORT.bars(["HALT"], day, day)["close"][0]
    for factor in (100, 0.01, 10):
        verdict = judge(changing("HALT", day, close=price * factor))
        assert count_reasons(verdict.rejected) == {"wrong_close": 1}
        assert verdict.flagged.is_empty()
    later = [changing("HALT", d, open=1.0, high=1.0, low=1.0) for d in DAYS]
    verdict = judge(*later)
    assert verdict.rejected.is_empty()
    assert verdict.accepted.filter(symbol="HALT")["open"].null_count() == 21
    assert verdict.flagged["reasons"].explode().unique().to_list() == ["absurd_price"]


def test_symbols_are_written_one_way():
    frame = pl.DataFrame({"date": [START], "symbol": [" brk.b "], "close": [1], "volume": [2]})
    clean = conform(frame, "test")
    assert clean["symbol"].to_list() == ["BRK.B"]
    assert dict(clean.schema) == COLUMNS
    assert clean.select("open", "ret").null_count().row(0) == (1, 1)


def test_a_computed_ret_from_a_source_is_not_believed():
    frame = SHORT.bars(ASKED, START, END).with_columns(pl.lit(0.5).alias("ret"))
    assert conform(frame, "test")["ret"].null_count() == frame.height


def test_there_is_one_zero():
    """Else rows that are equal would be other bytes, by which of both was stored first."""
    frame = SHORT.bars(ASKED, START, END)
    clean = conform(frame.with_columns(volume=-0.0), "test")
    assert (1 / clean["volume"]).unique().to_list() == [math.inf]


@pytest.mark.parametrize(
    "frame", [pl.DataFrame(), pl.DataFrame(schema=COLUMNS), pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.Null))]
)
def test_no_rows_are_zero_rows_in_the_schema(frame):
    assert dict(conform(frame, "test").schema) == COLUMNS


def test_a_column_of_nulls_is_no_drift():
    frame = SHORT.bars(ASKED, START, END).with_columns(pl.lit(None).alias("adj_close"))
    assert conform(frame, "test").sort(KEYS)["adj_close"].dtype == pl.Float64


def test_a_time_of_day_is_never_dropped_silently():
    frame = SHORT.bars(ASKED, START, END)
    local = frame.with_columns(pl.col("date").cast(pl.Datetime).dt.replace_time_zone("America/New_York"))
    assert conform(local, "test").equals(frame)
    with pytest.raises(SchemaDriftError, match="midnight"):
        conform(local.with_columns(pl.col("date").dt.convert_time_zone("UTC")), "test")
