"""Why rows of a symbol are held: what the judgements of levels, events and standstills give, and the ledger records."""

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

__all__ = ["HELD_BACK", "NEAR_SPLIT", "Code", "Suspicion"]

#: How near two ratios are that mean the same split.
NEAR_SPLIT: Final = 0.02

Code = Literal[
    "level_jump",
    "break_after_gap",
    "no_overlap",
    "other_history",
    "incomplete_history",
    "stale",
    "unexplained_event",
    "adj_close",
    "refused",
    "other_basis",
]
#: The one code under which rows are stored: without their `adj_close`.
HELD_BACK: Final = "adj_close"


@dataclass(frozen=True)
class Suspicion:
    """Why a symbol's rows are held: the rule, what was seen, the ratio of levels, and the session of a jump.

    `against` is the session that the jump was seen against: without the bars of both nothing new is learnt of it.
    `through` is the last of the bars from `session` on that alone are kept out; None: the whole symbol is.
    """

    code: Code
    evidence: str
    ratio: float | None = None
    session: date | None = None
    against: date | None = None
    through: date | None = None

    def same_as(self, other: "Suspicion") -> bool:
        """Whether both speak of the same thing; the words may differ."""
        if (self.code, self.session) != (other.code, other.session):
            return False
        if self.ratio is None or other.ratio is None:
            return self.ratio is other.ratio
        return abs(self.ratio / other.ratio - 1) <= NEAR_SPLIT
