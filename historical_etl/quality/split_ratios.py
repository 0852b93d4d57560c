"""Which split, and which dividend beside it, explain a move of the factor adj_close / close.

Splits have ratios of small terms, or of a round number to one. A dividend makes the factor larger and is small against
the price. What neither explains is no event that can be named.
"""

from bisect import bisect_right
from math import log
from typing import Final

__all__ = ["SMALLEST_SPLIT", "read_move"]

#: Below this a move is cash; from here on a ratio of small terms is a split.
SMALLEST_SPLIT: Final = 1.2
#: So near to a ratio of small terms, a move is that split and nothing else.
_EXACT: Final = 1e-3
#: A ratio of larger terms must be met so closely, and be no product of terms beyond this (33:70 is one of 2,310).
_EXACT_ODD, _LARGEST_PRODUCT, _SMALLEST_ODD = 2e-5, 2500, 1.15
#: Up to here ratios have a smaller term of three to five, and of two.
_LARGEST_OTHER, _LARGEST_HALF = 3, 6
_TERMS: Final = (1, 2, 3, 4, 5)
#: Up to which number ratios to one are multiples of what: all of them up to 30, then round ones only.
_STEPS: Final = ((30, 1), (100, 5), (1000, 50), (10_000, 500), (100_000, 5000))
#: The largest dividend beside a split, as a share of the new price, by how rare the ratio is.
_BESIDE_MANY, _BESIDE_TWO, _BESIDE_HALVES, _BESIDE_OTHERS = 0.1, 0.025, 0.02, 0.01


def _ratios() -> dict[float, float]:
    """Ratio → the largest dividend that may go with it."""
    found: dict[float, float] = {}
    for terms in (5, 4, 3):
        found |= {top / terms: _BESIDE_OTHERS for top in range(terms + 1, _LARGEST_OTHER * terms + 1)}
    found |= {top / 2: _BESIDE_HALVES for top in range(3, 2 * _LARGEST_HALF)}
    found |= {float(n): _BESIDE_MANY for limit, step in _STEPS for n in range(step, limit + 1, step) if n > 1}
    found |= {2.0: _BESIDE_TWO}
    found = {ratio: share for ratio, share in found.items() if ratio >= SMALLEST_SPLIT}
    # Between two large round numbers there is less room than a large dividend takes.
    return found | {1 / ratio: min(share, _BESIDE_MANY / 2) for ratio, share in found.items()}


_SHARES: Final = dict(sorted(_ratios().items()))
_SORTED: Final = list(_SHARES)


def read_move(move: float, noise: float) -> tuple[float, float] | None:
    """Split and what is left of a move of the factor, at least 1; None if no split and no dividend explains it.

    Args:
        move: the factor to the one of the session before.
        noise: how far rounding may have moved it.
    """
    if 1 <= move < SMALLEST_SPLIT:
        return 1.0, move
    exact = [ratio for ratio in _around(move) if abs(move / ratio - 1) <= max(_EXACT, min(noise, 5 * _EXACT))]
    if exact:
        return min(exact, key=lambda ratio: abs(log(move / ratio))), 1.0
    below = [ratio for ratio in _around(move) if 1 < move / ratio <= 1 + _SHARES[ratio]]
    if below:
        ratio = min(below, key=lambda ratio: (_terms(ratio), move / ratio))
        return ratio, move / ratio
    odd = _odd_ratio(move) if move < 1 else None  # upwards a distribution makes any move
    return None if odd is None else (odd, 1.0)


def _around(move: float) -> list[float]:
    """The known ratios that a move may be, and those just below it."""
    at = bisect_right(_SORTED, move * (1 + 5 * _EXACT))
    return [ratio for ratio in _SORTED[max(0, at - 12) : at] if move / ratio < 1 + _BESIDE_MANY]


def _terms(ratio: float) -> int:
    """The smaller term of a ratio: 1 for n:1 and 1:n."""
    size = max(ratio, 1 / ratio)
    return next((terms for terms in _TERMS if abs(size * terms - round(size * terms)) < _EXACT), _TERMS[-1])


def _odd_ratio(move: float) -> float | None:
    """A ratio of larger terms that a move meets to the last digits, as 33:70."""
    size = max(move, 1 / move)
    if size < _SMALLEST_ODD:
        return None
    bottom = 2
    while bottom * round(bottom * size) <= _LARGEST_PRODUCT:
        top = round(bottom * size)
        if abs(top / bottom / size - 1) <= _EXACT_ODD:
            return top / bottom if move > 1 else bottom / top
        bottom += 1
    return None
