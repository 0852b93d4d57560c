"""The order of rows: by symbol, then date, whatever the dates, and rows of one key stay in the order they arrived."""

from datetime import date

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from historical_etl.schema import is_ordered, ordered, spans_in, together

keys = st.tuples(
    st.dates(date(1900, 1, 1), date(2050, 12, 31)) | st.sampled_from([date(1969, 12, 31), date(1970, 1, 1)]),
    st.sampled_from(["A", "A.B", "AB", "B-A", "B.A", "Z9", "9"]),
)


def frame_of(rows: list[tuple[date, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"date": pl.Date, "symbol": pl.String}, orient="row").with_row_index("came")


@given(st.lists(keys, max_size=30))
def test_rows_are_ordered_by_symbol_and_date_and_stay_in_place_otherwise(rows):
    frame = frame_of(rows + rows[:3])
    expected = frame.sort("symbol", "date", maintain_order=True)
    assert ordered(frame).equals(expected)
    assert is_ordered(expected)
    assert is_ordered(frame) == frame.select("symbol", "date").equals(expected.select("symbol", "date"))


@given(st.lists(st.lists(keys, max_size=20), min_size=1, max_size=3))
def test_parts_in_order_are_in_order_together(parts):
    frames = [ordered(frame_of(part)) for part in parts]
    assert together(frames).equals(pl.concat(frames).sort("symbol", "date", maintain_order=True))


@given(st.lists(keys, max_size=30))
def test_the_span_of_a_symbol_is_that_of_all_its_rows(rows):
    frame = ordered(frame_of(rows))
    first, last = pl.col("date").min().alias("first"), pl.col("date").max().alias("last")
    expected = frame.group_by("symbol").agg(first, last, pl.len().cast(pl.Int64).alias("rows")).sort("symbol")
    assert spans_in(frame).equals(expected)
