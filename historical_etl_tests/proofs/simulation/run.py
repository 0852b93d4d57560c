"""Whole lives of stores in simulated markets: a backfill, then an increment each evening, watched at every version.

    python -m historical_etl_tests.proofs.simulation.run --seeds 500

lives through that many small markets with every fault switched on, in two processes, and says what it found.
"""

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import polars as pl

from historical_etl import FetchRequest, get_calendar
from historical_etl_tests.proofs.simulation.bars import OutsideRange, Spike, ZeroOpen, last_word
from historical_etl_tests.proofs.simulation.compare import Difference, compare
from historical_etl_tests.proofs.simulation.faults import LostDays, PhantomDays, View
from historical_etl_tests.proofs.simulation.life import Life, Person
from historical_etl_tests.proofs.simulation.market import SimMarket, Style
from historical_etl_tests.proofs.simulation.schedule import random_faults
from historical_etl_tests.proofs.simulation.truth import KEYS
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import daily_bytes

__all__ = ["Life", "compare", "whole_life", "with_wrong_calendar"]

#: How often two days are looked for on which nothing else happens.
_TRIES = 30


def whole_life(
    seed: int,
    symbols: int = 20,
    sessions: int = 260,
    *,
    style: Style = "raw",
    rounds: int = 1,
    filled: float = 0.25,
    kinds: Collection[str] = (),
) -> str:
    """One market with every fault: a share of it backfilled, then day by day to the quiet end.

    `kinds` names the faults that there are; without any there are all. Fails if anything is wrong. Returns a line
    about it.
    """
    first = date(2009, 1, 5)
    last = get_calendar("XNYS").between(first, date.max)[sessions - 1]
    market, release = with_wrong_calendar(SimMarket(seed=seed, symbols=symbols, first=first, last=last), filled)
    since = market.sessions[int(len(market.sessions) * filled)]
    named = bool(seed % 2)
    faults = random_faults(market, seed, since, rounds=rounds, named=named)
    faults = [fault for fault in faults if not kinds or type(fault).__name__ in kinds]
    faults += [PhantomDays(None, (day,), start=day, until=release + timedelta(days=4)) for day in market.closed]
    vendor = SimVendor(market, faults, style, names_actions=named)
    rng = random.Random(f"{seed} person")
    reported = {
        old: market.sessions[market.sessions.index(on) + rng.randint(0, 6)] for old, (_, on) in market.former.items()
    }
    person = Person(reported, release, splits=rng.random() < 0.5)
    with tempfile.TemporaryDirectory(prefix="historical-etl-", dir=_memory()) as folder:
        life = Life(Path(folder) / "data", vendor, person=person)
        life.witness.thorough_every = 1
        life.backfill(since)
        life.through(market.last)
        line = conclude(life)
        return f"{line}{', bytes as in one go' if leaves_no_trace(life, Path(folder) / 'other') else ''}"


def with_wrong_calendar(market: SimMarket, filled: float) -> tuple[SimMarket, date]:
    """The market with a session that was none and one more on a Saturday, and the evening of a file that says so."""
    rng = random.Random(f"{market.seed} calendar")
    sessions, plain = market.sessions, market
    low, high = int(len(sessions) * filled) + 4, len(sessions) - 60
    for _ in range(_TRIES):
        closed = sessions[rng.randint(low, high)]
        fridays = [day for day in sessions[low:high] if day.weekday() == 4 and abs((day - closed).days) > 7]
        if not fridays:
            continue
        opened = rng.choice(fridays) + timedelta(days=1)
        market = replace(plain, closed=(closed,), opened=(opened,))
        beside = [(day, day + timedelta(days=4)) for day in (closed, opened)]
        if not any(market.has_events(day, end) for day, end in beside) and not _concerns(market, closed, opened):
            late = sessions.index(max(day for day in sessions if day <= max(closed, opened))) + rng.randint(2, 12)
            return market, sessions[late]
    return plain, market.first  # too much happens in it


def _concerns(market: SimMarket, *days: date) -> bool:
    """Whether a listing begins, ends or pauses near one of some days, or has another ticker then."""
    near = timedelta(days=9)
    turns = [
        turn
        for x in market.listings
        for turn in (x.first, x.last, *x.away, *x.halts, x.formerly and x.formerly[1])
        if turn is not None and turn != date.max
    ]
    return any(abs(turn - day) < near for turn in turns for day in days)


def conclude(life: Life) -> str:
    """The end of a life: equal to the truth but for what is listed, and wholly so once a person has decided."""
    vendor, witness = life.vendor, life.witness
    difference = _compared(life)
    assert set(difference.missing.rows()) <= lost_for_long(vendor), f"never filled: {difference.missing.rows()[:5]}"
    # What only a person can tell: another company under an old ticker, and a bar that stays absurd.
    again = {listing.symbol for listing in vendor.market.listings if listing.again}
    again |= {fault.symbol for fault in vendor.faults if isinstance(fault, Spike) and fault.until == date.max}
    odd = life.etl.holds().filter(~pl.col("symbol").is_in(list(again))).select("symbol", "code", "session", "evidence")
    assert odd.is_empty(), f"held for no reason: {odd.rows()}"
    life.goes_on()
    decided = life.decide()
    late = _compared(life).withheld.filter(~pl.col("symbol").is_in(list(witness.names)))
    if late.height:
        symbols = late.get_column("symbol").unique().sort().to_list()
        life.etl.run_full_etl(symbols, vendor.market.first, vendor.market.last, resume=False)
        witness.look(life.etl)
    final = _compared(life)
    assert not final.held, f"decided, and still held: {final.held}"
    # Of what was split off nothing is asked for any more.
    lacking = final.withheld.filter(~pl.col("symbol").is_in(list(witness.names)))
    assert lacking.is_empty(), f"fetched again, and not stored: {lacking.rows()[:5]}"
    report = life.etl.verify()
    assert report.ok, report.findings
    restated = life.etl.ledger("restatements").height
    return (
        f"{witness.looks} versions, {len(vendor.faults)} faults, {restated} restatements, {len(decided)} decided, "
        f"{late.height} cells that arrived later, {final.missing.height} bars missing and listed"
    )


