"""`python -m benchmarks [--quick] [--peers FOLDER] [W1] [W2]`: run the cases, print ratios against their bars.

They are written to RESULTS.md; and unless it was a quick run, to `budget.json`, to be printed beside the next ones.
"""

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
from math import isfinite
from pathlib import Path
from statistics import geometric_mean
from typing import Final, NamedTuple

import duckdb
import polars as pl
from pydantic import BaseModel, Field

from benchmarks.budget import BUDGET, Budget
from benchmarks.cases import FOUR, PANEL, WHOLE
from benchmarks.peers.team import PeerResult

_RESULTS: Final = Path(__file__).with_name("RESULTS.md")
_Numbers = dict[str, float]


class Line(NamedTuple):
    """One line of the table. A line without a bar says something and is not judged."""

    what: str
    measured: float
    bar: float | None
    unit: str  # "×" for a ratio
    how: str
    beyond: float | None = None

    @property
    def short(self) -> bool:
        return self.bar is not None and self.measured > self.bar

    def cells(self, last: float | None) -> list[str]:
        """`last` is what the last full run measured."""
        digits = 2 if self.unit in ("×", "s") else 0
        mark = "" if self.bar is None else "**short**" if self.short else "pass"
        if self.beyond is not None and self.measured <= self.beyond:
            mark = "beyond"
        bar = "" if self.bar is None else f"≤ {self.bar:g} {self.unit}"
        before = "" if last is None else f"{last:.{digits}f}"
        return [self.what, f"{self.measured:.{digits}f} {self.unit}", before, bar, mark, self.how]


class Measured(BaseModel):
    """What a case printed."""

    numbers: dict[str, float]
    peers: dict[str, PeerResult] = Field(default_factory=dict[str, PeerResult])

    def of_peers(self, what: str, unit: float = 1000) -> str:
        """The medians of the peers, in milliseconds or whatever `unit` says of a second; or what is wrong with them."""
        said = [
            f"{name} {peer.fault or _short(peer.median(what) * unit)}"
            for name, peer in self.peers.items()
            if peer.fault or what in peer.seconds
        ]
        return "".join(f" : {words}" for words in said)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="W1 (500 symbols × 10 years), W2 (5,000 × 10); default: both")
    parser.add_argument(
        "--quick", action="store_true", help="each case once or twice, W1 only unless named, no Dagster"
    )
    parser.add_argument("--peers", type=Path, help="the folder with an environment for each peer: make bench PEERS=1")
    parser.add_argument("--scratch", type=Path, help="keep the generated prices here, for the next run")
    options = parser.parse_args()
    workloads: list[str] = options.workloads or (["W1"] if options.quick else ["W1", "W2"])
    unknown = set(workloads) - {"W1", "W2"}
    if unknown:
        parser.error(f"unknown workload(s): {', '.join(sorted(unknown))}")
    budget = Budget.load(BUDGET)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        run = _Run(options.scratch or Path(folder), 2 if options.quick else 5, options.peers)
        lines: list[Line] = []
        for line in _lines(run, workloads, quick=options.quick):
            print(" | ".join(line.cells(budget.ratios.get(line.what))), flush=True)
            lines.append(line)
    _RESULTS.write_text(_report(lines, budget, run.versions, sys.argv[1:]), encoding="utf-8")
    if not options.quick:
        budget.with_ratios({line.what: line.measured for line in lines if isfinite(line.measured)}).save(BUDGET)
    print(f"\n{sum(line.short for line in lines)} short of the bar; written to {_RESULTS}")


class _Run:
    """Runs each case in a process of its own, so that no case warms another or adds to its memory."""

    def __init__(self, scratch: Path, repeats: int, peers: Path | None) -> None:
        self._scratch = scratch
        self._repeats = repeats
        self._peers = peers
        #: Of the peers that ran.
        self.versions: dict[str, str] = {}

    def __call__(self, case: str, workload: str, *, peers: bool = True) -> Measured:
        arguments = [case, workload, self._scratch, str(self._repeats), (peers and self._peers) or ""]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.cases", *arguments], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{case} on {workload} failed:\n{done.stderr}")
        measured = Measured.model_validate_json(done.stdout.splitlines()[-1])
        self.versions |= {name: peer.version for name, peer in measured.peers.items() if peer.version}
        return measured


def _lines(run: _Run, workloads: list[str], *, quick: bool) -> Iterator[Line]:
    for workload in workloads:
        large = workload == "W2"
        yield from _backfill(run, workload)
        yield _ratio(run, "increment", workload, "one-day increment", *((0.2, 0.1) if large else (0.9, None)))
        yield _ratio(run, "reconcile", workload, "increment, against one that only judges and merges", 1.25)
        yield _ratio(run, "corrections", workload, "100 corrections in 3 years", *((0.3, 0.15) if large else ()))
        yield _ratio(run, "restate_1", workload, "restating 1 symbol, all years", *((0.15, 0.05) if large else ()))
        yield _ratio(run, "restate_80", workload, "restating 80 symbols (floor: 1)")
        yield _ratio(
            run, "dividends_80", workload, "80 dividends in one increment (floor: 1)", *((0.35, 0.15) if large else ())
        )
        yield from _reads(run, workload, judged=large)
        for case, what, bar in (("memory_increment", "increment", 220), ("memory_backfill", "backfill", 450)):
            memory = run(case, workload).numbers
            how = f"VmHWM of the whole process; {memory['before']:.0f} MB once everything is imported"
            yield Line(f"{workload} peak memory, {what}", memory["peak"], bar if large else None, "MB", how)
    if "W1" in workloads:
        yield from _growth(run, ["W1", "W1x20"] if quick else ["W1", "W1x20", "W1x40"])
        cold = run("cold", "W1").numbers
        yield Line("historical-etl --help, cold", cold["help"], 0.35, "s", "a process, bytecode there, best of some")
        yield Line("historical-etl status, cold", cold["status"], 0.8, "s", "a process, bytecode there, best of some")
    if not quick:
        if "W2" in workloads:
            yield _vendor()
        yield from _dagster()


