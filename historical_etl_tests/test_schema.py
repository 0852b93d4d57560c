"""The order of rows: by symbol, then date, whatever the dates, and rows of one key stay in the order they arrived."""

from datetime import date

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from historical_etl.schema import is_ordered, ordered

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
