"""What vendors answer: each real client against a server that spoils one of its answers."""

import gzip
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from historical_etl.errors import ConfigurationError, ProviderError
from historical_etl.models import Outcome
from historical_etl.sources.base import ACTIONS, FetchRequest, FetchResult
from historical_etl.sources.vendors.json_client import JsonClient
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl.sources.vendors.throttle import Throttle
from historical_etl.vendor_settings import TiingoSettings
from historical_etl_tests.proofs.hostile.mutations import fuzz, spoilt_json
from historical_etl_tests.scenario import COLUMNS
from historical_etl_tests.sources.vendors.conftest import TRUTH
from historical_etl_tests.sources.vendors.loopback import VENDORS, Loopback, fixed_clock

SYMBOLS = ("BRK.B", "SPLT")
WHOLE = FetchRequest(SYMBOLS, date(2012, 12, 24), date(2013, 1, 8))
DEEP = b"[" * 100_000 + b"]" * 100_000
JSON = "application/json; charset=utf-8"
#: In how many places of each answer a value is put in every run; in all of them with `--hypothesis-profile torture`.
PLACES = 12


class Spoiling(Loopback):
    """A server whose answer to the n-th request may be another one.

    Attributes:
        bodies: what it answered since the last `start`, before anything was spoilt.
    """

    def __init__(self, http: HTTPServer) -> None:
        self.bodies: list[bytes] = []
        self._instead: dict[int, Response] = {}
        super().__init__(TRUTH, http=http)

    def start(self, spoilt: dict[int, Response] | None = None) -> None:
        self.bodies, self._instead = [], spoilt or {}

    def _handler(self, wire: Callable[[Loopback, Request], Any]) -> Callable[[Request], Response]:
        inner = super()._handler(wire)

        def handle(request: Request) -> Response:
            answer = inner(request)
            number = len(self.bodies)
            body = answer.get_data()
            self.bodies.append(gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body)
            return self._instead.get(number, answer)

        return handle


class Asked:
    """A vendor's source, the server it asks, and what the server answers when nothing is spoilt."""

    def __init__(self, vendor: str, server: Spoiling, folder: Path) -> None:
        self.vendor, self.server, self._folder = vendor, server, folder
        self.fetch()  # the first time it asks for more, such as a cookie
        self.server.start()
        assert self.fetch().outcomes == dict.fromkeys(SYMBOLS, Outcome.OK)
        self.answers = [json.loads(body) for body in server.bodies]

    def fetch(self) -> FetchResult:
        """By a source of its own: one that was asked to wait would not ask again."""
        settings: dict[str, Any] = {"attempts": 1, "breaker_failures": 1_000_000}
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        source = self.server.source(self.vendor, state_folder=folder, pace=fixed_clock().pace, **settings)
        try:
            return source.fetch(WHOLE)
        finally:
            source.close()

    def spoilt(self, number: int, content: bytes, **options: Any) -> FetchResult | None:
        """What a fetch brings if one answer is another; None if it was refused."""
        given: dict[str, Any] = {"content_type": JSON} | options
        self.server.start({number: Response(content, **given)})
        found = None
        try:
            found = self.fetch()
        except (ProviderError, ConfigurationError) as error:
            reported = str(error)
        else:
            assert found.frame.schema == COLUMNS
            assert found.actions is None or found.actions.schema == ACTIONS
            assert set(found.outcomes) == set(SYMBOLS)
            assert set(found.frame["symbol"]) <= set(SYMBOLS)
            assert found.frame["date"].is_between(WHOLE.start, WHOLE.end).all()
            reported = " ".join(found.details.values())
        assert len(self.server.bodies) > number, "it was asked for"
        assert "LOOPBACK" not in reported, "no key in a message"
        assert len(reported) < 3000
        return found


@pytest.fixture(scope="module", params=VENDORS)
def asked(request, tmp_path_factory) -> Iterator[Asked]:
    folder, http = tmp_path_factory.mktemp("vendor"), HTTPServer(threaded=True)
    yield Asked(request.param, Spoiling(http), folder)
    http.stop()


@fuzz(15)
@given(data=st.data())
def test_an_answer_that_is_spoilt(asked, data):
    number = data.draw(st.integers(0, len(asked.answers) - 1))
    asked.spoilt(number, data.draw(spoilt_json(asked.answers[number])))


