"""A source asked by today's names: it answers under the names that securities had then, if it must.

A renamed symbol is asked for by its newest name. Where that brings nothing of the time before the rename, the source is
asked for the name of that time, and what comes is the symbol's. Of a ticker that another security has taken
over only what is since then is taken, unless the source has that security's past under it and not under another name.
Where both names bring a past, as where two companies exchange their tickers, what is stored tells whose each one is.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

import polars as pl

from historical_etl.errors import CoverageError, HistoricalETLError
from historical_etl.etl.fetch.fetch import fetch_one, outcome_of
from historical_etl.etl.fetch.staged import StagedSource, requests_made
from historical_etl.etl.symbology import Names
from historical_etl.models import Outcome
from historical_etl.quality.histories import nearer
from historical_etl.schema import empty_frame
from historical_etl.sources.base import FetchRequest, FetchResult, PriceSource, SourceInfo

__all__ = ["NamedSource", "with_names"]

_log = logging.getLogger(__name__)
_NOTHING = (Outcome.EMPTY, Outcome.NOT_FOUND)
#: So long before a change of names both pasts are held against what is stored, where none of it is in the range.
_BEFORE_CHANGE: Final = timedelta(days=30)

#: The stored levels of some symbols between two dates.
Stored = Callable[[Sequence[str], date, date], pl.DataFrame]


def with_names(source: PriceSource, names: Names, stored: Stored | None = None) -> PriceSource:
    """A source that is asked by these names; itself where nothing was renamed, or where it knows them already."""
    if names.aliases.is_empty() or isinstance(source, NamedSource | StagedSource):
        return source
    return NamedSource(source, names, stored)


@dataclass(frozen=True)
class NamedSource:
    """A source, the names that it is asked by, and what is stored."""

    source: PriceSource
    names: Names
    stored: Stored | None = None

    @property
    def info(self) -> SourceInfo:
        """The source's own."""
        return self.source.info

    @property
    def requests(self) -> int:
        """How many requests were made so far."""
        return requests_made(self.source)

    def members(self, start: date | None, end: date | None) -> list[str]:
        """The source's own, by today's names."""
        found = self.source.members(start, end)
        return sorted(self.names.over(found, start or date.min, end or date.max))

    def member_since(self, symbols: Sequence[str]) -> dict[str, date]:
        """Since when the universe has symbols, under whatever name."""
        ask = getattr(self.source, "member_since", None)
        if ask is None:
            return {}
        since: dict[str, date] = {}
        for symbol in symbols:
            begins = self.names.begins.get(symbol, date.min)
            days = [max(day, begins) for day in ask([symbol]).values()]
            for alias in self.names.former(symbol):
                days += [day for day in ask([alias.alias]).values() if day <= alias.last]
            since |= {symbol: min(days)} if days else {}
        return since

    def fetch(self, request: FetchRequest) -> FetchResult:
        """What the source has of the symbols, under whatever name it has it.

        Raises: as the source's own.
        """
        names = self.names
        concerned = [s for s in request.symbols if names.former(s) or s in names.begins]
        if not concerned:
            return self.source.fetch(request)
        asked = tuple(symbol for symbol in request.symbols if symbol not in names.made_up)
        given = fetch_one(self.source, replace(request, symbols=asked)) if asked else _empty()
        answer = self._clipped(given)
        for part, former in self._lacking(request, concerned, answer.frame).items():
            answer = _with_all(self._completed(answer, given, former, *part), given, former.values(), *part)
        left = {symbol: Outcome.EMPTY for symbol in request.symbols if symbol not in answer.outcomes}
        return replace(answer, outcomes={**answer.outcomes, **left})

    def _clipped(self, answer: FetchResult) -> FetchResult:
        """Without what was another security's when it still had the ticker."""
        begins = {s: day for s, day in self.names.begins.items() if s in answer.outcomes}
        if not begins:
            return answer
        taken = pl.col("symbol").replace_strict(begins, default=date.min, return_dtype=pl.Date) <= pl.col("date")
        frame = answer.frame.filter(taken | pl.col("date").is_null())
        actions = answer.actions.filter(taken) if answer.actions is not None else None
        fetched = set(frame.get_column("symbol").unique())
        outcomes = {
            s: Outcome.EMPTY if outcome is Outcome.OK and s in begins and s not in fetched else outcome
            for s, outcome in answer.outcomes.items()
        }
        return replace(answer, frame=frame, actions=actions, outcomes=outcomes)

    def _lacking(
        self, request: FetchRequest, symbols: Sequence[str], fetched: pl.DataFrame
    ) -> dict[tuple[date, date], dict[str, str]]:
        """Ranges up to whose end today's name brought nothing: the former names of then, and whose they were."""
        found: dict[tuple[date, date], dict[str, str]] = {}
        for symbol in symbols:
            days = fetched.filter(pl.col("symbol") == symbol).get_column("date")
            for alias in self.names.former(symbol):
                part = alias.within(request.start, request.end)
                if part is None or not alias.by_day or alias.alias == symbol:
                    continue
                if not days.is_between(max(part[0], part[1] - _BEFORE_CHANGE), part[1]).any():
                    found.setdefault(part, {})[alias.alias] = symbol
        return found

    def _completed(
        self, answer: FetchResult, given: FetchResult, former: dict[str, str], start: date, end: date
    ) -> FetchResult:
        """The answer with what the source has under former names from `start` to `end`.

        Not of symbols whose past it has under today's name, and another's under the former one.
        """
        try:
            then = fetch_one(self.source, FetchRequest(tuple(sorted(former)), start, end))
        except CoverageError:
            return answer
        except HistoricalETLError as error:
            then = FetchResult(
                empty_frame(), dict.fromkeys(former, outcome_of(error)), dict.fromkeys(former, error.what)
            )
        own = self._under_today_s(given.frame, then.frame, former, start, end)
        former = {name: symbol for name, symbol in former.items() if symbol not in own}
        mine = pl.col("symbol").is_in(list(former)) & pl.col("date").is_between(start, end)
        named = pl.col("symbol").replace_strict(former, default=pl.col("symbol"), return_dtype=pl.String)
        frame = then.frame.filter(mine).with_columns(named)
        others = pl.col("symbol").is_in(frame.get_column("symbol").unique().implode())
        others &= pl.col("date").is_between(start, end)  # of who bore today's name then

        def both(ours: pl.DataFrame | None, theirs: pl.DataFrame | None) -> pl.DataFrame | None:
            return _together(
                ours if ours is None else ours.filter(~others.fill_null(value=False)),
                theirs if theirs is None else theirs.filter(mine | pl.col("date").is_null()).with_columns(named),
            )

        outcomes, details = dict(answer.outcomes), dict(answer.details)
        for name, symbol in former.items():
            before, now = outcomes.get(symbol), then.outcomes.get(name, Outcome.EMPTY)
            failed, lately = before is Outcome.ERROR, before is Outcome.NOT_FOUND and now is Outcome.EMPTY
            if before is None or lately or (now not in _NOTHING and not failed):
                outcomes[symbol] = now
            if name in then.details and outcomes[symbol] is now:
                details[symbol] = f"as {name}: {then.details[name]}"
        if frame.height:
            _log.info("%s: fetched under former names: %s", ", ".join(former.values()), ", ".join(former))
        return replace(
            answer,
            frame=pl.concat([answer.frame.filter(~others), frame]),
            outcomes=outcomes,
            details=details,
            actions=both(answer.actions, then.actions),
            rejected=both(answer.rejected, then.rejected),
            foreign=both(answer.foreign, then.foreign),
            notes=tuple(dict.fromkeys((*answer.notes, *then.notes))),
            set_aside=tuple(dict.fromkeys((*answer.set_aside, *then.set_aside))),
        )

    def _under_today_s(
        self, given: pl.DataFrame, then: pl.DataFrame, former: dict[str, str], start: date, end: date
    ) -> set[str]:
        """Symbols with a past under both names, of which that under today's is what is stored of them."""
        if self.stored is None:
            return set()
        here = pl.col("date").is_between(start, end)
        today, before = given.filter(here), _renamed(then.filter(here), former)
        both = set(today.get_column("symbol")) & set(before.get_column("symbol"))
        if not both:
            return set()
        found = nearer(today, before, self.stored(sorted(both), start, end))
        for name, symbol in former.items():
            if symbol in both - set(found):
                found |= self._at_change(name, symbol)
        return {symbol for symbol, is_nearer in found.items() if is_nearer}

    def _at_change(self, name: str, symbol: str) -> dict[str, bool]:
        """Whether the past under today's name is what is stored, by the last sessions of the former one."""
        last = max(alias.last for alias in self.names.former(symbol) if alias.alias == name)
        first = last - _BEFORE_CHANGE
        stored = self.stored([symbol], first, last) if self.stored else None
        if stored is None or stored.is_empty():
            return {}
        try:
            fetched = fetch_one(self.source, FetchRequest(tuple(sorted((name, symbol))), first, last)).frame
        except HistoricalETLError as error:
            _log.warning("%s and %s could not be held against what is stored: %s", name, symbol, error)
            return {}
        today = fetched.filter(pl.col("symbol") == symbol)
        return nearer(today, _renamed(fetched.filter(pl.col("symbol") == name), {name: symbol}), stored)


