"""How far back the plan of an account gives bars, found out by a few requests for all symbols at once.

A vendor that cuts a range at the edge of the plan, without a word, answers as if the symbol had not traded before its
first bar. Whether it gives the session before that bar tells the two apart.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Final

from historical_etl.sources.vendors.subscription import PlanBook

__all__ = ["Reach"]

#: No plan is known that gives less than this many days.
_SURELY: Final = 360
#: Years that plans are sold by.
_USUAL: Final = (2, 1, 5, 10, 15, 20)
#: A first bar is as good as at an edge if no more than this many days lie between, such as a weekend.
_NEAR: Final = timedelta(days=5)

#: Whether the plan gives the bars of a day, by asking for them.
Gives = Callable[[date], bool]


class Reach:
    """Finds the edge of a plan, and notes it in the book. Safe to use from several threads at once.

    Args:
        book: of the account.
        sessions: the exchange's, between two days, both included.
    """

    def __init__(self, book: PlanBook, sessions: Callable[[date, date], Sequence[date]]) -> None:
        self._book = book
        self._sessions = sessions
        self._lock = threading.Lock()
        self._seen = (date.max, date.min)  # a day that the plan gave, and when it did

    @property
    def edge(self) -> date | None:
        """The first day that the plan gives; None where no edge is known."""
        plan = self._book.known
        return plan.first(self._book.today) if plan else None

    def look_before(self, first_bar: date | None, start: date, gives: Gives) -> None:
        """Tell "not given" from "not traded yet" where bars begin later than requested, or there are none.

        Args:
            first_bar: the day of the first bar.
            start: the first day that was asked for.
            gives: tells of a day whether it is given.
        """
        with self._lock:
            surely = self._book.today - timedelta(days=_SURELY)
            if self.edge is not None or start >= min(self._given, surely):
                return
            days = self._sessions(start, first_bar or self._book.today - timedelta(days=1))
            if len(days) > 1:
                before = [len(days) - 2] if first_bar else []
                near = first_bar is not None and any(abs(first_bar - edge) <= _NEAR for edge in self._edges())
                self._find(days, [*before, 0] if near else [0, *before, *self._usual(days)], gives)
                begins = self._given == days[0]
            else:
                begins = first_bar is not None
            if begins:
                self._seen = start, self._book.today

    def after(self, refused: date, gives: Gives) -> date | None:
        """The first session that the plan gives, where it refused one; None where it gives none up to yesterday.

        Args:
            refused: the day that it does not give.
            gives: as above.
        """
        with self._lock:
            known = self.edge
            if known is not None and known > refused:  # another thread has found it meanwhile
                return known
            days = self._sessions(refused + timedelta(days=1), self._book.today - timedelta(days=1))
            # What is known may be a day behind: the plan moves on each day, by a clock that is not known.
            guesses = [*([0] if known else []), *self._usual(days), len(days) - 1]
            if not days or not self._find(days, guesses, gives, surely=False):
                return None
            return self.edge

    @property
    def _given(self) -> date:
        """The oldest day that the plan was seen to give today: tomorrow it may be another plan."""
        day, when = self._seen
        return day if when == self._book.today else date.max

    def _find(self, days: Sequence[date], guesses: Iterable[int], gives: Gives, *, surely: bool = True) -> bool:
        """Find the first of some sessions that is given, and note it; `surely` the last one is."""
        refused, given = -1, len(days) - 1 if surely else len(days)
        left = iter(guesses)
        while given - refused > 1:
            at = next((guess for guess in left if refused < guess < given), (refused + given) // 2)
            if gives(days[at]):
                given = at
            else:
                refused = at
        if given == len(days):
            return False
        self._seen = days[given], self._book.today
        if refused >= 0 or not surely:
            self._book.learn(first=days[given])
        return True

    def _edges(self) -> list[date]:
        """Where a plan of so many years would have its edge today."""
        today = self._book.today
        day = 28 if (today.month, today.day) == (2, 29) else today.day
        return [today.replace(year=today.year - years, day=day) for years in _USUAL]

    def _usual(self, days: Sequence[date]) -> list[int]:
        """The sessions on both sides of the edge that is the usual one."""
        at = sum(day < self._edges()[0] for day in days)
        return [at, at - 1]
