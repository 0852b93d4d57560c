"""The cases: each does one piece of work on the floor and through `HistoricalETL`, in turns, and times both.

`python -m benchmarks.cases CASE WORKLOAD FOLDER REPEATS` runs one alone and prints its numbers as a line of JSON:
seconds under `floor` and `ours`, or whatever else the case says. Reading the generated rows is subtracted on both
sides. The package runs as users call it: lock, validation, versions, read-back, progress and catalog included.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

import duckdb
import polars as pl

from benchmarks.bench import HELD_BACK, OVERLAP, Bench, after, commit, paying, restated, scattered
from benchmarks.floor import FloorStore, by_year
from benchmarks.market import WORKLOADS
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.quality.batch_verdict import judge_batch
from historical_etl.quality.rules import conform

__all__ = ["CASES"]

_Numbers = dict[str, float]


def backfill(bench: Bench) -> _Numbers:
    """All years into an empty store. `dump` is the floor without unique and sort: only concat and bytes."""
    floors: list[float] = []
    dumps: list[float] = []
    ours: list[float] = []
    folder = bench.scratch / f"backfill-{bench.workload.name}"
    shutil.rmtree(folder, ignore_errors=True)
    for turn in range(bench.repeats):
        floor, root = FloorStore(folder / f"floor-{turn}"), folder / f"ours-{turn}"
        spent = dumped = 0.0
        for year in bench.workload.years:
            frames = bench.frames(date(year, 1, 1), date(year, 12, 31))
            spent += bench.timed(partial(floor.merge, year, frames))
            dumped += bench.timed(partial(floor.dump, year, frames))
        floors.append(spent)
        dumps.append(dumped)
        ours.append(bench.timed(partial(bench.backfill, root, bench.last[-1])))
    sizes = {"mb": _size(folder / "ours-0/historical/daily"), "floor_mb": _size(folder / "floor-0")}
    shutil.rmtree(folder)
    return {**_sides(floors, ours), "dump": _middle(dumps), **sizes}


def increment(bench: Bench) -> _Numbers:
    """One new session for all symbols, asked for with the default overlap; the floor merges the same rows."""
    floor_root, root = bench.stored()
    floor, etl = FloorStore(floor_root), bench.ours(root)
    floors: list[float] = []
    ours: list[float] = []
    days: list[date] = bench.last.to_list()
    for at in range(len(days) - HELD_BACK, len(days))[: max(2, bench.repeats)]:
        session = days[at]
        frames = bench.frames(days[at - OVERLAP + 1], session)
        floors.append(bench.timed(partial(floor.merge, bench.workload.last, frames)))
        bench.now = after(session)
        ours.append(bench.timed(etl.run_incremental_etl))
    shutil.rmtree(root.parent)
    return _sides(floors, ours)


def reconcile(bench: Bench) -> _Numbers:
    """The increment as it is, against one that only judges, merges and commits the same rows."""
    plain_root, root = bench.stored()[1], bench.stored()[1]
    plain, whole = bench.ours(plain_root), bench.ours(root)
    plains: list[float] = []
    wholes: list[float] = []
    days: list[date] = bench.last.to_list()
    for at in range(len(days) - HELD_BACK, len(days))[: max(2, bench.repeats)]:
        frames = bench.frames(days[at - OVERLAP + 1], days[at])
        bench.now = after(days[at])
        plains.append(bench.timed(lambda frames=frames: _judge_and_commit(plain, frames)))
        wholes.append(bench.timed(whole.run_incremental_etl))
    for folder in (plain_root, root):
        shutil.rmtree(folder.parent)
    return _sides(plains, wholes)


def _judge_and_commit(etl: HistoricalETL, frames: list[pl.DataFrame]) -> None:
    rows = pl.concat([conform(frame, "bench") for frame in frames])
    start, end = rows.get_column("date").min(), rows.get_column("date").max()
    assert isinstance(start, date)
    assert isinstance(end, date)
    symbols = rows.get_column("symbol").unique().to_list()
    sessions = etl.calendar.between(start, end)
    verdict = judge_batch(rows, symbols=symbols, start=start, end=end, sessions=sessions, max_rejected_share=0.05)
    commit(etl, verdict.accepted)


def corrections(bench: Bench) -> _Numbers:
    """100 rows scattered over the last three years, in one commit."""
    return _rewrite(bench, scattered)


def restate_1(bench: Bench) -> _Numbers:
    """All years of one symbol, in one commit."""
    return _rewrite(bench, lambda bench, turn: restated(bench, turn, 1))


def restate_80(bench: Bench) -> _Numbers:
    """All years of 80 symbols, in one commit; the floor's time is for one."""
    return _rewrite(bench, lambda bench, turn: restated(bench, turn, 80), floor_rows=lambda b, t: restated(b, t, 1))


