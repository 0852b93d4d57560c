"""What becomes of a symbol whose adj_close contradicts the prices, or the events that its source names.

Of a symbol that is not stored, the bars are stored without `adj_close`. What is stored and good stays: a new history or
a new event that explains itself worse is held. `quality.events` says what a contradiction is.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date
from math import log
from typing import Final, Literal

import polars as pl

from historical_etl.etl.reconcile.foreign_dividends import ABROAD
from historical_etl.etl.reconcile.result import Base
from historical_etl.quality.events import Contradiction, Findings, judge_events
from historical_etl.quality.price_levels import on_shared_sessions
from historical_etl.quality.split_ratios import SMALLEST_SPLIT
from historical_etl.quality.suspicion import HELD_BACK, Suspicion
from historical_etl.schema import ORDER, symbols_in
from historical_etl.sessions import SessionCalendar

__all__ = ["Adjustments", "Decision"]

#: What to do with a symbol: hold its rows; store what was fetched without adj_close; take adj_close from the
#: stored rows, too; fill it in again; or store all as it is.
Kind = Literal["hold", "hold_back", "withdraw", "release", "store"]
_MOST_NAMED: Final = 3
#: The note on an event that only adj_close shows.
_BY_ADJ_CLOSE: Final = "adj_close"
#: Holds after whose acceptance two histories stand side by side in one series.
_BREAKS: Final = ("break_after_gap", "level_jump", "no_overlap", "other_history")


@dataclass(frozen=True)
class Decision:
    """What to do with a symbol, and why; `passed` is what a person has let pass of it."""

    kind: Kind
    suspicion: Suspicion
    passed: Suspicion | None = None


@dataclass(frozen=True)
class Adjustments:
    """Judges the adj_close of the fetched rows.

    Attributes:
        base: the version that it is held against.
        seen: what was fetched, columns `LEVELS`, sorted by (symbol, date).
        stored: the stored rows on its dates and next to it, likewise.
        line: `seen`, and of `stored` what was not fetched again, likewise.
        named: the events that the source names, and those that it named before; None: it names none.
        stored_of: all stored rows of a symbol.
        whole: symbols whose whole history was fetched.
        restated: symbols of which it replaces the stored one.
        newly_named: (symbol, date) of events that were not named before.
        is_increment: whether what is stored is complete but for new sessions.
        calendar: the exchange's sessions.
        long_gap: over more sessions than this without a bar nothing is judged: there it may be another security.
        is_accepted: whether a person has let a suspicion of a symbol pass.
        split_adjusted: whether the source says that it takes splits out of its prices.
        complete_until: events after this day may be named yet.
    """

    base: Base
    seen: pl.DataFrame
    stored: pl.DataFrame
    line: pl.DataFrame
    named: pl.DataFrame | None
    stored_of: Callable[[str], pl.DataFrame]
    whole: Collection[str]
    restated: Collection[str]
    newly_named: pl.DataFrame
    is_increment: bool
    calendar: SessionCalendar
    long_gap: int
    is_accepted: Callable[[str, Suspicion], bool]
    split_adjusted: bool
    complete_until: date

    def findings(self) -> Findings:
        """What is to be said of the events in view: of new names, and of rows that are new or have other prices."""
        answered = set(symbols_in(self.seen)) if self.named is not None else set[str]()
        return judge_events(
            self.line,
            self._judged if self.stored.height else None,
            self.named,
            answered,
            split_adjusted=self.split_adjusted,
            complete_until=self.complete_until,
            reported=self._reported(),
        )

    def _judged(self) -> pl.DataFrame:
        """The (symbol, date) of bars with the prices that are stored, but for those that new names tell of."""
        same = [pl.col(name).eq_missing(pl.col(f"{name}_0")) for name in ("close", "adj_close")]
        judged = on_shared_sessions(self.line, self.stored).filter(same)[list(ORDER)]
        return judged.join(self._since(judged), on=ORDER, how="anti") if self.newly_named.height else judged

    def _reported(self) -> pl.DataFrame | None:
        """The events with a note that adj_close shows them."""
        if self.base.actions is None:
            return None
        says, abroad = (pl.col("note").str.contains(words, literal=True) for words in (_BY_ADJ_CLOSE, ABROAD))
        return self.base.actions.filter(says & ~abroad)[list(ORDER)]

    def _since(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Of newly named events the bars that tell of them: an event may be dated on a day without one."""
        news = self.newly_named.select(ORDER).sort("date")
        days = bars.select("symbol", day="date").sort("day")
        found = news.join_asof(
            days, left_on="date", right_on="day", by="symbol", strategy="forward", check_sortedness=False
        )
        return found.drop_nulls("day").select("symbol", date="day")

    def decide(self, found: Findings) -> dict[str, Decision]:
        """What to do with symbols; nothing is said of those whose adj_close is as it should be."""
        open_holds = self.open_holds()
        if not found.contradicted and not open_holds:
            return {}
        fetched = set(symbols_in(self.seen))
        after_gaps = self._after_long_gaps(found)
        decisions: dict[str, Decision] = {}
        for symbol in sorted((set(found.contradicted) | set(open_holds)) & fetched):
            reasons = [why for why in found.contradicted.get(symbol, ()) if (symbol, why.day) not in after_gaps]
            reasons = self._without_accepted(symbol, reasons)
            if symbol in open_holds:
                decision = self._again(symbol, open_holds[symbol], reasons)
            else:
                decision = self._anew(symbol, reasons)
            if decision is not None:
                decisions[symbol] = decision
        return decisions

    def _after_long_gaps(self, found: Findings) -> set[tuple[str, object]]:
        """(symbol, session) of the first bars after long gaps, of symbols that contradict themselves."""
        if not found.contradicted:
            return set()
        mine = pl.col("symbol").is_in(list(found.contradicted))
        days = pl.concat([rows.filter(mine).select(ORDER) for rows in (self.seen, self.stored)]).unique().sort(ORDER)
        position = self.calendar.positions(pl.col("date"))
        apart = pl.when(pl.col("symbol") == pl.col("symbol").shift(1)).then(position - position.shift(1) - 1)
        return set(days.filter(apart > self.long_gap).iter_rows())

    def _without_accepted(self, symbol: str, reasons: Sequence[Contradiction]) -> Sequence[Contradiction]:
        """Without those on a session whose break a person has accepted: over it the factor may move in any way."""
        breaks = {why.session for why in self.base.accepted.get(symbol, ()) if why.code in _BREAKS}
        return [reason for reason in reasons if reason.day not in breaks] if breaks else reasons

    def open_holds(self) -> dict[str, Suspicion]:
        """The symbols that are stored without adj_close, and why."""
        known = [*self.base.accepted.items(), *self.base.held.items()]
        return {symbol: why for symbol, reasons in known for why in reasons if why.code == HELD_BACK}

    def _again(self, symbol: str, open_holds: Suspicion, reasons: Sequence[Contradiction]) -> Decision:
        if symbol not in self.whole:
            return Decision("hold_back", open_holds)
        suspicion = _suspicion(HELD_BACK, reasons) if reasons else None
        if suspicion is not None and not self.is_accepted(symbol, suspicion):
            return Decision("hold_back", suspicion)
        lacking = self.stored_of(symbol).join(self.seen.filter(pl.col("adj_close").is_not_null()), on=ORDER, how="anti")
        if lacking.height:
            return Decision("hold_back", open_holds, suspicion)
        words = "adj_close is as it was accepted" if reasons else "adj_close explains itself now"
        return Decision("release", Suspicion(HELD_BACK, words), suspicion)

    def _anew(self, symbol: str, reasons: Sequence[Contradiction]) -> Decision | None:
        is_stored = symbol in self.base.completeness.symbols.get_column("symbol")
        if symbol in self.restated and is_stored:
            before = self._contradicted_before(symbol)
            reasons = [reason for reason in reasons if reason.day not in before]
        if not reasons:
            return None
        hold_bars = is_stored and (self.is_increment or symbol in self.restated or self._is_stored(symbol, reasons))
        hold_bars = hold_bars or self._jumps_with_splits(symbol)
        suspicion = _suspicion("unexplained_event" if hold_bars else HELD_BACK, reasons)
        if self.is_accepted(symbol, suspicion):
            return Decision("store", suspicion, suspicion)
        return Decision("hold" if hold_bars else "withdraw" if is_stored else "hold_back", suspicion)

    def _is_stored(self, symbol: str, reasons: Sequence[Contradiction]) -> bool:
        """Whether a session of a contradiction is stored: there it is the correction that makes no sense."""
        mine = self.stored.filter(pl.col("symbol") == symbol).get_column("date")
        return any(reason.day in mine for reason in reasons)

    def _contradicted_before(self, symbol: str) -> set[object]:
        """Sessions of which the stored history made as little sense before, by the events that were named then."""
        stored = self.stored_of(symbol)
        named = None if self.named is None else self.named.filter(pl.col("symbol") == symbol)
        if named is not None and self.newly_named.height:
            named = named.join(self.newly_named, on=list(ORDER), how="anti")
        found = judge_events(stored, None, named, split_adjusted=self.split_adjusted)
        return {reason.day for reason in found.contradicted.get(symbol, ())}

    def _jumps_with_splits(self, symbol: str) -> bool:
        """Whether the close itself jumps with a named split that is no mere stock dividend: `ret` would be far off."""
        if self.named is None:
            return False
        is_split = (pl.col("split") > 0) & (pl.col("split").log().abs() >= log(SMALLEST_SPLIT))
        splits = self.named.filter((pl.col("symbol") == symbol) & is_split)
        if splits.is_empty():
            return False
        mine = self.seen.filter(pl.col("symbol") == symbol)
        move = (pl.col("close") / pl.col("close").shift(1)).log()
        steps = mine.select("date", move.alias("move")).join(splits.select("date", "split"), on="date")
        return steps.filter((pl.col("move") + pl.col("split").log()).abs() < pl.col("move").abs()).height > 0


def _suspicion(code: Literal["unexplained_event", "adj_close"], reasons: Sequence[Contradiction]) -> Suspicion:
    evidence = "; ".join(reason.words for reason in reasons[:_MOST_NAMED])
    more = f"; and {len(reasons) - _MOST_NAMED} more" if len(reasons) > _MOST_NAMED else ""
    return Suspicion(code, evidence + more, None, reasons[0].day)
