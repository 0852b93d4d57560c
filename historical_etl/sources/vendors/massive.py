"""The `massive` source (was Polygon): raw prices, one symbol's range or the whole market's day in one request.

A plan may give less than it is asked for: years that are too old are refused, or cut without a word (`reach`); the
running day is refused, and then asked for without it.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final, cast
from zoneinfo import ZoneInfo

import polars as pl

from historical_etl.models import Outcome
from historical_etl.sessions import get_calendar
from historical_etl.sources.base import Capabilities, Coverage, FetchRequest, FetchResult, SourceInfo, Unit
from historical_etl.sources.vendors.available_range import Reach
from historical_etl.sources.vendors.frames import Bars, FormError, bars_frame, joined, local_days
from historical_etl.sources.vendors.massive_client import MassiveClient
from historical_etl.sources.vendors.massive_events import MOST_TICKERS, MassiveEvents, NamedEvents
from historical_etl.sources.vendors.optional_clients import client_version, key_from
from historical_etl.sources.vendors.refusals import Meaning, Reader, Refusal
from historical_etl.sources.vendors.subscription import EVENT_WORDS
from historical_etl.sources.vendors.throttle import Pace
from historical_etl.sources.vendors.vendor_source import Part, VendorSource
from historical_etl.symbols import is_symbol
from historical_etl.vendor_settings import MassiveSettings

__all__ = ["MassiveSource"]

_log = logging.getLogger(__name__)
_NAMES: Final = {"date": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_DAY_NAMES: Final = {"symbol": "T", **_NAMES}
_FIRST: Final = date(2003, 9, 10)
#: Three messages with status 403, which alone tell what it means; and that of a limit that is always of a minute.
_TOO_OLD: Final = "include this data timeframe"
_SAYS: Final = {
    "unknown api key": Meaning.KEY,
    "before end of day": Meaning.NOT_PUBLISHED,
    _TOO_OLD: Meaning.NOT_COVERED,
    "not entitled to this data": Meaning.NOT_COVERED,
    "exceeded the maximum requests": Meaning.LIMITED,
}
#: So long it is remembered that a day is not published yet: no other symbol is asked for it meanwhile.
_NOT_YET: Final = timedelta(minutes=5)
#: No day that lies longer ago is still not over.
_RECENT: Final = timedelta(days=4)
#: Events may be entered late: they are asked for from so long before the range.
_LATE: Final = timedelta(days=42)
#: What an account may be found not to be given, beside old years and events.
_MARKET_DAYS, _RUNNING_DAY = "whole market days", "the running day"
#: Preferred shares: `BACpL` is our `BAC.PRL`, since symbols have no small letters.
_THEIR_PREFERRED, _OUR_PREFERRED = re.compile(r"([A-Z0-9]+)p([A-Z]?)"), re.compile(r"([A-Z0-9]+)\.PR([A-Z]?)")
#: For the message of an error that concerns no symbol.
_NO_REQUEST: Final = FetchRequest(("ANY",), date.min, date.min)
_NEW_YORK: Final = "America/New_York"
_days = local_days(_NEW_YORK)


@dataclass
class _Unit:
    """Symbols and days that are asked for together, and what to report of them."""

    symbols: tuple[str, ...]
    start: date
    end: date
    notes: list[str] = field(default_factory=list[str])


class MassiveSource(VendorSource):
    """Daily bars from Massive. It has no `adj_close`.

    Args:
        settings: default: read from the environment.
        exchange: whose sessions are asked for where whole days are fewer requests than symbols.
        calendar_corrections: a file of sessions that are added to them or removed; see `get_calendar`.
        pace: clock, sleep and chance.
        state_folder: where to count requests, instead of the user's state folder.

    Raises:
        ConfigurationError: MASSIVE_API_KEY is not set, or the client not installed.
    """

    def __init__(
        self,
        settings: MassiveSettings | None = None,
        *,
        exchange: str = "XNYS",
        calendar_corrections: str | Path | None = None,
        pace: Pace | None = None,
        state_folder: Path | None = None,
    ) -> None:
        settings = settings or MassiveSettings()
        key = key_from(settings.api_key, "MASSIVE_API_KEY")
        reader = Reader("massive", settings.variables, (key,), _SAYS, _a_minute)
        super().__init__(settings, reader, pace, state_folder)
        self._exchange, self._corrections = exchange, calendar_corrections
        self._with_actions = settings.actions
        self._types = tuple(settings.universe.split(",")) if settings.universe else ()
        self._reach = Reach(self._plan, self._sessions)
        self._unpublished: tuple[date, datetime, Refusal] | None = None
        self._client = MassiveClient(key, settings.base_url, settings.timeout_seconds, reader, self._throttle)
        self._named = MassiveEvents(self._client, self._throttle.pace.clock)
        self._among: Sequence[str] = ()
        self._states = SourceInfo(
            name="massive",
            version=client_version("massive"),
            adjustment="raw open, high, low, close and volume; no adj_close",
            coverage=Coverage(_FIRST),
            point_in_time=bool(self._types),
            capabilities=Capabilities(
                units=(Unit.SYMBOL, Unit.DAY),
                adj_close=False,
                actions=settings.actions,
                universe=bool(self._types),
                limit=settings.rate,
                variables=settings.variables,
            ),
        )

    def fetch(self, request: FetchRequest) -> FetchResult:
        """As every vendor's; raises the same."""
        self._among = request.among
        return super().fetch(request)

    def units(self, request: FetchRequest) -> Iterable[tuple[str, ...]]:
        """All symbols at once where whole days are fewer requests, else by the hundred, each asked for by itself."""
        if self._by_day(request.symbols, request.start, request.end):
            return [request.symbols]
        symbols = request.symbols
        return (symbols[first : first + MOST_TICKERS] for first in range(0, len(symbols), MOST_TICKERS))

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """Some symbols, one by one, or day by day."""
        # A day to come would be refused as one that is too old is.
        unit = _Unit(symbols, start, max(start, min(end, self._today)))
        if self._by_day(symbols, start, end):
            try:
                bars = self._market(unit)
                return self._with_events(bars, self._events(unit), unit)
            except Refusal as refusal:
                if refusal.outcome is not Outcome.NOT_COVERED or refusal.denied or _is_too_old(refusal):
                    raise
                self._plan.learn(without=_MARKET_DAYS)
        found, refusals, events = list[Bars](), dict[str, Refusal](), None
        for symbol in symbols:
            try:
                bars = self._symbol(symbol, unit)
            except (FormError, Refusal) as error:
                refusals |= self.refused(error, [symbol])
                continue
            # Of all symbols, before the other bars: what comes until a limit is reached is whole then.
            events = self._events(unit) if not found else events
            found.append(bars)
        unit.symbols = tuple(symbol for symbol in symbols if symbol not in refusals)
        return replace(self._with_events(joined(found), events, unit), refusals=refusals)

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Tickers of the configured types that traded on any day from `start` to `end`, delisted ones included.

        Those that trade at the end, and those delisted by then that still traded at the start: both as the vendor lists
        them for that day. None without the setting `universe`, since it is the whole market.

        Raises:
            ProviderError: the list cannot be had.
        """
        found: set[str] = set()
        try:
            for kind in self._types:
                found |= {ticker for ticker, _ in self._tickers(kind, end, active=True)}
                gone = self._tickers(kind, end, active=False)
                found |= {ticker for ticker, last in gone if start is None or last is None or last >= start}
        except FormError as error:
            raise self._error(self._reader.drifted(str(error)), _NO_REQUEST) from None
        except Refusal as refusal:
            raise self._error(refusal, _NO_REQUEST) from None
        return sorted(found)

    def _tickers(self, kind: str, day: date | None, *, active: bool) -> Iterator[tuple[str, date | None]]:
        """Tickers as of a day, each with the last day that it traded, where it no longer does."""
        # The current list is the one without a day; a day to come has none.
        when = day if day and day < self._throttle.pace.clock().date() else None
        unwritable = 0
        for row in self._client.tickers(kind, when, active=active):
            ticker, gone = row.get("ticker"), row.get("delisted_utc")
            if not isinstance(ticker, str) or not isinstance(gone, str | None):
                raise FormError(f"a ticker is {ticker!r}, delisted {gone!r}")
            symbol = _ours(ticker)
            if symbol is None:
                unwritable += 1
            else:
                yield symbol, _day_of(gone) if gone else None
        if unwritable:
            _log.warning("%d ticker(s) of type %s cannot be written as symbols, and are left out", unwritable, kind)

    @property
    def _today(self) -> date:
        return self._throttle.pace.clock().astimezone(ZoneInfo(_NEW_YORK)).date()

    def _by_day(self, symbols: Sequence[str], start: date, end: date) -> bool:
        return len(self._sessions(start, end)) < len(symbols) and not self._plan.lacks(_MARKET_DAYS)

    def _sessions(self, start: date, end: date) -> Sequence[date]:
        return get_calendar(self._exchange, self._corrections).between(start, end).to_list()

    # ── bars of symbols ────────────────────────────────────────────────────────────────────────────────────────────

    def _symbol(self, symbol: str, unit: _Unit) -> Bars:
        """The bars of a symbol, as far as the plan gives them and they are published."""

        def gives(day: date) -> bool:
            return _is_given(lambda: self._range(symbol, day, day))

        edge = self._reach.edge or unit.start
        if edge > unit.end:
            raise Refusal(Outcome.NOT_COVERED, f"massive gives bars from {edge} on to this account")
        start = max(unit.start, edge)
        self._leave_out_unpublished(unit)
        while True:
            try:
                bars = self._range(symbol, start, unit.end)
            except Refusal as refusal:
                if refusal.outcome is Outcome.NOT_PUBLISHED and self._today - unit.end <= _RECENT:
                    self._unpublished = (unit.end, self._throttle.pace.clock(), refusal)
                    self._leave_out_unpublished(unit)
                elif _is_too_old(refusal) and (first := self._reach.after(start, gives)) and first <= unit.end:
                    start = first
                else:
                    raise
            else:
                days = pl.concat([bars.frame.get_column("date"), bars.rejected.get_column("date")])
                self._reach.look_before(cast("date | None", days.min()), max(start, _FIRST), gives)
                return bars

    def _leave_out_unpublished(self, unit: _Unit) -> None:
        """End a unit before the day that was refused a moment ago since it is not over.

        Raises:
            Refusal: it has no day before that.
        """
        if self._unpublished is None:
            return
        day, moment, refusal = self._unpublished
        if day > unit.end or not timedelta() <= self._throttle.pace.clock() - moment <= _NOT_YET:
            return
        self._end_before(day, unit, refusal)

    def _end_before(self, day: date, unit: _Unit, refusal: Refusal) -> None:
        before = get_calendar(self._exchange, self._corrections).back(day, 1)
        if before < unit.start:
            raise refusal
        unit.end = before
        if not self._plan.lacks(_RUNNING_DAY):
            self._plan.learn(without=_RUNNING_DAY)
        unit.notes.append(f"massive has not published {day} yet: it gives a day to this account once that is over")

    def _range(self, symbol: str, start: date, end: date) -> Bars:
        rows = self._client.bars(_theirs(symbol), start, end)
        return bars_frame(rows, _NAMES, symbols=symbol, start=start, end=end, days=_days)

    # ── bars of whole days ─────────────────────────────────────────────────────────────────────────────────────────

    def _market(self, unit: _Unit) -> Bars:
        """The bars of some symbols on each day that the plan gives and that is published."""
        found, first = list[Bars](), unit.start
        for day in self._sessions(unit.start, unit.end):
            if day < first:
                continue
            try:
                found.append(self._day(unit.symbols, day))
            except Refusal as refusal:
                if refusal.outcome is Outcome.NOT_PUBLISHED and found:
                    self._end_before(day, unit, refusal)
                    break
                edge = self._reach.after(day, self._gives_day) if _is_too_old(refusal) else None
                if edge is None or edge > unit.end:
                    raise
                first = edge
        return joined(found)

    def _gives_day(self, day: date) -> bool:
        return _is_given(lambda: self._day((), day))

    def _day(self, symbols: Sequence[str], day: date) -> Bars:
        ours = {_theirs(symbol): symbol for symbol in symbols}
        rows = self._client.market(day)
        return bars_frame(rows, _DAY_NAMES, symbols=ours, start=day, end=day, days=_days)

    # ── splits and dividends ───────────────────────────────────────────────────────────────────────────────────────

    def _with_events(self, bars: Bars, events: NamedEvents | None, unit: _Unit) -> Part:
        """Bars of some symbols with their splits and dividends, as far as the bars go."""
        part = Part(bars.frame, notes=tuple(dict.fromkeys(unit.notes)), rejected=bars.rejected, cells=bars.cells)
        if events is None:
            return part
        ours = pl.col("symbol").is_in(unit.symbols) & (pl.col("date") <= unit.end)
        notes = tuple(dict.fromkeys((*part.notes, *events.notes)))
        actions, foreign = events.actions.filter(ours), events.foreign.filter(ours)
        return replace(part, actions=actions, foreign=foreign, notes=notes, named_since=events.since)

    def _events(self, unit: _Unit) -> NamedEvents | None:
        """Events of a unit, and those of the weeks before it that were entered late; None where none are given."""
        if not self._with_actions:
            return None
        edge = self.info.coverage or Coverage(date.min)
        ours = {_theirs(symbol): symbol for symbol in unit.symbols}
        group = [_theirs(symbol) for symbol in self._group(unit.symbols)]
        for start in (max(unit.start - _LATE, edge.first), max(unit.start, edge.first)):
            if self._plan.lacks(EVENT_WORDS):
                break
            try:
                return self._named.of(ours, group, start, unit.end)
            except Refusal as refusal:
                if _is_too_old(refusal) and start < unit.start:
                    continue
                unit.notes.append(self.without_events(refusal))
                return None
        unit.notes.append(
            f"massive gives no {EVENT_WORDS} to this account: none are stored, and a split shows as a jump"
        )
        return None

    def _group(self, symbols: Sequence[str]) -> Sequence[str]:
        """The symbols with which the events of some are asked for: a single one comes with its neighbours."""
        among = self._among
        if len(symbols) > 1 or symbols[0] not in among:
            return symbols
        first = among.index(symbols[0]) // MOST_TICKERS * MOST_TICKERS
        return among[first : first + MOST_TICKERS]


def _a_minute(*_: object) -> float:
    """How long to wait where a limit tells nothing: the only ones that the vendor has are of a minute."""
    return 60.0


def _is_given(ask: Callable[[], object]) -> bool:
    """Whether the plan gives what is asked for."""
    try:
        ask()
    except Refusal as refusal:
        if _is_too_old(refusal):
            return False
        raise
    return True


def _is_too_old(refusal: Refusal) -> bool:
    return refusal.outcome is Outcome.NOT_COVERED and _TOO_OLD in refusal.body.lower()


def _theirs(symbol: str) -> str:
    return _OUR_PREFERRED.sub(r"\1p\2", symbol) if _OUR_PREFERRED.fullmatch(symbol) else symbol


def _ours(ticker: str) -> str | None:
    """A ticker as our symbol; None if it cannot be one, as with other small letters."""
    symbol = _THEIR_PREFERRED.sub(r"\1.PR\2", ticker) if _THEIR_PREFERRED.fullmatch(ticker) else ticker
    return symbol if is_symbol(symbol) else None


def _day_of(moment: str) -> date:
    try:
        return date.fromisoformat(moment[:10])
    except ValueError:
        raise FormError(f"a ticker was delisted on {moment!r}") from None
