"""The `alpaca` source: many symbols a page, raw prices and an adjusted close, splits and dividends.

The official client carries the keys and builds the requests, which are made page by page through its public `get`:
its own pagination would make all of them without a turn, lose them all with the last, and stumble over a null.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from zoneinfo import ZoneInfo

from historical_etl.models import Outcome
from historical_etl.schema import ORDER, SCHEMA, empty_frame
from historical_etl.sources.base import Capabilities, Coverage, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.collect import Part, VendorSource
from historical_etl.sources.vendors.extras import client_version, key_from, require
from historical_etl.sources.vendors.frames import (
    Bars,
    Event,
    Events,
    FormError,
    Row,
    actions_frame,
    bars_frame,
    joined,
    local_days,
    rows_of,
    turn_page,
)
from historical_etl.sources.vendors.politeness import Pace
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl.vendor_settings import AlpacaSettings

if TYPE_CHECKING:
    import requests
    from alpaca.common.rest import RESTClient

__all__ = ["AlpacaSource"]

_NEW_YORK: Final = ZoneInfo("America/New_York")
_NAMES: Final = {"date": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_ADJUSTED_NAMES: Final = {"date": "t", "adj_close": "c"}
_PAGE: Final = 10_000
_ACTIONS_PAGE: Final = 1_000
_ACTION_TYPES: Final = "forward_split,reverse_split,stock_dividend,cash_dividend"
_BAD_REQUEST: Final = 400
#: {"message":"invalid symbol: FOO"}, or several with commas: one of them refuses the whole page.
_INVALID: Final = re.compile(r"invalid symbols?: *([^\"}]+)", re.IGNORECASE)
_days = local_days("America/New_York")


class AlpacaSource(VendorSource):
    """Daily bars from Alpaca, of the feed that the account has: IEX alone would be a few per cent of the volume.

    Args:
        settings: default: read from the environment.
        pace: clock, sleep and chance.
        state_folder: where to count requests, instead of the user's state folder.

    Raises:
        ConfigurationError: a key is not set, or the client not installed.
    """

    def __init__(
        self, settings: AlpacaSettings | None = None, *, pace: Pace | None = None, state_folder: Path | None = None
    ) -> None:
        settings = settings or AlpacaSettings()
        keys = (key_from(settings.key_id, "APCA_API_KEY_ID"), key_from(settings.secret_key, "APCA_API_SECRET_KEY"))
        super().__init__(settings, Reader("alpaca", settings.variables, keys), pace, state_folder)
        self._page_symbols = settings.page_symbols
        self._with_actions = settings.actions
        self._client: Any = _client(keys[0], keys[1], settings, self._check)
        self._states = SourceInfo(
            name="alpaca",
            version=client_version("alpaca-py"),
            adjustment="raw open, high, low, close and volume; adj_close for splits, dividends and spin-offs,"
            " as of the fetch",
            coverage=Coverage(date(2016, 1, 4)),
            capabilities=Capabilities(
                units=(Unit.PAGE,),
                symbols_per_request=settings.page_symbols,
                actions=settings.actions,
                limit=settings.rate,
                variables=settings.variables,
            ),
        )

    def units(self, request: FetchRequest) -> Iterable[tuple[str, ...]]:
        """As many symbols as fit a page."""
        symbols, size = request.symbols, self._page_symbols
        return (symbols[first : first + size] for first in range(0, len(symbols), size))

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """Some symbols: raw bars, adjusted bars, actions. Symbols that Alpaca calls invalid are left out."""
        refusals: dict[str, Refusal] = {}
        while True:
            asked = [symbol for symbol in symbols if symbol not in refusals]
            if not asked:
                return Part(empty_frame(), None, refusals)
            try:
                raw = self._bars(asked, start, end, "raw")
                break
            except Refusal as refusal:
                invalid = _invalid_symbols(refusal) & set(asked)
                if not invalid:
                    raise
                unknown = Refusal(Outcome.NOT_FOUND, f"alpaca does not know it: {refusal.body}")
                refusals |= self.refused(unknown, sorted(invalid))
        if raw.frame.is_empty():
            return Part(raw.frame, None, refusals, rejected=raw.rejected)
        adjusted = self._bars(asked, start, end, "all")
        bars = raw.frame.drop("adj_close").join(
            adjusted.frame.select(*ORDER, "adj_close").unique(ORDER), on=ORDER, how="left", maintain_order="left"
        )
        events = self._actions_of(asked, start, end) if self._with_actions else None
        return Part(
            bars.select(SCHEMA.names()),
            events.frame if events else None,
            refusals,
            notes=events.notes if events else (),
            rejected=joined([raw, adjusted]).rejected,
        )

    def _bars(self, symbols: list[str], start: date, end: date, adjustment: str) -> Bars:
        from alpaca.data.enums import Adjustment
        from alpaca.data.requests import StockBarsRequest
        from alpaca.data.timeframe import TimeFrame

        wanted = StockBarsRequest(
            symbol_or_symbols=symbols,
            timeframe=cast("TimeFrame", TimeFrame.Day),
            # A daily bar bears the midnight that its day begins with; both ends are included. Without a later
            # moment, the last 15 minutes, which free plans are refused, are never asked for.
            start=datetime(start.year, start.month, start.day, tzinfo=_NEW_YORK),
            end=datetime(end.year, end.month, end.day, tzinfo=_NEW_YORK),
            adjustment=Adjustment(adjustment),
        )
        query = cast("Any", wanted).to_request_fields()
        rows: dict[str, list[Row]] = {}
        for page in self._pages("/stocks/bars", {**query, "limit": _PAGE}, "v2"):
            for symbol, bars in _object(page.get("bars") or {}, "bars").items():
                # A bar may be null: it is a bar of nothing.
                found = (
                    [bar for bar in cast("list[object]", bars) if bar is not None] if isinstance(bars, list) else bars
                )
                rows.setdefault(symbol, []).extend(rows_of(found or [], f"bars of {symbol}"))
        names = _NAMES if adjustment == "raw" else _ADJUSTED_NAMES
        return joined(
            bars_frame(rows[symbol], names, symbols=symbol, start=start, end=end, days=_days)
            for symbol in symbols
            if symbol in rows
        )

    def _actions_of(self, symbols: list[str], start: date, end: date) -> Events:
        query = {
            "symbols": ",".join(symbols),
            "types": _ACTION_TYPES,
            "start": start.isoformat(),
            "end": end.isoformat(),
            "limit": _ACTIONS_PAGE,
            "sort": "asc",
        }
        events: list[Event] = []
        known = set(symbols)
        for page in self._pages("/corporate-actions", query, "v1"):
            found = _object(page.get("corporate_actions") or {}, "corporate_actions")
            for kind in ("forward_splits", "reverse_splits"):
                events += [
                    (_known(row, known), row.get("ex_date"), (row.get("new_rate"), row.get("old_rate")), None)
                    for row in rows_of(found.get(kind) or [], kind)
                ]
            events += [
                (_known(row, known), row.get("ex_date"), _with_own(row.get("rate")), None)
                for row in rows_of(found.get("stock_dividends") or [], "stock_dividends")
            ]
            events += [
                (_known(row, known), row.get("ex_date"), None, row.get("rate"))
                for row in rows_of(found.get("cash_dividends") or [], "cash_dividends")
            ]
        return actions_frame(events, start, end)

    def _pages(self, path: str, query: Mapping[str, object], version: str) -> Iterator[Mapping[str, object]]:
        token: object = None
        seen = set[str]()
        while True:
            params = dict(query) | ({"page_token": token} if token else {})
            page = _object(self._gate.ask(lambda params=params: self._get(path, params, version)), "the answer")
            yield page
            token = page.get("next_page_token")
            if not token:
                return
            seen.add(turn_page(token, seen))

    def _get(self, path: str, params: dict[str, object], version: str) -> object:
        from requests import RequestException

        try:
            answer: object = self._client.get(path, params, api_version=version)
        except (RequestException, RecursionError) as error:  # JSON that is cut off is one of these too; nested is not
            kind = type(error).__name__
            raise self._reader.broken(f"did not answer in full ({kind})", str(error)) from None
        if answer is None:  # what the client makes of an empty body
            raise self._reader.broken("answered with nothing")
        return answer

    def _check(self, response: "requests.Response") -> None:
        self._reader.check(response.status_code, response.headers, response.text, self._gate.pace.clock())


def _client(
    key_id: str, secret_key: str, settings: AlpacaSettings, check: "Callable[[requests.Response], None]"
) -> "RESTClient":
    require("alpaca.data.historical.stock", "alpaca")
    from alpaca.data.historical.stock import StockHistoricalDataClient
    from requests import PreparedRequest, Response
    from requests.adapters import HTTPAdapter

    class Checked(HTTPAdapter):
        """Gives each request a time limit, and looks at the answer before the client does."""

        def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401 - as requests
            response = super().send(request, *args, **(kwargs | {"timeout": settings.timeout_seconds}))
            check(response)
            return response

    class Client(StockHistoricalDataClient):
        """The client with a transport of ours: its own waits for ever, and retries 429 after 3 s, whatever it says."""

        def __init__(self) -> None:
            super().__init__(key_id, secret_key, raw_data=True, url_override=settings.base_url or None)
            for scheme in ("http://", "https://"):
                self._session.mount(scheme, Checked())

    return Client()


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise FormError(f"{what} is no object")
    return cast("Mapping[str, object]", value)


def _invalid_symbols(refusal: Refusal) -> set[str]:
    found = _INVALID.search(refusal.body) if refusal.status == _BAD_REQUEST else None
    return {symbol.strip() for symbol in found[1].split(",")} if found else set()


def _known(row: Row, known: Collection[str]) -> str | None:
    symbol = row.get("symbol")
    return symbol if isinstance(symbol, str) and symbol in known else None


def _with_own(rate: object) -> object:
    """New shares for each old one, the old one included; what is no number stays as it is."""
    return 1 + rate if isinstance(rate, int | float) else rate
