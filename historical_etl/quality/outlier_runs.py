"""Runs of bars on another level, which the next bars take back: an error of those bars alone.

Of two jumps, away and back, either side may be the wrong one. The bars between are where those before and after agree,
are far more, and none of those between is stored. Else the symbol is held, once for both jumps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import log
from typing import Final

from historical_etl.quality.spikes import BOUND, has_come_back, proposal
from historical_etl.quality.suspicion import Suspicion

__all__ = ["Days", "Jump", "with_runs"]

#: No more bars than this are an error of their own; beyond, it is another basis.
_LONGEST: Final = 20
#: Likewise where they moved as a split would make them, by less than any market does: only beside stored bars.
_LONGEST_SMALL: Final = 5
#: As many bars stand before as after, or more, and so many times as many on both sides together. What is stored before
#: is not counted: it is known.
_TIMES_AS_MANY: Final = 5


@dataclass(frozen=True)
class Jump:
    """A suspicious jump, the warning about it once it is accepted, and whether nothing but its size is known of it.

    Of such a one that is below the bound the size is that of a split, or of the way back.
    """

    suspicion: Suspicion
    words: Sequence[str]
    is_plain: bool


@dataclass(frozen=True)
class Days:
    """The sessions in view that a symbol has a bar of, and those that are stored."""

    all: Sequence[date]
    stored: frozenset[date]


def with_runs(jumps: Sequence[Jump], days: Callable[[], Days]) -> list[Jump]:
    """The jumps of a symbol, by date; two that lead away and back are one, of the bars between or of the symbol."""
    if len(jumps) == 1:
        return list(jumps)
    mine = days()
    found: list[Jump] = []
    outside: set[date] = set()  # the bars of runs, which stand on no side
    at, since = 0, date.min
    while at < len(jumps):
        last = _way_back(jumps, at)
        before = [day for day in mine.all if since <= day < _first(jumps[at]) and day not in outside]
        if last is not None and (run := _run(jumps, at, last, mine, before)) is not None:
            outside |= {day for day in mine.all if _first(run) <= day <= (run.suspicion.through or date.min)}
            found.append(run)
            at = last + 1
            continue
        is_next = last == at + 1
        found.append(_with(jumps[at], f"; {_first(jumps[at + 1])} takes it back") if is_next else jumps[at])
        at += 2 if is_next else 1
        since = _first(jumps[at - 1])
    return found


def _way_back(jumps: Sequence[Jump], at: int) -> int | None:
    """Which later jump leads back to the level from before one: the next one, or one after plain ones."""
    total = away = log(jumps[at].suspicion.ratio or 1)
    for number, jump in enumerate(jumps[at + 1 :], at + 1):
        total += log(jump.suspicion.ratio or 1)
        if has_come_back(total, away):
            return number
        if not jump.is_plain:
            return None
    return None


def _run(jumps: Sequence[Jump], at: int, last: int, days: Days, before: Sequence[date]) -> Jump | None:
    """The suspicion of the bars between two jumps; None if they are not plainly those that are wrong."""
    first, back = _first(jumps[at]), _first(jumps[last])
    run = [day for day in days.all if first <= day < back]
    until = _first(jumps[last + 1]) if last + 1 < len(jumps) else date.max
    after = [day for day in days.all if back <= day < until]
    known = bool(before) and before[-1] in days.stored
    is_small = abs(log(jumps[at].suspicion.ratio or 1)) < log(BOUND)
    enough = known or (
        not is_small and len(before) >= len(run) and len(before) + len(after) >= _TIMES_AS_MANY * len(run)
    )
    are_plain = jumps[at].is_plain and jumps[last].is_plain and days.stored.isdisjoint(run)
    longest = _LONGEST_SMALL if is_small else _LONGEST
    if not are_plain or not enough or len(run) > longest or len(after) < len(run):
        return None
    one = len(run) == 1
    bars = f"the bar of {first} alone is" if one else f"the {len(run)} bars from {first} to {run[-1]} alone are"
    repair = proposal("it" if one else "them", jumps[at].suspicion.ratio or 1)
    words = f", and {back} takes it back; no event explains it; {bars} kept out{repair}"
    return _with(jumps[at], words, through=run[-1])


def _with(jump: Jump, words: str, *, through: date | None = None) -> Jump:
    evidence = jump.suspicion.evidence.partition(";")[0] if through else jump.suspicion.evidence
    return replace(jump, suspicion=replace(jump.suspicion, evidence=evidence + words, through=through))


def _first(jump: Jump) -> date:
    return jump.suspicion.session or date.min
