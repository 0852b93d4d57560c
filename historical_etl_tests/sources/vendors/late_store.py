"""A store filled and updated daily from Alpaca, which names dividends days to weeks after their ex-date.

    python -m historical_etl_tests.sources.vendors.late_store

runs 30 symbols and three years, then daily updates until all is processed, in each way in which it may adjust, and
prints what was asked, given and held.
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from historical_etl.sources.base import ACTIONS
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket, with_returns
from historical_etl_tests.scenario import KEYS, sessions, store, stored
from historical_etl_tests.sources.vendors.loopback import Clockwork, Loopback, Truth
from historical_etl_tests.sources.vendors.whole_store import truth_of
from historical_etl_tests.sources.vendors.wires.alpaca import ANNOUNCED, processed

__all__ = ["WAYS", "Life", "Way", "lived", "paying_market"]


@dataclass(frozen=True)
class Way:
    """How the vendor deals with a dividend that is not processed yet.

    Attributes:
        at_once: whether `adjustment=all` knows it on its ex-date; else from its processing on.
        announces: whether it is named before.
    """

    at_once: bool
    announces: bool


WAYS = tuple(Way(at_once, announces) for at_once in (True, False) for announces in (True, False))


@dataclass
class Life:
    """What a store was given, and what it asked for."""

    backfill_asked: int = 0
    asked: dict[date, int] = field(default_factory=dict[date, int])
    held: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    named: dict[tuple[str, date], date] = field(default_factory=dict[tuple[str, date], date])


def paying_market(symbols: int, first: date, last: date) -> SimMarket:
    """Listings that pay 0.1 to 1.5 % each quarter, the last time some weeks before the end; a few split."""
    days = sessions(first, last)
    listings = [
        SimListing(
            f"PAY{number:02d}",
            splits=((days[len(days) // 2], 2.0),) if number % 5 == 2 else (),
            dividends=tuple(
                (day, 0.001 + 0.0015 * (number % 10)) for day in days[10 + 9 * number % 63 : len(days) - 30 : 63]
            ),
        )
        for number in range(symbols)
    ]
    return SimMarket(seed=5, symbols=tuple(listings), first=first, last=last)


def known(server: Loopback, whole: Truth, day: date, way: Way) -> Truth:
    """What the vendor knows on the evening of a day."""
    rows = whole.actions.to_dicts()
    is_processed = [row["split"] != 1 or processed(server, row["symbol"], row["date"]) <= day for row in rows]
    by_now = [row["date"] <= day for row in rows]
    counted = [
        row for row, known, now in zip(rows, is_processed, by_now, strict=True) if now and (known or way.at_once)
    ]
    named = [row for row in rows if row["date"] <= day + ANNOUNCED]
    bars = whole.bars.filter(pl.col("date") <= day)
    adjusted = Truth(bars, pl.DataFrame(counted, schema=ACTIONS)).adjusted()
    return replace(adjusted, actions=pl.DataFrame(named, schema=ACTIONS))


def lived(
    market: SimMarket,
    way: Way,
    root: Path,
    *,
    backfilled: date,
    delays: Callable[[str, date], int] | None = None,
) -> Life:
    """Backfill up to a day and update on each one after it; fails unless the store ends as the truth."""
    whole, life = truth_of(market), Life()
    with Loopback(whole, delays=delays, announces=way.announces) as server:

        def evening(day: date):
            server.now = datetime(day.year, day.month, day.day, 23, tzinfo=UTC)
            server.truth = known(server, whole, day, way)
            source = server.source("alpaca", state_folder=root / "state", pace=Clockwork(server.now).pace)
            return store(root / "data", source, day)

        etl = evening(backfilled)
        result = etl.run_full_etl(whole.symbols, market.first, backfilled)
        assert result.complete, result.details
        life.backfill_asked = server.asked.total()
        life.warnings += result.warnings
        for day in [day for day in market.sessions if day > backfilled]:
            before = server.asked.total()
            etl = evening(day)
            result = etl.run_incremental_etl()
            life.asked[day] = server.asked.total() - before
            life.held += [f"{day} {symbol}" for symbol in result.held]
            life.warnings += result.warnings
            for symbol, on in etl.ledger("actions").filter(~pl.col("inferred")).select("symbol", "date").iter_rows():
                life.named.setdefault((symbol, on), day)
        expected = whole.adjusted().expected("alpaca").drop("ret")
        assert_frame_equal(stored(etl), with_returns(expected).sort(KEYS), check_exact=False, rel_tol=1e-12)
        actions = etl.ledger("actions").filter(pl.col("date") > market.first)
        assert_frame_equal(actions.select(ACTIONS.names()), whole.actions.sort("symbol", "date"), rel_tol=1e-12)
        assert actions.filter(pl.col("inferred") | pl.col("unexplained") | pl.col("note").is_not_null()).is_empty()
        assert etl.holds().is_empty()
        return life


def main() -> None:
    """All ways at full size."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    market = paying_market(30, date(2021, 6, 1), date(2024, 5, 31))
    backfilled = market.sessions[-60]
    print("at once, announced   backfill: asked   a day: asked, most   held   warnings   seconds")
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            life = lived(market, way, Path(folder), backfilled=backfilled)
            asked = list(life.asked.values())
            facts = f"{life.backfill_asked:4d} {sum(asked) / len(asked):8.1f} {max(asked):4d} {len(life.held):4d}"
            print(f"{way.at_once!s:5s} {way.announces!s:5s} {facts} {len(life.warnings):4d}", end=" ")
            print(f"{time.perf_counter() - began:6.1f}", *life.warnings[:3], sep="\n    ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
