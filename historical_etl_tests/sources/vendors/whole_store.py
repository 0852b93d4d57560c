"""A store filled from a vendor's real client over loopback, while a share of the requests fails.

    python -m historical_etl_tests.sources.vendors.whole_store

runs every vendor with 30 symbols and ten years, then five daily increments, and prints what was asked. Then it does so
with three years of symbols that are halted when something happens to them.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from historical_etl import HistoricalETL
from historical_etl.sources.vendors.throttle import Pace
from historical_etl_tests.proofs.simulation.market import BAR_COLUMNS, SimListing, SimMarket, with_returns
from historical_etl_tests.scenario import KEYS, sessions, store, stored
from historical_etl_tests.sources.vendors.loopback import VENDORS, Faults, Loopback, Truth

__all__ = ["Counts", "filled", "halted_on_events", "market_of", "truth_of"]


LAST = date(2025, 12, 31)


@dataclass(frozen=True)
class Counts:
    """What a vendor was asked: `units` is what the backfill needs at least, one for each symbol and kind of data."""

    units: int
    backfill_asked: int
    backfill_served: int
    increments_asked: int
    repeated: dict[str, int]


def market_of(symbols: int, first: date, last: date) -> SimMarket:
    """Listings with a split in the middle, one inside the last days, and dividends; without faults of their own."""
    days = sessions(first, last)
    middle, late = days[len(days) // 2], days[-4]
    listings = tuple(
        SimListing(
            f"SYM{number:02d}",
            first=days[30] if number % 7 == 3 else None,
            splits=((late, 2.0),) if number == 1 else ((middle, 2.0),) if number % 5 == 2 else (),
            dividends=((days[-3], 0.01),) if number == 0 else ((days[90], 0.02),) if number % 3 == 0 else (),
        )
        for number in range(symbols)
    )
    return SimMarket(seed=3, symbols=listings, first=first, last=last)


def truth_of(market: SimMarket) -> Truth:
    """All that happens in a market, as the server's truth."""
    bars = market.bars(market.names, market.first, market.last, as_of=market.last)
    bars = bars.select(BAR_COLUMNS).with_columns(pl.lit(None, pl.Float64).alias("adj_close"))
    return Truth(bars, market.actions(market.names, market.first, market.last))


def halted_on_events(truth: Truth) -> Truth:
    """The truth without the bars of days on which something happens, of every second symbol, and of the day before."""
    halts = truth.actions.filter(pl.col("symbol").str.slice(3).cast(pl.Int32) % 4 < 2).select("symbol", "date")
    days = pl.Series("date", sorted(set(truth.bars["date"])))
    before = pl.DataFrame({"date": days, "earlier": days.shift(1)})
    long = halts.filter(pl.col("symbol").str.slice(3).cast(pl.Int32) % 4 == 0).join(before, on="date")
    lacking = pl.concat([halts, long.select("symbol", date="earlier")])
    return Truth(truth.bars.join(lacking, on=["symbol", "date"], how="anti"), truth.actions)


def filled(
    market: SimMarket,
    vendor: str,
    root: Path,
    state: Path,
    *,
    backfilled: date,
    share: float,
    change: Callable[[Truth], Truth] = lambda truth: truth,
) -> Counts:
    """Backfill up to a day and update on each one after it; fails unless the store ends as the truth.

    `change` makes another truth of what happens in the market.
    """
    whole = change(truth_of(market))
    with Loopback(whole.until(backfilled), faults=Faults(share), retry_after="0") as server:
        # Nobody waits for the minute that a vendor means with a 429.
        source = server.source(vendor, state_folder=state, attempts=6, pace=Pace(sleep=lambda _: None))
        etl = store(root, source, backfilled)
        names = server.truth.symbols
        result = etl.run_full_etl(names, market.first, backfilled)
        assert result.complete, result.details
        asked, served, repeated = server.asked.total(), len(server.served), server.repeated()
        for day in [day for day in market.sessions if day > backfilled]:
            server.truth = whole.until(day)
            result = store(root, source, day).run_incremental_etl()
            assert not result.held, result.held
        expected = server.truth.expected(vendor).drop("ret")
        assert_frame_equal(stored(etl), with_returns(expected).sort(KEYS), check_exact=False, rel_tol=1e-12)
        check_events(etl, server.truth, vendor)
        kinds = {"eodhd": 3, "yfinance": 3, "alpaca": 1}.get(vendor, 1)
        return Counts(kinds * len(names) + 3, asked, served, server.asked.total() - asked, repeated)


def check_events(etl: HistoricalETL, truth: Truth, vendor: str) -> None:
    """The ledger has every event on its date; those that a vendor can only tell beside a bar are inferred from it."""
    names = ["symbol", "date", "split", "dividend"]
    happened = truth.expected_actions(vendor)
    on_bars = happened.join(truth.bars, on=["symbol", "date"], how="semi")
    ledger = etl.ledger("actions").sort("symbol", "date")
    assert not ledger["unexplained"].any()
    named = ledger.filter(~pl.col("inferred")).select(names)
    reported = on_bars if vendor == "tiingo" else happened
    assert_frame_equal(named, reported, check_exact=False, rel_tol=1e-12)
    assert ledger.filter("inferred").height == happened.height - reported.height


def main() -> None:
    """Every vendor at full size, then those that are asked by symbol with halts."""
    print("vendor     backfill: asked, units served, repeated   five increments: asked   seconds")
    decade, three_years = market_of(30, date(2016, 1, 4), LAST), market_of(30, date(2023, 1, 3), LAST)
    for vendor in VENDORS:
        show(decade, vendor)
    print("symbols that are halted when something happens to them")
    for vendor in ("tiingo", "yfinance"):
        show(three_years, vendor, change=halted_on_events)


def show(market: SimMarket, vendor: str, **options: Callable[[Truth], Truth]) -> None:
    """Fill a store, and print what was asked."""
    with tempfile.TemporaryDirectory() as folder:
        root, state, began = Path(folder) / "data", Path(folder), time.perf_counter()
        counts = filled(market, vendor, root, state, backfilled=market.sessions[-6], share=0.2, **options)
        spent = time.perf_counter() - began
        facts = f"{counts.backfill_asked:5d} {counts.backfill_served:5d} {len(counts.repeated):3d}"
        print(f"{vendor:10s} {facts} {counts.increments_asked:24d} {spent:20.1f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
