"""The `eodhd` source: raw prices and an adjusted close, one symbol in up to three requests or a whole market's day.

A whole market's day counts as 100 calls with the vendor, one symbol as 1: a request is made in whichever way is
cheaper, so a backfill goes by symbol and a daily increment of many symbols by day. A free plan gives a year of bars and
says so in a row of its own, and neither splits and dividends nor whole days: what it does not give is learnt.
"""

import logging
import re
from calendar import isleap
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

import polars as pl

from historical_etl.models import Outcome
from historical_etl.schema import empty_frame
from historical_etl.sessions import get_calendar
from historical_etl.sources.base import FOREIGN, Capabilities, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.collect import Part, VendorSource, together
from historical_etl.sources.vendors.currencies import currency_of_market, in_units_of
from historical_etl.sources.vendors.extras import client_version, key_from
from historical_etl.sources.vendors.frames import (
    Event,
    FormError,
    Row,
    actions_frame,
    bars_frame,
    empty_actions,
    rows_of,
)
from historical_etl.sources.vendors.http import JsonClient
from historical_etl.sources.vendors.plans import EVENTS
from historical_etl.sources.vendors.politeness import Pace
from historical_etl.sources.vendors.refusals import Meaning, Reader, Refusal
from historical_etl.vendor_settings import EodhdSettings

__all__ = ["EodhdSource"]

_log = logging.getLogger(__name__)
_BASE_URL: Final = "https://eodhd.com/api"
_NAMES: Final = {
    "date": "date",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "adj_close": "adjusted_close",
}
_BULK_NAMES: Final = {"symbol": "code", **_NAMES}
_BULK_CALLS: Final = 100
_SPLIT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*[/:]\s*(\d+(?:\.\d+)?)\s*")
_DAYS: Final = "whole market days"
#: Events are asked for from so long before the range: the vendor has them from announcements, some late.
_LATE: Final = timedelta(days=45)
#: A session of which nothing came is not published yet as long as it is not older than this.
_FRESH: Final = timedelta(days=1)
_FORMER: Final = re.compile(r"_OLD(?=\d*$)")
_MINUTE: Final = 60.0
_SAYS: Final[Mapping[str, Meaning]] = {
    "exceeded your daily": Meaning.LIMITED,
    "exceeded the limit": Meaning.LIMITED,
    "api limit": Meaning.LIMITED,
    "only eod data allowed": Meaning.NOT_COVERED,
    "prohibited for free users": Meaning.NOT_COVERED,
}
_COUNTS: Final = {word: at + 1 for at, word in enumerate(("one", "two", "three", "four", "five"))}
_REACH: Final = re.compile(rf"limited\b.*?\b(\d{{1,4}}|{'|'.join(_COUNTS)})[ -](day|month|year)", re.IGNORECASE)


