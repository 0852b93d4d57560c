"""What the cases are made of: a workload with its stores in a scratch folder, and the pieces of work done on them."""

import random
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.floor import FloorStore
from benchmarks.market import MarketFetcher, Workload, prepare
from benchmarks.peers.peer import digest
from benchmarks.peers.team import PeerResult, Team, team
from historical_etl.etl.merge.merge import MergedYear, merge_years
from historical_etl.etl.merge.stored_years import StoredYears
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import ETLProgressManifest
from historical_etl.one_behind import one_behind
from historical_etl.schema import SCHEMA
from historical_etl.settings import Settings
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Provenance, Transaction

__all__ = ["HELD_BACK", "OVERLAP", "Bench", "after", "commit", "paying", "restated", "scattered", "state"]

#: Sessions at the end that a prepared store does not hold yet, for increments.
HELD_BACK: Final = 7
#: Sessions that an increment asks for again, by default, and the new one.
OVERLAP: Final = 6


class Bench:
    """One workload, with its stores in a scratch folder."""

    def __init__(
        self,
        workload: Workload,
        scratch: Path,
        repeats: int,
        *,
        peers: Mapping[str, Path] | None = None,
        remember: bool = False,
    ) -> None:
        self.workload = workload
        self.scratch = scratch
        self.repeats = repeats
        self.peers = peers or {}
        self.peer_results: dict[str, PeerResult] = {}
        self.fetcher = MarketFetcher(workload, prepare(workload, scratch), remember=remember)
        self.last = workload.sessions(workload.last)
        self.now = after(self.last[-1])

    def ours(self, root: Path) -> HistoricalETL:
        settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
        return HistoricalETL.open(root, self.fetcher, clock=lambda: self.now, settings=settings)

    def backfill(self, root: Path, end: date) -> HistoricalETL:
        etl = self.ours(root)
        etl.run_full_etl(self.workload.names, date(self.workload.first, 1, 1), end)
        return etl

    def frames(self, start: date, end: date) -> list[pl.DataFrame]:
        return [self.fetcher.get_daily_prices(part, start, end) for part in self.workload.parts]

    def stored(self) -> tuple[Path, Path]:
        """Fresh copies of stores that hold all but the last sessions: the floor's and ours."""
        kept = self.scratch / f"stored-{self.workload.name}"
        end = self.last[-HELD_BACK - 1]
        if not kept.exists():
            unfinished = self.scratch / f"stored-{self.workload.name}.partial"
            shutil.rmtree(unfinished, ignore_errors=True)
            floor = FloorStore(unfinished / "floor")
            for start, until in self._stored_spans():
                floor.merge(start.year, self.frames(start, until))
            self.now = after(end)
            self.backfill(unfinished / "ours", end)
            unfinished.rename(kept)
        copy = self._work_folder()
        shutil.copytree(kept, copy, copy_function=_link_objects)
        return copy / "floor", copy / "ours"

    @contextmanager
    def empty_team(self) -> Generator[Team]:
        """The peers with nothing stored."""
        folder = self._work_folder()
        with team(self.peers, folder, self.peer_results) as peers:
            yield peers
        shutil.rmtree(folder)

    @contextmanager
    def stored_team(self) -> Generator[Team]:
        """The peers with copies of what `stored` has."""
        folder = self._work_folder()
        for name in self.peers:
            if (stored := self._stored_by(name)) is not None:
                shutil.copytree(stored, folder / name)
        with team(self.peers, folder, self.peer_results) as peers:
            yield peers
        shutil.rmtree(folder)

    def _stored_by(self, peer: str) -> Path | None:
        """What a peer has of it; None if it could not be filled, which its result then says."""
        kept = self.scratch / f"stored-{self.workload.name}-{peer}"
        if not kept.exists():
            unfinished = kept.with_name(f"{kept.name}.partial")
            shutil.rmtree(unfinished, ignore_errors=True)
            with team({peer: self.peers[peer]}, unfinished, self.peer_results) as peers:
                peers.fill((pl.concat(self.frames(*span)) for span in self._stored_spans()), "prepared")
            if self.peer_results[peer].fault:
                return None
            (unfinished / peer).rename(kept)
            shutil.rmtree(unfinished)
        return kept

    def _stored_spans(self) -> Iterator[tuple[date, date]]:
        """What a prepared store holds, year by year."""
        for year in self.workload.years:
            yield date(year, 1, 1), min(self.last[-HELD_BACK - 1], date(year, 12, 31))

    def _work_folder(self) -> Path:
        return self.scratch / f"work-{self.workload.name}-{time.time_ns()}"

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds that `work` takes, without what the fetcher took of them."""
        handed = self.fetcher.seconds
        began = time.perf_counter()
        work()
        return time.perf_counter() - began - (self.fetcher.seconds - handed)


def state(etl: HistoricalETL) -> tuple[int, str]:
    """The digest of all that we have stored, to hold peers to."""
    return digest(etl.scan().collect())


def commit(etl: HistoricalETL, rows: pl.DataFrame) -> None:
    """The plain half of a run, once it has accepted rows: one commit over all years, progress, catalog. No ledgers."""
    accepted = rows.with_columns(ret=pl.lit(None, pl.Float64)).select(list(SCHEMA)).sort("symbol", "date")
    nothing = accepted.clear()
    cursors = etl.cursors()
    with etl.store.context.lock() as token:
        transaction = Transaction(etl.manifests, token, etl.store.context.retention)
        stored = StoredYears(transaction.base, etl.layout, transaction.stored_blocks)
        merged = merge_years(accepted, nothing, nothing.select("symbol", "date"), stored, etl.validator.gate)

        def write(year: MergedYear) -> None:
            transaction.write_year(year.year, year.blocks, year.symbols)

        with one_behind(write) as write_year:
            for year in merged:
                write_year(year)
        manifest = transaction.commit(Provenance.of(transaction.base))
        version = manifest.version if manifest else 0
        progress = ETLProgressManifest(last_updated=etl.clock(), symbol_last_dates=cursors, data_version=version)
        save_progress(etl.layout, progress)
    etl.publish_catalog()


def scattered(bench: Bench, turn: int) -> pl.DataFrame:
    chance = random.Random(turn)
    years = list(bench.workload.years)[-3:]
    symbols = chance.sample(bench.workload.names, 50)
    end = bench.last[-HELD_BACK - 1]
    rows = bench.fetcher.get_daily_prices(symbols, date(years[0], 1, 1), end)
    return rows.sample(100, seed=turn).with_columns(pl.col("volume") + 1 + turn)


def restated(bench: Bench, turn: int) -> pl.DataFrame:
    """All years of one symbol, with other adjusted closes."""
    symbols = random.Random(turn).sample(bench.workload.names, 1)
    end = bench.last[-HELD_BACK - 1]
    rows = bench.fetcher.get_daily_prices(symbols, date(bench.workload.first, 1, 1), end)
    return rows.with_columns((pl.col("adj_close") * 0.99).round(4))


def paying(bench: Bench, turn: int, count: int) -> list[str]:
    """So many symbols that pay a dividend, none in two turns: nobody pays twice a week, and such a symbol is held."""
    names = random.Random(0).sample(bench.workload.names, bench.workload.symbols)
    symbols = names[turn * count : (turn + 1) * count]
    assert len(symbols) == count, f"{bench.workload.name} has no {count} symbols left in turn {turn}"
    return symbols


def after(session: date) -> datetime:
    """Long after this session's close, before the next one's."""
    return datetime.combine(session + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=6)


def _link_objects(source: str, target: str) -> None:
    """Copy a file, but link what is never changed in place: floor files and objects are replaced, not rewritten."""
    if source.endswith(".parquet"):
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)
