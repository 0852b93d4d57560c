"""Moves that no market makes: beyond any bound, taken back by the next bars, or a split that is applied in part.

All of it is about the ratio of one level to the one before. What it says of a repair is a proposal: nothing is changed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import log
from typing import Final

__all__ = ["BOUND", "PriceMove", "half_applied", "has_come_back", "is_turned_round", "proposal", "taken_back"]

#: No session multiplies or divides a price by this much without an event. The largest known falls of a day are of 90 %,
#: the largest rises of small companies about sevenfold; a person may accept the next one.
BOUND: Final = 8.0
#: What comes back within so many days is no price; beyond this only what units and splits make is looked for.
_NEXT_BARS: Final = timedelta(days=7)
#: It has come back if it is off by no more than this share of the move, as logarithms, or by this much.
_BACK_SHARE, _BACK = 0.1, 0.02
#: How far from a split its ratio is looked for in the prices: twofold falls and rises happen, larger ones hardly.
_NEAR_SPLIT, _NEAR_LARGE_SPLIT, _LARGE_SPLIT = timedelta(days=30), timedelta(days=120), 2.9
#: A split nearer to 1 is no larger than moves that happen.
_SMALLEST_TURNED: Final = 1.2
_UNITS: Final = (10.0, 100.0, 1000.0, 10_000.0, 1_000_000.0)
_NEAR_UNIT: Final = 0.05


@dataclass(frozen=True)
class PriceMove:
    """A move of the level into `day`, by `ratio`; `near` says that it has the size of a split or unit."""

    day: date
    ratio: float
    near: bool


def taken_back(day: date, ratio: float, earlier: Sequence[PriceMove], near: float) -> PriceMove | None:
    """The move that this one takes back; None if there is none.

    Args:
        day: of this move.
        ratio: likewise.
        earlier: moves into rows that were fetched with this one, and that nothing has taken back.
        near: the tolerance for moves of the size of a split or unit, whenever they were.
    """
    for move in reversed(earlier):
        if move.near and abs(move.ratio * ratio - 1) <= near:
            return move
        if day - move.day <= _NEXT_BARS and has_come_back(log(move.ratio * ratio), log(move.ratio)):
            return move
    return None


def has_come_back(off: float, move: float) -> bool:
    """Whether a level that is `off` from where it was before a move has come back; both are logarithms."""
    return abs(off) <= max(_BACK, _BACK_SHARE * abs(move))


def half_applied(day: date, ratio: float, splits: Iterable[tuple[date, float]]) -> tuple[date, float] | None:
    """The split near a move that has its ratio, upwards or downwards: some bars are on the basis of before it."""
    for ex_date, split in splits:
        size = max(split, 1 / split)
        reach = _NEAR_LARGE_SPLIT if size >= _LARGE_SPLIT else _NEAR_SPLIT
        off = min(abs(log(ratio * split)), abs(log(ratio / split)))
        if ex_date != day and abs(ex_date - day) <= reach and off <= max(_BACK, _BACK_SHARE * log(size)):
            return ex_date, split
    return None


def is_turned_round(ratio: float, split: float, *, adjusted: bool) -> bool:
    """Whether a level moved as by the reverse of the split that is named on it: 4:5 for 5:4.

    Args:
        ratio: of the level to the one before.
        split: as it is named; 1: none is.
        adjusted: whether the level is adjusted for splits, so that the wrong one was taken out of the right one.
    """
    size = abs(log(split))
    if size < log(_SMALLEST_TURNED):
        return False
    return abs(log(ratio) - (2 if adjusted else 1) * log(split)) <= max(_BACK, _BACK_SHARE * size)


def proposal(bars: str, ratio: float) -> str:
    """What would repair a move of the size of a unit in some bars, in words; empty for another."""
    size = max(ratio, 1 / ratio)
    unit = next((unit for unit in _UNITS if abs(size / unit - 1) <= _NEAR_UNIT), None)
    if unit is None:
        return ""
    verb = "divide" if ratio > 1 else "multiply"
    return f"; if only the unit changed, {verb} {bars} by {unit:g}"