class EodhdSource(VendorSource):
    """Daily bars from EODHD.

    Args:
        settings: default: read from the environment.
        exchange: whose sessions are asked for in bulk.
        calendar_corrections: a file of sessions that are added to them or removed; see `get_calendar`.
        pace: clock, sleep and chance.
        state_folder: where to count requests, instead of the user's state folder.

    Raises:
        ConfigurationError: EODHD_API_KEY is not set, or httpx not installed.
    """

    def __init__(
        self,
        settings: EodhdSettings | None = None,
        *,
        exchange: str = "XNYS",
        calendar_corrections: str | Path | None = None,
        pace: Pace | None = None,
        state_folder: Path | None = None,
    ) -> None:
        settings = settings or EodhdSettings()
        key = key_from(settings.api_key, "EODHD_API_KEY")
        reader = Reader("eodhd", settings.variables, (key,), _SAYS, _resets)
        super().__init__(settings, reader, pace, state_folder)
        self._market = settings.market
        self._currency = settings.currency or currency_of_market(settings.market)
        self._with_actions = settings.actions
        # A free plan has twenty calls a day, and a whole day counts as a hundred.
        self._affords_days = min(settings.requests, settings.daily_budget or settings.requests) >= _BULK_CALLS
        self._exchange, self._corrections = exchange, calendar_corrections
        self._client = JsonClient(
            settings.base_url or _BASE_URL,
            "eodhd",
            self._reader,
            self._gate,
            settings.timeout_seconds,
            params={"api_token": key},
        )
        self._states = SourceInfo(
            name="eodhd",
            version=client_version("httpx"),
            adjustment="raw open, high, low and close; volume for splits; adj_close for splits and dividends,"
            " both as of the fetch",
            capabilities=Capabilities(
                units=(Unit.SYMBOL, Unit.DAY),
                adjusted="volume for splits",
                actions=settings.actions,
                limit=settings.rate,
                variables=settings.variables,
            ),
        )

    def units(self, request: FetchRequest) -> Iterable[tuple[str, ...]]:
        """One symbol each, or all at once where whole days are cheaper."""
        days = len(self._sessions(request.start, request.end))
        cheaper = _BULK_CALLS * days < len(request.symbols)
        if cheaper and self._affords_days and not self._plan.lacks(_DAYS):
            return [request.symbols]
        return ((symbol,) for symbol in request.symbols)

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """One symbol's range, or many symbols day by day, as far as the plan gives whole days."""
        if len(symbols) == 1:
            return self._range(symbols[0], start, end)
        try:
            return self._days(symbols, start, end)
        except Refusal as refusal:
            if refusal.outcome is not Outcome.NOT_COVERED:
                raise
            if not refusal.denied:
                self._plan.learn(without=_DAYS)
        parts: list[Part] = []
        for symbol in symbols:
            try:
                parts.append(self._range(symbol, start, end))
            except (FormError, Refusal) as error:
                parts.append(Part(empty_frame(), None, self.refused(error, [symbol])))
        return together(parts)

    def close(self) -> None:
        """Close connections and files."""
        self._client.close()
        super().close()

    def _range(self, symbol: str, start: date, end: date) -> Part:
        answer = self._of_symbol("eod", symbol, start, end)
        rows, warnings = _parted(answer)
        bars = bars_frame(rows, _NAMES, symbols=symbol, start=start, end=end)
        notes = tuple(self._heed(warning, bars.frame) for warning in warnings)
        if notes and not rows:
            raise Refusal(Outcome.NOT_COVERED, notes[0])
        told = Part(bars.frame, None, notes=notes, rejected=bars.rejected)
        if bars.frame.is_empty():
            return together([told, Part(empty_frame(), empty_actions())])
        return together([told, self._events(symbol, start, end)])

    def _events(self, symbol: str, start: date, end: date) -> Part:
        """The splits and dividends of a symbol whose bars came; where the plan has none, that is learnt."""
        if not self._with_actions or self._plan.lacks(EVENTS):
            return Part(empty_frame())
        plan = self._plan.known
        since = max(start - _LATE, (plan.first(self._plan.today) if plan else None) or date.min)
        try:
            splits, _ = _parted(self._some("splits", symbol, since, end))
            dividends, _ = _parted(self._some("div", symbol, since, end))
        except Refusal as refusal:
            return self._without_events(refusal)
        found: list[Event] = [(symbol, row.get("date"), _ratio(row.get("split")), None) for row in splits]
        return self._named(found, [(symbol, row, _cash(row, "value")) for row in dividends], since, end)

    def _without_events(self, refusal: Refusal) -> Part:
        """What is told where the vendor refuses splits and dividends to an account that it gave bars."""
        if refusal.outcome is not Outcome.NOT_COVERED:
            raise refusal
        told = (
            f"{refusal.what}: no splits and dividends are named. adj_close is adjusted for both all the same;"
            " splits are inferred from it, and dividends are in it only"
        )
        self._plan.learn(without=EVENTS)
        _log.warning("%s", told)  # notes of a run that fails are lost
        return Part(empty_frame(), notes=(told,))

    def _named(
        self, found: Iterable[Event], paid: Iterable[tuple[str | None, Row, object]], start: date, end: date
    ) -> Part:
        """Splits, and dividends in the unit of the prices; those in another currency are told apart."""
        events, abroad = list(found), dict[str, list[Event]]()
        for symbol, row, amount in paid:
            currency = row.get("currency")
            given = currency.strip() if isinstance(currency, str) else ""
            units = in_units_of(given, self._currency) if given and self._currency else 1.0
            if units is None:
                abroad.setdefault(given, []).append((symbol, row.get("date"), None, amount))
            else:
                whole = amount * units if isinstance(amount, float | int) and units != 1 else amount
                events.append((symbol, row.get("date"), None, whole))
        ours = actions_frame(events, start, end)
        others = {currency: actions_frame(paid, start, end) for currency, paid in abroad.items()}
        foreign = [
            read.frame.with_columns(currency=pl.lit(currency)).select(FOREIGN.names())
            for currency, read in others.items()
        ]
        notes = [note for read in (ours, *others.values()) for note in read.notes]
        return Part(empty_frame(), ours.frame, notes=tuple(notes), foreign=pl.concat(foreign) if foreign else None)

    def _heed(self, warning: str, bars: pl.DataFrame) -> str:
        """What to tell of a warning among bars, once the reach of the plan is learnt from it.

        The reach is what its words say. The first bar alone may be that of a symbol which began to trade later.
        """
        first, today = _first_given(warning, self._plan.today), self._plan.today
        if first is None:
            return f"{self._reader.vendor} says: {self._reader.clean(warning)}"
        oldest = bars.get_column("date").min()
        first = min(first, oldest) if isinstance(oldest, date) else first
        told = f"{self._reader.vendor} says: {self._reader.clean(warning)}; it gives bars from {first} on"
        known = self._plan.known
        if known is None or known.first(today) != first:
            self._plan.learn(first=first)
            _log.warning("%s", told)
        return told

    def _of_symbol(self, kind: str, symbol: str, start: date, end: date) -> Sequence[Row]:
        query = {"from": start.isoformat(), "to": end.isoformat(), "fmt": "json"}
        if kind == "eod":
            query |= {"period": "d", "order": "a"}
        code = quote(f"{_code(symbol)}.{self._market}", safe="")
        return rows_of(self._client.get(f"/{kind}/{code}", query), f"the answer to {kind}")

    def _some(self, kind: str, symbol: str, start: date, end: date) -> Sequence[Row]:
        """As `_of_symbol`, of a symbol that the vendor knows: not found means none."""
        try:
            return self._of_symbol(kind, symbol, start, end)
        except Refusal as refusal:
            return _none_if_not_found(refusal)

    def _days(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        ours = {_code(symbol): symbol for symbol in symbols}
        sessions = self._sessions(start, end)
        parts: list[Part] = []
        published = False
        for day in sessions:
            rows = self._bulk(day, "")
            bars = bars_frame(rows, _BULK_NAMES, symbols=ours, start=day, end=day)
            parts.append(Part(bars.frame, None, rejected=bars.rejected))
            is_there = any(row.get("date") == day.isoformat() for row in rows)
            published |= is_there
            if is_there and self._with_actions and not self._plan.lacks(EVENTS):
                parts.append(self._events_of_day(ours, day))
        if sessions and not published and self._plan.today - sessions[-1] <= _FRESH:
            raise Refusal(Outcome.NOT_PUBLISHED, f"eodhd has published nothing of {sessions[-1]} yet")
        return together(parts)

    def _events_of_day(self, ours: Mapping[str, str], day: date) -> Part:
        try:
            splits, dividends = self._bulk(day, "splits"), self._bulk(day, "dividends")
        except Refusal as refusal:
            return self._without_events(refusal)
        found: list[Event] = [(_ours(row, ours), row.get("date"), _ratio(row.get("split")), None) for row in splits]
        paid = [(_ours(row, ours), row, _cash(row, "dividend")) for row in dividends]
        return self._named(found, paid, day, day)

    def _bulk(self, day: date, kind: str) -> Sequence[Row]:
        """A whole day; not found means that there is nothing of it."""
        query = {"date": day.isoformat(), "fmt": "json"} | ({"type": kind} if kind else {})
        try:
            answer = self._client.get(f"/eod-bulk-last-day/{self._market}", query, weight=_BULK_CALLS)
        except Refusal as refusal:
            return _none_if_not_found(refusal)
        return rows_of(answer, f"the answer to {kind or 'prices'} of {day}")

    def _sessions(self, start: date, end: date) -> Sequence[date]:
        return get_calendar(self._exchange, self._corrections).between(start, end).to_list()


def _resets(headers: Mapping[str, str], text: str, now: datetime) -> float:
    """The calls of a day are counted from midnight GMT on, those of a minute by the minute."""
    if headers[":status"] != "402" and "daily" not in text.lower():
        return _MINUTE
    midnight = datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
    return (midnight - now).total_seconds()


def _parted(answer: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows of an answer, and the warnings in it: on the last row itself, or in one that holds nothing else."""
    warnings = [str(row["warning"]) for row in answer if row.get("warning")]
    return [row for row in answer if set(row) != {"warning"}], list(dict.fromkeys(warnings))


def _first_given(warning: str, today: date) -> date | None:
    """The oldest day that a plan gives by its words, as in "limited by one year"; None where they do not say."""
    found = _REACH.search(warning)
    if found is None:
        return None
    count = _COUNTS.get(found[1].lower()) or int(found[1])
    match found[2].lower():
        case "year":
            year = today.year - count
            leap = (today.month, today.day) == (2, 29) and not isleap(year)
            return today.replace(year=year, day=28 if leap else today.day) if year > 0 else date.min
        case "month":
            return today - timedelta(days=31 * count)  # rather too far: the vendor cuts what is beyond
        case _:
            return today - timedelta(days=count)


def _none_if_not_found(refusal: Refusal) -> Sequence[Row]:
    if refusal.outcome is not Outcome.NOT_FOUND:
        raise refusal
    return []


def _code(symbol: str) -> str:
    """BRK.B is BRK-B here, and the company that had a ticker before is told by a suffix in small letters."""
    return _FORMER.sub("_old", symbol.replace(".", "-").replace("/", "-"))


def _ours(row: Row, ours: Mapping[str, str]) -> str | None:
    code = row.get("code")
    return ours.get(code) if isinstance(code, str) else None


def _ratio(text: object) -> object:
    """4.000000/1.000000 is four new shares for each old one; what is written otherwise stays as it is."""
    found = _SPLIT.fullmatch(text) if isinstance(text, str) else None
    return (float(found[1]), float(found[2])) if found else str(text)


def _cash(row: Row, adjusted: str) -> object:
    """What was paid for a share of that day; `value` and `dividend` are adjusted for later splits."""
    paid = row.get("unadjustedValue")
    value = row.get(adjusted) if paid in (None, "") else paid
    try:
        return float(value) if isinstance(value, str) else value  # in bulk answers numbers are texts
    except ValueError:
        return value
