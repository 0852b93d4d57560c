"""Where in a market's life a fault may fall, drawn at random so that faults do not hide one another."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from historical_etl_tests.proofs.simulation.market import SimMarket

__all__ = ["SMALL", "Draw"]

#: What is wrong is distinguished from a true move by its size: on a session with a larger true return it may not be.
SMALL = 0.012
#: How often a window is looked for, and by how many sessions a first history may be late.
_TRIES, _LATE = 30, 3


@dataclass
class Draw:
    """Draws symbols and sessions; a symbol that a grave fault has is left alone for a while around it."""

    market: SimMarket
    rng: random.Random
    first: int
    last: int
    taken: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Symbols that keep their ticker."""
        return [listing.symbol for listing in self.market.listings if listing.formerly is None]

    def day(self, index: int) -> date:
        return self.market.sessions[index]

    def window(self, longest: int, shortest: int = 1) -> tuple[int, int]:
        length = self.rng.randint(shortest, longest)
        begin = self.rng.randint(self.first, max(self.first, self.last - length))
        return begin, begin + length

    def common(self, longest: int) -> tuple[int, int]:
        """A window for what all have: nobody's first history comes in it, and no grave fault begins with it.

        What is null in a first history is null and nobody misses it; an ex-date without a bar tells nothing.
        """
        begins = {day for x in self.market.listings for day in (x.first, x.formerly and x.formerly[1]) if day}
        graves = {low for spans in self.taken.values() for low, _ in spans}
        begin, end = self.window(longest)
        for _ in range(_TRIES):
            near = (self.day(max(0, begin - _LATE)), self.day(end))
            if begin not in graves and not any(near[0] <= day <= near[1] for day in begins):
                break
            begin, end = self.window(longest)
        return begin, end

    def grave(self, longest: int, fits: Callable[[str, int, int], bool] | None = None) -> tuple[str, int, int] | None:
        """A symbol that trades around a window and has no other grave fault near it."""
        for _ in range(200):
            symbol = self.rng.choice(self.names)
            begin, end = self.window(longest)
            if self.is_free(symbol, begin, end) and (fits is None or fits(symbol, begin, end)):
                self.take(symbol, begin, end)
                return symbol, begin, end
        return None

    def is_free(self, symbol: str, begin: int, end: int) -> bool:
        clash = any(begin <= high + 12 and low <= end + 12 for low, high in self.taken.get(symbol, []))
        return not clash and self.market.trades(symbol, self.day(begin - 6), self.day(min(end + 6, self.last + 30)))

    def is_calm(self, symbol: str, begin: int, end: int) -> bool:
        """Whether nothing much happens on the first session of a window, nor any event in it or near it."""
        small = abs(self.market.moves(symbol).get(self.day(begin), 1.0)) < SMALL
        return small and not self.market.has_events(self.day(begin - 6), self.day(end + 1), symbol)

    def take(self, symbol: str, begin: int, end: int) -> None:
        self.taken.setdefault(symbol, []).append((begin, end))
