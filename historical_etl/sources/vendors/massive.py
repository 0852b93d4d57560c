"""The `massive` source (was Polygon): raw prices, one symbol's range or the whole market's day in one request.

The official client builds the requests and carries the key. It is asked for raw answers: by itself it makes an empty
list of JSON that is cut off, which would look as if there were no data. And the status of a refusal, which its
exceptions do not tell, is read where urllib3 asks whether to try again.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, quote, urlsplit

from historical_etl.schema import empty_frame
from historical_etl.sessions import get_calendar
from historical_etl.sources.base import Capabilities, Coverage, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.collect import Part, VendorSource
from historical_etl.sources.vendors.extras import client_version, key_from, require
from historical_etl.sources.vendors.frames import (
    Bars,
    Event,
    FormError,
    Row,
    actions_frame,
    bars_frame,
    joined,
    local_days,
    rows_of,
    turn_page,
)
from historical_etl.sources.vendors.politeness import Gate, Pace
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl.symbols import SYMBOL_PATTERN
from historical_etl.vendor_settings import MassiveSettings

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, Retry

__all__ = ["MassiveSource"]

_BASE_URL: Final = "https://api.massive.com"
_NAMES: Final = {"date": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_DAY_NAMES: Final = {"symbol": "T", **_NAMES}
_BARS_LIMIT: Final = 50_000
_ACTIONS_LIMIT: Final = 5_000
_TICKERS_LIMIT: Final = 1_000
_CHUNK: Final = 100
#: For the message of an error that concerns no symbol.
_NO_REQUEST: Final = FetchRequest(("ANY",), date.min, date.min)
_OK: Final = 200
_days = local_days("America/New_York")


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
        super().__init__(settings, Reader("massive", settings.variables, (key,)), pace, state_folder)
        self._exchange, self._corrections = exchange, calendar_corrections
        self._with_actions = settings.actions
        self._types = tuple(settings.universe.split(",")) if settings.universe else ()
        self._client: Any = require("massive", "massive").RESTClient(
            api_key=key,
            base=settings.base_url or _BASE_URL,
            connect_timeout=settings.timeout_seconds,
            read_timeout=settings.timeout_seconds,
            retries=0,
            pagination=False,
            connection_pool_kw={"retries": _telling_retry(self._reader, self._gate)},
        )
        self._states = SourceInfo(
            name="massive",
            version=client_version("massive"),
            adjustment="raw open, high, low, close and volume; no adj_close",
            coverage=Coverage(date(2003, 9, 10)),
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

    def units(self, request: FetchRequest) -> Iterable[tuple[str, ...]]:
        """All symbols at once where whole days are fewer requests, else by the hundred, each asked for by itself."""
        if self._by_day(request.symbols, request.start, request.end):
            return [request.symbols]
        symbols = request.symbols
        return (symbols[first : first + _CHUNK] for first in range(0, len(symbols), _CHUNK))

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """Some symbols, one by one, or day by day."""
        if self._by_day(symbols, start, end):
            bars = joined(self._day(symbols, day) for day in self._sessions(start, end))
            return self._with_actions_of(bars, None, symbols, start, end)
        found, refusals = list[Bars](), dict[str, Refusal]()
        for symbol in symbols:
            try:
                found.append(self._symbol(symbol, start, end))
            except (FormError, Refusal) as error:
                refusals |= self.refused(error, [symbol])
        came = tuple(symbol for symbol in symbols if symbol not in refusals)
        if not came:
            return Part(empty_frame(), None, refusals)
        return replace(self._with_actions_of(joined(found), ",".join(came), came, start, end), refusals=refusals)

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

        def page(params: Mapping[str, str] | None, place: Sequence[str]) -> object:
            del place
            if params is not None:
                return self._client.list_tickers(params=dict(params), raw=True)
            # The current list is the one without a day; a day to come has none.
            when = day.isoformat() if day and day < self._gate.pace.clock().date() else None
            return self._client.list_tickers(
                type=kind, market="stocks", date=when, active=active, limit=_TICKERS_LIMIT, sort="ticker", raw=True
            )

        for row in self._pages(page):
            ticker, gone = row.get("ticker"), row.get("delisted_utc")
            if not isinstance(ticker, str) or not isinstance(gone, str | None):
                raise FormError(f"a ticker is {ticker!r}, delisted {gone!r}")
            # What symbols cannot be, such as the preferred shares that a small letter marks, cannot be asked for.
            if re.fullmatch(SYMBOL_PATTERN, ticker):
                yield ticker, _day_of(gone) if gone else None

    def _by_day(self, symbols: Sequence[str], start: date, end: date) -> bool:
        return len(self._sessions(start, end)) < len(symbols)

    def _sessions(self, start: date, end: date) -> Sequence[date]:
        return get_calendar(self._exchange, self._corrections).between(start, end).to_list()

    def _symbol(self, symbol: str, start: date, end: date) -> Bars:
        first, last = start.isoformat(), end.isoformat()
        ticker = quote(symbol, safe="")  # the client puts it into a path as it is

        def page(params: Mapping[str, str] | None, place: Sequence[str]) -> object:
            if params is not None:  # the next page: its range is in the path of its address
                return self._client.list_aggs(ticker, 1, "day", *place[-2:], params=dict(params), raw=True)
            return self._client.list_aggs(
                ticker, 1, "day", first, last, adjusted=False, sort="asc", limit=_BARS_LIMIT, raw=True
            )

        return bars_frame(list(self._pages(page)), _NAMES, symbols=symbol, start=start, end=end, days=_days)

    def _day(self, symbols: Sequence[str], day: date) -> Bars:
        def page(params: Mapping[str, str] | None, place: Sequence[str]) -> object:
            del params, place  # a day is one page
            return self._client.get_grouped_daily_aggs(day.isoformat(), adjusted=False, include_otc=False, raw=True)

        ours = {symbol: symbol for symbol in symbols}
        return bars_frame(list(self._pages(page)), _DAY_NAMES, symbols=ours, start=day, end=day, days=_days)

    def _with_actions_of(self, bars: Bars, tickers: str | None, symbols: Sequence[str], start: date, end: date) -> Part:
        if not self._with_actions:
            return Part(bars.frame, rejected=bars.rejected)
        first, last, known = start.isoformat(), end.isoformat(), set(symbols)

        def splits(params: Mapping[str, str] | None, place: Sequence[str]) -> object:
            del place
            if params is not None:
                return self._client.list_stocks_splits(params=dict(params), raw=True)
            return self._client.list_stocks_splits(
                ticker_any_of=tickers,
                execution_date_gte=first,
                execution_date_lte=last,
                limit=_ACTIONS_LIMIT,
                sort="execution_date.asc",
                raw=True,
            )

        def dividends(params: Mapping[str, str] | None, place: Sequence[str]) -> object:
            del place
            if params is not None:
                return self._client.list_stocks_dividends(params=dict(params), raw=True)
            return self._client.list_stocks_dividends(
                ticker_any_of=tickers,
                ex_dividend_date_gte=first,
                ex_dividend_date_lte=last,
                limit=_ACTIONS_LIMIT,
                sort="ex_dividend_date.asc",
                raw=True,
            )

        found: list[Event] = [
            (_known(row, known), row.get("execution_date"), (row.get("split_to"), row.get("split_from")), None)
            for row in self._pages(splits)
        ]
        found += [
            (_known(row, known), row.get("ex_dividend_date"), None, row.get("cash_amount"))
            for row in self._pages(dividends)
        ]
        events = actions_frame(found, start, end)
        return Part(bars.frame, events.frame, notes=events.notes, rejected=bars.rejected)

    def _pages(self, page: Callable[[Mapping[str, str] | None, Sequence[str]], object]) -> Iterator[Row]:
        params: Mapping[str, str] | None = None
        place: Sequence[str] = ()
        seen = set[str]()
        while True:
            answer = self._gate.ask(lambda params=params, place=place: self._read(lambda: page(params, place)))
            yield from rows_of(answer.get("results") or [], "results")
            following = answer.get("next_url")
            if not following:
                return
            address = turn_page(following, seen)
            seen.add(address)
            try:
                parts = urlsplit(address)
                params, place = dict(parse_qsl(parts.query)), ["", *parts.path.split("/")]
            except ValueError:
                raise FormError(f"the next page is at {address!r}") from None

    def _read(self, ask: Callable[[], object]) -> dict[str, object]:
        from urllib3.exceptions import HTTPError

        try:
            raw = cast("BaseHTTPResponse", ask())
            text = raw.data.decode("utf-8", errors="replace")
        except HTTPError as error:  # what no retry policy is asked about, such as a body that is badly packed
            raise self._reader.broken(f"did not answer in full ({type(error).__name__})", str(error)) from None
        found = self._reader.parse(raw.status, raw.headers, text, self._gate.pace.clock())
        if not isinstance(found, dict):
            raise FormError("the answer is no object")
        content = cast("dict[str, object]", found)
        # OK, or DELAYED with a plan that sees a day late. Every other word is a failure with status 200.
        if content.get("status") not in ("OK", "DELAYED"):
            raise self._reader.broken(f"answered with status {content.get('status')!r}", str(content.get("error", "")))
        return content


def _day_of(moment: str) -> date:
    try:
        return date.fromisoformat(moment[:10])
    except ValueError:
        raise FormError(f"a ticker was delisted on {moment!r}") from None


def _known(row: Row, known: set[str]) -> str | None:
    ticker = row.get("ticker")
    return ticker if isinstance(ticker, str) and ticker in known else None


def _telling_retry(reader: Reader, gate: Gate) -> "Retry":
    """A retry policy for urllib3 that never retries, and says instead what the answer was."""
    from urllib3 import Retry

    class Telling(Retry):
        def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:  # noqa: FBT001, FBT002
            del method, has_retry_after
            return status_code != _OK

        def increment(
            self,
            method: str | None = None,
            url: str | None = None,
            response: "BaseHTTPResponse | None" = None,
            error: Exception | None = None,
            _pool: object = None,
            _stacktrace: object = None,
        ) -> "Retry":
            del method, url
            if response is not None:
                text = response.data.decode("utf-8", errors="replace")
                reader.check(response.status, response.headers, text, gate.pace.clock())
            raise reader.broken(f"did not answer in full ({type(error).__name__})", str(error or "")) from None

    return Telling(total=0)
