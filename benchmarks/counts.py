"""`python -m benchmarks.counts [--accept] [CASE ...]`: fail when a case does more than `budget.json` allows.

Each case runs twice: once so that all is imported and cached, and once to be counted, with the rows of the first time,
so that nothing counts of how those are made. No clock is read: what fails here fails anywhere.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from benchmarks.bench import HELD_BACK, Bench, after, commit, paying, scattered
from benchmarks.budget import BUDGET, Budget
from benchmarks.counting import BYTES, COUNTED, counting
from benchmarks.market import WORKLOADS

__all__ = ["CASES", "Change", "changes", "count"]

_WORKLOAD: Final = "C"
#: By how much bytes may grow: no two machines count the same.
_SLACK: Final = 0.005
#: What fell by more than this is worth a lower budget, or it may grow back unseen.
_FALL: Final = 0.1
_ACCEPT: Final = "make bench-check ACCEPT=1"
_Work = Callable[[Path], object]


def _backfill(bench: Bench) -> _Work:
    return lambda root: bench.backfill(root.with_name("empty"), bench.last[-1])


def _increment(bench: Bench) -> _Work:
    bench.now = after(bench.last[-HELD_BACK])
    return lambda root: bench.ours(root).run_incremental_etl()


def _corrections(bench: Bench) -> _Work:
    rows = scattered(bench, 0)
    return lambda root: commit(bench.ours(root), rows)


def _restate_1(bench: Bench) -> _Work:
    return _restated(bench, 1)


def _restate_80(bench: Bench) -> _Work:
    return _restated(bench, 80)


def _restated(bench: Bench, number: int) -> _Work:
    symbols, session = paying(bench, 0, number), bench.last[-HELD_BACK - 1]
    bench.fetcher.pay(symbols, session)
    bench.now = after(session)
    return lambda root: bench.ours(root).run_incremental_etl(symbols)


def _dividends_80(bench: Bench) -> _Work:
    bench.fetcher.pay(paying(bench, 0, 80), bench.last[-HELD_BACK])
    return _increment(bench)


CASES: Final[dict[str, Callable[[Bench], _Work]]] = {
    "backfill": _backfill,
    "increment": _increment,
    "corrections": _corrections,
    "restate_1": _restate_1,
    "restate_80": _restate_80,
    "dividends_80": _dividends_80,
}


def count(case: str, scratch: Path) -> dict[str, int]:
    """What one case does."""
    bench = Bench(WORKLOADS[_WORKLOAD], scratch, 1, remember=True)
    roots = [bench.stored()[1], bench.stored()[1]]
    work = CASES[case](bench)
    work(roots[0])
    with counting(roots[1].parent) as counts:
        work(roots[1])
    for root in roots:
        shutil.rmtree(root.parent)
    return counts.numbers


class Change(NamedTuple):
    """A count that is not what the budget has."""

    case: str
    counted: str
    budget: int | None
    now: int

    @property
    def fails(self) -> bool:
        slack = _SLACK if self.counted in BYTES else 0.0
        return self.budget is None or self.now > self.budget * (1 + slack)

    @property
    def fell(self) -> bool:
        """So far that the budget should follow."""
        return self.budget is not None and self.now < self.budget * (1 - _FALL)

    def __str__(self) -> str:
        if self.budget is None:
            return f"{self.case}: {self.counted} {self.now:,}, and there is no budget for it"
        share = f" ({self.now / self.budget - 1:+.1%})" if self.budget else ""
        return f"{self.case}: {self.counted} {self.budget:,} -> {self.now:,}, {self.now - self.budget:+,}{share}"


def changes(budget: Mapping[str, Mapping[str, int]], counts: Mapping[str, Mapping[str, int]]) -> list[Change]:
    """What differs so much from the budget that somebody should know."""
    found = [
        Change(case, counted, budget.get(case, {}).get(counted), now)
        for case, numbers in counts.items()
        for counted, now in numbers.items()
    ]
    return [change for change in found if change.fails or change.fell]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all; {', '.join(CASES)}")
    parser.add_argument("--accept", action="store_true", help="make what is counted the budget")
    parser.add_argument("--budget", type=Path, default=BUDGET, help="another file than %(default)s")
    options = parser.parse_args()
    cases: list[str] = options.cases or list(CASES)
    if unknown := set(cases) - set(CASES):
        parser.error(f"unknown case(s): {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="counts-") as folder:
        counts = {case: count(case, Path(folder)) for case in cases}
    _print(counts)
    budget = Budget.load(options.budget)
    if options.accept:
        budget.with_counts(counts).save(options.budget)
        print(f"\nThis is the budget now: {options.budget}")
        return
    sys.exit(_judge(budget, counts))


def _print(counts: Mapping[str, Mapping[str, int]]) -> None:
    width = max(len(case) for case in counts)
    print(" " * width, *(f"{counted:>14}" for counted in COUNTED))
    for case, numbers in counts.items():
        print(f"{case:<{width}}", *(f"{numbers[counted]:>14,}" for counted in COUNTED))


def _judge(budget: Budget, counts: Mapping[str, Mapping[str, int]]) -> int:
    """Print what changed; 1 if something grew."""
    found = changes(budget.counts, counts)
    grown = [change for change in found if change.fails]
    fallen = [change for change in found if change.fell]
    if found and budget.polars != pl.__version__:
        print(f"\nThe budget is of Polars {budget.polars or 'no version'}; this is {pl.__version__}")
    if fallen:
        print(f"\nLess than the budget; so that it stays so: {_ACCEPT}")
        print(*fallen, sep="\n")
    if grown:
        print("\nOver the budget:")
        print(*grown, sep="\n")
        print(f"If the work is worth it: {_ACCEPT}, and say why in the commit")
    print(f"\n{len(grown)} count(s) over the budget, {len(fallen)} well below it")
    return 1 if grown else 0


if __name__ == "__main__":
    main()
