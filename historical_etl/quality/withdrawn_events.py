"""Events that were named and are no more: those that the price or adj_close shows happened all the same."""

from collections.abc import Callable, Iterable
from datetime import date
from typing import Final

import polars as pl

from historical_etl.quality.event_sessions import in_words
from historical_etl.quality.price_series import Line
from historical_etl.quality.reported_days import ALIKE, NEARBY
from historical_etl.schema import ORDER

__all__ = ["NO_MORE", "named_no_more"]

NO_MORE: Final = "the source names no more"
_VALUES: Final = ("split", "dividend")

Withdrawn = tuple[str, date, float, float, str]


def named_no_more(before: pl.DataFrame, named: pl.DataFrame, line: Callable[[str], Line]) -> list[Withdrawn]:
    """What to keep: symbol, day, the split and the dividend that are not named again, and words.

    An event that is named with another value, or likewise on a day nearby, is corrected and not kept.

    Args:
        before: the events that were named on days that the source was asked for again, with `in_close`.
        named: the events that it names now, columns `ACTIONS`.
        line: gives the bars of a symbol.
    """
    gone = before.join(named, on=[*ORDER, *_VALUES], how="anti").sort(ORDER)
    if gone.is_empty():
        return []
    mine = named.filter(pl.col("symbol").is_in(gone.get_column("symbol").unique().implode()))
    names: dict[str, list[tuple[date, float, float]]] = {}
    for symbol, day, split, dividend in mine.select(*ORDER, *_VALUES).iter_rows():
        names.setdefault(symbol, []).append((day, split, dividend))
    known = set(before.select(ORDER).iter_rows())
    lines: dict[str, Line] = {}
    withdrawn: list[Withdrawn] = []
    for symbol, day, split, dividend, in_close in gone.select(*ORDER, *_VALUES, "in_close").iter_rows():
        # A name nearby that was there before is another event, as of one who pays every week.
        others = [one for one in names.get(symbol, ()) if one[0] == day or (symbol, one[0]) not in known]
        lost_split = 1.0 if _is_named(day, split, 1.0, ((on, s) for on, s, _ in others)) else split
        lost_cash = 0.0 if _is_named(day, dividend, 0.0, ((on, d) for on, _, d in others)) else dividend
        if (lost_split, lost_cash) == (1.0, 0.0):
            continue
        bars = lines[symbol] = lines.get(symbol) or line(symbol)
        at = bars.at(day)
        if at is not None and bars.confirms(at, split if in_close else 1.0, dividend):
            words = f"{NO_MORE} {in_words(lost_split, lost_cash)} on {day}, which the prices show"
            withdrawn.append((symbol, day, lost_split, lost_cash, words))
    return withdrawn


def _is_named(day: date, value: float, nothing: float, names: Iterable[tuple[date, float]]) -> bool:
    """Whether there is nothing to name, or something is named for it."""
    return value == nothing or any(
        on == day or (abs(on - day) <= NEARBY and abs(other / value - 1) <= ALIKE)
        for on, other in names
        if other != nothing
    )
