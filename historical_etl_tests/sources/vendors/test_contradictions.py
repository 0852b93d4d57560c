"""Answers that say two things under one name, or true where a price should be: never one of them in silence."""

import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug import Request, Response

from historical_etl.errors import ProviderError
from historical_etl.models import Outcome
from historical_etl_tests.sources.vendors.conftest import TRUTH
from historical_etl_tests.sources.vendors.loopback import VENDORS, Loopback

SYMBOL, WRONG = "SPLT", 999.25
#: A price as each vendor writes it: a number in a row, or the array of a column.
_CLOSE = re.compile(r'"(close|c|adjClose|adjusted_close)": ?(\[[^\]]*\]|[-0-9.eE]+)')
ROWS = [name for name in VENDORS if name != "yfinance"]


class Rewriting(Loopback):
    """A server whose answers about bars are written anew on their way."""

    rewrite: Callable[[str], str] = staticmethod(lambda text: text)

    def _handler(self, wire: Callable[[Loopback, Request], Any]) -> Callable[[Request], Response]:
        inner = super()._handler(wire)

        def handle(request: Request) -> Response:
            answer = inner(request)
            body = answer.get_data()
            if answer.headers.pop("Content-Encoding", None) == "gzip":
                body = gzip.decompress(body)
            answer.set_data(self.rewrite(body.decode()))
            return answer

        return handle


@pytest.fixture
def fetched(tmp_path, listening, clock):
    from pytest_httpserver import HTTPServer

    from historical_etl.sources.base import FetchRequest
    from historical_etl_tests.sources.vendors.conftest import END, START

    http = listening.pop() if listening else HTTPServer(threaded=True)
    server = Rewriting(TRUTH, http=http)

    def fetch(vendor: str, rewrite: Callable[[str], str]):
        server.rewrite = rewrite
        source = server.source(vendor, state_folder=tmp_path / "turns", pace=clock.pace, attempts=1)
        try:
            return source.fetch(FetchRequest((SYMBOL,), START, END))
        finally:
            source.close()

    yield fetch
    server.close()
    listening.append(http)


def once(pattern: re.Pattern[str], write: Callable[[re.Match[str]], str]) -> Callable[[str], str]:
    """One in the middle: vendors are asked for more than the range."""

    def rewrite(text: str) -> str:
        found = list(pattern.finditer(text))
        if not found:
            return text
        one = found[len(found) // 2]
        return text[: one.start()] + write(one) + text[one.end() :]

    return rewrite


def second(found: re.Match[str]) -> str:
    """The price, and behind it another one under the same name: what `json.loads` would take."""
    value = found[2]
    other = json.dumps([WRONG] * len(json.loads(value))) if value.startswith("[") else str(WRONG)
    return f'{found[0]}, "{found[1]}": {other}'


def test_of_two_prices_under_one_name_none_is_stored(fetched, vendor):
    try:
        result = fetched(vendor, once(_CLOSE, second))
    except ProviderError as error:
        assert "two values" in str(error) or "form" in str(error)  # noqa: PT017 - a column of prices, not one of a row
        return
    assert WRONG not in result.frame["close"].to_list() + result.frame["adj_close"].to_list()
    reported = result.outcomes[SYMBOL] is not Outcome.OK or (result.rejected is not None and result.rejected.height)
    assert reported or any("cannot be read" in note for note in result.notes)


def test_one_row_that_contradicts_itself_costs_no_other(fetched):
    for vendor in ROWS:
        whole = fetched(vendor, lambda text: text)
        result = fetched(vendor, once(_CLOSE, second))
        assert result.outcomes[SYMBOL] is Outcome.OK
        assert result.frame.height >= whole.frame.height - 1


def test_true_is_no_price(fetched, vendor):
    def write(found: re.Match[str]) -> str:
        value = "[" + ", ".join(["true"] * len(json.loads(found[2]))) + "]" if found[2].startswith("[") else "true"
        return f'"{found[1]}": {value}'

    try:
        result = fetched(vendor, once(_CLOSE, write))
    except ProviderError:
        return
    assert 1.0 not in result.frame["close"].to_list() + result.frame["adj_close"].to_list()


def test_equal_values_under_one_name_are_one(fetched):
    twice = once(_CLOSE, lambda found: f"{found[0]}, {found[0]}")
    for vendor in VENDORS:
        assert fetched(vendor, twice).frame.equals(fetched(vendor, lambda text: text).frame)
