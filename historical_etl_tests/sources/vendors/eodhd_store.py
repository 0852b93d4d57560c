"""A store filled from EODHD by accounts of several plans, while events are named some days after their ex-date.

    python -m historical_etl_tests.sources.vendors.eodhd_store

runs 30 symbols over three years, then ten daily increments, with each plan, and prints what was asked.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from historical_etl import CoverageError, HistoricalETLError
from historical_etl.store.ledgers import read_ledger
from historical_etl_tests.proofs.simulation.market import SimMarket, with_returns
from historical_etl_tests.scenario import KEYS, current_manifest, store, stored
from historical_etl_tests.sources.vendors.loopback import Clockwork, Faults, Loopback, Truth
from historical_etl_tests.sources.vendors.whole_store import market_of, truth_of

__all__ = ["PLANS", "Filled", "filled"]

PLANS = ("", "free", "free, apart", "free, events")


@dataclass(frozen=True)
class Filled:
    """What became of a store.

    Attributes:
        first: the first day that the plan gave when it was backfilled; None: all.
        failed: what was raised of years that it does not give.
        notes: what runs reported.
        asked: how many requests the backfill made.
        increments: how many requests the increments made.
        held: symbols that an increment held for a time, and why.
        actions: the ledger of events.
        truth: what the server held in the end.
    """

    first: date | None
    failed: HistoricalETLError | None
    notes: tuple[str, ...]
    asked: int
    increments: int
    held: dict[str, str]
    actions: pl.DataFrame
    truth: Truth


def filled(
    market: SimMarket, root: Path, state: Path, *, backfilled: date, plan: str, late: int = 0, share: float = 0.0
) -> Filled:
    """Backfill up to a day and update on each one after it; fails unless the store ends as the truth.

    Args:
        market: what happens.
        root: of the store.
        state: where requests are counted and what is known of the plan.
        backfilled: the last day of the backfill.
        plan: of the account.
        late: so many days after its ex-date an event is named, and adjusted for.
        share: of requests that fail.
    """
    whole = truth_of(market)
    clock = Clockwork(_evening(backfilled))
    days = [day for day in market.sessions if day > backfilled]
    with Loopback(_known(whole, backfilled, late), plan=plan, faults=Faults(share), now=clock.moment) as server:
        source = server.source("eodhd", state_folder=state, attempts=6, pace=clock.pace)
        etl = store(root, source, backfilled)
        failed, notes, held = None, list[str](), list[dict[str, str]]()
        try:
            notes += etl.run_full_etl(server.truth.symbols, market.first, backfilled).notes
        except CoverageError as error:
            failed = error
        first, asked = (source.info.coverage.first if source.info.coverage else None), server.asked.total()
        for day in days:
            server.truth, clock.moment = _known(whole, day, late), _evening(day)
            server.now = clock.moment
            result = store(root, source, day).run_incremental_etl()
            notes += result.notes
            held.append(result.held)
        assert not held[-1], held[-1]
        _assert_equal(stored(etl), server.truth, first, printable=plan in {"free", "free, apart"})
        ledger = read_ledger(etl.layout, current_manifest(etl), "actions")
        source.close()
        increments = server.asked.total() - asked
        waited = {symbol: why for found in held for symbol, why in found.items()}
        return Filled(first, failed, tuple(dict.fromkeys(notes)), asked, increments, waited, ledger, server.truth)


def _assert_equal(frame: pl.DataFrame, truth: Truth, first: date | None, *, printable: bool) -> None:
    """`printable`: the plan gives no splits, so that volumes are as the vendor tells them."""
    expected = truth.expected("eodhd", start=first or date.min, printable=printable).drop("ret")
    assert_frame_equal(frame, with_returns(expected).sort(KEYS), check_exact=False, rel_tol=1e-12)


def _known(whole: Truth, day: date, late: int) -> Truth:
    """What the vendor knows in the evening of a day."""
    named = whole.actions.filter(pl.col("date") <= day - timedelta(days=late))
    return Truth(whole.bars.filter(pl.col("date") <= day), named).adjusted()


def _evening(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 23, tzinfo=UTC)


def main(plans: Sequence[str] = PLANS) -> None:
    """Every plan at full size."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    market = market_of(30, date(2021, 1, 4), date(2023, 12, 29))
    backfilled = market.sessions[-11]
    for plan in plans:
        with tempfile.TemporaryDirectory() as folder:
            began, root = time.perf_counter(), Path(folder)
            found = filled(market, root / "data", root, backfilled=backfilled, plan=plan, late=0 if plan else 3)
            spent = time.perf_counter() - began
            asked = f"{found.asked} + {found.increments} requests"
            print(f"{plan or 'paid':12s} from {found.first}: {asked}, held {found.held}, {spent:.0f} s")
            print(f"    {found.failed}", *found.notes, sep="\n    ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
