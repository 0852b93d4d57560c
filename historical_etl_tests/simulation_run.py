"""A store's life in a simulated market: a backfill, then an increment each evening, watched at every version.

    python -m historical_etl_tests.simulation_run --seeds 500

lives through that many small markets with every fault switched on, in two processes, and says what it found.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import polars as pl

from historical_etl import ETLResult, HistoricalETL, get_calendar
from historical_etl.errors import ConfigurationError, DataQualityError, HistoricalETLError, ProviderError
from historical_etl_tests.scenario import daily_bytes, store
from historical_etl_tests.simulation import SimMarket, Style, with_returns
from historical_etl_tests.simulation_faults import LateCorrection, LateRestatement, LostDays
from historical_etl_tests.simulation_schedule import random_faults
from historical_etl_tests.simulation_vendor import SimVendor

KEYS = ["date", "symbol"]
#: Adjusted prices are rounded to six decimals; the smallest event moves the level by 4e-3.
_ROUNDED = 5e-5
#: Runs may fail for some days after a history was put right, so that the store has it later.
_HEALING = 12


@dataclass
class Witness:
    """Looks at every version, and remembers what was committed."""

    vendor: SimVendor
    keys: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"date": pl.Date, "symbol": pl.String}))
    version: int = 0
    looks: int = 0

    def look(self, etl: HistoricalETL) -> None:
        """Fail if a committed key is lost, if there is a row that never was, or if a symbol mixes two bases."""
        manifest = etl.manifest()
        if manifest is None or manifest.version == self.version:
            return
        rows = etl.scan().collect()
        keys = rows.select(KEYS)
        where = f"version {manifest.version} on {self.vendor.today}"
        assert keys.n_unique() == keys.height, f"{where}: a key comes twice"
        lost = self.keys.join(keys, on=KEYS, how="anti")
        assert lost.is_empty(), f"{where}: rows were lost: {lost.rows()[:5]}"
        never = keys.join(self.vendor.market.table, on=KEYS, how="anti")
        assert never.is_empty(), f"{where}: rows that never were: {never.rows()[:5]}"
        mixed = self.mixed(rows)
        assert not mixed, f"{where}: mixed or unknown price basis: {mixed}"
        self.keys, self.version, self.looks = keys, manifest.version, self.looks + 1

    def mixed(self, rows: pl.DataFrame) -> list[str]:
        """Companies whose rows do not all stand on the basis of one evening up to today's.

        Left out is what no store can know to be wrong: a cell that will be corrected, and a history that the vendor
        itself has adjusted in part.
        """
        market, today, style = self.vendor.market, self.vendor.today, self.vendor.style
        both = rows.join(market.table, on=KEYS, suffix="_raw")
        for fault in self.vendor.faults:
            if isinstance(fault, LateCorrection):
                both = both.filter(~((pl.col("symbol") == fault.symbol) & (pl.col("date") == fault.session)))
            if isinstance(fault, LateRestatement) and fault.start <= today < _later(market, fault.until, _HEALING):
                both = both.filter(pl.col("symbol") != fault.symbol)
        # Of each row: which product of factors, and which of splits, its basis must have had.
        implied = {
            "factor": pl.col("adj_close") / pl.col("close_raw") * pl.col("factor"),
            "shares": pl.col("close_raw") / pl.col("close") * pl.col("shares"),
        }
        if style != "split_adjusted":
            implied["shares"] = pl.col("close_raw") / pl.col("close")
        if style == "unadjusted":
            del implied["factor"]
        spans = both.group_by("symbol", "life").agg(
            *(e.min().alias(f"{n}_low") for n, e in implied.items()),
            *(e.max().alias(f"{n}_high") for n, e in implied.items()),
        )
        known: dict[tuple[str, int], list[dict[str, float]]] = {}
        for symbol, life, factor, shares in (
            market.events.filter(pl.col("date") <= today).select("symbol", "life", "factor", "shares").iter_rows()
        ):
            known.setdefault((symbol, life), []).append({"factor": factor, "shares": shares})
        bad: list[str] = []
        for span in spans.sort("symbol", "life").iter_rows(named=True):
            bases = [{"factor": 1.0, "shares": 1.0}, *known.get((span["symbol"], span["life"]), [])]
            if style != "split_adjusted":
                bases = [{**basis, "shares": 1.0} for basis in bases]
            if not any(all(_is_near(span, n, basis[n]) for n in implied) for basis in bases):
                bad.append(str({name: value for name, value in span.items() if value is not None}))
        return bad


def _is_near(span: dict[str, float], name: str, value: float) -> bool:
    return all(abs(span[f"{name}_{end}"] / value - 1) < _ROUNDED for end in ("low", "high"))


def _later(market: SimMarket, day: date, count: int) -> date:
    return next(iter([d for d in market.sessions if d >= day][count:]), date.max)


class Life:
    """A store that lives with a vendor from one evening to the next, watched at every version.

    Attributes:
        vendor: where bars come from.
        etl: the store, on the evening of `vendor.today`.
        witness: has looked at every version so far.
    """

    def __init__(self, root: Path, vendor: SimVendor, *, fetcher: object | None = None, **options: object) -> None:
        self.vendor = vendor
        self.witness = Witness(vendor)
        self._root, self._fetcher = root, fetcher or vendor
        self._options = {"batch_symbols": 12, "start": vendor.market.first, **options}

    @property
    def etl(self) -> HistoricalETL:
        return store(self._root, self._fetcher, self.vendor.today, **self._options)

    def backfill(self, since: date) -> ETLResult:
        """All that is listed on the evening of `since`, up to it."""
        self.vendor.today = since
        etl, names = self.etl, self.vendor.members(None, since)
        result = etl.run_full_etl(names, self.vendor.market.first, since, progress=lambda _: self.witness.look(etl))
        self.witness.look(etl)
        return result

    def evening(self, day: date, symbols: Iterable[str] | None = None) -> ETLResult:
        """An increment on the evening of a day. If it fails, nothing has moved."""
        self.vendor.today = day
        etl = self.etl
        before = etl.manifest()
        try:
            return etl.run_incremental_etl(symbols, publish=False)
        except HistoricalETLError:
            after = etl.manifest()
            assert (after and after.checksum) == (before and before.checksum), f"{day}: a failed run moved something"
            raise
        finally:
            self.witness.look(etl)

    def through(self, day: date, evenings: Iterable[date] | None = None) -> None:
        """An increment on each evening up to `day`, or on some. New listings are asked for by name, as a person would.

        A run that fails is left at that: the next evening comes.
        """
        days = [d for d in self.vendor.market.sessions if self.vendor.today < d <= day]
        for evening in days if evenings is None else sorted(set(evenings) & set(days) | {day}):
            self.vendor.today = evening
            new = sorted(set(self.vendor.members(None, None)) - set(self.etl.cursors()))
            for symbols in (new, None):
                if symbols is None or symbols:
                    with suppress(ProviderError, DataQualityError, ConfigurationError):
                        self.evening(evening, symbols)


@dataclass(frozen=True)
class Difference:
    """What a store has not, and why: open holds by symbol, and the rows of unfilled gaps."""

    held: dict[str, str]
    missing: pl.DataFrame
    explained: dict[str, int]


def compare(etl: HistoricalETL, market: SimMarket, style: Style = "raw") -> Difference:
    """Fail unless the store equals the truth in every cell, or a ledger lists the difference."""
    truth, rows = market.truth(style=style), etl.scan().collect().sort(KEYS)
    held = dict(etl.holds().select("symbol", "code").iter_rows())
    missing = truth.join(rows, on=KEYS, how="anti").filter(~pl.col("symbol").is_in(list(held)))
    gaps = etl.gaps(all=True).filter(pl.col("status") != "filled")
    listed = gaps.select("symbol", "status", pl.date_ranges("first_session", "last_session").alias("date"))
    listed = listed.explode("date").unique(["date", "symbol"])
    unlisted = missing.join(listed, on=KEYS, how="anti")
    assert unlisted.is_empty(), f"missing and listed nowhere: {unlisted.rows()[:5]}"
    wanted = with_returns(truth.join(missing, on=KEYS, how="anti")).filter(~pl.col("symbol").is_in(list(held)))
    wrong = _wrong_cells(wanted, rows.filter(~pl.col("symbol").is_in(list(held))))
    assert not wrong, f"cells that differ and are listed nowhere: {wrong[:5]}"
    statuses = missing.join(listed, on=KEYS).group_by("status").len()
    return Difference(held, missing.select(KEYS), dict(statuses.iter_rows()))


def _wrong_cells(wanted: pl.DataFrame, rows: pl.DataFrame) -> list[tuple[object, ...]]:
    both = wanted.join(rows, on=KEYS, how="full", suffix="_is", coalesce=True)
    names = [name for name in wanted.columns if name not in KEYS]
    unequal = [
        both.filter(pl.col(name).ne_missing(pl.col(f"{name}_is"))).select(
            *KEYS, pl.lit(name).alias("column"), pl.col(name).alias("wanted"), pl.col(f"{name}_is").alias("is")
        )
        for name in names
    ]
    return pl.concat(unequal).sort(KEYS).rows()


def lost_for_long(vendor: SimVendor, sessions: int = 5) -> set[tuple[date, str]]:
    """Bars that a vendor had lost for so long that a gap may have been confirmed before they came back."""
    market = vendor.market
    return {
        (day, symbol)
        for fault in vendor.faults
        if isinstance(fault, LostDays)
        and len([d for d in market.sessions if fault.start <= d < fault.until]) >= sessions
        for day in fault.sessions
        for symbol in ([fault.symbol] if fault.symbol else market.names)
    }


def whole_life(
    seed: int, symbols: int = 20, sessions: int = 260, *, style: Style = "raw", rounds: int = 1, filled: float = 0.25
) -> str:
    """One market with every fault: a share of it backfilled, then day by day to the quiet end.

    Fails if anything is wrong. Returns a line about it.
    """
    first = date(2009, 1, 5)
    last = get_calendar("XNYS").between(first, date.max)[sessions - 1]
    market = SimMarket(seed=seed, symbols=symbols, first=first, last=last)
    since = market.sessions[int(sessions * filled)]
    vendor = SimVendor(market, random_faults(market, seed, since, rounds=rounds), style, names_actions=bool(seed % 2))
    with tempfile.TemporaryDirectory(prefix="historical-etl-", dir=_memory()) as folder:
        life = Life(Path(folder) / "data", vendor)
        life.backfill(since)
        life.through(market.last)
        told = conclude(life)
        return f"{told}{', bytes as in one go' if leaves_no_trace(life, Path(folder) / 'other') else ''}"


def conclude(life: Life) -> str:
    """The end of a life: equal to the truth but for what is listed, and wholly so once a person has decided."""
    etl, vendor, witness = life.etl, life.vendor, life.witness
    difference = compare(etl, vendor.market, vendor.style)
    assert set(difference.missing.rows()) <= lost_for_long(vendor), f"never filled: {difference.missing.rows()[:5]}"
    # Another company under an old ticker is the one thing that only a person can tell.
    again = {listing.symbol for listing in vendor.market.listings if listing.again}
    assert set(difference.held) <= again, f"held for no reason: {difference.held}"
    for symbol in difference.held:
        etl.accept(symbol, reason="another company took the ticker over", by="simulation")
        witness.look(etl)
    final = compare(etl, vendor.market, vendor.style)
    assert not final.held, f"accepted, and still held: {final.held}"
    restated = etl.ledger("restatements").height
    return (
        f"{witness.looks} versions, {len(vendor.faults)} faults, {restated} restatements, "
        f"{len(difference.held)} accepted, {final.missing.height} bars missing and listed"
    )


def leaves_no_trace(life: Life, other: Path) -> bool:
    """Whether every bar came in the end; if so, fail unless the files are those of one backfill, to the byte."""
    market, vendor = life.vendor.market, life.vendor
    if life.etl.scan().select(pl.len()).collect().item() != market.table.height:
        return False
    clean = Life(other, SimVendor(market, (), vendor.style, vendor.names_actions))
    clean.backfill(market.last)
    for symbol in clean.etl.holds()["symbol"]:
        clean.etl.accept(symbol, reason="another company took the ticker over", by="simulation")
    differs = [name for name, content in daily_bytes(clean.etl).items() if daily_bytes(life.etl).get(name) != content]
    assert not differs, f"other bytes than in one go: {differs}"
    return True


def _memory() -> Path | None:
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    return memory if memory.is_dir() else None


def _attempt(seed: int, symbols: int, sessions: int, filled: float, rounds: int) -> tuple[int, str, bool]:
    logging.disable(logging.CRITICAL)
    try:
        styles: tuple[Style, ...] = ("raw", "split_adjusted")
        style = styles[seed // 2 % 2]
        return seed, whole_life(seed, symbols, sessions, style=style, rounds=rounds, filled=filled), True
    except Exception as error:  # noqa: BLE001 - the other seeds go on
        return seed, f"{type(error).__name__}: {error}", False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run many seeds; returns how many failed."""
    parser = argparse.ArgumentParser(prog="python -m historical_etl_tests.simulation_run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many markets to live through")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=260, help="of each market")
    parser.add_argument("--filled", type=float, default=0.25, help="the share of the sessions that is backfilled")
    parser.add_argument("--rounds", type=int, default=1, help="how many of each fault")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    # Read by Polars in each process: its own threads only take turns with the other process's.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    began = time.perf_counter()
    size = {name: getattr(options, name) for name in ("symbols", "sessions", "filled", "rounds")}
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
