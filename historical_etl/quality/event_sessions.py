"""One session with an event: what is named, what adj_close contains, what the price did, and what to ask of them.

Moves are logarithms. A dividend d moves the factor adj_close / close by 1 / (1 - d / close before), as Yahoo and CRSP
compute it, or by 1 + d / close after, and a split by its ratio where the close is not adjusted for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from math import exp, inf, log
from typing import Any, Final

from historical_etl.quality.spikes import BOUND
from historical_etl.quality.split_ratios import SMALLEST_SPLIT, read_move
from historical_etl.quality.typical_moves import DECISIVE_FEW, MANY_MOVES, decisive

__all__ = [
    "CONFIRMED_BY",
    "DAYS_OFF",
    "IMPOSSIBLE_MOVE",
    "LARGE_MOVE",
    "MATTERS",
    "SAME",
    "SAME_SHARE",
    "SHOWN",
    "SHOWS",
    "SHOWS_ALWAYS",
    "TINY",
    "UNITS",
    "WEEK",
    "EventSession",
    "all_too_small",
    "are_one",
    "contained",
    "for_shares_of_today",
    "implied_event",
    "in_words",
    "is_followed",
    "is_for_old_shares",
    "is_hardly_seen",
    "is_not_seen",
    "is_spike_of_close",
    "is_too_small",
    "is_unconfirmed",
    "named_on_another_day",
    "neighbours",
    "of_others",
    "session_of",
    "shown_event",
    "unit_between",
    "unit_words",
]

#: Name and factor agree up to this share of the dividend, or of the price.
SAME_SHARE, SAME = 0.1, 3e-4
#: A disagreement smaller than this share of the price is reported and causes no hold.
MATTERS: Final = 0.0075
#: A price that did not move may not have been traded; a dividend of this size would show all the same.
SHOWS_ALWAYS: Final = 0.2
#: A dividend of so many usual moves and this share of the price, while the price showed no more of it than this. One
#: is seen in a fall by so many usual moves.
LARGE_MOVE, SHOWS, _CALM, SHOWN = 6.0, 0.02, 3.0, 0.25
#: A dividend is about a hundredth of the others between these; so many others decide.
_ABOUT, _OTHERS = (0.5, 2.0), 2
#: A ratio of amounts is a unit's, or a split's, up to this.
_NEAR_UNIT: Final = 0.05
WEEK, _FRIDAY, _PAUSES = timedelta(days=7), 4, 2
#: No dividend is so large a share of the price before it.
IMPOSSIBLE_MOVE: Final = 0.9
#: The factor moves by so much in a split, as a logarithm; by less in what else pays.
_SPIKE: Final = log(1.9)
#: No company splits its shares and takes it back within so many days, without that somebody names it.
_BACK_WITHIN: Final = timedelta(days=45)
#: A split that nobody names, and for which the adjusted close was not restated, is certain once so many bars follow.
CONFIRMED_BY: Final = 3
#: Two dividends of the same amount within so few sessions are one; of about the same only on neighbouring sessions.
_TWICE_WITHIN, _SAME_AMOUNT, _ABOUT_SAME, _WEEKLY = 3, 1e-3, 0.1, timedelta(days=10)
#: Of two on neighbouring sessions this share must show in the price, and of each, up to so many usual moves.
_BOTH_SHOWN, _EACH_SHOWN, _LACKING = 0.66, 0.5, 3.0
#: A dividend that is named so many days off may be the one that adj_close contains.
DAYS_OFF: Final = timedelta(days=5)
#: So many dividends below this share of the price, and how surely the price must have fallen by more.
TINY, _SEVERAL, _DECISIVE_TOGETHER = 5e-4, 4, 3.0
UNITS: Final = (100.0, 0.01)


@dataclass
class EventSession:
    """A session with an event: what is named, what adj_close says, what the price did, all as logarithms."""

    day: date
    before: date
    close: float
    close_0: float
    factor: float
    p: float
    g: float
    noise: float
    is_new: bool
    usual: float
    moves: int
    is_confirmed: bool
    split: float
    dividend: float
    is_named: bool
    named_on: date | None
    named_before: tuple[date, ...]
    in_close: bool

    @property
    def decisive(self) -> float:
        """How much better an explanation must fit the price to be taken for the right one."""
        return decisive(self.usual, self.moves)

    @property
    def plain(self) -> float:
        """How large a move must be for the price to show it, whatever else it does."""
        return (LARGE_MOVE if self.moves >= MANY_MOVES else DECISIVE_FEW) * self.usual

    @property
    def at_rest(self) -> bool:
        """Whether the price did not move at all, so that it may not have been traded."""
        return self.p == 0.0

    def expected(self, dividend: float) -> list[float]:
        """The moves of the factor that the named split and some dividend may make."""
        found: list[float] = []
        for split in {self.split} if self.jumps else {1.0, self.split}:
            base = self.close_0 / split  # of a new share
            found += [log(split) - log(1 - dividend / base)] if dividend < base else []
            found.append(log(split) + log(1 + dividend / self.close))
        return found

    def distance(self, dividend: float) -> float:
        """How far the price is from the named split and some dividend."""
        return min((abs(self.p + move) for move in self.expected(dividend)), default=inf)

    @property
    def jumps(self) -> bool:
        """Whether the close moves with the named split, so that adj_close has to bridge it.

        Larger moves are judged in `quality.jumps`.
        """
        is_shown = abs(self.p + self.g + log(self.split)) < abs(self.p + self.g)
        return self.in_close and abs(self.p) < log(SMALLEST_SPLIT) and is_shown

    @property
    def contains_split(self) -> bool:
        """Whether the factor moves by the named split."""
        return abs(self.g - log(self.split)) < abs(self.g)

    @property
    def rest(self) -> float:
        """What the factor moves by beside the named split."""
        return self.g - log(self.split) if self.contains_split else self.g

    @property
    def unsplit(self) -> tuple[float, float]:
        """The moves of the factor and of the price, without the split where both show it."""
        is_shown = self.contains_split and abs(self.p + log(self.split)) < abs(self.p)
        return (self.rest, self.p + log(self.split)) if is_shown else (self.g, self.p)

    @property
    def yields(self) -> float:
        """The named dividend as a share of the price before."""
        return self.dividend / self.close_0 * (self.split if self.contains_split else 1.0)


def implied_event(move: float, close: float, noise: float) -> tuple[float, float, bool, str | None]:
    """The split, the dividend, whether it is unexplained, and a note, of a move of the factor that nobody names."""
    found = read_move(move, noise)
    if found is None:
        if move < 1:
            words = f"adj_close / close falls to {move:.6g} of what it was, which no dividend and no simple split makes"
        else:
            words = (
                f"adj_close / close rises to {move:.6g} times what it was: a spin-off, a special dividend of "
                f"{1 - 1 / move:.0%} of the price, or a split with a dividend"
            )
        return 1.0, 0.0, True, words
    split, rest = found
    return split, round((rest - 1) * close, 6) if rest > 1 else 0.0, False, None


def session_of(row: dict[str, Any], *, in_close: bool) -> EventSession:
    """A session from a row of the table of events; `in_close`: the source does not say that it takes splits out."""
    is_named = row["split_n"] is not None
    return EventSession(
        day=row["date"],
        before=row["date_0"],
        close=row["close"],
        close_0=row["close_0"],
        factor=log(row["adj_close"] / row["close"]),
        p=row["log_p"],
        g=row["log_g"],
        noise=row["noise"],
        is_new=row["is_new"],
        usual=row["usual"],
        moves=row["moves"],
        is_confirmed=row["date"] not in row["newest"],
        split=row["split_n"] if is_named else 1.0,
        dividend=max(row["dividend_n"] or 0.0, 0.0),
        is_named=is_named,
        named_on=row["named_on"],
        named_before=tuple(row["named_before"] or ()),
        in_close=in_close,
    )


def shown_event(at: EventSession) -> tuple[float, float, bool, str | None]:
    """The event that the factor alone shows."""
    if abs(at.g) <= at.noise:
        return 1.0, 0.0, False, None
    if at.is_named and at.split != 1 and -at.noise <= at.rest < log(SMALLEST_SPLIT):
        split = at.split if at.contains_split else 1.0
        return split, round(max(exp(at.rest) - 1, 0.0) * at.close, 6), False, None
    return implied_event(exp(at.g), at.close, at.noise)


def for_shares_of_today(sessions: Sequence[EventSession]) -> list[EventSession]:
    """The sessions, by date, with dividends that are named as they were paid, before later splits, put for a share now.

    A source whose close is adjusted for splits may name either; the one that adj_close contains is meant.
    """
    found: list[EventSession] = []
    later = 1.0
    for at in reversed(sessions):
        meant = at
        if later != 1 and at.dividend > 0 and _off(at, at.dividend / later) < _off(at, at.dividend) / 2:
            meant = replace(at, dividend=at.dividend / later)
        found.append(meant)
        later *= at.split
    return found[::-1]


def _off(at: EventSession, dividend: float) -> float:
    return min((abs(at.g - move) for move in at.expected(dividend)), default=inf)


def contained(at: EventSession) -> float:
    """The dividend that adj_close contains, in cash: as it is named where both agree."""
    if at.g <= at.noise or at.split != 1:
        return 0.0
    return at.dividend if at.dividend > 0 else (1 - exp(-at.g)) * at.close_0


def is_not_seen(at: EventSession) -> bool:
    """Whether an event is so large against the usual moves that the price would have shown it, and did not.

    Against a split speaks also what the price moved the other way.
    """
    size, followed = _size_and_followed(at)
    against = size - min(followed, 0.0) if at.split != 1 else size
    return _would_show(at, size) and against > at.plain and followed < SHOWN * size


def is_hardly_seen(at: EventSession) -> bool:
    """Whether the price followed such an event by much less than it moves by."""
    size, followed = _size_and_followed(at)
    return _would_show(at, size) and size > at.plain and size - followed > at.decisive


def _size_and_followed(at: EventSession) -> tuple[float, float]:
    """By how much an event moves the factor, and how much of it the price shows."""
    g, p = at.unsplit
    return (g, -p) if g > 0 else (-g, p)


def _would_show(at: EventSession, size: float) -> bool:
    return size > SHOWS and (not at.at_rest or size > SHOWS_ALWAYS)


def is_for_old_shares(at: EventSession) -> bool:
    """Whether the price shows the dividend of a split day as one that is named for each share before the split."""
    if at.split == 1 or at.dividend <= 0:
        return False
    return at.distance(at.dividend) - at.distance(at.dividend / at.split) > at.plain


def is_followed(at: EventSession) -> bool:
    """Whether the price moved as the factor says, by far more than it ever does: a split, whatever its terms."""
    return abs(at.p + at.g) <= at.decisive and abs(at.g) > max(2 * at.decisive, _SPIKE)


def is_unconfirmed(at: EventSession) -> bool:
    """Whether the newest closes alone are on another level: a split would have restated the adjusted history.

    Of sources that restate it, the newest adj_close is the close. Others leave the history and move the factor of new
    bars: there an absurd ratio waits for bars that follow, and any other only where the factor never moved before.
    """
    off = at.noise + SAME
    absurd = abs(at.g) >= log(BOUND) or abs(at.factor - at.g) <= off
    return not at.is_confirmed and abs(at.factor) > off and absurd and is_followed(at)


def is_spike_of_close(first: EventSession, second: EventSession) -> bool:
    """Whether the close jumps and comes back within weeks while adj_close goes on: two splits that nobody names."""
    if first.is_named or second.is_named or second.day - first.day > _BACK_WITHIN or abs(first.g) < _SPIKE:
        return False
    return abs(first.g + second.g) <= _NEAR_UNIT * abs(first.g) and abs(first.p + first.g) < abs(first.g) / 2


def is_too_small(at: EventSession, paid: Sequence[float]) -> bool:
    """Whether a dividend is a hundredth of the symbol's others, and the price fell as by the whole of it."""
    others = sorted(cash for cash in paid if cash != at.dividend)
    if at.dividend <= 0 or len(others) < _OTHERS:
        return False
    full = 100 * at.dividend
    if not _ABOUT[0] <= full / others[len(others) // 2] <= _ABOUT[1] or full >= at.close_0:
        return False
    return -at.p > _CALM * at.usual and abs(at.p - log(1 - full / at.close_0)) < 0.5 * -at.p


def all_too_small(sessions: Sequence[EventSession]) -> EventSession | None:
    """The last of several dividends so tiny that nobody pays them, whose days fell as by a hundred times as much."""
    tiny = [at for at in sessions if 0 < at.dividend < TINY * at.close_0 and at.g < 2 * TINY]
    if len(tiny) < _SEVERAL or not any(at.is_new for at in tiny):
        return None
    fell = -sum(at.p for at in tiny)
    full = sum(-log(1 - 100 * at.yields) for at in tiny)
    random = tiny[0].usual * len(tiny) ** 0.5
    return tiny[-1] if fell > _DECISIVE_TOGETHER * random and abs(fell - full) < 0.5 * full else None


def named_on_another_day(sessions: Sequence[EventSession]) -> set[date]:
    """Sessions of a named event, and of a move of the factor nearby that is the same event."""
    taken: set[date] = set()
    for at in sessions:
        if not at.is_named or at.dividend <= 0 or abs(at.g) > at.noise + SAME:
            continue
        for other in sessions:
            if other.is_named or other.day in taken or abs(other.day - at.day) > DAYS_OFF:
                continue
            if min(abs(other.g - move) for move in at.expected(at.dividend)) <= other.noise + SAME_SHARE * other.g:
                taken |= {at.day, other.day}
                break
    return taken


def neighbours(sessions: Sequence[EventSession]) -> Iterator[tuple[EventSession, EventSession]]:
    """Each session with a dividend in adj_close, and the next one."""
    paying = [at for at in sessions if contained(at) > 0]
    return pairwise(paying)


def are_one(first: EventSession, second: EventSession, sessions: Sequence[EventSession]) -> bool:
    """Whether two dividends are one that was counted twice."""
    apart = second.day - first.day
    if apart > WEEK:
        return False
    one, two = contained(first), contained(second)
    difference = abs(one / two - 1)
    both = first.g + second.g
    days = sorted(at.day for at in sessions if contained(at) > 0)
    pauses = sorted(later - earlier for earlier, later in pairwise(days))
    if len(pauses) > _PAUSES and pauses[len(pauses) // 2] <= _WEEKLY:  # it pays as often as that
        return False
    shown = -(first.p + second.p) > _BOTH_SHOWN * both and both > LARGE_MOVE * first.usual
    shown &= all(-at.p > _EACH_SHOWN * at.g for at in (first, second))
    if shown:
        return False
    if difference <= _SAME_AMOUNT and both > 2 * MATTERS:
        return apart <= timedelta(days=_TWICE_WITHIN) or _weekend_between(first.day, apart)
    lacking = both + first.p + second.p
    near = second.before == first.day and difference <= _ABOUT_SAME
    return near and lacking > _LACKING * first.usual and lacking > (1 - _BOTH_SHOWN) * both


def _weekend_between(first: date, apart: timedelta) -> bool:
    return apart <= timedelta(days=_TWICE_WITHIN + 2) and first.weekday() + _TWICE_WITHIN > _FRIDAY


def unit_between(at: EventSession) -> float | None:
    """How many times a named dividend is what adj_close contains, where a unit or the split makes the difference."""
    if at.dividend <= 0 or abs(at.rest) <= at.noise:
        return None
    units = [*UNITS, *((at.split, 1 / at.split) if at.split != 1 else ())]
    off = {unit: min((abs(at.g - m) for m in at.expected(at.dividend / unit)), default=inf) for unit in units}
    unit = min(off, key=lambda one: off[one])
    return unit if off[unit] <= at.noise + SAME_SHARE * abs(at.rest) else None


def unit_words(unit: float, split: float) -> str:
    """What may explain that a named dividend is `unit` times what adj_close contains."""
    if unit in UNITS:
        one, other = ("named", "contained") if unit > 1 else ("contained", "named")
        return f" (what is {one} divided by 100, if the unit is wrong, is what is {other})"
    return f" (divide what is named by {unit:g}: it is for a share on the other side of the split of {split:g})"


def of_others(cash: float, paid: Sequence[float]) -> str:
    """What would repair a dividend that is too large, by what the symbol paid else."""
    others = sorted(other for other in paid if other != cash)
    if others and _ABOUT[0] <= cash / others[len(others) // 2] / 100 <= _ABOUT[1]:
        return "; divide it by 100: it is about a hundred times the others"
    return "; divided by 100 it would fit" if cash else ""


def in_words(split: float, dividend: float) -> str:
    """An event in words."""
    parts = [f"a split of {split:g}"] if split != 1 else []
    parts += [f"a dividend of {dividend:.6g}"] if dividend else []
    return " and ".join(parts) or "nothing"
