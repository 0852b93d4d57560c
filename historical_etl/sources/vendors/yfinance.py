"""The `yfinance` source: Yahoo, by its only maintained client, one symbol at a time with every failure visible.

The client goes through a session of ours: it waits its turn for each request, checks the answers about prices before
the client and its cache see them, and keeps what the client drops, such as that a volume is null and not 0.
"""

import atexit
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote
from zoneinfo import ZoneInfo

from historical_etl.errors import HistoricalETLError
from historical_etl.models import Outcome
from historical_etl.schema import empty_frame
from historical_etl.sources.base import Capabilities, FetchRequest, SourceInfo, Unit
from historical_etl.sources.vendors.collect import Part, VendorSource
from historical_etl.sources.vendors.extras import client_version, require
from historical_etl.sources.vendors.frames import FormError, Row, actions_frame, bars_frame, empty_actions
from historical_etl.sources.vendors.politeness import Gate, Pace
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl.vendor_settings import YfinanceSettings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SessionFactory", "YfinanceSource", "polite"]

#: What the last answer about prices said of each day's volume, by the day in ISO.
Volumes = Mapping[str, float | None]
#: Makes the session that the client shall use, from the class mix-in that makes any session polite.
SessionFactory = Callable[["Watch"], Any]
_NAMES: Final = {
    "date": "date",
    "open": "Open",
    "high": "High",
    "low": "Low",
    "close": "Close",
    "volume": "Volume",
    "adj_close": "Adj Close",
}
_CHART: Final = "/v8/finance/chart/"
#: Said of a symbol that exists, about a range in which it does not.
_NO_DATA: Final = ("data doesn't exist", "no data found for this date range")
#: The client goes on without a crumb, and tries another cookie: these it may see.
_CLIENTS_OWN: Final = (401, 403)
_BAD_REQUESTS: Final = (400, 422)
#: The client's session, cookie and cache are one for the whole process.
_process: Final = threading.RLock()


class Watch:
    """What a session of ours does before and after each request of the client."""

    def __init__(self, reader: Reader, gate: Gate) -> None:
        self.volumes: Volumes | None = None
        self.denied = 0
        self._reader = reader
        self._gate = gate

    def before(self) -> None:
        """Wait for a turn."""
        self._gate.turn()

    def after(self, url: str, status: int, headers: Mapping[str, str], text: str) -> None:
        """Look at an answer before the client does.

        Raises:
            Refusal: it is about prices, and holds none.
        """
        if _CHART not in url:
            return
        self.denied = status if status in _CLIENTS_OWN else 0
        if self.denied:
            return
        try:
            found = self._reader.parse(status, headers, text, self._gate.pace.clock())
        except Refusal as refusal:
            if refusal.status in _BAD_REQUESTS and any(words in refusal.body.lower() for words in _NO_DATA):
                self.volumes = None
                raise Refusal(Outcome.EMPTY, refusal.what, status=refusal.status, body=refusal.body) from None
            raise
        self.volumes = _volumes(found)


def polite(session: type[Any], watch: Watch) -> type[Any]:
    """A session class of requests or curl_cffi whose instances go through `watch`."""

    class Polite(session):  # pyright: ignore[reportUntypedBaseClass]
        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as both have it
            watch.before()
            response = cast("Any", super().request(method, url, *args, **kwargs))  # pyright: ignore[reportUnknownMemberType]
            watch.after(url, response.status_code, response.headers, response.text)
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
    # On pandas 3 it warns three times a symbol, about a matter of its own, by a filter that it sets itself.
    warnings.filterwarnings("ignore", "The inplace keyword in DataFrame", DeprecationWarning, module="yfinance")


