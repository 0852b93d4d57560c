"""The `alpaca` source: many symbols a page, raw prices and an adjusted close, splits and dividends.

The official client carries the keys and builds the requests, which are made page by page through its public `get`:
its own pagination would make all of them without a turn, lose them all with the last, and stumble over a null.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import polars as pl

from historical_etl.models import Outcome
from historical_etl.schema import ORDER, SCHEMA, empty_frame, symbols_in
from historical_etl.sources.base import Capabilities, Coverage, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors import alpaca_actions
from historical_etl.sources.vendors.frames import (
    Bars,
    FormError,
    Pages,
    VendorRow,
    bars_frame,
    joined,
    local_days,
    rows_of,
)
from historical_etl.sources.vendors.optional_clients import client_version, key_from, require
from historical_etl.sources.vendors.proxies import proxy_secrets
from historical_etl.sources.vendors.refusals import Meaning, Reader, Refusal
from historical_etl.sources.vendors.response_limits import Bounds, bounded_urllib3
from historical_etl.sources.vendors.subscription import EVENT_WORDS
from historical_etl.sources.vendors.throttle import Pace
from historical_etl.sources.vendors.vendor_source import Part, VendorSource
from historical_etl.vendor_settings import AlpacaSettings

if TYPE_CHECKING:
    import requests
    from alpaca.common.rest import RESTClient

__all__ = ["AlpacaSource"]

_NEW_YORK: Final = ZoneInfo("America/New_York")
#: Long before all bars; before the first day of the calendar there is none to ask from.
_EARLIEST: Final = date(1970, 1, 1)
_NAMES: Final = {"date": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_ADJUSTED_NAMES: Final = {"date": "t", "adj_close": "c"}
_PAGE: Final = 10_000
_BAD_REQUEST: Final = 400
#: {"message":"invalid symbol: FOO"}, or several with commas: one of them refuses the whole page.
_INVALID: Final = re.compile(r"invalid symbols?: *([^\"}]+)", re.IGNORECASE)
#: Both may come with 403; any other one is of the key or of its plan.
_SAYS: Final = {"forbidden.": Meaning.KEY, "subscription does not permit": Meaning.NOT_COVERED}
#: It means missing permissions, too. Events are requested once bars were fetched: then it can mean nothing else.
_SAYS_OF_EVENTS: Final = _SAYS | {"forbidden.": Meaning.NOT_COVERED}
_EVENTS_PATH: Final = "/corporate-actions"
#: A free plan gets no trades of the last 15 minutes: asked for them, it answers with those of IEX alone, for the whole
#: range and without a word. The rest is for clocks that differ.
_RECENT: Final = timedelta(minutes=20)
#: A ticker is whose it was on the day, as in universes of the time; our own renames join what one company was called.
#: By the names of today, META and FB both bear the bars of Facebook, and those of Sprint, once S, cannot be had at all.
_BY_THE_NAMES_OF_THEN: Final = "-"
#: Limits are of a minute; a moment that is further away is none that we understand.
_LONGEST_RESET: Final = 3600.0
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
        reader = Reader("alpaca", settings.variables, keys, _SAYS, _until_reset)
        super().__init__(settings, reader, pace, state_folder)
        self._events_reader = Reader("alpaca", settings.variables, keys, _SAYS_OF_EVENTS, _until_reset)
        self._events_reader.hide(*settings.hidden, *proxy_secrets())
        self._page_symbols = settings.page_symbols
        self._with_actions = settings.actions
        bounds = Bounds("alpaca", settings.timeout_seconds)
        self._client: Any = _client(keys[0], keys[1], settings.base_url, bounds, self._parse)
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
            events_late=alpaca_actions.PAID_USUALLY.days,
        )

    def units(self, request: FetchRequest) -> Iterable[tuple[str, ...]]:
        """As many symbols as fit a page."""
        symbols, size = request.symbols, self._page_symbols
        return (symbols[first : first + size] for first in range(0, len(symbols), size))

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """Some symbols: raw bars, adjusted bars, actions. Symbols that Alpaca calls invalid are left out."""
        refusals: dict[str, Refusal] = {}
        latest = self._throttle.pace.clock() - _RECENT
        start, end = max(start, _EARLIEST), min(end, latest.astimezone(_NEW_YORK).date())
        if end < start:
            return Part(empty_frame())
        first = start - alpaca_actions.LEAD if self._with_actions else start
        while True:
            asked = [symbol for symbol in symbols if symbol not in refusals]
            if not asked:
                return Part(empty_frame(), None, refusals)
            try:
                raw = self._bars(asked, first, end, "raw", refusals)
                break
            except Refusal as refusal:
                invalid = _invalid_symbols(refusal) & set(asked)
                if not invalid:
                    raise
                unknown = Refusal(Outcome.NOT_FOUND, f"alpaca does not know it: {refusal.body}")
                refusals |= self.refused(unknown, sorted(invalid))
        inside = pl.col("date") >= start
        rejected = raw.rejected.filter(inside | pl.col("date").is_null())
        if raw.frame.filter(inside).is_empty():
            return Part(empty_frame(), None, refusals, rejected=rejected)
        adjusted = self._bars(asked, first, end, "all", refusals)
        # A day that has two different ones becomes two rows, for the rules to refuse.
        levels = adjusted.frame.select(*ORDER, "adj_close").drop_nulls()
        both = raw.frame.drop("adj_close").join(levels, on=ORDER, how="left", maintain_order="left_right")
        if bare := (_without_adj_close(both) & set(symbols_in(both.filter(inside)))) - set(refusals):
            what = "alpaca gives bars of it, and none of them adjusted: nothing is stored, it is asked for again"
            refusals |= self.refused(Refusal(Outcome.ERROR, what, again=True), sorted(bare))
        is_delivered = ~pl.col("symbol").is_in(list(refusals))
        both = both.filter(is_delivered).select(SCHEMA.names())
        cells = pl.concat([raw.cells, adjusted.cells]).filter(inside, is_delivered)
        part = Part(both.filter(inside), None, refusals, rejected=rejected, cells=cells)
        return self._with_events(part, asked, both, start, end)

    def _with_events(self, bars: Part, symbols: list[str], both: pl.DataFrame, start: date, end: date) -> Part:
        """Bars with their splits and dividends; `both` are those before the range, too."""
        if not self._with_actions or self._plan.lacks(EVENT_WORDS):
            return bars
        pages = self._pages(_EVENTS_PATH, alpaca_actions.query_of(symbols, start, end), "v1")
        today = self._throttle.pace.clock().astimezone(_NEW_YORK).date()
        try:
            events = alpaca_actions.read(pages, symbols, start, end, bars=both, today=today)
        except Refusal as refusal:
            return replace(bars, notes=(self.without_events(refusal),))
        # An event is processed on its ex-date or later: of those since then all were asked for.
        since = start - alpaca_actions.ENTERED_WITHIN
        return replace(bars, actions=events.actions, notes=events.notes, foreign=events.foreign, named_since=since)

    def _bars(self, symbols: list[str], start: date, end: date, adjustment: str, refusals: dict[str, Refusal]) -> Bars:
        """Bars of some symbols. One whose bars cannot be read is put among the refusals."""
        from alpaca.data.enums import Adjustment
        from alpaca.data.requests import StockBarsRequest
        from alpaca.data.timeframe import TimeFrame

        wanted = StockBarsRequest(
            symbol_or_symbols=symbols,
            timeframe=cast("TimeFrame", TimeFrame.Day),
            start=_midnight(start),
            end=_midnight(end),
            adjustment=Adjustment(adjustment),
            asof=_BY_THE_NAMES_OF_THEN,
        )
        query = cast("Any", wanted).to_request_fields()
        rows: dict[str, list[VendorRow]] = {symbol: [] for symbol in symbols}
        odd: dict[str, FormError] = {}
        most = len(symbols) * ((end - start).days + 1)
        for page in self._pages("/stocks/bars", {**query, "limit": _PAGE}, "v2", most):
            found = _object(page.get("bars") or {}, "bars")
            for symbol in rows.keys() & found.keys():
                bars = found[symbol]
                if isinstance(bars, list):  # a bar may be null: it is a bar of nothing
                    bars = [bar for bar in cast("list[object]", bars) if bar is not None]
                try:
                    rows[symbol].extend(rows_of(bars or [], f"bars of {symbol}"))
                except FormError as error:
                    odd[symbol] = error
        names = _NAMES if adjustment == "raw" else _ADJUSTED_NAMES
        parts: list[Bars] = []
        for symbol in symbols:
            try:
                parts.append(bars_frame(rows[symbol], names, symbols=symbol, start=start, end=end, days=_days))
            except FormError as error:
                odd[symbol] = error
        for symbol, error in odd.items():
            refusals |= self.refused(error, [symbol])
        return joined(parts)

    def _pages(
        self, path: str, query: Mapping[str, object], version: str, bars: int | None = None
    ) -> Iterator[Mapping[str, object]]:
        token: object = None
        pages = Pages(bars)
        while True:
            params = dict(query) | ({"page_token": token} if token else {})
            answer, size = self._throttle.ask(lambda params=params: self._get(path, params, version))
            page = _object(answer, "the answer")
            yield page
            token = page.get("next_page_token")
            if not token:
                return
            kinds = [cast("Mapping[str, object]", found) for found in page.values() if isinstance(found, dict)]
            pages.turn(token, brought=any(rows for found in kinds for rows in found.values()), size=size)

    def _get(self, path: str, params: dict[str, object], version: str) -> tuple[object, int]:
        """An answer, and how long its text is."""
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        try:
            return self._client.get(path, params, api_version=version)  # as `_parse` made it
        except (RequestException, HTTPError) as error:
            kind = type(error).__name__
            raise self._reader.broken(f"did not answer in full ({kind})", str(error)) from None

    def _parse(self, response: "requests.Response") -> tuple[object, int]:
        is_of_events = urlsplit(response.url).path.endswith(_EVENTS_PATH)
        reader = self._events_reader if is_of_events else self._reader
        text = response.text
        return reader.parse(response.status_code, response.headers, text, self._throttle.pace.clock()), len(text)


def _client(
    key_id: str, secret_key: str, base_url: str, bounds: Bounds, parse: "Callable[[requests.Response], object]"
) -> "RESTClient":
    require("alpaca.data.historical.stock", "alpaca")
    from alpaca.data.historical.stock import StockHistoricalDataClient
    from requests import PreparedRequest, Response
    from requests.adapters import HTTPAdapter

    class Checked(HTTPAdapter):
        """Bounds each request, and reads the answer before the client does."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as requests has it
            super().init_poolmanager(*args, **kwargs)
            bounded_urllib3(self.poolmanager)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - likewise
            return bounded_urllib3(super().proxy_manager_for(*args, **kwargs))

        def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401 - likewise
            with bounds.request():
                response = super().send(request, *args, **(kwargs | {"timeout": bounds.seconds}))
            response.encoding = "utf-8"  # as JSON is
            value = parse(response)
            response.json = lambda **_: value
            return response

    class Client(StockHistoricalDataClient):
        """The client with a transport of ours: its own waits for ever, and retries 429 after 3 s, whatever it says."""

        def __init__(self) -> None:
            super().__init__(key_id, secret_key, raw_data=True, url_override=base_url or None)
            for scheme in ("http://", "https://"):
                self._session.mount(scheme, Checked())

    return Client()


