"""The `yfinance` source: Yahoo, by its only maintained client, one symbol at a time with every failure visible.

The client makes the requests, with its cookie and crumb, through a session of ours: it waits its turn for each of them,
and checks the answers about prices before the client sees them. What they hold is read by `yahoo_chart`.
"""

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from historical_etl.errors import HistoricalETLError
from historical_etl.models import Outcome
from historical_etl.schema import empty_frame
from historical_etl.sources.base import Capabilities, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.event_rows import actions_frame, empty_actions
from historical_etl.sources.vendors.frames import FormError, bars_frame
from historical_etl.sources.vendors.optional_clients import client_version, require
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl.sources.vendors.response_limits import Bounds, bounded_session
from historical_etl.sources.vendors.throttle import Pace, Throttle
from historical_etl.sources.vendors.vendor_source import Part, VendorSource
from historical_etl.sources.vendors.yahoo_chart import Chart, read_chart, result_of
from historical_etl.vendor_settings import YfinanceSettings

__all__ = ["SessionFactory", "YfinanceSource", "polite"]

#: Makes the session that the client shall use, from the class mix-in that makes any session polite.
SessionFactory = Callable[["Watch"], Any]
_NAMES: Final = {name: name for name in ("date", "open", "high", "low", "close", "volume", "adj_close")}
_BASE_URL: Final = "https://query2.finance.yahoo.com"
_CHART: Final = "/v8/finance/chart/"
#: Events come up to some days late; the same request brings those of so many days before its range.
_LATE: Final = timedelta(days=30)
#: Nothing is older, and nobody asks for later.
_FIRST, _LAST = date(1900, 1, 1), date(2999, 12, 31)
#: Said of a symbol that exists, about a range in which it does not.
_NO_DATA: Final = ("exist for startdate", "no data found for this date range")
#: So long nothing is asked after a 429 that does not say how long: asking on at once makes it last.
_PAUSE: Final = timedelta(seconds=20)
#: The client goes on without a crumb, and tries another cookie: these it may see.
_CLIENTS_OWN: Final = (401, 403)
#: Names of the exchanges whose classes of shares Yahoo writes with a dash.
_AMERICAN: Final = frozenset({"XNYS", "XNAS", "XASE", "ARCX", "BATS", "OOTC", "NYSE", "NASDAQ", "AMEX"})
#: The client's session, cookie and cache are one for the whole process.
_process: Final = threading.RLock()


class Watch:
    """What a session of ours does before and after each request of the client.

    Attributes:
        answer: the last answer about prices, as JSON.
        denied: the status with which the last one was refused, else 0.
        bounds: of each request.
    """

    def __init__(self, reader: Reader, throttle: Throttle, bounds: Bounds) -> None:
        self.answer: object = None
        self.denied = 0
        self.bounds = bounds
        self._reader = reader
        self._throttle = throttle
        self._rests_until = datetime.min.replace(tzinfo=UTC)

    def before(self) -> None:
        """Wait for a turn, and longer where Yahoo was asked too much."""
        rest = self._rests_until - self._throttle.pace.clock()
        if rest > timedelta():
            self._throttle.pace.sleep(min(rest, _PAUSE).total_seconds())  # the clock may have gone back
        self._throttle.turn()

    def after(self, url: str, status: int, headers: Mapping[str, str], text: str) -> None:
        """Look at an answer before the client does.

        Raises:
            Refusal: it is about prices, and holds none.
        """
        # After a redirect it is another page's, such as the one that asks for consent: the client answers that.
        if _CHART not in urlsplit(url).path:
            return
        self.denied = status if status in _CLIENTS_OWN else 0
        if self.denied:
            return
        try:
            self.answer = self._reader.parse(status, headers, text, self._throttle.pace.clock())
        except Refusal as refusal:
            if refusal.outcome is Outcome.RATE_LIMITED and refusal.wait is None:
                self._rests_until = self._throttle.pace.clock() + _PAUSE
            if refusal.status is not None and any(words in text.lower() for words in _NO_DATA):
                raise Refusal(Outcome.EMPTY, refusal.what, status=refusal.status, body=refusal.body) from None
            raise


def polite(session: type[Any], watch: Watch) -> type[Any]:
    """A session class of requests or curl_cffi whose instances go through `watch`."""

    class Polite(session):  # pyright: ignore[reportUntypedBaseClass]
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as both have it
            watch.before()
            with watch.bounds.request():
                response = cast("Any", super().request(method, url, *args, **kwargs))  # pyright: ignore[reportUnknownMemberType]
            response.encoding = "utf-8"  # as JSON is: reading what some others say takes hours
            watch.after(str(response.url), response.status_code, response.headers, response.text)
            return response

    return Polite