def _backfill(run: _Run, workload: str) -> Iterator[Line]:
    measured = run("backfill", workload)
    numbers = measured.numbers
    ours, floor, dump = numbers["ours"], numbers["floor"], numbers["dump"]
    sizes = f"{numbers['mb']:.0f} : {numbers['floor_mb']:.0f} MB"
    how = f"{ours:.2f} : {floor:.2f}{measured.of_peers(WHOLE, 1)} s; {sizes}"
    bar, beyond = (1.0, 0.8) if workload == "W2" else (1.5, None)
    yield Line(f"{workload} backfill", ours / floor, bar, "×", how, beyond)
    how = f"{ours:.2f} s : {dump:.2f} s, rows written as they came"
    yield Line(f"{workload} backfill, floor without unique and sort", ours / dump, None, "×", how)


def _ratio(
    run: _Run, case: str, workload: str, what: str, bar: float | None = None, beyond: float | None = None
) -> Line:
    measured = run(case, workload)
    numbers = measured.numbers
    ours, floor = numbers["ours"] * 1000, numbers["floor"] * 1000
    best = f"best {numbers['best_ours'] * 1000:.0f} : {numbers['best_floor'] * 1000:.0f}"
    how = f"median {ours:.0f} : {floor:.0f}{measured.of_peers(WHOLE)} ms, {best}"
    return Line(f"{workload} {what}", ours / floor, bar, "×", how, beyond)


def _reads(run: _Run, workload: str, *, judged: bool) -> Iterator[Line]:
    measured = run("reads", workload)
    numbers = measured.numbers
    for way, floor, bar in (
        ("scan", "polars", 0.35),
        ("catalog", "duckdb", 0.5),
        ("query_sql", "duckdb", 0.7),
        ("catalog", "polars", None),
    ):
        parts = [f"{q} {numbers[f'{q}.{way}']:.1f} : {numbers[f'{q}.{floor}']:.1f}" for q in (*FOUR, PANEL)]
        what = f"{workload} reads, {way} : floor in {floor.capitalize()}"
        how = "; ".join(parts) + " ms; the panel does not count"
        yield Line(what, numbers[way] / numbers[floor], bar if judged else None, "×", how)
    for name, peer in measured.peers.items():
        what = f"{workload} reads, scan : {name}"
        if peer.fault:
            yield Line(what, float("nan"), None, "×", peer.fault)
            continue
        theirs = {q: peer.median(q) * 1000 for q in (*FOUR, PANEL)}
        ratio = numbers["scan"] / geometric_mean(theirs[q] for q in FOUR)
        yield Line(
            what, ratio, None, "×", "; ".join(f"{q} {numbers[f'{q}.scan']:.1f} : {theirs[q]:.1f}" for q in theirs)
        )


def _growth(run: _Run, workloads: list[str]) -> Iterator[Line]:
    times = [run("increment", workload, peers=False).numbers["best_ours"] * 1000 for workload in workloads]
    how = ", ".join(f"{10 * 2**i} years {time:.0f} ms" for i, time in enumerate(times))
    yield Line("increment, most to fewest years stored", times[-1] / times[0], 1.15, "×", how + " (best)", 1.0)


def _vendor() -> Line:
    # Faster than a vendor, so that its pace is not most of the time; the memory is that of our part all the same.
    command = [sys.executable, "-m", "benchmarks.vendor_backfill", "--rate", "200"]
    facts: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    how = f"{facts['symbols']:,} symbols × {facts['years']} years, {facts['rows']:,} rows in {facts['seconds']:.0f} s"
    return Line("peak memory, backfill from a vendor", facts["peak_mb"], 1024, "MB", how)


def _dagster() -> Iterator[Line]:
    if find_spec("benchmarks.dagster_range") is None:
        return
    from benchmarks.dagster_range import measure

    measured: Callable[[], _Numbers] = measure
    numbers = measured()
    how = f"{numbers['dagster_range_seconds']:.1f} s : {numbers['dagster_empty_seconds']:.1f} s"
    yield Line("Dagster range run, 14 years : empty asset", numbers["dagster_range_ratio"], 1.5, "×", how, 1.3)


def _report(lines: list[Line], budget: Budget, peers: dict[str, str], arguments: list[str]) -> str:
    header = ["", "measured", "last", "bar", "", "how"]
    table = [header, ["---"] * len(header), *(line.cells(budget.ratios.get(line.what)) for line in lines)]
    rows = ["| " + " | ".join(cells) + " |" for cells in table]
    versions = ", ".join(
        f"{name} {number}"
        for name, number in (
            ("historical_etl", version("historical-etl")),
            ("Python", platform.python_version()),
            ("Polars", pl.__version__),
            ("DuckDB", duckdb.__version__),
            *((f"peer {name}", number) for name, number in peers.items()),
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
included. Ratios are of medians; *last* is what the full run before measured. Peers come after the floor, each in a
process of its own, as its users call it and with the durability it comes with; whose rows are not ours is called wrong.

{chr(10).join(rows)}
"""


def _short(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
