"""The cases: each does one piece of work on the floor and through `HistoricalETL`, in turns, and times both.

`python -m benchmarks.cases CASE WORKLOAD FOLDER REPEATS PEERS` runs one alone and prints its numbers as a line of JSON:
seconds under `floor` and `ours`, or whatever else the case says; and those of the peers with an environment in the
folder PEERS, which may be empty. Reading the generated rows is subtracted on both
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

from benchmarks.bench import HELD_BACK, OVERLAP, Bench, after, commit, paying, restated, scattered, state
from benchmarks.floor import FloorStore, by_year
from benchmarks.market import WORKLOADS
from benchmarks.peers.duckdb_native import answer
from benchmarks.peers.peer import Question, digest, panel, sql
from benchmarks.peers.process import installed
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.quality.batch_verdict import judge_batch
from historical_etl.quality.rules import conform

__all__ = ["CASES", "FOUR", "PANEL", "WHOLE"]

_Numbers = dict[str, float]
#: What the seconds of a peer are called in a case that has no parts.
WHOLE: Final = "whole"
#: The questions whose geometric mean is judged, and the one beside them.
FOUR: Final = ("symbol", "day", "year", "mean")
PANEL: Final = "panel"


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
        with bench.empty_team() as peers:
            peers.fill((pl.concat(bench.frames(date(y, 1, 1), date(y, 12, 31))) for y in bench.workload.years), WHOLE)
            peers.check(partial(state, bench.ours(root)))
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
    with bench.stored_team() as peers:
        for at in range(len(days) - HELD_BACK, len(days))[: max(2, bench.repeats)]:
            session = days[at]
            frames = bench.frames(days[at - OVERLAP + 1], session)
            floors.append(bench.timed(partial(floor.merge, bench.workload.last, frames)))
            bench.now = after(session)
            ours.append(bench.timed(etl.run_incremental_etl))
            peers.upsert(pl.concat(frames), WHOLE, whole=True)
        peers.check(partial(state, etl))
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
    floor_root, root = bench.stored()
    floor, etl = FloorStore(floor_root), bench.ours(root)
    floors: list[float] = []
    ours: list[float] = []
    with bench.stored_team() as peers:
        for turn in range(bench.repeats):
            rows = scattered(bench, turn)
            floors.append(_merged(bench, floor, rows))
            ours.append(bench.timed(partial(commit, etl, rows)))
            peers.upsert(rows, WHOLE)
        peers.check(partial(state, etl))
    shutil.rmtree(root.parent)
    return _sides(floors, ours)


def restate_1(bench: Bench) -> _Numbers:
    """All years of one symbol that paid a dividend, in one commit: an update of it alone, end to end."""
    return _restate(bench, 1, whole=False)


def restate_80(bench: Bench) -> _Numbers:
    """All years of 80 symbols, in one commit; the floor's time is for one."""
    return _restate(bench, 80, whole=False)


def dividends_80(bench: Bench) -> _Numbers:
    """80 symbols pay a dividend on the new session of an increment, end to end; the floor restates one symbol."""
    return _restate(bench, 80, whole=True)


def _restate(bench: Bench, count: int, *, whole: bool) -> _Numbers:
    """Symbols that pay a dividend: in an update of these alone to the last stored session, or of all to a new one."""
    floor_root, root = bench.stored()
    floor, etl = FloorStore(floor_root), bench.ours(root)
    floors: list[float] = []
    ours: list[float] = []
    with bench.stored_team() as peers:
        for turn in range(bench.repeats):
            floors.append(_merged(bench, floor, restated(bench, turn)))
            at = len(bench.last) - HELD_BACK + (turn if whole else -1)
            symbols = paying(bench, turn, count)
            bench.fetcher.pay(symbols, bench.last[at])
            bench.now = after(bench.last[at])
            ours.append(bench.timed(partial(_restating, etl, symbols, whole=whole)))
            histories = bench.fetcher.get_daily_prices(symbols, date(bench.workload.first, 1, 1), bench.last[at])
            peers.upsert(_increment_with(bench, histories, at) if whole else histories, WHOLE)
        peers.check(partial(state, etl))
    shutil.rmtree(root.parent)
    return _sides(floors, ours)


def _increment_with(bench: Bench, histories: pl.DataFrame, at: int) -> pl.DataFrame:
    """What an increment up to a session gets, and of some symbols their whole history."""
    recent = pl.concat(bench.frames(bench.last[at - OVERLAP + 1], bench.last[at]))
    return pl.concat([recent.join(histories, on="symbol", how="anti"), histories])


