"""The whole of it: a market with every fault switched on, watched at every version, and equal to the truth in the end.

More seeds, and a large market: `make torture`.
"""

from datetime import date
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historical_etl_tests.proofs.property.test_order import folder
from historical_etl_tests.proofs.simulation.life import Life, Person
from historical_etl_tests.proofs.simulation.market import SimMarket, Style
from historical_etl_tests.proofs.simulation.run import whole_life
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import daily_bytes
from historical_etl_tests.shares import examples, number_of

#: How many markets there are.
MARKETS = 500
#: A year's end in the middle, and every kind of listing twice.
FIRST, LAST = date(2011, 9, 1), date(2012, 3, 30)
quick = settings(max_examples=examples(2))


@pytest.mark.slow
@pytest.mark.parametrize("style", ["raw", "split_adjusted"])
def test_a_store_outlives_every_fault(style):
    """In one of the markets that `make torture` has all of, here a smaller one."""
    whole_life(1 + number_of(style) % MARKETS, symbols=14, sessions=144, style=style)


@cache
def in_one_go(seed: int, style: Style) -> dict[str, bytes]:
    with folder() as root:
        life = life_of(seed, style, root)
        life.backfill(LAST)
        return settled(life)


def life_of(seed: int, style: Style, root: str) -> Life:
    market = SimMarket(seed=seed, symbols=20, first=FIRST, last=LAST)
    reported = {old: since for old, (_, since) in market.former.items()}
    return Life(Path(root), SimVendor(market, style=style), person=Person(reported))


def settled(life: Life) -> dict[str, bytes]:
    """The bytes once a person has joined the tickers that another company took over."""
    for symbol in life.etl.holds()["symbol"]:
        life.etl.accept(symbol, reason="another company", by="test")
    assert life.etl.scan().collect().height == life.vendor.market.table.height
    return daily_bytes(life.etl)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["raw", "split_adjusted"])
def test_days_one_by_one_leave_the_bytes_of_one_go(style):
    with folder() as root:
        life = life_of(5, style, root)
        life.backfill(life.vendor.market.sessions[70])
        life.through(LAST)
        assert life.etl.ledger("restatements").height > 5
        assert settled(life) == in_one_go(5, style)


@given(
    seed=st.sampled_from([5, 6]),
    style=st.sampled_from(["raw", "split_adjusted"]),
    filled=st.integers(20, 140),
    cuts=st.sets(st.integers(21, 144), max_size=5),
    year=st.sampled_from([None, 2011, 2012]),
)
@quick
def test_days_in_any_cuts_leave_the_bytes_of_one_go(seed, style, filled, cuts, year):
    """With restatements between, and a year backfilled again at some time."""
    with folder() as root:
        life = life_of(seed, style, root)
        sessions = life.vendor.market.sessions
        life.backfill(sessions[filled])
        for index in sorted(index for index in cuts if index > filled):
            life.through(sessions[index], evenings=[])
            if year is not None and sessions[index].year >= year:
                life.etl.run_year(year, publish=False)
                life.witness.look(life.etl)
        life.through(LAST, evenings=[])
        assert settled(life) == in_one_go(seed, style)
