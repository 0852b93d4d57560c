"""The sessions of a symbol with the moves of its price and of adj_close / close, and what they show of a named event.

Moves are logarithms here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import exp, log
from typing import Final

import polars as pl

from historical_etl.quality.event_sessions import MATTERS, SAME, SAME_SHARE
from historical_etl.quality.suspicion import NEAR_SPLIT, Suspicion
from historical_etl.quality.typical_moves import decisive, usual_move

__all__ = ["Line", "line_of"]

#: So many sessions off a name may be dated.
_OFF: Final = 5
#: Of the size of a split a factor may be off by this share: a dividend may go with it.
_BESIDE: Final = 0.1


@dataclass(frozen=True)
class Line:
    """The sessions of a symbol, the moves of the price and of adj_close / close into each, and stored to new closes."""

    days: Sequence[date]
    closes: Sequence[float]
    moves: Sequence[float | None]
    factors: Sequence[float | None]
    noise: Sequence[float]
    levels: Sequence[float | None]
    decisive: float

    def at(self, named_on: date) -> int | None:
        """The session on which a named event takes effect; None if there is none in view, or none before it."""
        at = next((at for at, day in enumerate(self.days) if day >= named_on), 0)
        return at if at > 0 and self.moves[at] is not None else None

    def around(self, at: int) -> list[int]:
        """The sessions that an event may be named on by mistake, the nearest ones first."""
        near = range(max(at - _OFF, 1), min(at + _OFF + 1, len(self.days)))
        return sorted(near, key=lambda other: abs(other - at))

    def shows(self, at: int, size: float) -> bool:
        """Whether a session looks more like a split than like none, by the price or by the factor."""
        move, factor = self.moves[at], self.factors[at]
        by_factor = factor is not None and abs(factor - size) < abs(factor)
        by_price = move is not None and abs(move + size) < abs(move)
        return by_factor or (by_price and (factor is None or abs(size) > self.decisive))

    def plainly_shows(self, at: int, size: float) -> bool:
        """Whether a session looks like nothing but such a split."""
        move, factor = self.moves[at], self.factors[at]
        if move is None or abs(move + size) > max(NEAR_SPLIT, min(self.decisive, abs(size) / 2)):
            return False
        follows = factor is not None and abs(factor - size) <= NEAR_SPLIT * abs(size) + _BESIDE * abs(size)
        return follows or abs(size) > self.decisive

    def contradicts(self, at: int, size: float) -> bool:
        """Whether the price says that there was no such split, or adj_close does where the price does not show it."""
        move, factor = self.moves[at], self.factors[at]
        if move is None or self.shows(at, size):
            return False
        by_factor = factor is not None and abs(factor) <= self.noise[at] and abs(size) > MATTERS
        return by_factor or self.margin(at, size) > 1

    def margin(self, at: int, size: float) -> float:
        """How much better the price fits no such split than one: from 1 on it alone says that there was none."""
        move = self.moves[at]
        return 0.0 if move is None else (abs(move + size) - abs(move)) / self.decisive

    def fits_factor(self, at: int, split: float, dividend: float) -> float | None:
        """How far the move of the factor is from an event's; None if it shows another one, or none."""
        factor = self.factors[at]
        if factor is None or abs(factor) <= self.noise[at]:
            return None
        off, size = min((abs(factor - size), abs(size - log(split))) for size in self._sizes(at, split, dividend))
        return off if off <= self.noise[at] + SAME + SAME_SHARE * size else None

    def off_price(self, at: int, split: float, dividend: float) -> float:
        """How far the move of the price is from an event's."""
        return abs((self.moves[at] or 0.0) + self._sizes(at, split, dividend)[0])

    def confirms(self, at: int, split: float, dividend: float) -> bool:
        """Whether the price or the factor shows an event."""
        return self.fits_factor(at, split, dividend) is not None or self.plainly_shows(
            at, self._sizes(at, split, dividend)[0]
        )

    def _sizes(self, at: int, split: float, dividend: float) -> list[float]:
        """How an event may move the factor: by its cash against the price before, or after."""
        before = self.closes[at - 1] / split
        sizes = [log(split) - log(1 - dividend / before)] if dividend < before else []
        return [*sizes, log(split) + log(1 + dividend / self.closes[at])]

    def is_restated(self, at: int, size: float) -> bool:
        """Whether stored bars before a session differ from fetched ones by the ratio of a split, and nothing jumps."""
        level, move = self.levels[at - 1], self.moves[at]
        if level is None or move is None or abs(move) > max(self.decisive, abs(size) / 2):
            return False
        return abs(level - size) <= NEAR_SPLIT

    def suspicion(self, at: int, named_on: date, split: float) -> Suspicion:
        """Why a symbol is held whose prices do not show a split that is named."""
        moved = f"the price moved by {exp(self.moves[at] or 0.0) - 1:+.1%} on {self.days[at]}"
        words = f"the source names a split of {split:g} on {named_on}, and {moved}"
        factor = "" if self.factors[at] is None else ", and adj_close does not contain it"
        way = "; a source that takes splits out of its prices has to say so with split_adjusted"
        return Suspicion("level_jump", words + factor + way, split, self.days[at], self.days[at - 1])


def line_of(rows: pl.DataFrame, history: pl.DataFrame | None = None) -> Line:
    """The line of some bars of a symbol.

    Args:
        rows: columns date, close, adj_close, sorted by date; `close_0` is what is stored for the session, if anything.
        history: more of its bars, to tell the usual move from.
    """
    factor, move = (pl.col("adj_close") / pl.col("close")).log(), (pl.col("close") / pl.col("close").shift(1)).log()
    parts = rows.select(
        "date",
        "close",
        move.alias("move"),
        (factor - factor.shift(1)).alias("factor"),
        (2e-4 + 0.022 / pl.col("adj_close").abs()).fill_null(0.0).alias("noise"),
        (pl.col("close_0") / pl.col("close")).log().alias("level"),
    )
    usual, moves = (rows if history is None else history).select(usual_move(move), move.count().alias("moves")).row(0)
    days, prices, sizes, factors, noise, levels = parts.get_columns()
    columns = (sizes.to_list(), factors.to_list(), noise.to_list(), levels.to_list())
    return Line(days.to_list(), prices.to_list(), *columns, decisive(usual, moves))
