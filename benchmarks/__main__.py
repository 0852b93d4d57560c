"""`python -m benchmarks [--quick] [W1] [W2]`: run the cases, print ratios against their bars, write RESULTS.md."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import polars as pl

_RESULTS: Final = Path(__file__).with_name("RESULTS.md")
_Numbers = dict[str, float]


class Line(NamedTuple):
    """One line of the table. A line without a bar says something and is not judged."""

    what: str
    measured: float
    bar: float | None
    unit: str  # "×" for a ratio
    how: str

    def cells(self) -> list[str]:
        digits = 2 if self.unit in ("×", "s") else 0
        mark = "" if self.bar is None else "pass" if self.measured <= self.bar else "**short**"
        bar = "" if self.bar is None else f"≤ {self.bar:g} {self.unit}"
        return [self.what, f"{self.measured:.{digits}f} {self.unit}", bar, mark, self.how]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="W1 (500 symbols × 10 years), W2 (5,000 × 10); default: both")
    parser.add_argument(
        "--quick", action="store_true", help="each case once or twice, W1 only unless named, no Dagster"
    )
    parser.add_argument("--scratch", type=Path, help="keep the generated prices here, for the next run")
    options = parser.parse_args()
    workloads: list[str] = options.workloads or (["W1"] if options.quick else ["W1", "W2"])
    unknown = set(workloads) - {"W1", "W2"}
    if unknown:
        parser.error(f"unknown workload(s): {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        run = _Run(options.scratch or Path(folder), 2 if options.quick else 5)
        lines: list[Line] = []
        for line in _lines(run, workloads, quick=options.quick):
            print(" | ".join(line.cells()), flush=True)
            lines.append(line)
    report = _report(lines, sys.argv[1:])
    _RESULTS.write_text(report, encoding="utf-8")
    print(f"\n{sum(line.cells()[3] == '**short**' for line in lines)} short of the bar; written to {_RESULTS}")


class _Run:
    """Runs each case in a process of its own, so that no case warms another or adds to its memory."""

    def __init__(self, scratch: Path, repeats: int) -> None:
        self._scratch = scratch
        self._repeats = repeats

    def __call__(self, case: str, workload: str) -> _Numbers:
        command = [sys.executable, "-m", "benchmarks.cases", case, workload, str(self._scratch), str(self._repeats)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{case} on {workload} failed:\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])


def _lines(run: _Run, workloads: list[str], *, quick: bool) -> Iterator[Line]:
    for workload in workloads:
        large = workload == "W2"
        yield from _backfill(run, workload)
        yield _ratio(run, "increment", workload, "one-day increment", 0.35 if large else 0.6)
        yield _ratio(run, "reconcile", workload, "increment, against one that only judges and merges", 1.25)
        yield _ratio(run, "corrections", workload, "100 corrections in 3 years", 0.65 if large else None)
        yield _ratio(run, "restate_1", workload, "restating 1 symbol, all years", 0.7 if large else None)
        yield _ratio(run, "restate_80", workload, "restating 80 symbols (floor: 1)", 0.75 if large else None)
        yield from _reads(run, workload, judged=large)
        for case, what, bar in (("memory_increment", "increment", 250), ("memory_backfill", "backfill", 450)):
            memory = run(case, workload)
            how = f"VmHWM of the whole process; {memory['before']:.0f} MB once everything is imported"
            yield Line(f"{workload} peak memory, {what}", memory["peak"], bar if large else None, "MB", how)
    if "W1" in workloads:
        yield from _growth(run, ["W1", "W1x20"] if quick else ["W1", "W1x20", "W1x40"])
        cold = run("cold", "W1")
        yield Line("historical-etl --help, cold", cold["help"], 0.35, "s", "a process, bytecode there, best of some")
        yield Line("historical-etl status, cold", cold["status"], 0.8, "s", "a process, bytecode there, best of some")
    if not quick:
        yield from _dagster()


def _backfill(run: _Run, workload: str) -> Iterator[Line]:
    numbers = run("backfill", workload)
    ours, floor, dump = numbers["ours"], numbers["floor"], numbers["dump"]
    how = f"{ours:.2f} s : {floor:.2f} s; {numbers['mb']:.0f} : {numbers['floor_mb']:.0f} MB"
    yield Line(f"{workload} backfill", ours / floor, 1.0, "×", how)
    how = f"{ours:.2f} s : {dump:.2f} s, rows written as they came"
    yield Line(f"{workload} backfill, floor without unique and sort", ours / dump, None, "×", how)


def _ratio(run: _Run, case: str, workload: str, what: str, bar: float | None) -> Line:
    numbers = run(case, workload)
    ours, floor = numbers["ours"] * 1000, numbers["floor"] * 1000
    best = f"best {numbers['best_ours'] * 1000:.0f} : {numbers['best_floor'] * 1000:.0f}"
    return Line(f"{workload} {what}", ours / floor, bar, "×", f"median {ours:.0f} : {floor:.0f} ms, {best}")


def _reads(run: _Run, workload: str, *, judged: bool) -> Iterator[Line]:
    numbers = run("reads", workload)
    for way, floor, bar in (
        ("scan", "polars", 0.6),
        ("catalog", "duckdb", 0.5),
        ("query_sql", "duckdb", None),
        ("catalog", "polars", 0.6),
    ):
        parts = [f"{q} {numbers[f'{q}.{way}']:.1f} : {numbers[f'{q}.{floor}']:.1f}" for q in _QUESTIONS]
        what = f"{workload} reads, {way} : floor in {floor.capitalize()}"
        yield Line(what, numbers[way] / numbers[floor], bar if judged else None, "×", "; ".join(parts) + " ms")


_QUESTIONS: Final = ("symbol", "day", "year", "mean")


def _growth(run: _Run, workloads: list[str]) -> Iterator[Line]:
    times = [run("increment", workload)["best_ours"] * 1000 for workload in workloads]
    how = ", ".join(f"{10 * 2**i} years {time:.0f} ms" for i, time in enumerate(times))
    yield Line("increment, most to fewest years stored", times[-1] / times[0], 1.15, "×", how + " (best)")


def _dagster() -> Iterator[Line]:
    if find_spec("benchmarks.dagster_range") is None:
        return
    from benchmarks.dagster_range import measure

    measured: Callable[[], _Numbers] = measure
    numbers = measured()
    how = f"{numbers['dagster_range_seconds']:.1f} s : {numbers['dagster_empty_seconds']:.1f} s"
    yield Line("Dagster range run, 14 years : empty asset", numbers["dagster_range_ratio"], 1.3, "×", how)


def _report(lines: list[Line], arguments: list[str]) -> str:
    header = ["", "measured", "bar", "", "how"]
    rows = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *(x.cells() for x in lines))]
    versions = ", ".join(
        f"{name} {number}"
        for name, number in (
            ("historical_etl", version("historical-etl")),
            ("Python", platform.python_version()),
            ("Polars", pl.__version__),
            ("DuckDB", duckdb.__version__),
        )
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"""# Benchmark results

Written by `{" ".join(["python -m benchmarks", *arguments])}` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.
Machine: {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()} {platform.release()}.
Load at the end {load}. {versions}.

Prices are generated: W1 is 500 symbols × 10 years, W2 5,000 × 10, on XNYS sessions; rows arrive symbol by symbol, a
thousand symbols at a time. Both sides get the same frames, and the time to hand them over counts for neither.
The *floor* is plain Polars: read the year, concat, unique, sort, `write_parquet`, fsync, rename, fsync of the folder,
SHA-256. *Ours* is the package as users call it: lock, validation, returns, versions, read-back, progress and catalog
included. Ratios are of medians.

{chr(10).join(rows)}
"""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
