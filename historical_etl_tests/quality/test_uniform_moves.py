"""A restatement too small for a level: distinguished from rounding and noise, which move each price by itself."""

import polars as pl
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from historical_etl.quality.overlap import compare_overlap
from historical_etl.quality.price_levels import LEVELS
from historical_etl.schema import SCHEMA
from historical_etl_tests.field.series import days
from historical_etl_tests.shares import examples

DECIMALS = st.sampled_from([2, 4, 6, None])
#: Closes of a few neighbouring sessions, from cents to thousands.
LINES = st.tuples(st.floats(0.5, 5000), st.lists(st.floats(-0.05, 0.05), min_size=1, max_size=7)).map(
    lambda of: [of[0] * (1 + move) for move in of[1]]
)
SHARES = st.floats(1e-6, 9.9e-5).flatmap(lambda share: st.sampled_from([share, -share]))


def rounded(prices: list[float], decimals: int | None) -> list[float]:
    return prices if decimals is None else [round(price, decimals) for price in prices]


def bars(close: list[float], adj_close: list[float] | list[None]) -> pl.DataFrame:
    rows = [("A", day, c, a, 100.0) for day, c, a in zip(days(len(close)), close, adj_close, strict=True)]
    return pl.DataFrame(rows, schema={name: SCHEMA[name] for name in LEVELS}, orient="row")


def moved(close: list[float], stored: list[float], fetched: list[float], *, adj: bool) -> bool:
    """Whether the history is looked at, with such adjusted closes, or closes of a source that has no others."""
    frames = [bars(close, line) if adj else bars(line, [None] * len(close)) for line in (fetched, stored)]
    found = compare_overlap(*frames)
    assert not found.suspects
    assert not found.single
    return "A" in found.moved


@given(close=LINES, share=SHARES, decimals=DECIMALS, adj=st.booleans(), factor=st.floats(0.1, 1))
@example(close=[1.0, 1.0], share=6.1e-5, decimals=6, adj=False, factor=1.0)
@settings(max_examples=examples(200))
def test_all_prices_times_one_ratio_are_another_history(close, share, decimals, adj, factor):
    unit = 0.0 if decimals is None else 10.0**-decimals
    true = [price * factor for price in close]
    stored, fetched = rounded(true, decimals), rounded([price * (1 + share) for price in true], decimals)
    assume(len(close) > 1 or all(abs(new / old - 1) < 9.9e-5 for new, old in zip(fetched, stored, strict=True)))
    assume(min(true) * abs(share) > 3.01 * unit + 4e-6 * max(true))
    assert moved(close, stored, fetched, adj=adj) == (len(close) > 1)


@given(close=LINES, data=st.data(), decimals=st.sampled_from([2, 3, 4]), adj=st.booleans())
@settings(max_examples=examples(200))
def test_what_rounding_makes_of_the_same_prices_is_none(close, data, decimals, adj):
    """A vendor computes adj_close anew, and the last digit of some, or of all of them, is another."""
    unit = 10.0**-decimals
    stored = rounded(close, decimals)
    assume(min(stored) > 1.2e4 * unit)
    steps = data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=len(close), max_size=len(close)))
    if data.draw(st.booleans()):
        steps = [1] * len(close)
    fetched = rounded([price + step * unit for price, step in zip(stored, steps, strict=True)], decimals)
    assert not moved(close, stored, fetched, adj=adj)


@given(close=LINES, data=st.data(), adj=st.booleans())
@settings(max_examples=examples(200))
def test_noise_of_single_precision_is_none(close, data, adj):
    noise = data.draw(st.lists(st.floats(-2.4e-7, 2.4e-7), min_size=len(close), max_size=len(close)))
    fetched = [price * (1 + off) for price, off in zip(close, noise, strict=True)]
    assert not moved(close, close, fetched, adj=adj)


@given(close=LINES, data=st.data(), decimals=DECIMALS)
@settings(max_examples=examples(100))
def test_corrections_by_different_ratios_are_none(close, data, decimals):
    some = st.floats(-9e-5, 9e-5).filter(lambda ratio: ratio != 0)
    ratios = data.draw(st.lists(some, min_size=len(close), max_size=len(close)))
    stored = rounded(close, decimals)
    fetched = rounded([price * (1 + ratio) for price, ratio in zip(stored, ratios, strict=True)], decimals)
    rounding = 2e-6 + (0.0 if decimals is None else 4 * 10.0**-decimals / min(close))
    assume(fetched[-1] != stored[-1])
    assume(max(ratios) - min(ratios) > rounding)
    assume(all(abs(new / old - 1) < 9.9e-5 for new, old in zip(fetched, stored, strict=True)))  # else it is a level
    assert not moved(close, stored, fetched, adj=True)
