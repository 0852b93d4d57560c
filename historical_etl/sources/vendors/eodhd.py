"""The `eodhd` source: raw prices and an adjusted close, one symbol in up to three requests or a whole market's day.

A whole market's day counts as 100 calls with the vendor, one symbol as 1: a request is made in whichever way is
cheaper, so a backfill goes by symbol and a daily increment of many symbols by day.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import quote

from historical_etl.sessions import get_calendar
from historical_etl.sources.base import Capabilities, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.collect import Part, VendorSource
from historical_etl.sources.vendors.extras import client_version, key_from
from historical_etl.sources.vendors.frames import (
    Bars,
    Event,
    Row,
    actions_frame,
    bars_frame,
    empty_actions,
    joined,
    rows_of,
)
from historical_etl.sources.vendors.http import JsonClient
from historical_etl.sources.vendors.politeness import Pace
from historical_etl.sources.vendors.refusals import Meaning, Reader
from historical_etl.vendor_settings import EodhdSettings

__all__ = ["EodhdSource"]

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
#: Said with status 402 when the day's calls are spent.
_SAYS: Final[Mapping[str, Meaning]] = dict.fromkeys(
    ("exceeded your daily", "exceeded the limit", "api limit"), Meaning.LIMITED
)


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
        super().__init__(settings, Reader("eodhd", settings.variables, (key,), _SAYS), pace, state_folder)
        self._market = settings.market
        self._with_actions = settings.actions
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
        if _BULK_CALLS * days < len(request.symbols):
            return [request.symbols]
        return ((symbol,) for symbol in request.symbols)

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """One symbol's range, or many symbols day by day."""
        if len(symbols) > 1:
            return self._days(symbols, start, end)
        symbol = next(iter(symbols))
        rows = self._symbol("eod", symbol, start, end)
        bars = bars_frame(rows, _NAMES, symbols=symbol, start=start, end=end)
        if not self._with_actions or bars.frame.is_empty():
            return Part(bars.frame, empty_actions(), rejected=bars.rejected)
        splits = self._symbol("splits", symbol, start, end)
        dividends = self._symbol("div", symbol, start, end)
        found: list[Event] = [(symbol, row.get("date"), _ratio(row.get("split")), None) for row in splits]
        found += [(symbol, row.get("date"), None, _cash(row, "value")) for row in dividends]
        events = actions_frame(found, start, end)
        return Part(bars.frame, events.frame, notes=events.notes, rejected=bars.rejected)

    def close(self) -> None:
        """Close connections and files."""
        self._client.close()
        super().close()

    def _symbol(self, kind: str, symbol: str, start: date, end: date) -> Sequence[Row]:
        query = {"from": start.isoformat(), "to": end.isoformat(), "fmt": "json"}
        if kind == "eod":
            query |= {"period": "d", "order": "a"}
        code = quote(f"{_code(symbol)}.{self._market}", safe="")
        return rows_of(self._client.get(f"/{kind}/{code}", query), f"the answer to {kind}")

    def _days(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        ours = {_code(symbol): symbol for symbol in symbols}
        days: list[Bars] = []
        found: list[Event] = []
        for day in self._sessions(start, end):
            rows = self._bulk(day, "")
            days.append(bars_frame(rows, _BULK_NAMES, symbols=ours, start=day, end=day))
            if self._with_actions:
                found += [
                    (ours.get(str(row.get("code"))), row.get("date"), _ratio(row.get("split")), None)
                    for row in self._bulk(day, "splits")
                ]
                found += [
                    (ours.get(str(row.get("code"))), row.get("date"), None, _cash(row, "dividend"))
                    for row in self._bulk(day, "dividends")
                ]
        bars, events = joined(days), actions_frame(found, start, end)
        return Part(bars.frame, events.frame, notes=events.notes, rejected=bars.rejected)

    def _bulk(self, day: date, kind: str) -> Sequence[Row]:
        query = {"date": day.isoformat(), "fmt": "json"} | ({"type": kind} if kind else {})
        answer = self._client.get(f"/eod-bulk-last-day/{self._market}", query, weight=_BULK_CALLS)
        return rows_of(answer, f"the answer to {kind or 'prices'} of {day}")

    def _sessions(self, start: date, end: date) -> Sequence[date]:
        return get_calendar(self._exchange, self._corrections).between(start, end).to_list()


def _code(symbol: str) -> str:
    return symbol.replace(".", "-").replace("/", "-")  # BRK.B is BRK-B.US here


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