def _renamed(rows: pl.DataFrame, former: dict[str, str]) -> pl.DataFrame:
    named = pl.col("symbol").replace_strict(former, default=None, return_dtype=pl.String)
    return rows.with_columns(named).drop_nulls("symbol")


def _with_all(answer: FetchResult, given: FetchResult, symbols: Collection[str], start: date, end: date) -> FetchResult:
    """The answer with rows under today's name, of symbols that the source does not have under the former one.

    Such a source goes by the security: it does not know that the ticker was another's then.
    """
    here = pl.col("date").is_between(start, end)
    known = set(answer.frame.filter(here).get_column("symbol").unique())
    unknown = [s for s in symbols if s not in known and answer.outcomes.get(s) in (*_NOTHING, Outcome.OK)]
    mine = pl.col("symbol").is_in(unknown) & here
    rows = given.frame.filter(mine)
    if rows.is_empty():
        return answer
    return replace(
        answer,
        frame=pl.concat([answer.frame, rows]),
        outcomes={**answer.outcomes, **dict.fromkeys(rows.get_column("symbol").unique(), Outcome.OK)},
        actions=_together(answer.actions, None if given.actions is None else given.actions.filter(mine)),
    )


def _together(ours: pl.DataFrame | None, theirs: pl.DataFrame | None) -> pl.DataFrame | None:
    found = [frame for frame in (ours, theirs) if frame is not None]
    return pl.concat(found) if found else None


def _empty() -> FetchResult:
    return FetchResult(empty_frame(), {})
