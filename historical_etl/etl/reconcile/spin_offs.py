"""Spin-offs that a source names: shares of another company, which have no value in its words.

What they were worth, adj_close alone has. It is held against the price as a dividend of that worth is, and a spin-off
is in `actions` with a note, and without cash: nobody was paid any.
"""

from collections.abc import Callable
from datetime import date
from math import exp, log

import polars as pl

from historical_etl.etl.reconcile.foreign_dividends import Foreign
from historical_etl.quality.price_series import Line
from historical_etl.schema import ORDER
from historical_etl.sources.base import SHARES_OF

__all__ = ["spun_off"]


def spun_off(spin_offs: pl.DataFrame, named: pl.DataFrame, line: Callable[[str], Line], *, in_close: bool) -> Foreign:
    """What adj_close has of spin-offs, and what is said of them.

    Args:
        spin_offs: columns `FOREIGN`; the currency names whose shares they are, the dividend how many for each.
        named: the splits and dividends that are named, columns `ACTIONS`: one of the same day is noted beside it.
        line: gives the bars of a symbol.
        in_close: whether the close jumps with a split.
    """
    found = Foreign([], [])
    paid = spin_offs.filter(pl.col("dividend").is_finite(), pl.col("dividend") > 0).unique(maintain_order=True)
    days = paid.group_by(ORDER, maintain_order=True).agg("dividend", "currency")
    for symbol, day, rates, shares in days.iter_rows():
        parts = [
            f"{of.removeprefix(SHARES_OF)} ({rate:g} new for each)" for rate, of in zip(rates, shares, strict=True)
        ]
        words = f"a spin-off of {' and '.join(parts)} on {day}"
        beside = named.filter(pl.col("symbol") == symbol, pl.col("date") == day).unique()
        split, cash = float(beside["split"].product()), float(beside["dividend"].sum())
        worth = _worth(line(symbol), day, split if in_close else 1.0, cash)
        if worth is None:
            words += ", which is not in the adjusted prices"
        else:
            found.shown.append((symbol, day, 1.0, worth))
        found.events.append((symbol, day, split, cash, False, words))
    return found


def _worth(line: Line, day: date, split: float, cash: float) -> float | None:
    """What adj_close contains for each new share beside a split and a dividend; None if that is nothing."""
    at = line.at(day)
    factor = None if at is None or line.days[at] != day else line.factors[at]
    if at is None or factor is None or not split > 0:
        return None
    before = line.closes[at - 1] / split
    worth = before * (1 - exp(log(split) - factor)) - cash
    return worth if worth > before * line.noise[at] else None