def _rewrite(
    bench: Bench,
    make: Callable[[Bench, int], pl.DataFrame],
    floor_rows: Callable[[Bench, int], pl.DataFrame] | None = None,
) -> _Numbers:
    floor_root, root = bench.stored()
    floor, etl = FloorStore(floor_root), bench.ours(root)
    floors: list[float] = []
    ours: list[float] = []
    for turn in range(bench.repeats):
        simple = list(by_year((floor_rows or make)(bench, turn)))
        floors.append(bench.timed(lambda simple=simple: [floor.merge(year, [rows]) for year, rows in simple]))
        ours.append(bench.timed(partial(commit, etl, make(bench, turn))))
    shutil.rmtree(root.parent)
    return _sides(floors, ours)


def dividends_80(bench: Bench) -> _Numbers:
    """80 symbols pay a dividend on the new session of an increment, end to end; the floor restates one symbol."""
    floor_root, root = bench.stored()
    floor, etl = FloorStore(floor_root), bench.ours(root)
    floors: list[float] = []
    ours: list[float] = []
    for turn in range(bench.repeats):
        simple = list(by_year(restated(bench, turn, 1)))
        floors.append(bench.timed(lambda simple=simple: [floor.merge(year, [rows]) for year, rows in simple]))
        session = bench.last[turn - HELD_BACK]
        symbols = paying(bench, turn, 80)
        bench.fetcher.pay(symbols, session)
        bench.now = after(session)
        ours.append(bench.timed(partial(_restating, etl, set(symbols))))
    shutil.rmtree(root.parent)
    return _sides(floors, ours)


def _restating(etl: HistoricalETL, symbols: set[str]) -> None:
    result = etl.run_incremental_etl()
    assert set(result.restated_symbols) == symbols, "a dividend was taken for something else"


