"""The verdict on a batch: good rows, bad rows with reasons, and symbols that cannot be trusted at all."""

from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import SchemaDriftError
from historical_etl.quality.batch import judge_batch
from historical_etl.quality.rules import conform
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
    assert verdict.by_reason() == {}


def test_equal_duplicates_are_one_row():
    verdict = judge(doubling("HALT", date(2013, 1, 15)), doubling("HALT", date(2013, 1, 15)))
    assert verdict.accepted.height == 42
    assert verdict.rejected.is_empty()


@pytest.mark.parametrize("column", ["open", "close", "volume", "adj_close"])
def test_unequal_duplicates_refuse_the_symbol_whatever_column_differs(column):
    day = date(2013, 1, 15)
    value = SHORT.bars(["HALT"], day, day)[column][0] * 1.0001
    verdict = judge(doubling("HALT", day, **{column: value}, high=9e6, low=0.001))
    assert verdict.refused == {"HALT": "1 key(s) came twice with different values"}
    assert set(verdict.accepted["symbol"]) == {"BRK.B"}
    assert verdict.rejected.height == 22
    assert verdict.by_reason() == {"batch_refused": 22}


def test_a_null_beside_a_value_is_a_difference():
    verdict = judge(doubling("HALT", date(2013, 1, 15), open=None))
    assert list(verdict.refused) == ["HALT"]


def test_one_bad_row_never_refuses_a_batch():
    verdict = judge(changing("HALT", date(2013, 1, 15), close=-1.0), share=0.0)
    assert verdict.refused == {}
    assert verdict.accepted.height == 41
    assert verdict.by_reason()["not_positive"] == 1


def test_more_bad_rows_than_allowed_refuse_the_batch_and_it_is_said_in_words():
    bad = [changing("HALT", day, close=-1.0) for day in (date(2013, 1, 15), date(2013, 1, 16))]
    verdict = judge(*bad)
    assert verdict.refused == {"HALT": "2 of 21 rows are bad, more than 5%"}
    assert set(verdict.accepted["symbol"]) == {"BRK.B"}
    reasons = dict(verdict.rejected.select("date", "reasons").rows())
    assert "batch_refused" not in reasons[date(2013, 1, 15)]
    assert reasons[date(2013, 1, 17)] == ["batch_refused"]
    assert judge(*bad, share=2 / 21).refused == {}


def test_what_was_not_asked_for_is_set_aside_but_not_held_against_the_batch():
    verdict = judge(
        *(adding(date=day, symbol="OTHER") for day in DAYS),
        *(adding(date=day, symbol="HALT") for day in sessions(date(2013, 2, 1), date(2013, 2, 15))),
    )
    assert verdict.refused == {}
    assert verdict.accepted.height == 42
    assert verdict.by_reason() == {"not_requested": 21, "outside_window": 11}


def test_rows_without_a_key_are_set_aside():
    verdict = judge(
        changing("BRK.B", date(2013, 1, 15), date=None),
        lambda bars: bars.with_columns(
            pl.when(pl.col("date") == date(2013, 1, 16)).then(None).otherwise("symbol").alias("symbol")
        ),
    )
    assert verdict.by_reason()["null_key"] == 3
    assert verdict.accepted.height == 39


def test_a_row_names_every_rule_it_broke():
    verdict = judge(changing("HALT", date(2013, 1, 15), close=-1.0, volume=-1.0))
    assert verdict.rejected["reasons"].to_list() == [["not_positive", "high_low", "negative_volume"]]


def test_symbols_are_written_one_way():
    frame = pl.DataFrame({"date": [START], "symbol": [" brk.b "], "close": [1], "volume": [2]})
    clean = conform(frame, "test")
    assert clean["symbol"].to_list() == ["BRK.B"]
    assert dict(clean.schema) == COLUMNS
    assert clean.select("open", "ret").null_count().row(0) == (1, 1)


def test_a_computed_ret_from_a_source_is_not_believed():
    frame = SHORT.bars(ASKED, START, END).with_columns(pl.lit(0.5).alias("ret"))
    assert conform(frame, "test")["ret"].null_count() == frame.height


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
