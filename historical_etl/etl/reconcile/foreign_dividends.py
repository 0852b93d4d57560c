"""Dividends that are paid in another currency than that of the prices: kept as they are, and no part of the prices."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from math import exp, isfinite
from typing import Final

import polars as pl

from historical_etl.quality.event_sessions import implied_event
from historical_etl.quality.price_series import Line

__all__ = ["ABROAD", "Foreign", "resolve_foreign"]

#: What is reported of one that adj_close contains.
ABROAD: Final = "in the currency of the prices"

_EventRow = tuple[str, date, float, float, bool, str]


@dataclass(frozen=True)
class Foreign:
    """What becomes of them.

    Attributes:
        shown: those that adj_close contains, as it has them: symbol, date, split, dividend in the prices' currency.
        messages: what is to be said of each, columns `quality.events.EVENTS`.
    """

    shown: list[tuple[str, date, float, float]]
    events: list[_EventRow]


def resolve_foreign(foreign: pl.DataFrame, line: Callable[[str], Line]) -> Foreign:
    """What is known of them in the currency of the prices: what adj_close contains, if anything.

    Args:
        foreign: columns `FOREIGN`.
        line: gives the bars of a symbol.
    """
    found = Foreign([], [])
    for symbol, day, dividend, currency in foreign.unique(maintain_order=True).iter_rows():
        if not (isfinite(dividend) and dividend > 0):
            continue
        cash = _contained(line(symbol), day)
        paid = f"a dividend of {dividend:g} {currency}"
        if cash is None:
            words = f"{paid} was paid on {day}, which is not the currency of the prices: it adjusts nothing"
            found.events.append((symbol, day, 1.0, dividend, True, words))
        else:
            words = f"{paid} was paid on {day}; {cash:g} {ABROAD}, as adj_close has it"
            found.shown.append((symbol, day, 1.0, cash))
            found.events.append((symbol, day, 1.0, cash, False, words))
    return found


def _contained(line: Line, day: date) -> float | None:
    """The cash that adj_close contains on a day; None if it contains none, or more than cash."""
    at = line.at(day)
    factor = None if at is None or line.days[at] != day else line.factors[at]
    if at is None or factor is None or factor <= line.noise[at]:
        return None
    split, cash, is_unexplained, _ = implied_event(exp(factor), line.closes[at], line.noise[at])
    return cash if split == 1 and not is_unexplained else None
