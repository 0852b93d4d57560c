"""A server on loopback that holds a truth and speaks every vendor's wire format; the clients run against it unpatched.

    with Loopback(truth, faults=Faults(share=0.2)) as server:
        source = server.source("tiingo", state_folder=folder)
        ...
        assert source.fetch(request).frame.equals(server.truth.expected("tiingo"))
        print(server.asked.total(), server.repeated())

`Truth` is what happened: raw bars and corporate actions. What a vendor makes of it (a basis, no adjusted close) is
`Truth.expected`. `Faults` says which requests fail and how. The counters are by unit: a request without its key.
"""

import gzip
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler

from historical_etl.sources.vendors.alpaca import AlpacaSource
from historical_etl.sources.vendors.eodhd import EodhdSource
from historical_etl.sources.vendors.massive import MassiveSource
from historical_etl.sources.vendors.throttle import Pace
from historical_etl.sources.vendors.tiingo import TiingoSource
from historical_etl.sources.vendors.vendor_source import VendorSource
from historical_etl.sources.vendors.yfinance import Watch, YfinanceSource, polite
from historical_etl.vendor_settings import (
    AlpacaSettings,
    EodhdSettings,
    MassiveSettings,
    TiingoSettings,
    YfinanceSettings,
)
from historical_etl_tests.sources.vendors.truth import Truth

__all__ = [
    "ENVIRONMENT",
    "KEY",
    "PASSING",
    "SECRET",
    "VENDORS",
    "Clockwork",
    "Fault",
    "Faults",
    "Loopback",
    "Truth",
    "always",
    "as_json",
    "fixed_clock",
    "scripted",
    "unit_of",
]

VENDORS = ("tiingo", "eodhd", "yfinance", "alpaca", "massive")
#: Not a key of anybody's; odd enough that a search for it finds every place it leaks to, escaped or not.
KEY, SECRET = "LOOPBACK/key+0123", "LOOPBACK/secret+4567"
#: The variables that a child process needs to reach the server with plain settings (not yfinance: it has a session).
ENVIRONMENT = {
    "TIINGO_API_KEY": KEY,
    "EODHD_API_KEY": KEY,
    "MASSIVE_API_KEY": KEY,
    "APCA_API_KEY_ID": KEY,
    "APCA_API_SECRET_KEY": SECRET,
}


class Fault(StrEnum):
    """One way for a request to fail."""

    ERROR = "500"
    BUSY = "503 with Retry-After"
    LIMITED = "429"
    LIMITED_FOR = "429 with Retry-After"
    DENIED = "401"
    HTML = "HTML with status 200"
    TRUNCATED = "JSON that ends too early"
    CUT = "a connection that is cut"
    SLOW = "an answer that takes too long"


#: What passes by itself: a client that asks again gets its data.
PASSING = (Fault.ERROR, Fault.BUSY, Fault.LIMITED, Fault.LIMITED_FOR, Fault.HTML, Fault.TRUNCATED, Fault.CUT)


class Faults:
    """A schedule: a share of all requests fails, always the same ones for the same seed and order.

    Args:
        share: of the requests.
        kinds: one of these is drawn.
        streak: no unit fails more often than this in a row, so that a client with enough attempts gets through.
        seed: of the draw.
    """

    def __init__(self, share: float = 0.0, kinds: Iterable[Fault] = PASSING, *, streak: int = 2, seed: int = 1) -> None:
        self.share, self.kinds, self.streak = share, tuple(kinds), streak
        self._draw = random.Random(seed)
        self._in_a_row: Counter[str] = Counter()

    def __call__(self, unit: str) -> Fault | None:
        if self._in_a_row[unit] < self.streak and self._draw.random() < self.share:
            self._in_a_row[unit] += 1
            return self._draw.choice(self.kinds)
        self._in_a_row[unit] = 0
        return None


def scripted(*faults: Fault | None, containing: str = "") -> Callable[[str], Fault | None]:
    """A schedule by hand: the first requests whose unit contains a text fail as asked, the rest do not."""
    left = list(faults)
    return lambda unit: left.pop(0) if left and containing in unit else None


def always(fault: Fault, containing: str = "") -> Callable[[str], Fault | None]:
    """A schedule in which every request fails, or every one whose unit contains a text."""
    return lambda unit: fault if containing in unit else None