def reads(bench: Bench) -> _Numbers:
    """Four questions, warm: milliseconds through each way of asking."""
    floor_root, root = bench.stored()
    etl, paths = bench.ours(root), [str(path) for path in FloorStore(floor_root).paths()]
    etl.publish_catalog()  # its views name absolute paths, and this store is a copy
    symbol = bench.workload.names[bench.workload.symbols // 2]
    year = bench.workload.last - 1
    day = bench.workload.sessions(year)[120]
    questions = {
        "symbol": (pl.col("symbol") == symbol, f"symbol = '{symbol}'", (symbol, None, None)),
        "day": (pl.col("date") == day, f"date = DATE '{day}'", (None, day, day)),
        "year": (
            pl.col("date").is_between(date(year, 1, 1), date(year, 12, 31)),
            f"date BETWEEN DATE '{year}-01-01' AND DATE '{year}-12-31'",
            (None, date(year, 1, 1), date(year, 12, 31)),
        ),
    }
    view, catalog = duckdb.connect(), duckdb.connect(str(etl.catalog.path), read_only=True)
    view.execute(f"CREATE VIEW daily_prices AS SELECT * FROM read_parquet({paths})")
    ways: dict[str, dict[str, Callable[[], object]]] = {}
    for name, (where, sql, (symbols, start, end)) in questions.items():
        query = f"SELECT * FROM daily_prices WHERE {sql}"
        ways[name] = {
            "polars": lambda where=where: pl.scan_parquet(paths).filter(where).collect(),
            "duckdb": lambda query=query: pl.DataFrame(view.sql(query)),
            "scan": lambda symbols=symbols, start=start, end=end: etl.scan(symbols, start, end).collect(),
            "query_sql": lambda query=query: etl.query_sql(query),
            "catalog": lambda query=query: pl.DataFrame(catalog.sql(query)),
        }
    mean, query = pl.col("close").mean(), "SELECT symbol, avg(close) AS close FROM daily_prices GROUP BY symbol"
    ways["mean"] = {
        "polars": lambda: pl.scan_parquet(paths).group_by("symbol").agg(mean).collect(),
        "duckdb": lambda: pl.DataFrame(view.sql(query)),
        "scan": lambda: etl.scan().group_by("symbol").agg(mean).collect(),
        "query_sql": lambda: etl.query_sql(query),
        "catalog": lambda: pl.DataFrame(catalog.sql(query)),
    }
    numbers: _Numbers = {}
    for name, asked in ways.items():
        spent: dict[str, list[float]] = {way: [] for way in asked}
        for _ in range(bench.repeats * 2 + 1):
            for way, ask in asked.items():
                spent[way].append(bench.timed(ask) * 1000)
        numbers |= {f"{name}.{way}": _middle(times[1:]) for way, times in spent.items()}
    for way in ("polars", "duckdb", "scan", "query_sql", "catalog"):
        numbers[way] = statistics.geometric_mean(numbers[f"{name}.{way}"] for name in ways)
    shutil.rmtree(root.parent)
    return numbers


def memory_increment(bench: Bench) -> _Numbers:
    """Peak of a process that does one increment, in MB; everything in it counts."""
    _, root = bench.stored()
    bench.now = after(bench.last[-HELD_BACK])
    before = _peak()
    bench.ours(root).run_incremental_etl()
    shutil.rmtree(root.parent)
    return {"before": before, "peak": _peak()}


def memory_backfill(bench: Bench) -> _Numbers:
    """Peak of a process that backfills all years, in MB; everything in it counts, the rows handed over too."""
    root = bench.scratch / f"memory-{bench.workload.name}"
    shutil.rmtree(root, ignore_errors=True)
    before = _peak()
    bench.backfill(root, bench.last[-1])
    shutil.rmtree(root)
    return {"before": before, "peak": _peak()}


def cold(bench: Bench) -> _Numbers:
    """Seconds of whole processes: `historical-etl --help` and `status` on a stored workload."""
    _, root = bench.stored()
    program = Path(sys.executable).with_name("historical-etl")
    numbers: _Numbers = {}
    for name, arguments in {"help": ["--help"], "status": ["status"]}.items():
        spent: list[float] = []
        for _ in range(bench.repeats * 2 + 1):
            began = time.perf_counter()
            subprocess.run(
                [program, *arguments],
                check=True,
                capture_output=True,
                cwd=root,
                env={**os.environ, "HISTORICAL_ETL_DATA_DIR": str(root)},
            )
            spent.append(time.perf_counter() - began)
        numbers[name] = min(spent[1:])
    shutil.rmtree(root.parent)
    return numbers


CASES: Final[dict[str, Callable[[Bench], _Numbers]]] = {
    case.__name__: case
    for case in (
        backfill,
        increment,
        reconcile,
        corrections,
        restate_1,
        restate_80,
        dividends_80,
        reads,
        memory_increment,
        memory_backfill,
        cold,
    )
}


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.parquet")) / 1e6


def _middle(times: list[float]) -> float:
    return statistics.median(times)


def _sides(floors: list[float], ours: list[float]) -> _Numbers:
    return {"floor": _middle(floors), "ours": _middle(ours), "best_floor": min(floors), "best_ours": min(ours)}


def _peak() -> float:
    """VmHWM in MB. Not `ru_maxrss`: that starts with what the parent process held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    case, workload, folder, repeats = sys.argv[1:]
    print(json.dumps(CASES[case](Bench(WORKLOADS[workload], Path(folder), int(repeats)))))


if __name__ == "__main__":
    main()
