"""The verdict on any batch: every row is accepted, one of two equal ones, or set aside with a reason."""

import math
from collections import Counter
from datetime import date
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from historical_etl.quality.batch import judge_batch
from historical_etl_tests.scenario import COLUMNS, sessions

START, END = date(2012, 12, 24), date(2013, 1, 4)
SESSIONS = sessions(START, END)
ASKED = ["A", "B.C"]

day = st.sampled_from([None, date(2012, 12, 21), *SESSIONS, date(2012, 12, 25), date(2012, 12, 29), date(2013, 1, 7)])
symbol = st.sampled_from([None, "A", "A", "B.C", "OTHER"])
price = st.sampled_from([10.0] * 12 + [10.5, 9.5, None, 0.0, -1.0, math.nan, math.inf])
volume = st.sampled_from([5.0] * 8 + [0.0, -0.0, -1.0, None, math.nan, -math.inf])
row = st.tuples(day, symbol, price, price, price, price, volume, st.none(), price)
frames = st.lists(row, max_size=25).map(lambda rows: pl.DataFrame(rows, schema=COLUMNS, orient="row"))
good_row = st.tuples(st.sampled_from(SESSIONS), st.sampled_from(ASKED), st.just(10.0), st.sampled_from([5.0, 6.0]))
good_frames = st.lists(good_row, max_size=20).map(
    lambda rows: pl.DataFrame([(d, s, c, c, c, c, v, None, None) for d, s, c, v in rows], schema=COLUMNS, orient="row")
)


def judge(frame: pl.DataFrame, share: float):
    return judge_batch(
        frame, symbols=ASKED, start=START, end=END, sessions=pl.Series(SESSIONS), max_rejected_share=share
    )


def counted(frame: pl.DataFrame) -> Counter[tuple[object, ...]]:
    """Rows with how often they come; NaN equals itself here."""
    return Counter(
        tuple("nan" if isinstance(v, float) and math.isnan(v) else v for v in r)
        for r in frame.select(list(COLUMNS)).rows()
    )


def is_good(r: dict[str, Any]) -> bool:
    """The rules of CONTRACTS.md, as one would say them."""
    prices = [r[name] for name in ("open", "high", "low", "close", "adj_close") if r[name] is not None]
    high = math.inf if r["high"] is None else r["high"] * (1 + 1e-6)
    low = 0.0 if r["low"] is None else r["low"] * (1 - 1e-6)
    return (
        r["date"] in SESSIONS
        and r["symbol"] in ASKED
        and r["close"] is not None
        and r["volume"] is not None
        and 0 <= r["volume"] < math.inf
        and all(0 < p < math.inf for p in prices)
        and low <= high
        and all(low <= r[name] <= high for name in ("open", "close") if r[name] is not None)
    )


@given(frames, st.sampled_from([0.0, 0.05, 0.5, 1.0]), st.booleans())
@settings(deadline=None, max_examples=150)
def test_no_row_vanishes_and_none_is_let_in_by_mistake(frame, share, twice):
    frame = pl.concat([frame, frame.head(3)]) if twice else frame
    verdict = judge(frame, share)
    given_rows, accepted, rejected = counted(frame), counted(verdict.accepted), counted(verdict.rejected)

    assert set(accepted) | set(rejected) == set(given_rows)
    assert not set(accepted) & set(rejected)
    assert set(accepted.values()) <= {1}
    assert all(rejected[key] <= given_rows[key] for key in rejected)
    assert all(is_good(r) for r in verdict.accepted.iter_rows(named=True))
    assert verdict.accepted.select("date", "symbol").is_unique().all()
    assert verdict.accepted.equals(verdict.accepted.sort("symbol", "date"))
    assert not set(verdict.refused) & set(verdict.accepted["symbol"])
    for r in verdict.rejected.iter_rows(named=True):
        assert r["reasons"]
        assert is_good(r) == (r["reasons"] == ["batch_refused"]), r
        if r["reasons"] == ["batch_refused"]:
            assert r["symbol"] in verdict.refused


@given(good_frames, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_order_of_rows_does_not_matter(frame, shuffled):
    """Equal rows collapse; a key with two volumes refuses its symbol, in whatever order they come."""
    order = list(range(frame.height))
    shuffled.shuffle(order)
    one, two = judge(frame, 0.05), judge(frame[order] if order else frame, 0.05)
    assert one.accepted.equals(two.accepted)
    assert one.refused == two.refused
    assert counted(one.rejected) == counted(two.rejected)
    volumes: dict[tuple[str, date], set[float]] = {}
    for r in frame.iter_rows(named=True):
        volumes.setdefault((r["symbol"], r["date"]), set()).add(r["volume"])
    assert set(one.refused) == {symbol for (symbol, _), seen in volumes.items() if len(seen) > 1}