class Loopback:
    """The server. Use it as a context manager, or call `close`.

    Attributes:
        truth: what it serves; may be replaced while it runs, as a vendor's is overnight.
        faults: which requests fail.
        page: the most rows a page, where a vendor has pages; None: the vendor's own.
        slow: how long a slow answer takes, in seconds.
        now: when it answers; None: long after all that it holds.
        plan: of the account, where a vendor gives less to it; empty: the one that gives all.
        facts: what is given of a symbol beside its bars, by names that its vendor's wire reads, such as `currency`.
        answers: answers in the wire's place, where it gives something.
        none_is_404: whether an answer without rows is a 404, where sources differ on it.
        delays: days from the ex-date of a dividend to its processing, by symbol and ex-date; None: the vendor's own.
        strange: rows that a vendor gives besides, in its own form, by the kind of answer.
        announces: whether events are given before they are processed.
        limited: headers of a 429 that bears no Retry-After.
        asked: requests by unit.
        served: of these, the ones that got their data.
        facts: what is given of a symbol beside its bars, by names that its vendor's wire reads, such as `currency`.
        answers: answers in the wire's place, where it gives something.

    Args:
        http: a server to use and leave running, instead of one of its own.
    """

    def __init__(
        self,
        truth: Truth,
        *,
        faults: Callable[[str], Fault | None] | None = None,
        page: int | None = None,
        slow: float = 1.0,
        retry_after: str = "7",
        now: datetime | None = None,
        plan: str = "",
        facts: Mapping[str, Mapping[str, Any]] | None = None,
        answers: Callable[[Request], Response | None] | None = None,
        none_is_404: bool = False,
        delays: Callable[[str, date], int] | None = None,
        strange: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        announces: bool = False,
        limited: Mapping[str, str] | None = None,
        http: HTTPServer | None = None,
    ) -> None:
        from historical_etl_tests.sources.vendors import wires

        self.truth = truth
        self.faults = faults or Faults()
        self.page = page
        self.slow = slow
        self.retry_after = retry_after
        self.now = now
        self.plan = plan
        self.facts = facts or {}
        self.answers = answers
        self.none_is_404 = none_is_404
        self.delays = delays
        self.strange = dict(strange or {})
        self.announces = announces
        self.limited = dict(limited or {})
        self.asked: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._own = http is None
        self._server = http or HTTPServer(threaded=True)
        for pattern, wire in wires.WIRES.items():
            self._server.expect_request(re.compile(pattern)).respond_with_handler(self._handler(wire))
        if not self._server.is_running():
            self._server.start()
        assert self._server.server is not None
        self._server.server.RequestHandlerClass = self._dated()

    @property
    def url(self) -> str:
        return self._server.url_for("").rstrip("/")

    def close(self) -> None:
        self._server.clear()
        if self._own and self._server.is_running():
            self._server.stop()  # takes half a second

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def repeated(self) -> dict[str, int]:
        """Units that were served more than once, and how often: a plan asks for nothing twice."""
        return {unit: count for unit, count in self.served.items() if count > 1}

    def source(
        self, vendor: str, *, state_folder: Path, pace: Pace | None = None, key: str = KEY, **settings: Any
    ) -> VendorSource:
        """A vendor's source that asks this server; fast and with some attempts, unless `settings` say else."""
        fast = {"rate": "100000/second", "timeout_seconds": 30.0, "attempts": 4, "breaker_failures": 1000}
        keys = {"key_id": key, "secret_key": SECRET} if vendor == "alpaca" else {"api_key": key}
        base_url = f"{self.url}/api" if vendor == "eodhd" else self.url
        given = {**keys, "base_url": base_url, "daily_budget": None, **fast, **settings}
        places: dict[str, Any] = {"pace": pace, "state_folder": state_folder}
        match vendor:
            case "tiingo":
                return TiingoSource(TiingoSettings.model_validate(given), **places)
            case "eodhd":
                return EodhdSource(EodhdSettings.model_validate(given), **places)
            case "massive":
                return MassiveSource(MassiveSettings.model_validate(given), **places)
            case "alpaca":
                return AlpacaSource(AlpacaSettings.model_validate(given), **places)
            case "yfinance":
                chosen = YfinanceSettings.model_validate(given)
                return YfinanceSource(chosen, session=self.yahoo_session, **places)
            case _:
                raise ValueError(vendor)

    def yahoo_session(self, watch: Watch) -> Any:
        """A session of requests whose https goes to this server: the host becomes the first part of the path."""
        import requests
        from requests.adapters import HTTPAdapter

        url = self.url

        class Redirected(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
                asked = request.url or ""
                request.url = asked.replace("https://", f"{url}/yahoo/", 1)
                response = super().send(request, *args, **kwargs)
                request.url = response.url = asked  # cookies are judged by these
                return response

        session = polite(requests.Session, watch)()
        session.mount("https://", Redirected())
        return session

    def _dated(self) -> type[WSGIRequestHandler]:
        """Writes the header Date of `now`: a vendor's clock is that of its answers."""
        loopback = self

        class Dated(WSGIRequestHandler):
            def date_time_string(self, timestamp: float | None = None) -> str:
                now = loopback.now
                return super().date_time_string(timestamp if now is None else now.timestamp())

        return Dated

    def _handler(self, wire: "Callable[[Loopback, Request], Any]") -> Callable[[Request], Response]:
        def handle(request: Request) -> Response:
            unit = unit_of(request)
            with self._lock:
                self.asked[unit] += 1
                fault = self.faults(unit)
            if fault is Fault.SLOW:
                time.sleep(self.slow)
            elif fault is not None and (spoilt := self._spoilt(fault, wire, request)) is not None:
                return spoilt
            answer = (self.answers(request) if self.answers else None) or wire(self, request)
            if not isinstance(answer, Response):
                answer = as_json(answer)
            if request.headers.get("Accept-Encoding") == "gzip":
                answer.set_data(gzip.compress(answer.get_data(), 1))
                answer.headers["Content-Encoding"] = "gzip"
            if answer.status_code == 200 and fault is None:
                with self._lock:
                    self.served[unit] += 1
            return answer

        return handle

    def _spoilt(self, fault: Fault, wire: Any, request: Request) -> Response | None:
        after = {"Retry-After": self.retry_after}
        whole = {
            Fault.ERROR: Response("internal error", 500, content_type="text/plain"),
            Fault.BUSY: Response("busy", 503, headers=after),
            Fault.LIMITED: _limited(request, self.limited),
            Fault.LIMITED_FOR: as_json({"message": "too many requests"}, 429, after),
            Fault.DENIED: as_json({"message": f"forbidden for {KEY}"}, 401),
            Fault.HTML: Response("<html><body>Will be right back</body></html>", content_type="text/html"),
        }
        return whole.get(fault) or self._shortened(fault, wire, request)

    def _shortened(self, fault: Fault, wire: Any, request: Request) -> Response | None:
        whole = wire(self, request)
        if isinstance(whole, Response):
            return whole
        body = as_json(whole).get_data()
        half = body[: len(body) // 2]
        if fault is Fault.TRUNCATED:
            return Response(half, content_type="application/json")
        response = Response(half, content_type="application/json")
        response.automatically_set_content_length = False
        response.headers["Content-Length"] = str(len(body))  # the server closes after the half
        return response


def _limited(request: Request, headers: Mapping[str, str]) -> Response:
    if request.path.startswith("/yahoo/"):
        return Response("Edge: Too Many Requests", 429, content_type="text/plain")
    return as_json({"message": "too many requests"}, 429, headers)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    import json

    return Response(json.dumps(value), status, headers=headers, content_type="application/json; charset=utf-8")


def unit_of(request: Request) -> str:
    """A request without its key: the same unit is the same text."""
    query = {name: value for name, value in sorted(request.args.items()) if name not in {"api_token", "crumb"}}
    return request.path + "".join(f" {name}={value}" for name, value in query.items())


def fixed_clock(moment: datetime = datetime(2024, 6, 3, 12, tzinfo=UTC)) -> "Clockwork":
    return Clockwork(moment)


class Clockwork:
    """A clock that moves only when something sleeps, and remembers each sleep; jitter is always the widest."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.moment += timedelta(seconds=seconds)

    @property
    def pace(self) -> Pace:
        return Pace(clock=self, sleep=self.sleep, draw=lambda _, widest: widest)
