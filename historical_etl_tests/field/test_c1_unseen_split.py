"""C1: adj_close contains a split that nobody names, and the price did not move: no split, whatever its ratio."""

import pytest

from historical_etl_tests.proofs.faults.stage import FIRST, LAST, PLAIN, codes, count, day, is_true, of
from historical_etl_tests.proofs.simulation.bars import WrongDividend
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.proofs.simulation.run import Life
from historical_etl_tests.proofs.simulation.vendor import SimVendor

MARKET = SimMarket(seed=4, symbols=(*PLAIN, SimListing("SUBJ")), first=FIRST, last=LAST)


@pytest.mark.parametrize(("share", "style"), [(0.2, "raw"), (1 / 3, "raw"), (-0.25, "raw"), (0.2, "split_adjusted")])
def test_it_is_held_and_the_stored_history_stays(root, share, style):
    """5:4, 3:2 and 4:5."""
    wrong = WrongDividend("SUBJ", "phantom", day(5), share, 0.0, start=day(5), until=day(8))
    life = Life(root, SimVendor(MARKET, [wrong], style))
    life.backfill(day(0))
    life.through(day(6))
    assert set(codes(life.etl)) == {"SUBJ"}
    assert of(life.etl, "restatements", "SUBJ").is_empty()
    assert count(life.etl, "SUBJ") == len([d for d in MARKET.sessions if d <= day(4)])
    life.through(day(8))
    assert not codes(life.etl)
    is_true(life)
