"""The verdict on any batch: every row is accepted, one of two equal ones, or refused with a reason."""

import math
from collections import Counter
from datetime import date
from typing import Any

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from historical_etl.quality.batch_verdict import judge_batch
from historical_etl_tests.scenario import COLUMNS, sessions
from historical_etl_tests.shares import examples

START, END = date(2012, 12, 24), date(2013, 1, 4)
SESSIONS = sessions(START, END)
ASKED = ["A", "B.C"]

day = st.sampled_from([None, date(2012, 12, 21), *SESSIONS, date(2012, 12, 25), date(2012, 12, 29), date(2013, 1, 7)])
symbol = st.sampled_from([None, "A", "A", "B.C", "OTHER"])
price = st.sampled_from([10.0] * 12 + [10.5, 9.5, 35.0, 90.0, 0.1, None, 0.0, -1.0, math.nan, math.inf])
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
    """Whether a row may be stored, as one would say it: it is of a session, was asked for, and has a close."""
    return r["date"] in SESSIONS and r["symbol"] in ASKED and r["close"] is not None and 0 < r["close"] < math.inf


def may_stay(r: dict[str, Any], name: str) -> bool:
    """Whether a number beside the close is one that can be."""
    value = r[name]
    if value is None:
        return True
    if name == "volume":
        return 0 <= value < math.inf
    return 0 < value < math.inf and (name == "adj_close" or value / r["close"] < 50)


def key(r: dict[str, Any]) -> tuple[object, ...]:
    return r["date"], r["symbol"], r["close"]


@given(frames, st.sampled_from([0.0, 0.05, 0.5, 1.0]), st.booleans())
@settings(max_examples=examples(150))
def test_no_row_vanishes_and_none_is_let_in_by_mistake(frame, share, twice):
    frame = pl.concat([frame, frame.head(3)]) if twice else frame
    verdict = judge(frame, share)
    fetched = list(frame.iter_rows(named=True))
    accepted, rejected = (list(rows.iter_rows(named=True)) for rows in (verdict.accepted, verdict.rejected))

    assert {str(key(r)) for r in fetched} == {str(key(r)) for r in [*accepted, *rejected]}
    assert verdict.accepted.select("date", "symbol").is_unique().all()
    assert verdict.accepted.equals(verdict.accepted.sort("symbol", "date"))
    assert not set(verdict.refused) & set(verdict.accepted["symbol"])
    for r in rejected:
        assert r["reasons"]
        assert is_good(r) == (r["reasons"] in (["batch_refused"], ["wrong_close"])), r
        if r["reasons"] == ["batch_refused"]:
            assert r["symbol"] in verdict.refused


@given(frames)
@settings(max_examples=examples(150))
def test_no_number_is_invented_and_what_is_left_out_is_reported(frame):
    """Each number of a stored bar arrived with it; each that arrived and is not stored is among the flagged rows."""
    verdict = judge(frame, 1.0)
    fetched: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for r in frame.iter_rows(named=True):
        fetched.setdefault(key(r), []).append(r)
    flagged = {key(r): r for r in verdict.flagged.iter_rows(named=True)}
    for r in verdict.accepted.iter_rows(named=True):
        assert is_good(r)
        for name in ("open", "high", "low", "volume", "adj_close"):
            given_values = {other[name] for other in fetched[key(r)]}
            assert may_stay(r, name)
            assert r[name] is None or r[name] in given_values
            lost = [v for v in given_values if v is not None and not math.isnan(v)]
            if r[name] is None and lost:
                assert key(r) in flagged
    for r in flagged.values():
        assert r["reasons"]
        assert any(r["close"] == other["close"] for other in fetched[key(r)])


#: Of open, high and low the first is left out for the second, and then the third is alone in being far off the close.
ALONE_THEN = pl.DataFrame(
    [(date(2012, 12, 24), "A", 10.5, 10.0, 10.0, 90.0, 5.0, None, 10.0)], schema=COLUMNS, orient="row"
)


@given(frames)
@example(ALONE_THEN)
@settings(max_examples=examples(60))
def test_what_was_judged_is_judged_no_other_way_again(frame):
    """Rows that may be stored may be stored, whatever they were cleaned of."""
    once = judge(frame, 1.0).accepted
    again = judge(once, 1.0)
    assert again.accepted.equals(once)
    assert again.rejected.is_empty()


@given(good_frames, st.randoms(use_true_random=False))
@settings(max_examples=examples(60))
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
