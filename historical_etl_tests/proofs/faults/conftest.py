"""A small market around a year's end, and the life of a store in it."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pytest

from historical_etl_tests.proofs.faults.stage import FIRST, LAST, PLAIN, SINCE
from historical_etl_tests.proofs.simulation.faults import Fault
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket, Style
from historical_etl_tests.proofs.simulation.run import Life
from historical_etl_tests.proofs.simulation.vendor import SimFetcher, SimVendor

Stage = Callable[..., Life]


@pytest.fixture
def stage(root: Path) -> Stage:
    """Make a market of some listings beside six plain ones, and backfill it on the evening of `SINCE`."""

    def make(
        *listings: SimListing,
        faults: Sequence[Fault] = (),
        style: Style = "raw",
        names_actions: bool = False,
        forgets: int | None = None,
        last: date = LAST,
        plain: bool = False,
        **options: object,
    ) -> Life:
        market = SimMarket(seed=4, symbols=(*PLAIN, *listings), first=FIRST, last=last)
        vendor = SimVendor(market, faults, style, names_actions, forgets)
        fetcher = SimFetcher(vendor) if plain else None
        life = Life(root, vendor, fetcher=fetcher, person=None, **options)
        life.backfill(SINCE)
        return life

    return make
