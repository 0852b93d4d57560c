"""The `tiingo` source: raw and adjusted prices, dividends and splits of one symbol's whole range in one request."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from historical_etl.sources.base import Capabilities, Coverage, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.account_file import AccountFile
from historical_etl.sources.vendors.event_rows import actions_frame
from historical_etl.sources.vendors.frames import FormError, bars_frame, rows_of
from historical_etl.sources.vendors.json_client import JsonClient
from historical_etl.sources.vendors.optional_clients import client_version, key_from
from historical_etl.sources.vendors.refusals import Meaning, Reader, Refusal
from historical_etl.sources.vendors.symbol_quota import SymbolQuota
from historical_etl.sources.vendors.throttle import Pace
from historical_etl.sources.vendors.vendor_source import Part, VendorSource
from historical_etl.vendor_settings import TiingoSettings

__all__ = ["TiingoSource"]

_BASE_URL: Final = "https://api.tiingo.com"
_FIRST: Final = date(1962, 1, 2)
_NAMES: Final = {
    "date": "date",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "adj_close": "adjClose",
}
#: Said with 429 or with 200, in plain text or as JSON (hydrosquall/tiingo-python#45). A wrong key is 403, and so is
#: what the plan does not give: the words tell.
_SAYS: Final = {
    "symbol look": Meaning.NO_FURTHER,
    "you have run over your": Meaning.LIMITED,
    "invalid token": Meaning.KEY,
    "please supply a token": Meaning.KEY,
    "you do not have permission": Meaning.NOT_COVERED,
}
_NEW_YORK: Final = ZoneInfo("America/New_York")
#: Events are added up to some days late; the same request brings the rows of so many days before its range.
_LATE: Final = timedelta(days=30)


class TiingoSource(VendorSource):
    """Daily bars from Tiingo.

    Args:
        settings: default: read from the environment.
        pace: clock, sleep and chance.
        state_folder: where to count requests, instead of the user's state folder.

    Raises:
        ConfigurationError: TIINGO_API_KEY is not set, or httpx not installed.
    """

    def __init__(
        self, settings: TiingoSettings | None = None, *, pace: Pace | None = None, state_folder: Path | None = None
    ) -> None:
        settings = settings or TiingoSettings()
        key = key_from(settings.api_key, "TIINGO_API_KEY")
        super().__init__(settings, Reader("tiingo", settings.variables, (key,), _SAYS, _resets), pace, state_folder)
        self._quota = SymbolQuota(
            "tiingo",
            AccountFile("tiingo", settings, key, "symbols.json", state_folder),
            self._throttle.pace.clock,
            _next_month,
        )
        self._client = JsonClient(
            settings.base_url or _BASE_URL,
            "tiingo",
            self._reader,
            self._throttle,
            settings.timeout_seconds,
            headers={"Authorization": f"Token {key}"},
        )
        self._states = SourceInfo(
            name="tiingo",
            version=client_version("httpx"),
            adjustment="raw open, high, low, close and volume; adj_close for splits and dividends, as of the fetch",
            coverage=Coverage(_FIRST),
            capabilities=Capabilities(
                units=(Unit.SYMBOL,), actions=True, limit=settings.rate, variables=settings.variables
            ),
        )

    def units(self, request: FetchRequest) -> Iterable[tuple[str, ...]]:
        """One symbol each."""
        return ((symbol,) for symbol in request.symbols)

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """One symbol's range, in one request."""
        (symbol,) = symbols
        ticker = quote(symbol.replace(".", "-").replace("/", "-"), safe="")  # BRK.B is BRK-B here
        since = max(start, _FIRST) - _LATE
        self._quota.guard(symbol)
        try:
            answer = self._client.get(
                f"/tiingo/daily/{ticker}/prices",
                {"startDate": since.isoformat(), "endDate": end.isoformat(), "format": "json", "resampleFreq": "daily"},
            )
        except Refusal as refusal:
            if refusal.alone:
                self._quota.refuse(symbol)
            raise
        if isinstance(answer, dict):
            raise FormError(f"the answer is no array but dict: {json.dumps(answer)}")
        rows = rows_of(answer, "the answer")
        bars = bars_frame(rows, _NAMES, symbols=symbol, start=start, end=end)
        found = [(symbol, row.get("date"), row.get("splitFactor"), row.get("divCash")) for row in rows]
        events = actions_frame((event for event in found if event[2:] != (None, None)), since, end)
        return Part(
            bars.frame,
            events.frame,
            notes=events.notes,
            rejected=bars.rejected,
            cells=bars.cells,
            named_since=since,
        )

    def close(self) -> None:
        """Close connections and files."""
        self._client.close()
        super().close()


def _resets(headers: Mapping[str, str], text: str, now: datetime) -> float | None:
    """Seconds until the limit that a refusal names begins anew: on the hour, or at midnight of New York."""
    del headers
    said = text.lower()
    if "hourly" in said:
        moment = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    elif "daily" in said:
        moment = _midnight(now.astimezone(_NEW_YORK).date() + timedelta(days=1))
    elif "month" in said:
        moment = _next_month(now)
    else:
        return None
    return (moment - now).total_seconds()


def _next_month(now: datetime) -> datetime:
    today = now.astimezone(_NEW_YORK).date()
    return _midnight((today.replace(day=1) + timedelta(days=32)).replace(day=1))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), _NEW_YORK)
