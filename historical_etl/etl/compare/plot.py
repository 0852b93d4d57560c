"""A picture of where two sources disagree: one panel for each measure, one line for each symbol, over time.

Matplotlib comes with the extra `plot`, and is imported when first used.
"""

import importlib
from io import BytesIO
from typing import Any, Final

import polars as pl

from historical_etl.errors import ConfigurationError
from historical_etl.etl.compare.comparison import MEASURES, Comparison
from historical_etl.sources.vendors.optional_clients import how_to_install

__all__ = ["draw", "require_matplotlib"]

#: So many symbols are drawn in a panel, those with the most disagreements.
_SYMBOLS: Final = 25
_WIDTH, _PANEL, _LINE = 11.0, 0.9, 0.22
_SMALLEST, _LARGEST = 8.0, 160.0


def require_matplotlib() -> None:
    """Raise unless pictures can be drawn.

    Raises:
        ConfigurationError: Matplotlib is not installed; names the extra.
    """
    _module("matplotlib.figure")


def draw(comparison: Comparison) -> bytes:
    """The disagreements as a PNG; larger ones are larger dots, red where the other source has more.

    Raises:
        ConfigurationError: Matplotlib is not installed; names the extra.
    """
    figures, canvases = _module("matplotlib.figure"), _module("matplotlib.backends.backend_agg")
    panels = [(measure, _most_disagreeing(comparison, measure)) for measure in MEASURES]
    heights = [_PANEL + _LINE * max(1, len(symbols)) for _, symbols in panels]
    figure: Any = figures.Figure(figsize=(_WIDTH, sum(heights) + 1.0), layout="constrained")
    canvases.FigureCanvasAgg(figure)
    figure.suptitle(
        f"{comparison.there.name} against {comparison.here.name}, {comparison.start} to {comparison.end}:"
        f" {comparison.keys:,} keys on both sides"
    )
    axes = figure.subplots(len(panels), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    for axis, (measure, symbols) in zip(axes, panels, strict=True):
        _panel(axis, comparison, measure, symbols)
    axes[-1].set_xlim(comparison.start, comparison.end)
    picture = BytesIO()
    # Without the name of the program and its version, the same comparison is the same file.
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()


def _panel(axis: Any, comparison: Comparison, measure: str, symbols: list[str]) -> None:  # noqa: ANN401 - an Axes
    row = comparison.agreement.row(by_predicate=pl.col("measure") == measure, named=True)
    share = "nothing to compare" if row["share"] is None else f"{row['share']:.2%} of {row['compared']:,} agree"
    more = comparison.disagreements.filter(pl.col("measure") == measure).get_column("symbol").n_unique() - len(symbols)
    rest = f"; {more:,} more symbol(s) disagree" if more else ""
    axis.set_title(f"{measure}: {share} within {row['tolerance']}{rest}", loc="left", fontsize="medium")
    axis.set_yticks(range(len(symbols)), symbols)
    axis.set_ylim(max(1, len(symbols)) - 0.5, -0.5)
    axis.grid(visible=True, alpha=0.3)
    points = comparison.disagreements.filter((pl.col("measure") == measure) & pl.col("symbol").is_in(symbols)).sort(
        "symbol", "date"
    )
    if points.is_empty():
        return
    places = {symbol: place for place, symbol in enumerate(symbols)}
    # By rank, since one wild value would make all others invisible; rounded, since equal ones differ in their last bit.
    steps = points.get_column("difference").abs().round(9).rank("dense").to_list()
    ranks = [rank / max(steps) for rank in steps]
    axis.scatter(
        points.get_column("date").to_list(),
        [places[symbol] for symbol in points.get_column("symbol")],
        s=[_SMALLEST + (_LARGEST - _SMALLEST) * rank**3 for rank in ranks],
        c=["tab:red" if difference > 0 else "tab:blue" for difference in points.get_column("difference")],
        alpha=0.5,
        linewidths=0,
    )


def _most_disagreeing(comparison: Comparison, measure: str) -> list[str]:
    of_it = comparison.disagreements.filter(pl.col("measure") == measure)
    counts = of_it.group_by("symbol").len().sort("len", "symbol", descending=[True, False]).head(_SYMBOLS)
    return sorted(counts.get_column("symbol"))


def _module(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The package {error.name or 'matplotlib'!r}, which draws pictures, is not installed",
            where="--plot",
            todo=f"{how_to_install('plot')}, or leave --plot out: --output writes all rows",
        ) from None
