"""Massive's official client, asked for raw answers: rows of JSON, page by page.

By itself the client makes an empty list of JSON that is cut off, which would look as if there were no data. And the
status of a refusal, which its exceptions do not tell, is read where urllib3 asks whether to try again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, quote, urlsplit

from historical_etl.sources.vendors.frames import FormError, Pages, VendorRow, rows_of
from historical_etl.sources.vendors.optional_clients import require
from historical_etl.sources.vendors.proxies import proxy_for
from historical_etl.sources.vendors.refusals import Reader
from historical_etl.sources.vendors.response_limits import Bounds, bounded_urllib3
from historical_etl.sources.vendors.throttle import Throttle

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, Retry

__all__ = ["MassiveClient"]

_BASE_URL: Final = "https://api.massive.com"
#: What the vendor gives at most in a page. It goes along with each cursor: by itself the client sends one of 10.
_BARS, _EVENTS, _TICKERS = 50_000, 5_000, 1_000
_OK: Final = 200

#: Asks for the first page where it is given None, else for the next one: its query, and the parts of its path.
_Page = Callable[[Mapping[str, str] | None, Sequence[str]], object]


class MassiveClient:
    """Rows of five endpoints. All of them raise `Refusal`, `FormError` or `ConfigurationError`.

    Args:
        key: of the account.
        base_url: empty: the vendor's.
        timeout: seconds for one request, from connecting to its last byte.
        reader: reads the answers.
        throttle: lets requests through.
    """

    def __init__(self, key: str, base_url: str, timeout: float, reader: Reader, throttle: Throttle) -> None:
        self._reader = reader
        self._throttle = throttle
        base = base_url or _BASE_URL
        self._client: Any = require("massive", "massive").RESTClient(
            api_key=key,
            base=base,
            proxy=proxy_for(base),
            connect_timeout=timeout,
            read_timeout=timeout,
            retries=0,
            pagination=False,
            connection_pool_kw={"retries": _logged_retry(reader, throttle)},
        )
        self._bounds = Bounds(reader.vendor, timeout)
        bounded_urllib3(self._client.client)

    def bars(self, ticker: str, start: date, end: date) -> list[VendorRow]:
        """Raw daily bars of a ticker, oldest first."""
        first = (start.isoformat(), end.isoformat())
        name = quote(ticker, safe="")  # the client puts it into a path as it is

        def page(query: Mapping[str, str] | None, place: Sequence[str]) -> object:
            # The range of the next page is in the path of its address; that its prices are raw is nowhere.
            asked = {"sort": "asc", "limit": _BARS} if query is None else {"params": dict(query)}
            span = first if query is None else place[-2:]
            return self._client.list_aggs(name, 1, "day", *span, adjusted=False, **asked, raw=True)

        return list(self._pages(page, ticker, bars=(end - start).days + 1))

    def market(self, day: date) -> list[VendorRow]:
        """Raw bars of all tickers on a day."""

        def page(query: Mapping[str, str] | None, place: Sequence[str]) -> object:
            del query, place  # a day is one page
            return self._client.get_grouped_daily_aggs(day.isoformat(), adjusted=False, include_otc=True, raw=True)

        return list(self._pages(page))

    def splits(self, tickers: Sequence[str] | None, start: date, end: date) -> list[VendorRow]:
        """Splits of some tickers, or of all, by ex-date."""
        return self._events(self._client.list_stocks_splits, "execution_date", tickers, start, end)

    def dividends(self, tickers: Sequence[str] | None, start: date, end: date) -> list[VendorRow]:
        """Dividends of some tickers, or of all, by ex-date."""
        return self._events(self._client.list_stocks_dividends, "ex_dividend_date", tickers, start, end)

    def tickers(self, kind: str, day: date | None, *, active: bool) -> Iterator[VendorRow]:
        """Tickers of a type as of a day; None: as of now."""
        asked = {"type": kind, "market": "stocks", "date": day and day.isoformat(), "active": active}

        def page(query: Mapping[str, str] | None, place: Sequence[str]) -> object:
            del place
            what = asked if query is None else {"params": dict(query)}
            return self._client.list_tickers(**what, limit=_TICKERS, sort="ticker", raw=True)

        return self._pages(page)

    def _events(
        self, ask: Callable[..., object], name: str, tickers: Sequence[str] | None, start: date, end: date
    ) -> list[VendorRow]:
        asked = {f"{name}_gte": start.isoformat(), f"{name}_lte": end.isoformat(), "sort": f"{name}.asc"}
        asked |= {"ticker_any_of": ",".join(tickers)} if tickers is not None else {}

        def page(query: Mapping[str, str] | None, place: Sequence[str]) -> object:
            del place
            what = asked if query is None else {"params": dict(query)}
            return ask(**what, limit=_EVENTS, raw=True)

        return list(self._pages(page))

    def _pages(self, page: _Page, ticker: str | None = None, bars: int | None = None) -> Iterator[VendorRow]:
        query: Mapping[str, str] | None = None
        place: Sequence[str] = ()
        pages = Pages(bars)
        while True:
            answer, size = self._throttle.ask(lambda query=query, place=place: self._read(lambda: page(query, place)))
            if answer.get("adjusted") is True:  # only bars have a basis, and raw ones were asked for
                raise FormError("its prices are adjusted for splits, and raw ones were asked for")
            if ticker is not None and answer.get("ticker") not in (None, ticker):
                raise FormError(f"it is of {answer['ticker']!r}, and {ticker} was asked for")
            rows = rows_of(answer.get("results") or [], "results")
            yield from rows
            following = answer.get("next_url")
            if not following:
                return
            address = pages.turn(following, brought=bool(rows), size=size)
            try:
                parts = urlsplit(address)
                query, place = dict(parse_qsl(parts.query)), ["", *parts.path.split("/")]
            except ValueError:
                raise FormError(f"the next page is at {address!r}") from None

    def _read(self, ask: Callable[[], object]) -> tuple[dict[str, object], int]:
        """An answer, and how long its text is."""
        from urllib3.exceptions import HTTPError

        try:
            with self._bounds.request():
                raw = cast("BaseHTTPResponse", ask())
            text = raw.data.decode("utf-8", errors="replace")
        except HTTPError as error:  # what no retry policy is asked about, such as a body that is badly packed
            raise self._reader.broken(f"did not answer in full ({type(error).__name__})", str(error)) from None
        found = self._reader.parse(raw.status, raw.headers, text, self._throttle.pace.clock())
        if not isinstance(found, dict):
            raise FormError("the answer is no object")
        content = cast("dict[str, object]", found)
        # OK, or DELAYED with a plan that sees a day late. Every other word is a failure with status 200.
        if content.get("status") not in ("OK", "DELAYED"):
            raise self._reader.broken(f"answered with status {content.get('status')!r}", str(content.get("error", "")))
        return content, len(text)


def _logged_retry(reader: Reader, throttle: Throttle) -> "Retry":
    """A retry policy for urllib3 that never retries, and says instead what the answer was."""
    from urllib3 import Retry

    class LoggedRetry(Retry):
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
                reader.check(response.status, response.headers, text, throttle.pace.clock())
            raise reader.broken(f"did not answer in full ({type(error).__name__})", str(error or "")) from None

    return LoggedRetry(total=0)
