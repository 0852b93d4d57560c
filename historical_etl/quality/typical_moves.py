"""How a price usually moves, and by how much one explanation of a move must beat another. Moves are logarithms."""

from typing import Final

import polars as pl

__all__ = ["DECISIVE", "DECISIVE_FEW", "MANY_MOVES", "SMALLEST_MOVE", "decisive", "usual_move"]

#: The usual move: so many times the median one, and no symbol's counts as smaller.
_OF_MEDIAN, SMALLEST_MOVE = 1.25, 0.004
#: How much better one explanation must fit the price, in usual moves: with many moves in view, and with few.
DECISIVE, DECISIVE_FEW = 4.0, 10.0
MANY_MOVES: Final = 20


def usual_move(moves: pl.Expr) -> pl.Expr:
    """The usual size of some moves, with nulls among them; one value."""
    return pl.max_horizontal(_OF_MEDIAN * moves.abs().median(), pl.lit(SMALLEST_MOVE))


def decisive(usual: float, moves: int) -> float:
    """How much better an explanation must fit the price to be taken for the right one.

    Args:
        usual: the usual move.
        moves: from how many it was taken.
    """
    return (DECISIVE if moves >= MANY_MOVES else DECISIVE_FEW) * usual
