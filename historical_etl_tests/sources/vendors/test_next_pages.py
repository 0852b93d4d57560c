"""Where an answer says that its next page is: elsewhere, in ever new places, in a place of megabytes."""

import json
from datetime import date
from typing import Any

import pytest
from werkzeug import Request, Response

from historical_etl.errors import ProviderError
from historical_etl.models import Outcome
from historical_etl.sources.vendors import frames
from historical_etl_tests.sources.vendors.loopback import KEY, as_json

FIRST, LAST = date(2013, 1, 2), date(2013, 1, 3)
#: The midnights of New York.
MOMENTS = (1357102800000, 1357189200000)
VENDORS = ("massive", "alpaca")


def page_of(vendor: str, number: int, following: str | None, more: str = "") -> dict[str, Any]:
    bar = {"o": 10, "h": 11, "l": 9, "c": 10, "v": 100}
    if vendor == "massive":
        rows = [bar | {"t": MOMENTS[number % 2], "more": more}]
        return {"ticker": "HALT", "adjusted": False, "status": "OK", "results": rows, "next_url": following}
    rows = [bar | {"t": f"2013-01-0{2 + number % 2}T05:00:00Z", "more": more}]
    return {"bars": {"HALT": rows}, "next_page_token": following}


def of_bars(request: Request) -> bool:
    return "/aggs/" in request.path or request.path.endswith("/stocks/bars")


@pytest.mark.parametrize(
    "where", ["{other}/v2/aggs/ticker/ZZZ/range/1/day/1357189200000/2013-01-03?cursor=x", "file:///etc/passwd?cursor=x"]
)
def test_a_next_page_elsewhere_is_asked_for_at_the_vendor_and_the_key_goes_nowhere_else(where, serve, ask):
    other = serve()
    sent: list[str] = []

    def answers(request: Request) -> Response | None:
        if not of_bars(request):
            return None
        sent.append(request.full_path)
        following = None if "cursor" in request.args else where.format(other=other.url)
        return as_json(page_of("massive", len(sent) - 1, following))

    server = serve(answers=answers)
    result = ask(server, "massive", ("HALT",), FIRST, LAST)
    assert result.frame["date"].to_list() == [FIRST, LAST]
    assert ["cursor=x" in path for path in sent] == [False, True]
    assert all("/ticker/HALT/" in path and KEY not in path for path in sent)
    assert not other.asked


@pytest.mark.parametrize("vendor", VENDORS)
def test_pages_that_hold_more_than_was_asked_for_end(vendor, serve, ask, monkeypatch):
    """Each is in a new place, and brings a bar."""
    monkeypatch.setattr(frames, "_AT_LEAST", 1 << 20)
    asked: list[str] = []

    def answers(request: Request) -> Response | None:
        if not of_bars(request):
            return None
        asked.append(request.full_path)
        place = f"https://x/{MOMENTS[0]}/2013-01-03?cursor={len(asked)}" if vendor == "massive" else str(len(asked))
        return as_json(page_of(vendor, len(asked), place, "x" * 300_000))

    with pytest.raises(ProviderError, match="pages do not end: 4 "):
        ask(serve(answers=answers), vendor, ("HALT",), FIRST, LAST, attempts=1)
    assert len(asked) == 4


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_place_of_a_next_page_is_not_longer_than_an_address(vendor, serve, ask):
    asked: list[str] = []

    def answers(request: Request) -> Response | None:
        if not of_bars(request):
            return None
        asked.append(request.path)
        return as_json(page_of(vendor, 0, "https://x/y?" + "&".join(f"a{i}=1" for i in range(10_000))))

    with pytest.raises(ProviderError, match="the next page is at 'https://x/y"):
        ask(serve(answers=answers), vendor, ("HALT",), FIRST, LAST, attempts=1)
    assert len(asked) == 1


@pytest.mark.parametrize("vendor", ["tiingo", "eodhd", "yfinance", "alpaca", "massive"])
def test_a_body_that_is_longer_than_it_says_is_not_taken(vendor, serve, ask):
    """What is left after the cut is no JSON, or no whole packing."""

    def answers(request: Request) -> Response | None:
        if any(word in request.path for word in ("/splits", "/div", "/corporate", "crumb")):
            return None
        response = Response(json.dumps({"x": [1, 2, 3]}), content_type="application/json")
        response.automatically_set_content_length = False
        response.headers["Content-Length"] = "8"
        return response

    with pytest.raises(ProviderError, match=r"cut off or damaged|did not answer in full"):
        ask(serve(answers=answers), vendor, ("HALT",), FIRST, LAST, attempts=1)


@pytest.mark.parametrize("vendor", ["tiingo", "eodhd", "yfinance", "alpaca", "massive"])
def test_a_number_of_thousands_of_digits_is_not_taken(vendor, serve, ask):
    """To make a number of it takes the square of its length."""

    def answers(request: Request) -> Response | None:
        if "crumb" in request.path:
            return None
        return Response('[{"close": ' + "9" * 1_000_000 + "}]", content_type="application/json")

    with pytest.raises(ProviderError, match="cut off or damaged"):
        ask(serve(answers=answers), vendor, ("HALT",), FIRST, LAST, attempts=1)


def test_a_symbol_whose_pages_do_not_end_costs_no_other(serve, ask):
    def answers(request: Request) -> Response | None:
        if "/ticker/HALT/" not in request.path:
            return None
        return as_json(page_of("massive", 0, "https://x/1357189200000/2013-01-03?cursor=same"))

    result = ask(serve(answers=answers), "massive", ("BRK.B", "HALT"))
    assert dict(result.outcomes) == {"BRK.B": Outcome.OK, "HALT": Outcome.ERROR}
    assert "the pages do not end" in result.details["HALT"]
