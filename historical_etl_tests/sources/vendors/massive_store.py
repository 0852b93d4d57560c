"""A store filled from Massive's free plan: two years, no running day, dividends that are entered late.

    python -m historical_etl_tests.sources.vendors.massive_store

runs 30 symbols over three years: a backfill of all three, then an update on each evening until the last event has been
entered; it fails unless the store ends as the truth from the edge of the plan on, and prints what was asked.
"""

import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from historical_etl import CoverageError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket, with_returns
from historical_etl_tests.scenario import KEYS, sessions, store, stored
from historical_etl_tests.sources.vendors.loopback import Faults, Loopback, fixed_clock
from historical_etl_tests.sources.vendors.whole_store import truth_of

__all__ = ["Planned", "market_of", "planned"]

#: Days from an ex-date to the day on which the dividend is in the vendor's list.
LATEST = 25


@dataclass(frozen=True)
class Planned:
    """What was asked: of the backfill, of each evening's update, and what the plan withheld."""

    backfill_asked: int
    updates_asked: tuple[int, ...]
    repeated: dict[str, int]
    years_withheld: str


def market_of(symbols: int, first: date, last: date, evenings: int) -> SimMarket:
    """Listings with events before the edge of two years, after it, and among the last sessions; some begin or end."""
    days = sessions(first, last)
    late = days[-evenings + 2], days[-evenings + 11]
    listings = tuple(
        SimListing(
            f"SYM{number:02d}",
            first=days[-200] if number % 7 == 3 else None,
            last=days[-120] if number % 11 == 9 else None,
            splits=((days[-150], 2.0), (late[0], 3.0)) if number % 5 == 1 else (),
            dividends=tuple((day, 0.01) for day in (days[90], days[-180], days[-130], late[0], late[1]))
            if number % 3 == 2 and number % 11 != 9
            else (),
        )
        for number in range(symbols)
    )
    return SimMarket(seed=3, symbols=listings, first=first, last=last)


def delay(symbol: str, day: date) -> int:
    """How late a dividend is entered: two of three in time, the others by some days or weeks."""
    return (0, 0, 4, 0, 0, LATEST)[(day.toordinal() + int(symbol[3:])) % 6]


def planned(market: SimMarket, plan: str, root: Path, state: Path, *, evenings: int, share: float = 0.0) -> Planned:
    """Backfill until some sessions before the end, and update on each evening after that."""
    truth, days = truth_of(market), market.sessions
    begins = days[-evenings]
    with Loopback(truth, plan=plan, delays=delay, faults=Faults(share), retry_after="0") as server:

        def on(day: date, hour: int) -> HistoricalETL:
            server.now = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
            pace = fixed_clock(server.now).pace
            return store(root, server.source("massive", state_folder=state, attempts=6, pace=pace), day)

        etl = on(begins + timedelta(days=1), 16)
        withheld = ""
        try:
            etl.run_full_etl(market.names, market.first, begins)
        except CoverageError as error:
            withheld = "".join(error.__notes__)
        asked, repeated = server.asked.total(), server.repeated()
        counts: list[int] = []
        for day in days[days.index(begins) + 1 :]:
            server.asked.clear()
            result = on(day, 23).run_incremental_etl()
            assert not result.held, result.held
            counts.append(server.asked.total())
        etl = on(days[-1] + timedelta(days=1), 16)
        etl.run_incremental_etl()
        require_truth(etl, market, (begins + timedelta(days=1)).replace(year=begins.year - 2))
    return Planned(asked, tuple(counts), repeated, withheld)


def require_truth(etl: HistoricalETL, market: SimMarket, edge: date) -> None:
    """Fail unless bars and events are the truth's from the edge of the plan on."""
    truth = truth_of(market)
    bars = with_returns(truth.expected("massive", None, edge).drop("ret")).sort(KEYS)
    assert_frame_equal(stored(etl), bars, check_exact=False, rel_tol=1e-12)
    begins = bars.group_by("symbol").agg(pl.col("date").min().alias("first"))
    columns = ["symbol", "date", "split", "dividend"]
    named = etl.ledger("actions").filter(~pl.col("inferred")).select(columns)
    events = truth.actions.join(begins, on="symbol").filter(pl.col("date") > pl.col("first")).select(columns)
    named = named.join(begins, on="symbol").filter(pl.col("date") > pl.col("first")).select(columns)
    assert_frame_equal(named.sort(columns), events.sort(columns), rel_tol=1e-9)
    assert etl.gaps().is_empty()


def main() -> None:
    """Both ways in which a plan may cut, at full size."""
    market = market_of(30, date(2021, 6, 1), date(2024, 5, 31), 40)
    for plan in ("basic", "basic strict"):
        with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
            began = time.perf_counter()
            found = planned(market, plan, Path(folder) / "data", Path(folder), evenings=40, share=0.1)
            spent = time.perf_counter() - began
            print(f"{plan}: backfill asked {found.backfill_asked}, repeated {len(found.repeated)};")
            print(f"  updates asked {min(found.updates_asked)} to {max(found.updates_asked)} each;")
            print(f"  {found.years_withheld}  {spent:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
