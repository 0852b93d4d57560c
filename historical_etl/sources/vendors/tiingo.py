"""The `tiingo` source: raw and adjusted prices, dividends and splits of one symbol's whole range in one request."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import quote

from historical_etl.sources.base import Capabilities, Coverage, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.collect import Part, VendorSource
from historical_etl.sources.vendors.extras import client_version, key_from
from historical_etl.sources.vendors.frames import actions_frame, bars_frame, rows_of
from historical_etl.sources.vendors.http import JsonClient
from historical_etl.sources.vendors.politeness import Pace
from historical_etl.sources.vendors.refusals import Meaning, Reader
from historical_etl.vendor_settings import TiingoSettings

__all__ = ["TiingoSource"]

_BASE_URL: Final = "https://api.tiingo.com"
_NAMES: Final = {
    "date": "date",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "adj_close": "adjClose",
}
#: Said in plain text with status 200, and in other words with 429 (hydrosquall/tiingo-python#45).
_SAYS: Final = {"you have run over your": Meaning.LIMITED}


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
        super().__init__(settings, Reader("tiingo", settings.variables, (key,), _SAYS), pace, state_folder)
        self._client = JsonClient(
            settings.base_url or _BASE_URL,
            "tiingo",
            self._reader,
            self._gate,
            settings.timeout_seconds,
            headers={"Authorization": f"Token {key}"},
        )
        self._states = SourceInfo(
            name="tiingo",
            version=client_version("httpx"),
            adjustment="raw open, high, low, close and volume; adj_close for splits and dividends, as of the fetch",
            coverage=Coverage(date(1962, 1, 2)),
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
        answer = self._client.get(
            f"/tiingo/daily/{ticker}/prices",
            {"startDate": start.isoformat(), "endDate": end.isoformat(), "format": "json", "resampleFreq": "daily"},
        )
        rows = rows_of(answer, "the answer")
        bars = bars_frame(rows, _NAMES, symbols=symbol, start=start, end=end)
        found = [(symbol, row.get("date"), row.get("splitFactor"), row.get("divCash")) for row in rows]
        events = actions_frame((event for event in found if event[2:] != (None, None)), start, end)
        return Part(bars.frame, events.frame, notes=events.notes, rejected=bars.rejected)

    def close(self) -> None:
        """Close connections and files."""
        self._client.close()
        super().close()