def _merged(bench: Bench, floor: FloorStore, rows: pl.DataFrame) -> float:
    """Seconds that the floor takes for rows of several years."""
    years = list(by_year(rows))
    return bench.timed(lambda: [floor.merge(year, [part]) for year, part in years])


def _restating(etl: HistoricalETL, symbols: list[str], *, whole: bool) -> None:
    result = etl.run_incremental_etl(None if whole else symbols)
    assert set(result.restated_symbols) == set(symbols), "a dividend was taken for something else"


def reads(bench: Bench) -> _Numbers:
    """Five questions, warm: milliseconds through each way of asking, and the geometric mean of the first four."""
    floor_root, root = bench.stored()
    etl, paths = bench.ours(root), [str(path) for path in FloorStore(floor_root).paths()]
    etl.publish_catalog()  # its views name absolute paths, and this store is a copy
    view, catalog = duckdb.connect(), duckdb.connect(str(etl.catalog.path), read_only=True)
    view.execute(f"CREATE VIEW daily_prices AS SELECT * FROM read_parquet({paths})")
    ways: dict[str, Callable[[Question], pl.DataFrame]] = {
        "polars": lambda asked: _by_polars(pl.scan_parquet(paths), asked),
        "duckdb": partial(answer, view, "daily_prices"),
        "scan": lambda asked: _by_polars(etl.scan(asked.symbol, asked.start, asked.end), asked, given=True),
        "query_sql": lambda asked: _by_query(etl, asked),
        "catalog": partial(answer, catalog, "daily_prices"),
    }
    numbers: _Numbers = {}
    questions = _questions(bench)
    with bench.stored_team() as peers:
        for name, asked in questions.items():
            expected = digest(ways["polars"](asked))
            spent: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(bench.repeats * 2 + 1):
                for way, ask in ways.items():
                    seconds, found = _asked(bench, ask, asked)
                    spent[way].append(seconds * 1000)
                    assert turn or digest(found) == expected, f"{way} has another answer for {name}"
                peers.read(asked, name if turn else "warm-up", expected)
            numbers |= {f"{name}.{way}": _middle(times[1:]) for way, times in spent.items()}
    for way in ways:
        numbers[way] = statistics.geometric_mean(numbers[f"{name}.{way}"] for name in FOUR)
    shutil.rmtree(root.parent)
    return numbers


def _asked(bench: Bench, ask: Callable[[Question], pl.DataFrame], asked: Question) -> tuple[float, pl.DataFrame]:
    answers: list[pl.DataFrame] = []
    return bench.timed(lambda: answers.append(ask(asked))), answers[0]


def _questions(bench: Bench) -> dict[str, Question]:
    year = bench.workload.last - 1
    day: date = bench.workload.sessions(year)[120]
    return {
        "symbol": Question("rows", symbol=bench.workload.names[bench.workload.symbols // 2]),
        "day": Question("rows", start=day, end=day),
        "year": Question("rows", start=date(year, 1, 1), end=date(year, 12, 31)),
        "mean": Question("mean"),
        PANEL: Question("panel"),
    }


def _by_polars(rows: pl.LazyFrame, asked: Question, *, given: bool = False) -> pl.DataFrame:
    """An answer from rows, of which `given` says that they are only those that were asked for."""
    if asked.ask == "mean":
        return rows.group_by("symbol").agg(pl.col("close").mean()).collect()
    if asked.ask == "panel":
        return panel(rows.select("date", "symbol", "close").collect())
    if asked.symbol and not given:
        rows = rows.filter(pl.col("symbol") == asked.symbol)
    if asked.start and not given:
        rows = rows.filter(pl.col("date").is_between(asked.start, asked.end))
    return rows.collect()


def _by_query(etl: HistoricalETL, asked: Question) -> pl.DataFrame:
    found = etl.query_sql(sql(asked, "daily_prices"))
    return panel(found) if asked.ask == "panel" else found


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
    case, workload, folder, repeats, peers = sys.argv[1:]
    bench = Bench(WORKLOADS[workload], Path(folder), int(repeats), peers=installed(Path(peers)) if peers else None)
    numbers = CASES[case](bench)
    results = {name: result.model_dump() for name, result in bench.peer_results.items()}
    print(json.dumps({"numbers": numbers, "peers": results}))


if __name__ == "__main__":
    main()