def _browser(watch: Watch) -> Any:  # noqa: ANN401 - a session
    """The session that the client makes for itself, polite: Yahoo refuses what does not look like a browser."""
    from curl_cffi.requests import Session

    return polite(Session, watch)(impersonate="chrome")


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
        self._american = exchange in {"XNYS", "XNAS", "XASE", "NYSE", "NASDAQ", "AMEX"}
        self._timeout = settings.timeout_seconds
        self._watch = Watch(self._reader, self._gate)
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
        with _process:
            # What the client remembers may be older than a split (ranaroussi/yfinance#1274).
            self._yf.data.YfData.cache_get.cache_clear()
        return ((symbol,) for symbol in request.symbols)

    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """One symbol's range: its time zone, then its bars and actions."""
        (symbol,) = symbols
        try:
            history, volumes = self._gate.ask(lambda: self._history(symbol, start, end), turns=False)
        except Refusal as refusal:
            if refusal.outcome is Outcome.EMPTY:
                return Part(empty_frame(), empty_actions())
            raise
        rows = _rows(history, volumes)
        # The client adds a row for an action on a day without a bar.
        with_bars = [row for row in rows if volumes is None or row["date"] in volumes]
        bars = bars_frame(with_bars, _NAMES, symbols=symbol, start=start, end=end)
        found = [(symbol, row["date"], _told(row, "Stock Splits"), _told(row, "Dividends")) for row in rows]
        events = actions_frame((event for event in found if event[2:] != (None, None)), start, end)
        return Part(bars.frame, events.frame, notes=events.notes, rejected=bars.rejected)

    def _history(self, symbol: str, start: date, end: date) -> "tuple[pd.DataFrame, Volumes | None]":
        yf = self._yf
        ticker = symbol.replace(".", "-").replace("/", "-") if self._american else symbol
        ticker = quote(ticker, safe="^=&")  # the client puts it into a path as it is
        with _process:
            yf.config.debug.hide_exceptions = False
            self._watch.volumes, self._watch.denied = None, 0
            try:
                history = yf.Ticker(ticker, session=self._session).history(
                    interval="1d",
                    start=start.isoformat(),
                    end=(end + timedelta(days=1)).isoformat(),  # it leaves the last day out
                    prepost=False,
                    actions=True,
                    auto_adjust=False,
                    back_adjust=False,
                    repair=False,
                    keepna=True,
                    rounding=False,
                    timeout=self._timeout,
                )
            except (HistoricalETLError, Refusal, FormError):
                raise
            except Exception as error:
                if self._watch.denied:
                    what = f"Yahoo refuses this machine (HTTP {self._watch.denied})"
                    raise Refusal(Outcome.ERROR, what, status=self._watch.denied) from error
                raise self._refusal(error) from error
            return history, self._watch.volumes

    def _refusal(self, error: Exception) -> Refusal:
        kind, exceptions = type(error).__name__, self._yf.exceptions
        what = self._reader.clean(str(error))
        if isinstance(error, exceptions.YFRateLimitError):
            return Refusal(Outcome.RATE_LIMITED, f"Yahoo says that too much was asked: {what}", again=True)
        if isinstance(error, exceptions.YFPricesMissingError):
            return Refusal(Outcome.EMPTY, what)
        if isinstance(error, exceptions.YFTzMissingError):
            return Refusal(Outcome.NOT_FOUND, f"Yahoo does not know it: {what}")
        # Errors of requests and of curl are OSErrors. What else a client stumbles over, it will stumble over again.
        return self._reader.broken(f"did not answer in full ({kind})", what, again=isinstance(error, OSError))


def _rows(history: "pd.DataFrame", volumes: Volumes | None) -> list[Row]:
    """The client's table as rows, with volumes as they came: it takes a null for 0, and cuts fractions off."""
    if history.empty:
        return []
    table = cast("Any", history).reset_index()
    table["date"] = table["Date"].dt.strftime("%Y-%m-%d")
    rows = cast("list[dict[str, object]]", table.drop(columns="Date").to_dict("records"))
    for row in rows:
        if volumes is not None:
            row["Volume"] = volumes.get(str(row["date"]))
    return list(rows)


def _told(row: Row, name: str) -> object:
    value = row.get(name)
    return None if value in (None, 0) or value != value else value  # noqa: PLR0124 - the client's NaN is nothing


def _volumes(answer: object) -> Volumes | None:
    """The volumes of an answer about prices, by the days as the client counts them.

    Raises:
        FormError: the answer is none about prices.
    """
    try:
        results = cast("Any", answer)["chart"]["result"]
        if not results:
            return None
        result = results[0]
        zone = ZoneInfo(result["meta"]["exchangeTimezoneName"])
        moments: list[float] = result.get("timestamp") or []
        volumes: list[float | None] = result["indicators"]["quote"][0].get("volume") or [None] * len(moments)
        # Some bars begin an hour or two before their day (the client's fix_Yahoo_dst_issue).
        days = [(datetime.fromtimestamp(at, UTC).astimezone(zone) + timedelta(hours=2)).date() for at in moments]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FormError(f"the answer holds no chart ({type(error).__name__} at {error})") from None
    if len(days) != len(volumes):
        raise FormError("the answer has more or fewer volumes than days")
    # Of a day that comes twice the client takes the last.
    return {day.isoformat(): volume for day, volume in zip(days, volumes, strict=True)}
