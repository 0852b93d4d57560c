"""The `eodhd` source: raw prices and an adjusted close, one symbol in up to three requests or a whole market's day.

A whole market's day counts as 100 calls with the vendor, one symbol as 1: a request is made in whichever way is
cheaper, so a backfill goes by symbol and a daily increment of many symbols by day. A free plan gives a year of bars and
says so in a row of its own, and neither splits and dividends nor whole days: what it does not give is learnt.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

import polars as pl

from historical_etl.models import Outcome
from historical_etl.schema import empty_frame
from historical_etl.sessions import get_calendar
from historical_etl.sources.base import FOREIGN, Capabilities, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.as_traded import NEAR, applicable, shares_after, splits_of, volumes_as_traded
from historical_etl.sources.vendors.currencies import currency_of_market, in_units_of
from historical_etl.sources.vendors.eodhd_rows import Paid, cash_of, code_of, first_given, ours_of, parted, split_event
from historical_etl.sources.vendors.event_rows import VendorEvent, actions_frame, empty_actions
from historical_etl.sources.vendors.frames import FormError, VendorRow, bars_frame, rows_of
from historical_etl.sources.vendors.json_client import JsonClient
from historical_etl.sources.vendors.optional_clients import client_version, key_from
from historical_etl.sources.vendors.refusals import Meaning, Reader, Refusal
from historical_etl.sources.vendors.subscription import EVENT_WORDS
from historical_etl.sources.vendors.throttle import Pace
from historical_etl.sources.vendors.vendor_source import Part, VendorSource, together
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
_DAYS: Final = "whole market days"
#: Events are asked for from so long before the range: the vendor has them from announcements, some late.
_LATE: Final = timedelta(days=45)
#: A session of which nothing was fetched is not published yet as long as it is not older than this.
_FRESH: Final = timedelta(days=1)
_MINUTE: Final = 60.0
#: From so much on, `adj_close` beside `close` shows that there is an event after the bar.
_MOVED: Final = 0.001
_AS_GIVEN: Final = (
    "eodhd gives volumes adjusted for splits up to the fetch; they are stored as fetched, since it does not give the"
    " splits that would tell them as traded"
)
_RESTATED: Final = (
    "its dividends are given adjusted for splits; {} of them are given as paid, times the splits after them"
)
_SAYS: Final[Mapping[str, Meaning]] = {
    "exceeded your daily": Meaning.LIMITED,
    "exceeded the limit": Meaning.LIMITED,
    "api limit": Meaning.LIMITED,
    "only eod data allowed": Meaning.NOT_COVERED,
    "prohibited for free users": Meaning.NOT_COVERED,
}


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
            self._throttle,
            settings.timeout_seconds,
            params={"api_token": key},
        )
        adjusted = "" if settings.actions else "volume for splits"  # to give it back as traded takes the splits
        self._states = SourceInfo(
            name="eodhd",
            version=client_version("httpx"),
            adjustment="raw open, high, low, close and volume; adj_close for splits and dividends, as of the fetch"
            if settings.actions
            else f"raw open, high, low and close; {adjusted}; adj_close for splits and dividends, both as of the fetch",
            capabilities=Capabilities(
                units=(Unit.SYMBOL, Unit.DAY),
                adjusted=adjusted,
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
        rows, warnings = parted(answer)
        bars = bars_frame(rows, _NAMES, symbols=symbol, start=start, end=end)
        notes = tuple(self._coverage_note(warning, bars.frame) for warning in warnings)
        if notes and not rows:
            raise Refusal(Outcome.NOT_COVERED, notes[0])
        part = Part(empty_frame(), None, notes=notes, rejected=bars.rejected, cells=bars.cells)
        if bars.frame.is_empty():
            return together([part, Part(empty_frame(), empty_actions())])
        return together([part, self._with_events(symbol, bars.frame, start, end)])

    def _with_events(self, symbol: str, bars: pl.DataFrame, start: date, end: date) -> Part:
        """A symbol's bars as traded, its splits and dividends; where the plan has none, that is learnt.

        Splits are asked for up to the present: the volume is adjusted for those after the range, too.
        """
        if not self._with_actions or self._plan.lacks(EVENT_WORDS):
            return self._as_given(bars)
        plan = self._plan.known
        since = max(start - _LATE, (plan.first(self._plan.today) if plan else None) or date.min)
        try:
            splits, _ = parted(self._some("splits", symbol, since, max(end, self._plan.today)))
            dividends, _ = parted(self._some("div", symbol, since, end))
        except Refusal as refusal:
            return self._without_events(refusal, bars)
        listed = [split_event(symbol, row) for row in splits]
        paid = [(symbol, row, *cash_of(row, "value")) for row in dividends]
        return replace(self._named(bars, listed, paid, since, end), named_since=since)

    def _without_events(self, refusal: Refusal, bars: pl.DataFrame) -> Part:
        """What is reported where the vendor refuses splits and dividends to an account that it gave bars."""
        if refusal.outcome is not Outcome.NOT_COVERED:
            raise refusal
        note = (
            f"{refusal.what}: no splits and dividends are named. adj_close is adjusted for both all the same;"
            " splits are inferred from it, and dividends are in it only"
        )
        self._plan.learn(without=EVENT_WORDS)
        _log.warning("%s", note)  # notes of a run that fails are lost
        return together([Part(empty_frame(), notes=(note,)), self._as_given(bars)])

    def _as_given(self, bars: pl.DataFrame) -> Part:
        """Bars whose splits are not known: their volume stays adjusted, which the basis says where it is a setting."""
        return Part(bars, notes=(_AS_GIVEN,) if self._with_actions and not bars.is_empty() else ())

    def _named(
        self, bars: pl.DataFrame, splits: Sequence[VendorEvent], paid: Iterable[Paid], start: date, end: date
    ) -> Part:
        """Bars as traded, splits, and dividends in the unit of the prices; those in another currency apart."""
        counted = self._counted(splits_of(splits), bars, end)
        events, abroad, restated = list(splits), dict[str, list[VendorEvent]](), Counter[str]()
        for symbol, row, given, is_adjusted in paid:
            day, amount = row.get("date"), given
            shares = shares_after(counted, symbol, day) if is_adjusted else 1.0
            if shares != 1 and symbol is not None and isinstance(amount, float | int):
                amount *= shares
                restated[symbol] += 1
            currency = row.get("currency")
            unit = currency.strip() if isinstance(currency, str) else ""
            units = in_units_of(unit, self._currency) if unit and self._currency else 1.0
            if units is None:
                abroad.setdefault(unit, []).append((symbol, day, None, amount))
            else:
                whole = amount * units if isinstance(amount, float | int) and units != 1 else amount
                events.append((symbol, day, None, whole))
        ours = actions_frame(events, start, max(end, self._plan.today))
        others = {currency: actions_frame(paid, start, end) for currency, paid in abroad.items()}
        foreign = [
            read.frame.with_columns(currency=pl.lit(currency)).select(FOREIGN.names())
            for currency, read in others.items()
        ]
        notes = [f"{symbol}: {_RESTATED.format(count)}" for symbol, count in restated.items()]
        return Part(
            volumes_as_traded(bars, counted),
            ours.frame.filter(pl.col("date") <= end),
            notes=(*notes, *(note for read in (ours, *others.values()) for note in read.notes)),
            foreign=pl.concat(foreign) if foreign else None,
        )

    def _counted(self, splits: pl.DataFrame, bars: pl.DataFrame, end: date) -> pl.DataFrame:
        """The splits that the vendor's data are adjusted for.

        Of one of these days bars that end long before do not tell: the newest ones do.
        """
        today = self._plan.today
        doubtful = (pl.col("date") >= today - _FRESH) & pl.lit(today - end > NEAR)
        found = [applicable(splits.filter(~doubtful), bars, end, today)]
        for fresh in splits.filter(doubtful).partition_by("symbol"):
            symbol, since = fresh.item(0, "symbol"), today - 2 * NEAR
            rows, _ = parted(self._some("eod", symbol, since, today))
            newest = bars_frame(rows, _NAMES, symbols=symbol, start=since, end=today).frame
            found.append(applicable(fresh, newest, today, today))
        return pl.concat(found)

    def _coverage_note(self, warning: str, bars: pl.DataFrame) -> str:
        """What to tell of a warning among bars, once the reach of the plan is learnt from it.

        The reach is what its words say. The first bar alone may be that of a symbol which began to trade later.
        """
        first, today = first_given(warning, self._plan.today), self._plan.today
        if first is None:
            return f"{self._reader.vendor} says: {self._reader.clean(warning)}"
        oldest = bars.get_column("date").min()
        first = min(first, oldest) if isinstance(oldest, date) else first
        note = f"{self._reader.vendor} says: {self._reader.clean(warning)}; it gives bars from {first} on"
        known = self._plan.known
        if known is None or known.first(today) != first:
            self._plan.learn(first=first)
            _log.warning("%s", note)
        return note

    def _of_symbol(self, kind: str, symbol: str, start: date, end: date) -> Sequence[VendorRow]:
        query = {"from": start.isoformat(), "to": end.isoformat(), "fmt": "json"}
        if kind == "eod":
            query |= {"period": "d", "order": "a"}
        code = quote(f"{code_of(symbol)}.{self._market}", safe="")
        return rows_of(self._client.get(f"/{kind}/{code}", query), f"the answer to {kind}")

    def _some(self, kind: str, symbol: str, start: date, end: date) -> Sequence[VendorRow]:
        """As `_of_symbol`, of a symbol that the vendor knows: not found means none."""
        try:
            return self._of_symbol(kind, symbol, start, end)
        except Refusal as refusal:
            return _none_if_not_found(refusal)

    def _days(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        ours = {code_of(symbol): symbol for symbol in symbols}
        sessions = self._sessions(start, end)
        parts, given = list[Part](), list[date]()
        for day in sessions:
            rows = self._bulk(day, "")
            bars = bars_frame(rows, _BULK_NAMES, symbols=ours, start=day, end=day)
            parts.append(Part(bars.frame, None, rejected=bars.rejected, cells=bars.cells))
            given += [day] if any(row.get("date") == day.isoformat() for row in rows) else []
        if sessions and not given and self._plan.today - sessions[-1] <= _FRESH:
            raise Refusal(Outcome.NOT_PUBLISHED, f"eodhd has published nothing of {sessions[-1]} yet")
        part = together(parts)
        return together([replace(part, frame=empty_frame()), self._with_events_of(given, part.frame, ours, start, end)])

    def _with_events_of(
        self, days: Sequence[date], bars: pl.DataFrame, ours: Mapping[str, str], start: date, end: date
    ) -> Part:
        """As `_with_events`, by whole days."""
        if not days or not self._with_actions or self._plan.lacks(EVENT_WORDS):
            return self._as_given(bars)
        splits, paid = list[VendorEvent](), list[Paid]()
        try:
            for day in days:
                splits += [split_event(ours_of(row, ours), row) for row in self._bulk(day, "splits")]
                paid += [(ours_of(row, ours), row, *cash_of(row, "dividend")) for row in self._bulk(day, "dividends")]
            later, refused = self._later_splits(bars, end)
        except Refusal as refusal:
            return self._without_events(refusal, bars)
        whole = bars.filter(~pl.col("symbol").is_in(list(refused)))
        found = [split for split in (*splits, *later) if split[0] not in refused]
        part = self._named(whole, found, [each for each in paid if each[0] not in refused], start, end)
        return replace(part, refusals=refused)

    def _later_splits(self, bars: pl.DataFrame, end: date) -> tuple[list[VendorEvent], dict[str, Refusal]]:
        """Splits after the last of some days, of symbols whose `adj_close` shows a later event.

        And the symbols of which they could not be had: without them their volume is not known.
        """
        found, refused, today = list[VendorEvent](), dict[str, Refusal](), self._plan.today
        newest = bars.sort("date").group_by("symbol", maintain_order=True).last()
        # Without an adj_close nothing shows that there was none.
        moved = newest.filter(((pl.col("adj_close") / pl.col("close") - 1).abs() > _MOVED).fill_null(value=True))
        for symbol in moved.get_column("symbol") if end < today else ():
            try:
                rows, _ = parted(self._some("splits", symbol, end + timedelta(days=1), today))
                found += [split_event(symbol, row) for row in rows]
            except (FormError, Refusal) as error:
                if isinstance(error, Refusal) and error.outcome is Outcome.NOT_COVERED:
                    raise
                refused |= self.refused(error, [symbol])
        return found, refused

    def _bulk(self, day: date, kind: str) -> Sequence[VendorRow]:
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


def _none_if_not_found(refusal: Refusal) -> Sequence[VendorRow]:
    if refusal.outcome is not Outcome.NOT_FOUND:
        raise refusal
    return []
