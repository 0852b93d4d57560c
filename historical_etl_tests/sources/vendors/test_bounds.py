"""What a request may take: each vendor's real client against servers that never come to an end."""

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from historical_etl import (
    FetchRequest,
    HistoricalETLError,
    Outcome,
    ProviderError,
    ProviderUnavailableError,
    strict_json,
)
from historical_etl.sources.vendors import response_limits as bounds
from historical_etl.sources.vendors import yfinance
from historical_etl.sources.vendors.refusals import Refusal
from historical_etl.sources.vendors.response_limits import Bounds
from historical_etl.sources.vendors.yfinance import YfinanceSource
from historical_etl.vendor_settings import YfinanceSettings
from historical_etl_tests.sources.vendors.loopback import VENDORS, Loopback

DAY = date(2013, 1, 2)
SECONDS = 0.5
#: So long the servers go on: much longer than the requests may take, and not for ever, should a client wait.
ON = 240.0
JSON = "application/json"
#: An answer of each vendor that holds no bars.
NOTHING: dict[str, Any] = {
    "tiingo": [],
    "eodhd": [],
    "alpaca": {"bars": {}, "next_page_token": None},
    "massive": {"status": "OK", "results": []},
    "yfinance": {
        "chart": {
            "result": [{"meta": {"exchangeTimezoneName": "UTC"}, "indicators": {"quote": [{}], "adjclose": [{}]}}],
            "error": None,
        }
    },
}
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def fetch(tmp_path, clock, monkeypatch) -> Iterator[Callable[..., Any]]:
    """Fetch from a server that answers everything in one way, by a vendor's everyday client."""
    servers: list[ThreadingHTTPServer] = []

    def run(vendor: str, answer: Answer, symbols: tuple[str, ...] = ("ODD",), **settings: Any) -> Any:
        server = Server(("127.0.0.1", 0), handler_of(answer))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = source_of(vendor, f"http://127.0.0.1:{server.server_port}", {"attempts": 1, **settings})
        try:
            return source.fetch(FetchRequest(symbols, DAY, DAY))
        finally:
            source.close()

    def source_of(vendor: str, url: str, settings: dict[str, Any]) -> Any:
        places: dict[str, Any] = {"pace": clock.pace, "state_folder": tmp_path}
        if vendor != "yfinance":
            loopback: Any = Loopback.__new__(Loopback)
            loopback._server = Address(url)
            return loopback.source(vendor, **places, **settings)
        from yfinance.data import YfData

        monkeypatch.setattr(yfinance, "_BASE_URL", url)
        monkeypatch.setattr(YfData, "_get_cookie_and_crumb", lambda *_, **__: ("crumb", "basic"))
        return YfinanceSource(YfinanceSettings(rate="9999/second", **settings), **places)

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class Address:
    """What `Loopback` asks a server for."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url_for(self, path: str) -> str:
        return self._url + path


def handler_of(answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(OSError):  # who asked is gone
                answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base has it
            """Nothing: it would go to the output of the tests."""

    return Handler


def slow_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.flush_headers()
    drip(handler, b"X-More: 1\r\n")


def slow_body(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, {"Content-Length": "1000000"})
    drip(handler, b" ")


def slow_body_of_unknown_length(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, {"Connection": "close"})
    drip(handler, b" ")


def slow_chunks(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, {"Transfer-Encoding": "chunked"})
    drip(handler, b"1\r\n \r\n")


def endless_body(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, {"Connection": "close"})
    until = time.monotonic() + ON
    while time.monotonic() < until:
        handler.wfile.write(bytes(1 << 16))


def gzip_bomb(handler: BaseHTTPRequestHandler) -> None:
    packed = gzip.compress(b"[" + bytes(1 << 23) + b"]")
    begin(handler, {"Content-Encoding": "gzip", "Content-Length": str(len(packed))})
    handler.wfile.write(packed)


def begin(handler: BaseHTTPRequestHandler, headers: dict[str, str], status: int = 200) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Type": JSON} | headers).items():
        handler.send_header(name, value)
    handler.end_headers()


def drip(handler: BaseHTTPRequestHandler, part: bytes) -> None:
    """A part now and then: no single wait is long."""
    until = time.monotonic() + ON
    while time.monotonic() < until:
        handler.wfile.write(part)
        time.sleep(0.1)
    handler.close_connection = True


@pytest.mark.parametrize("answer", [slow_headers, slow_body, slow_body_of_unknown_length, slow_chunks])
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_request_ends_when_its_time_is_over_whatever_comes_meanwhile(vendor, answer, fetch):
    before = time.monotonic()
    with pytest.raises(ProviderUnavailableError, match=rf"(?i){shown(vendor)} took over 0.5 s"):
        fetch(vendor, answer, timeout_seconds=SECONDS)
    assert SECONDS <= time.monotonic() - before < ON / 2


@pytest.mark.parametrize("answer", [endless_body, gzip_bomb])
@pytest.mark.parametrize("vendor", VENDORS)
def test_an_answer_ends_where_it_grows_over_the_limit(vendor, answer, fetch, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_RESPONSE_BYTES", 1 << 20)
    before = time.monotonic()
    with pytest.raises(ProviderError, match=rf"{shown(vendor)} .*1,048,576 bytes") as caught:
        fetch(vendor, answer)
    assert not caught.value.retryable
    assert time.monotonic() - before < ON / 2


def answering(vendor: str, packings: tuple[str, ...] = (), *, times: int = 0, kind: str = JSON) -> Answer:
    """An answer without bars, gzipped some times, that says so in as many headers as are given."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps(NOTHING[vendor]).encode()
        for _ in range(times):
            body = gzip.compress(body)
        handler.send_response(200)
        for name, value in [("Content-Type", kind), ("Content-Length", str(len(body)))]:
            handler.send_header(name, value)
        for packing in packings:
            handler.send_header("Content-Encoding", packing)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.mark.parametrize("packings", [("gzip, gzip",), ("gzip", "gzip"), ("gzip,identity",)], ids=str)
