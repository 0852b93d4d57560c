"""Events that were named and are no more: those that the price or adj_close shows happened all the same."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Final, Literal

import polars as pl

from historical_etl.quality.event_sessions import in_words
from historical_etl.quality.price_series import Line
from historical_etl.quality.reported_days import ALIKE, NEARBY
from historical_etl.schema import ORDER

__all__ = ["NOT_RESTATED", "NO_MORE", "Verdict", "Withdrawn", "named_no_more"]

NO_MORE: Final = "the source names no more"
#: Words of the note of a split that is named, and taken out of no price.
NOT_RESTATED: Final = "before that day were not restated by it"
#: What was stored was restated by a split, or was not; or nothing was stored before its day that could have been.
Verdict = Literal["restated", "not_restated", "unknown"]
_VALUES: Final = ("split", "dividend")


@dataclass(frozen=True)
class Withdrawn:
    """Events that were named and are no more.

    Attributes:
        kept: what stays all the same: symbol, day, split, dividend, and words.
        gone: of splits that were taken out of the prices, and go: symbol and day, and words.
    """

    kept: list[tuple[str, date, float, float, str]] = field(default_factory=list[tuple[str, date, float, float, str]])
    gone: dict[tuple[str, date], str] = field(default_factory=dict[tuple[str, date], str])


def named_no_more(
    before: pl.DataFrame,
    named: pl.DataFrame,
    line: Callable[[str], Line],
    restated: Callable[[str, date, float], Verdict],
    rebuilt: Collection[str] = (),
) -> Withdrawn:
    """What to keep of events that are not named again, and what goes.

    An event that is named with another value, or likewise on a day nearby, is corrected and not kept.

    Args:
        before: the events that were named on days that the source was asked for again, with `in_close`.
        named: the events that it names now, columns `ACTIONS`.
        line: gives the bars of a symbol.
        restated: whether what is stored was restated by a split that is not in the close.
        rebuilt: symbols whose history is replaced since a person asked for it: what nothing shows goes.
    """
    gone = before.join(named, on=[*ORDER, *_VALUES], how="anti").sort(ORDER)
    found = Withdrawn()
    if gone.is_empty():
        return found
    mine = named.filter(pl.col("symbol").is_in(gone.get_column("symbol").unique().implode()))
    names: dict[str, list[tuple[date, float, float]]] = {}
    for symbol, day, split, dividend in mine.select(*ORDER, *_VALUES).iter_rows():
        names.setdefault(symbol, []).append((day, split, dividend))
    known = set(before.select(ORDER).iter_rows())
    bars_of = cache(line)
    for symbol, day, split, dividend, in_close in gone.select(*ORDER, *_VALUES, "in_close").iter_rows():
        # A name nearby that was there before is another event, as of one who pays every week.
        others = [one for one in names.get(symbol, ()) if one[0] == day or (symbol, one[0]) not in known]
        lost_split = 1.0 if _is_named(day, split, 1.0, ((on, s) for on, s, _ in others)) else split
        lost_cash = 0.0 if _is_named(day, dividend, 0.0, ((on, d) for on, _, d in others)) else dividend
        if (lost_split, lost_cash) == (1.0, 0.0):
            continue
        words: list[str] = []
        if not in_close and lost_split != 1:
            why, stays = _without_trace(restated(symbol, day, split), is_rebuilt=symbol in rebuilt)
            said = f"{NO_MORE} {in_words(lost_split, 0.0)} on {day}{why}"
            if stays:
                words.append(said)
            else:
                found.gone[symbol, day] = said
                lost_split = 1.0
        shown = (lost_split if in_close else 1.0, lost_cash)
        if shown != (1.0, 0.0):
            bars = bars_of(symbol)
            at = bars.at(day)
            if at is not None and bars.confirms(at, split if in_close else 1.0, dividend):
                words.append(f"{NO_MORE} {in_words(*shown)} on {day}, which the prices show")
            else:
                lost_split, lost_cash = (1.0, 0.0) if in_close else (lost_split, 0.0)
        if (lost_split, lost_cash) != (1.0, 0.0):
            found.kept.append((symbol, day, lost_split, lost_cash, "; ".join(words)))
    return found


def _without_trace(verdict: Verdict, *, is_rebuilt: bool) -> tuple[str, bool]:
    """Why a split that is not in the close stays or goes, in words, and whether it stays."""
    if verdict == "restated":
        return ", by which the stored prices were restated", True
    if verdict == "unknown" and not is_rebuilt:
        cannot = "which prices that are adjusted for splits cannot show"
        return f", {cannot}: it stays until `historical-etl backfill --rebuild`", True
    return ", and no price shows it: it is taken out of `actions`", False


def _is_named(day: date, value: float, nothing: float, names: Iterable[tuple[date, float]]) -> bool:
    """Whether there is nothing to name, or something is named for it."""
    return value == nothing or any(
        on == day or (abs(on - day) <= NEARBY and abs(other / value - 1) <= ALIKE)
        for on, other in names
        if other != nothing
    )