def _without_adj_close(bars: pl.DataFrame) -> set[str]:
    """Symbols that have bars, and no adjusted one at all."""
    priced = bars.filter(pl.col("close").is_not_null())
    adjusted = priced.filter(pl.col("adj_close").is_not_null())
    return set(symbols_in(priced)) - set(symbols_in(adjusted))


def _midnight(day: date) -> datetime:
    """The moment that the bar of a day bears; a range includes the bars of both its ends."""
    return datetime(day.year, day.month, day.day, tzinfo=_NEW_YORK)


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise FormError(f"{what} is no object")
    return cast("Mapping[str, object]", value)


def _invalid_symbols(refusal: Refusal) -> set[str]:
    found = _INVALID.search(refusal.body) if refusal.status == _BAD_REQUEST else None
    return {symbol.strip() for symbol in found[1].split(",")} if found else set()


def _until_reset(headers: Mapping[str, str], text: str, now: datetime) -> float | None:
    """Seconds to the moment that X-RateLimit-Reset names, in seconds since 1970."""
    del text
    reset = headers.get("x-ratelimit-reset", "").strip()
    if not re.fullmatch(r"[0-9]{1,12}", reset):
        return None
    wait = max(0.0, int(reset) - now.timestamp())
    return wait if wait <= _LONGEST_RESET else None