@pytest.mark.parametrize("vendor", VENDORS)
def test_an_answer_that_is_packed_twice_is_refused(vendor, packings, fetch):
    """What one packing makes of a little, the next one multiplies."""
    with pytest.raises(ProviderError, match=rf"{shown(vendor)} answered with the packing") as caught:
        fetch(vendor, answering(vendor, packings, times=2))
    assert not caught.value.retryable


@pytest.mark.parametrize("packing", ["br", "zstd", "deflate", "compress", "gzip;q=1"])
@pytest.mark.parametrize("vendor", [vendor for vendor in VENDORS if vendor != "yfinance"])
def test_a_packing_that_was_not_asked_for_is_refused(vendor, packing, fetch):
    asked: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Accept-Encoding"])
        answering(vendor, (packing,))(handler)

    with pytest.raises(ProviderError, match=f"{vendor} answered with the packing '{packing}'"):
        fetch(vendor, answer)
    assert set(asked) == {"gzip"}


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_small_part_of_an_answer_is_not_unpacked_at_once(vendor, fetch, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_RESPONSE_BYTES", 1 << 20)
    packed = gzip.compress(bytes(1 << 26))
    fetch(vendor, answering(vendor))  # what is imported, and kept

    def answer(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, {"Content-Encoding": "gzip", "Content-Length": str(len(packed))})
        handler.wfile.write(packed)

    tracemalloc.start()
    with pytest.raises(ProviderError, match="more than 1,048,576 bytes"):
        fetch(vendor, answer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


@pytest.mark.parametrize("vendor", VENDORS)
def test_packed_parts_that_hold_nothing_do_not_go_on_for_ever(vendor, fetch):
    empty = gzip.compress(b"") * 500

    def answer(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, {"Content-Encoding": "gzip", "Connection": "close"})
        until = time.monotonic() + ON
        while time.monotonic() < until:
            handler.wfile.write(empty)

    before = time.monotonic()
    with pytest.raises(ProviderError):
        fetch(vendor, answer, timeout_seconds=SECONDS)
    assert time.monotonic() - before < ON / 2


@pytest.mark.parametrize("vendor", [vendor for vendor in VENDORS if vendor != "yfinance"])
def test_an_answer_that_is_packed_in_some_pieces_is_whole(vendor, fetch):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps(NOTHING[vendor]).encode()
        packed = gzip.compress(body[:1]) + gzip.compress(body[1:])
        begin(handler, {"Content-Encoding": "x-gzip", "Content-Length": str(len(packed))})
        handler.wfile.write(packed)

    assert fetch(vendor, answer).outcomes == {"ODD": Outcome.EMPTY}


@pytest.mark.parametrize("vendor", [vendor for vendor in VENDORS if vendor != "yfinance"])
def test_packed_answers_that_are_cut_off_are_not_taken(vendor, fetch):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        packed = gzip.compress(json.dumps(NOTHING[vendor]).encode())[:-4]
        begin(handler, {"Content-Encoding": "gzip", "Content-Length": str(len(packed))})
        handler.wfile.write(packed)

    with pytest.raises(ProviderUnavailableError, match="did not answer in full"):
        fetch(vendor, answer)


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_error_without_a_text_is_reported_though_it_is_said_to_be_packed(vendor, fetch):
    with pytest.raises(ProviderUnavailableError, match="HTTP 503"):
        fetch(vendor, lambda handler: begin(handler, {"Content-Encoding": "gzip", "Content-Length": "0"}, 503))


@pytest.mark.parametrize("vendor", VENDORS)
def test_json_is_utf_8_whatever_its_headers_say(vendor, fetch):
    """A text in Punycode takes the square of its length to read."""
    assert fetch(vendor, answering(vendor, kind=f"{JSON}; charset=punycode")).outcomes == {"ODD": Outcome.EMPTY}


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_answer_of_too_many_values_is_refused_before_it_is_read(vendor, fetch, monkeypatch):
    """A list of empty lists takes 25 times its length in memory."""
    monkeypatch.setattr(strict_json, "MOST_VALUES", 1000)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = b"[" + b"[]," * 1000 + b"[]]"
        begin(handler, {"Content-Length": str(len(body))})
        handler.wfile.write(body)

    with pytest.raises(ProviderError, match="1,000 values") as caught:
        fetch(vendor, answer)
    assert not caught.value.retryable


@pytest.mark.parametrize("vendor", [vendor for vendor in VENDORS if vendor != "yfinance"])
def test_a_refusal_is_bounded_too(vendor, fetch, monkeypatch):
    """Of such an answer the client reads the words by itself."""
    monkeypatch.setattr(bounds, "MOST_RESPONSE_BYTES", 1 << 20)

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, {"Content-Length": str(1 << 21)}, 403)
        handler.wfile.write(bytes(1 << 21))

    with pytest.raises(HistoricalETLError, match="answered with more than"):
        fetch(vendor, refuse)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_connection_serves_all_requests(vendor, packed, fetch):
    """Setting up one costs more than most answers."""
    callers: list[tuple[str, int]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        callers.append(handler.client_address)
        body = json.dumps(NOTHING[vendor]).encode()
        body = gzip.compress(body) if packed else body
        begin(handler, {"Content-Length": str(len(body))} | ({"Content-Encoding": "gzip"} if packed else {}))
        handler.wfile.write(body)

    symbols = ("A", "B", "C")
    result = fetch(vendor, answer, symbols, **({"page_symbols": 1} if vendor == "alpaca" else {}))
    assert set(result.outcomes.values()) == {Outcome.EMPTY}
    assert len(callers) >= len(symbols)
    assert len(set(callers)) == 1


def test_an_answer_counts_though_it_arrived_at_the_last_moment():
    with pytest.raises(Refusal, match="busy"), Bounds("v", 1e-9).request():
        raise Refusal(Outcome.ERROR, "busy", status=503, again=True)


def test_an_answer_that_is_too_large_is_no_slow_one():
    with pytest.raises(Refusal, match="more than 1 bytes"), Bounds("v", 1e-9, 1).request() as limit:
        limit.body([b"ab"])


def test_what_fails_in_time_is_reported_as_it_is():
    with pytest.raises(ValueError, match="other"), Bounds("v", 60).request():
        raise ValueError("other")


def shown(vendor: str) -> str:
    return "Yahoo" if vendor == "yfinance" else vendor