ODD_ANSWERS = {
    "deep": (DEEP, {}),
    "empty": (b"", {}),
    "an unknown charset": (b"[]", {"content_type": "application/json; charset=no-such-thing"}),
    "a charset that is no text": (b"[]", {"content_type": "application/json; charset=base64"}),
    "utf-16": ("[]".encode("utf-16"), {"content_type": "application/json; charset=utf-16"}),
    "a bad body": (b"\xff\xfe\x00", {}),
    "half a character": (b'{"\\ud800": "\\udfff"}', {}),
    "a wait of superscripts": (b"{}", {"status": 429, "headers": {"Retry-After": "\u00b2"}}),
    "a wait without end": (b"{}", {"status": 503, "headers": {"Retry-After": "9" * 400}}),
    "a wait beyond the calendar": (
        b"{}",
        {"status": 503, "headers": {"Retry-After": "Fri, 31 Dec 9999 23:59:59 -2359"}},
    ),
    "a clock beyond the calendar": (b"{}", {"headers": {"Date": "Fri, 31 Dec 9999 23:59:59 -2359", "Age": "9" * 99}}),
    "no date": (b"{}", {"headers": {"Date": "-"}}),
    "a bad packing": (b"no gzip", {"headers": {"Content-Encoding": "gzip"}}),
    "status 999": (b"{}", {"status": 999}),
    "a redirect to a file": (b"", {"status": 302, "headers": {"Location": "file:///etc/passwd"}}),
}


@pytest.mark.parametrize("odd", ODD_ANSWERS)
def test_an_answer_that_is_odd(asked, odd):
    content, options = ODD_ANSWERS[odd]
    for number in range(len(asked.answers)):
        asked.spoilt(number, content, **options)


@pytest.mark.parametrize(
    "value",
    [10**400, "\ud800", [], True, "1e999", float("nan"), 2**63, "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z"],
    ids=lambda value: ascii(value)[:20],
)
def test_every_value_of_an_answer_in_turn(asked, value):
    for number, answer in enumerate(asked.answers):
        text = json.dumps(answer)
        known = list(places(answer))[:60]
        whole = settings.get_current_profile_name() == "torture"
        for place in known if whole else random.Random(number).sample(known, min(PLACES, len(known))):
            document = json.loads(text)
            holder = document
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = value
            asked.spoilt(number, json.dumps(document).encode())


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """One place of each shape: of equal elements of a list, the first alone."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document[:1])
    for key, value in pairs:
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from places(value, (*before, key))


@pytest.mark.parametrize("vendor", ["alpaca", "massive"])
def test_pages_without_an_end(vendor, tmp_path):
    """Each page says that the next one is itself."""
    with HTTPServer(threaded=True) as http:
        server = Spoiling(http)
        server.page = 3
        source = server.source(vendor, state_folder=tmp_path, pace=fixed_clock().pace, attempts=1)
        source.fetch(WHOLE)
        page = json.loads(server.bodies[1 if vendor == "massive" else 0])
        again = {"alpaca": {"next_page_token": "MA=="}, "massive": {"next_url": f"{server.url}/v2/aggs/x?cursor=0"}}
        endless = Response(json.dumps(page | again[vendor]), content_type=JSON)
        server.start(dict.fromkeys(range(100), endless))
        with suppress(ProviderError):
            source.fetch(WHOLE)
        assert 2 <= len(server.bodies) < 20
        source.close()


@example(1 << 20)
@given(st.integers(2, 1 << 22))
@fuzz(5)
def test_a_small_answer_that_unpacks_to_a_large_one(tmp_path_factory, size):
    """Reading stops where it grows over the limit, not where memory ends."""
    packed = gzip.compress(b"[" + b" " * size + b"]")
    settings = TiingoSettings.model_validate({"attempts": 1, "rate": "100000/second"})
    with HTTPServer(threaded=True) as http:
        http.expect_request("/x").respond_with_response(
            Response(packed, content_type=JSON, headers={"Content-Encoding": "gzip"})
        )
        gate = Throttle("tiingo", settings, fixed_clock().pace, tmp_path_factory.mktemp("turns"))
        limit = max(size // 2, 1)
        client = JsonClient(
            http.url_for("").rstrip("/"), "tiingo", Reader("tiingo", (), ()), gate, 30, most_bytes=limit
        )
        with pytest.raises(Refusal, match=f"more than {limit:,} bytes"):
            client.get("/x", {})
        client.close()
        gate.close()
