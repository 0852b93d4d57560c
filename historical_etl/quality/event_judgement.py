"""What is to be said of the events of a symbol: that they agree, that a named value is off, or that adj_close is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from math import exp, inf, isfinite, log
from typing import Any, Final

from historical_etl.quality.event_sessions import (
    CONFIRMED_BY,
    IMPOSSIBLE_MOVE,
    MATTERS,
    SAME,
    SAME_SHARE,
    SHOWS_ALWAYS,
    TINY,
    EventSession,
    all_too_small,
    are_one,
    contained,
    for_shares_of_today,
    in_words,
    is_followed,
    is_for_old_shares,
    is_hardly_seen,
    is_not_seen,
    is_spike_of_close,
    is_too_small,
    is_unconfirmed,
    named_on_another_day,
    neighbours,
    of_others,
    session_of,
    shown_event,
    unit_between,
    unit_words,
)
from historical_etl.quality.spikes import proposal

__all__ = ["NOT_CONTAINED", "Contradiction", "Judgement"]

#: The note on a named event that adj_close does not contain.
NOT_CONTAINED: Final = f"adj_close contains {in_words(1.0, 0.0)}"

#: Between bars that are so far apart others are lacking, but for the closings of a war.
_HOLE: Final = timedelta(days=14)


@dataclass(frozen=True)
class Contradiction:
    """A session on which adj_close is not to be trusted, and why."""

    day: date
    words: str


@dataclass
class Judgement:
    """Judges the sessions with events of one symbol after the other."""

    answered: set[str]
    paid_elsewhere: Mapping[str, Sequence[float]]
    in_close: bool
    complete_until: date = date.max
    events: list[tuple[str, date, float, float, bool, str | None]] = field(default_factory=list)
    contradicted: dict[str, list[Contradiction]] = field(default_factory=dict[str, list[Contradiction]])
    warnings: list[str] = field(default_factory=list[str])

    def symbol(self, symbol: str, rows: Sequence[dict[str, Any]]) -> None:
        """Judge all sessions of a symbol that have an event; only what is new is reported."""
        given = (row for row in rows if row["log_g"] is not None and isfinite(row["log_g"]))
        sessions = [session_of(row, in_close=self.in_close) for row in given]
        sessions = for_shares_of_today(sessions)
        paid = [cash for at in sessions if (cash := contained(at)) > 0]
        paid += self.paid_elsewhere.get(symbol, ())
        taken = named_on_another_day(sessions)
        for at in sessions:
            if not at.is_new or at.day in taken:
                continue
            if at.is_named:
                self._named(symbol, at, paid)
            else:
                self._unnamed(symbol, at)
        if (tiny := all_too_small(sessions)) is not None:
            words = (
                f"the dividends up to {tiny.dividend:.6g} on {tiny.day} are below {TINY:.2%} of the price, adj_close "
                f"contains them, and the price fell as by a hundred times as much; multiplied by 100 they would fit"
            )
            self._contradict(symbol, tiny, words)
        for first, second in pairwise(sessions):
            if (first.is_new or second.is_new) and is_spike_of_close(first, second):
                words = (
                    f"the close is {exp(first.p):.6g} times the one before on {first.day}, which {second.day} takes "
                    f"back, and adj_close does not move with it"
                )
                self._contradict(symbol, second, words)
        for first, second in neighbours(sessions):
            if (first.is_new or second.is_new) and are_one(first, second, sessions):
                words = (
                    f"{contained(first):.6g} on {first.day} and {contained(second):.6g} on {second.day} look like one "
                    f"dividend that was given twice, and adj_close contains both"
                )
                self._contradict(symbol, second, words)

    def bare(self, symbol: str, rows: Sequence[dict[str, Any]]) -> None:
        """Judge the dividends of a symbol without adj_close: only the price can contradict their names."""
        named = [session_of(row, in_close=self.in_close) for row in rows]
        for at in (one for one in named if one.is_new and is_for_old_shares(one)):
            cash = round(at.dividend / at.split, 6)
            words = (
                f"named {in_words(at.split, at.dividend)} on {at.day}; the price shows {in_words(at.split, cash)}"
                f"{unit_words(at.split, at.split)}"
            )
            self._note(symbol, at, at.split, cash, words, unexplained=False)
        sessions = [at for at in named if at.split == 1 and at.dividend > 0]
        paid = [at.dividend for at in sessions] + [*self.paid_elsewhere.get(symbol, ())]
        for at in (one for one in sessions if one.is_new):
            is_none = at.yields >= IMPOSSIBLE_MOVE or is_not_seen(at)
            if is_none or is_hardly_seen(at):
                words = (
                    f"the dividend of {at.dividend:.6g} on {at.day} is {at.yields:.1%} of the price before, and the "
                    f"price moved by {exp(at.p) - 1:+.1%} only{of_others(at.dividend, paid) if is_none else ''}"
                )
                self._note(symbol, at, 1.0, at.dividend, words, unexplained=is_none)
            elif is_too_small(at, paid):
                words = (
                    f"the dividend of {at.dividend:.6g} on {at.day} is about a hundredth of the others, and the price "
                    f"fell as by a hundred times as much; multiplied by 100 it would fit"
                )
                self._note(symbol, at, 1.0, at.dividend, words, unexplained=True)
        for first, second in neighbours(sessions):
            if (first.is_new or second.is_new) and are_one(first, second, sessions):
                words = (
                    f"the dividends of {first.dividend:.6g} on {first.day} and {second.dividend:.6g} on {second.day} "
                    f"look like one that was given twice"
                )
                self._note(symbol, second, 1.0, second.dividend, words, unexplained=True)

    def _named(self, symbol: str, at: EventSession, paid: Sequence[float]) -> None:
        expected = at.expected(at.dividend)
        off = min((abs(at.g - move) for move in expected), default=inf)
        tolerance = at.noise + SAME + SAME_SHARE * abs(log(1 - min(at.yields, 0.5)))
        if off <= tolerance and at.yields < IMPOSSIBLE_MOVE:
            self._agreeing(symbol, at, paid)
            return
        split, cash, unexplained, _ = shown_event(at)
        unit = unit_between(at)
        by_share = unit in (at.split, 1 / at.split)
        if unit is not None and by_share:
            split, cash, unexplained = at.split, round(at.dividend / unit, 6), False
        elif unit is not None and not unexplained:
            split, cash = at.split if split == 1 else split, round(at.dividend / unit, 6)
        contained = f"contains {in_words(split, cash)}" if not unexplained else f"moves by a factor of {exp(at.g):.6g}"
        hint = "" if unit is None else unit_words(unit, at.split)
        seen = f"named {in_words(at.split, at.dividend)} on {at.named_on}; adj_close {contained}{hint}"
        by_factor = abs(at.p + at.g)
        by_name = at.distance(at.dividend) if at.yields < IMPOSSIBLE_MOVE else inf
        shows = not at.at_rest or off > SHOWS_ALWAYS
        agrees = shows and not unexplained and by_name - by_factor > at.decisive
        # That the split makes the difference is no chance: there the price need not show it.
        if agrees or (by_share and by_factor - by_name <= at.decisive):
            note = f"{seen}, and the price agrees with adj_close" if agrees else seen
            self._note(symbol, at, split, cash, note, unexplained=False)
        elif off < MATTERS:
            self._note(symbol, at, at.split, at.dividend, seen, unexplained=False)
        elif shows and by_factor - by_name > at.decisive:
            words = f"{seen}, and the price agrees with what is named"
            self._note(symbol, at, at.split, at.dividend, words, unexplained=False, warn=False)
            self._contradict(symbol, at, words)
        else:
            words = f"{seen}, and the price does not show which is right"
            self._note(symbol, at, at.split, at.dividend, words, unexplained=True, warn=False)
            self._contradict(symbol, at, words)

    def _agreeing(self, symbol: str, at: EventSession, paid: Sequence[float]) -> None:
        """Name and adj_close say the same: the price may still contradict both."""
        if is_not_seen(at):
            share = f" is {at.yields:.1%} of the price before {at.day}" if at.dividend else f" is named on {at.day}"
            moved = at.unsplit[1]
            words = (
                f"{in_words(at.split, at.dividend)}{share}, adj_close contains it, and "
                f"{'beside the split ' if moved != at.p else ''}the price moved by {exp(moved) - 1:+.1%} only"
                f"{of_others(at.dividend, paid)}"
            )
        elif is_too_small(at, paid):
            words = (
                f"the dividend of {at.dividend:.6g} on {at.day} is about a hundredth of the others, adj_close contains "
                f"it, and the price fell as by a hundred times as much; multiplied by 100 it would fit"
            )
        else:
            return
        self._note(symbol, at, at.split, at.dividend, words, unexplained=True, warn=False)
        self._contradict(symbol, at, words)

    def _unnamed(self, symbol: str, at: EventSession) -> None:
        split, cash, unexplained, note = shown_event(at)
        if is_unconfirmed(at):
            words = (
                f"the close of {at.day} is {exp(at.p):.6g} times the one before, and adj_close does not move with it: "
                f"no split of that ratio is named, the adjusted history was not restated for one, and fewer than "
                f"{CONFIRMED_BY} bars follow{proposal('the close', exp(at.p))}"
            )
            self._note(symbol, at, 1.0, 0.0, words, unexplained=True, warn=False)
            self._contradict(symbol, at, words)
            return
        if unexplained and at.g < 0 and not is_followed(at):
            if -at.g > MATTERS:
                self._note(symbol, at, 1.0, 0.0, f"{at.day}: {note}", unexplained=True, warn=False)
                self._contradict(symbol, at, f"on {at.day} {note}")
        elif unexplained:
            self._note(symbol, at, 1.0, 0.0, f"on {at.day} {note}", unexplained=True)
        if (split != 1 or at.g > 0) and is_not_seen(at):
            what = f"a dividend of {exp(at.g) - 1:.1%} of the price" if split == 1 else in_words(split, cash)
            words = f"adj_close contains {what} on {at.day}, and the price moved by {exp(at.p) - 1:+.1%} only"
            self._note(symbol, at, 1.0, 0.0, words, unexplained=True, warn=False)
            self._contradict(symbol, at, words)
        elif symbol in self.answered and not unexplained and abs(at.g) > MATTERS:
            is_due = at.day <= self.complete_until
            verb = "does not name" if is_due else "has not named yet"
            when = f"on {at.day}, which the source {verb}"
            if at.day - at.before > _HOLE:
                when = f"between {at.before} and {at.day}, and nothing between them is stored"
            note = f"adj_close contains {in_words(split, cash)} {when}"
            self._note(symbol, at, split, cash, note, unexplained=False, warn=is_due)

    def _note(
        self,
        symbol: str,
        at: EventSession,
        split: float,
        cash: float,
        note: str,
        *,
        unexplained: bool,
        warn: bool = True,
    ) -> None:
        self.events.append((symbol, at.named_on or at.day, split, cash, unexplained, note))
        for day in at.named_before:  # what is reported counts for all of them
            self.events.append((symbol, day, 1.0, 0.0, False, f"counted on {at.named_on}: {note}"))
        if warn:
            self.warnings.append(f"{symbol}: {note}")

    def _contradict(self, symbol: str, at: EventSession, words: str) -> None:
        self.contradicted.setdefault(symbol, []).append(Contradiction(at.day, words))