@cache
def _prepare(process: int) -> None:
    """Give the client a cache folder for this process, once: it does not open another file after its first use.

    Its SQLite files lock each other out between processes (ranaroussi/yfinance#1689).
    """
    import yfinance

    folder = tempfile.mkdtemp(prefix=f"historical-etl-yfinance-{process}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(folder)


def _browser(watch: Watch) -> Any:  # noqa: ANN401 - a session
    """The session that the client makes for itself, polite: Yahoo refuses what does not look like a browser."""
    from curl_cffi.requests import Session

    return polite(bounded_session(Session), watch)(impersonate="chrome")


class YfinanceSource(VendorSource):
    """Daily bars from Yahoo. Prices are adjusted for splits by Yahoo itself, as of the fetch.

    Args:
        settings: default: read from the environment.
        exchange: a US exchange writes BRK.B where Yahoo has BRK-B; elsewhere a dot is Yahoo's own, as in VOD.L.
        session: makes another session than the client's own.
        pace: clock, sleep and chance.
        state_folder: where to count requests, instead of the user's state folder.

    Raises:
        ConfigurationError: yfinance is not installed.
    """

    def __init__(
        self,
        settings: YfinanceSettings | None = None,
        *,
        exchange: str = "XNYS",
        session: SessionFactory | None = None,
        pace: Pace | None = None,
        state_folder: Path | None = None,
    ) -> None:
        settings = settings or YfinanceSettings()
        self._yf = require("yfinance", "yahoo")
        super().__init__(settings, Reader("Yahoo", (), ()), pace, state_folder)
        self._american = exchange in _AMERICAN
        self._timeout = settings.timeout_seconds
        self._watch = Watch(self._reader, self._throttle, Bounds("Yahoo", self._timeout))
        self._session = (session or _browser)(self._watch)
        _prepare(os.getpid())
        self._states = SourceInfo(
            name="yfinance",
            version=client_version("yfinance"),
            adjustment="open, high, low, close and dividends for splits, volume for splits;"
            " adj_close for splits and dividends; all as of the fetch",
            split_adjusted=True,
            capabilities=Capabilities(
                units=(Unit.SYMBOL,),
                adjusted="prices, volume and dividends for splits",
                actions=True,
                limit=settings.rate,
            ),
        )

    def units(self, request: FetchRequest) -> Iterable[tuple[str, ...]]:
        """One symbol each."""
        return ((symbol,) for symbol in request.symbols)

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """One symbol's range, bars and events, in one request."""
        (symbol,) = symbols
        since = max(start, _FIRST) - _LATE
        try:
            chart = self._throttle.ask(lambda: self._chart(symbol, since, end), turns=False)
        except Refusal as refusal:
            if refusal.outcome is Outcome.EMPTY:
                return Part(empty_frame(), empty_actions())
            raise
        bars = bars_frame(chart.bars, _NAMES, symbols=symbol, start=start, end=end)
        events = actions_frame(chart.events, since, end)
        foreign = chart.foreign.filter(chart.foreign["date"].is_between(since, end))
        notes = (*chart.notes, *events.notes)
        return Part(
            bars.frame,
            events.frame,
            notes=notes,
            rejected=bars.rejected,
            foreign=foreign,
            cells=bars.cells,
            named_since=since,
        )

    def _chart(self, symbol: str, start: date, end: date) -> Chart:
        result = result_of(self._answer(symbol, start, end))
        if result is None:
            raise self._reader.broken("answered with neither a chart nor a reason")
        if not isinstance(result, str):
            return read_chart(result, symbol)
        what = f"Yahoo says {self._reader.clean(result)}"
        if any(words in result.lower() for words in _NO_DATA):
            raise Refusal(Outcome.EMPTY, what)
        raise Refusal(Outcome.NOT_FOUND if result.lower().startswith("not found") else Outcome.ERROR, what)

    def _answer(self, symbol: str, start: date, end: date) -> object:
        """What the client's own session, with its cookie and crumb, is answered; nothing of it is remembered."""
        ticker = symbol.replace(".", "-").replace("/", "-") if self._american else symbol
        # A day more on both sides: the days of exchanges are before and after those of UTC.
        first, last = (datetime.combine(day, time(), UTC) for day in (start, min(end, _LAST)))
        params = {
            "period1": int((first - timedelta(days=1)).timestamp()),
            "period2": int((last + timedelta(days=2)).timestamp()),
            "interval": "1d",
            "includePrePost": False,
            "events": "div,splits,capitalGains",
        }
        watch = self._watch
        with _process:
            watch.answer, watch.denied = None, 0
            try:
                client = self._yf.data.YfData(session=self._session)
                client.get(f"{_BASE_URL}{_CHART}{quote(ticker, safe='^=&')}", params, self._timeout)
            except (HistoricalETLError, Refusal, FormError):
                raise
            except Exception as error:
                # Errors of requests and of curl are OSErrors. What else the client stumbles over, it will again.
                kind, again = type(error).__name__, isinstance(error, OSError)
                raise self._reader.broken(f"did not answer in full ({kind})", str(error), again=again) from error
            if watch.denied:
                what = f"Yahoo refuses this machine (HTTP {watch.denied})"
                raise Refusal(Outcome.ERROR, what, status=watch.denied)
            if watch.answer is None:
                raise self._reader.broken("answered with another page than the one about prices", again=False)
            return watch.answer
