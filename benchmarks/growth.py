"""`python -m benchmarks.growth [--scratch FOLDER]`: what a store costs as it grows.

By years: 500 symbols × 10, 20 and 40 years. By symbols: 500, 5,000 and 20,000 × 5 years. The numbers are written to
`GROWTH.md`, and drawn into `docs/images/growth-*.png`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.market import WORKLOADS

__all__ = ["SERIES"]

_TABLE: Final = Path(__file__).with_name("GROWTH.md")
_IMAGES: Final = Path(__file__).parent.parent / "docs/images"
_REPEATS: Final = 3
#: What grows, and the workloads from the smallest on.
_GROWING: Final[Mapping[str, Sequence[str]]] = {
    "years stored": ("W1", "W1x20", "W1x40"),
    "symbols": ("S500", "S5000", "S20000"),
}


class Series(NamedTuple):
    """One line of a picture: a number that a case prints."""

    picture: str
    label: str
    case: str
    number: str
    scale: float = 1.0


_UNITS: Final = {"memory": "MB"}
_FLOOR: Final = "floor in Polars"
SERIES: Final = (
    Series("increment", "increment", "increment", "ours", 1000),
    Series("increment", _FLOOR, "increment", "floor", 1000),
    Series("restatement", "1 symbol, all years", "restate_1", "ours", 1000),
    Series("restatement", "80 symbols", "restate_80", "ours", 1000),
    Series("restatement", f"{_FLOOR}, 1 symbol", "restate_1", "floor", 1000),
    *(
        Series("reads", label, "reads", f"{number}.scan")
        for number, label in (
            ("symbol", "one symbol, all years"),
            ("day", "one day"),
            ("year", "one year"),
            ("mean", "mean close of each symbol"),
        )
    ),
    Series("memory", "increment, peak", "memory_increment", "peak"),
    Series("memory", "backfill", "memory_backfill", "peak"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--scratch", type=Path, help="keep the generated prices here, for the next run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        scratch = options.scratch or Path(folder)
        measured = {name: _measured(name, scratch) for names in _GROWING.values() for name in names}
    _TABLE.write_text(_table(measured), encoding="utf-8")
    for picture in dict.fromkeys(series.picture for series in SERIES):
        _draw(picture, measured)


def _measured(workload: str, scratch: Path) -> dict[Series, float]:
    """The numbers of a workload; each case has a process of its own."""
    printed: dict[str, dict[str, float]] = {}
    for case in dict.fromkeys(series.case for series in SERIES):
        command = [sys.executable, "-m", "benchmarks.cases", case, workload, str(scratch), str(_REPEATS), ""]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        printed[case] = json.loads(done.stdout.splitlines()[-1])["numbers"]
        print(workload, case, {name: round(number, 3) for name, number in printed[case].items()}, flush=True)
    return {series: printed[series.case][series.number] * series.scale for series in SERIES}


def _size(workload: str, growing: str) -> int:
    return WORKLOADS[workload].symbols if growing == "symbols" else len(WORKLOADS[workload].years)


def _table(measured: Mapping[str, Mapping[Series, float]]) -> str:
    title = "# Growth\n\nWritten by `python -m benchmarks.growth`; medians of three, on a machine of two cores.\n"
    tables = ["\n".join(_rows(growing, names, measured)) for growing, names in _GROWING.items()]
    return "\n".join([title, *(f"{table}\n" for table in tables)])


def _rows(growing: str, names: Sequence[str], measured: Mapping[str, Mapping[Series, float]]) -> Iterator[str]:
    yield f"| {growing} | {' | '.join(f'{_size(name, growing):,}' for name in names)} | last : first |"
    yield f"|---|{'---|' * (len(names) + 1)}"
    for series in SERIES:
        numbers = [measured[name][series] for name in names]
        cells = " | ".join(f"{number:,.0f}" for number in numbers)
        what = f"{series.picture}: {series.label}, {_UNITS.get(series.picture, 'ms')}"
        yield f"| {what} | {cells} | {numbers[-1] / numbers[0]:.2f} |"


def _draw(picture: str, measured: Mapping[str, Mapping[Series, float]]) -> None:
    figure: Any = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(_GROWING), sharey=True)
    lines = [series for series in SERIES if series.picture == picture]
    for axis, (growing, names) in zip(axes, _GROWING.items(), strict=True):
        sizes = [_size(name, growing) for name in names]
        for series in lines:
            style = "--" if _FLOOR in series.label else "-"
            axis.plot(sizes, [measured[name][series] for name in names], style, marker="o", label=series.label)
        axis.set(xscale="log", yscale="log", xlabel=growing, xticks=sizes, xticklabels=[f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    others = {"years stored": "500 symbols", "symbols": "5 years"}
    for axis, growing in zip(axes, _GROWING, strict=True):
        axis.set_title(f"{picture}, {others[growing]}", fontsize=10)
    axes[0].set_ylabel(_UNITS.get(picture, "ms"))
    axes[0].legend(fontsize=8)
    # Without the name of the program and its version, the same numbers are the same file.
    figure.savefig(_IMAGES / f"growth-{picture}.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