def _compared(life: Life) -> Difference:
    vendor = life.vendor
    return compare(life.etl, vendor.market, vendor.style, last_truth(life), life.witness.names)


def last_truth(life: Life) -> pl.DataFrame:
    """What a store must hold in the end: what the vendor never corrects is as it arrived, if its ledgers name it."""
    vendor, etl = life.vendor, life.etl
    truth = vendor.market.truth(style=vendor.style)
    taken = etl.ledger("holds").filter(pl.col("status") != "released")
    reported = pl.concat([etl.ledger(name).select(KEYS) for name in ("flagged_rows", "withheld")])
    for (day, symbol), fault in last_word(vendor.faults).items():
        if truth.filter(pl.col("symbol") == symbol, pl.col("date") == day).is_empty():
            continue  # it was halted
        mine = (pl.col("symbol") == symbol) & (pl.col("date") == day)
        if isinstance(fault, Spike):
            assert symbol in taken["symbol"], f"{symbol}: an absurd bar was let in"
        else:
            assert reported.filter(mine).height or symbol in etl.holds()["symbol"], f"{symbol} {day}: not reported"
    lasting = [f for f in vendor.faults if isinstance(f, (OutsideRange, ZeroOpen, Spike)) and f.until == date.max]
    asked = FetchRequest(tuple(vendor.market.names), vendor.market.first, vendor.market.last)
    for fault in lasting:
        truth = fault.alter(truth, View(vendor.market, asked, vendor.today, 0))
    truth = truth.with_columns(pl.when(pl.col("open") > 0).then("open").alias("open"))
    for name, symbol in life.witness.names.items():
        since = next(x.again[0] for x in vendor.market.listings if x.symbol == symbol and x.again)
        before = (pl.col("symbol") == symbol) & (pl.col("date") < since)
        truth = truth.with_columns(pl.when(before).then(pl.lit(name)).otherwise("symbol").alias("symbol"))
    return truth.sort(KEYS)


def lost_for_long(vendor: SimVendor, sessions: int = 5) -> set[tuple[date, str]]:
    """Bars that a vendor had lost for so long that a gap may have been confirmed before they returned."""
    market = vendor.market
    return {
        (day, symbol)
        for fault in vendor.faults
        if isinstance(fault, LostDays)
        and len([d for d in market.sessions if fault.start <= d < fault.until]) >= sessions
        for day in fault.sessions
        for symbol in ([fault.symbol] if fault.symbol else market.names)
    }


def leaves_no_trace(life: Life, other: Path) -> bool:
    """Whether every cell arrived in the end; if so, fail unless the files are those of one backfill, to the byte."""
    market, vendor = life.vendor.market, life.vendor
    if life.etl.scan().select(pl.len()).collect().item() != market.table.height or _compared(life).withheld.height:
        return False
    lasting = tuple(fault for fault in vendor.faults if fault.until == date.max)
    clean = Life(other, SimVendor(market, lasting, vendor.style, vendor.names_actions), person=life.person)
    clean.backfill(market.last)
    clean.decide()
    differs = [name for name, content in daily_bytes(clean.etl).items() if daily_bytes(life.etl).get(name) != content]
    if differs:
        at_once, daily = (etl.scan().collect().sort(KEYS) for etl in (clean.etl, life.etl))
        odd = at_once.join(daily, on=at_once.columns, how="anti", nulls_equal=True).rows()
        raise AssertionError(f"other bytes than in one go: {differs}, {len(odd)} rows: {odd[:3]}")
    return True


def _memory() -> Path | None:
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    return memory if memory.is_dir() else None


def _attempt(seed: int, **options: Any) -> tuple[int, str, bool]:
    logging.disable(logging.CRITICAL)
    try:
        styles: tuple[Style, ...] = ("raw", "split_adjusted")
        style = styles[seed // 2 % 2]
        return seed, whole_life(seed, style=style, **options), True
    except Exception as error:  # noqa: BLE001 - the other seeds go on
        return seed, f"{type(error).__name__}: {error}", False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run many seeds; returns how many failed."""
    parser = argparse.ArgumentParser(prog="python -m historical_etl_tests.proofs.simulation.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many markets to live through")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=260, help="of each market")
    parser.add_argument("--filled", type=float, default=0.25, help="the share of the sessions that is backfilled")
    parser.add_argument("--rounds", type=int, default=1, help="how many of each fault")
    parser.add_argument("--kinds", nargs="*", default=(), help="only these faults, by their classes' names")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    # Read by Polars in each process: its own threads only take turns with the other process's.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    began = time.perf_counter()
    size = {name: getattr(options, name) for name in ("symbols", "sessions", "filled", "rounds", "kinds")}
    attempt = partial(_attempt, **size)
    failed = 0
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for seed, line, good in pool.map(attempt, range(options.first, options.first + options.seeds)):
            failed += not good
            print(f"seed {seed}: {'' if good else 'FAILED '}{line}", flush=True)
    seconds = time.perf_counter() - began
    print(f"{options.seeds} seeds, {failed} failed, {seconds:.0f} s, {options.processes} processes")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
