"""Every vendor's client goes through the proxy that the environment names, and around it where NO_PROXY says so."""

import os
import socket
import threading
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from pydantic import SecretStr

from historical_etl.errors import ConfigurationError, ProviderError
from historical_etl.settings import load_settings
from historical_etl.sources.base import FetchRequest
from historical_etl.sources.fetcher import SOURCES
from historical_etl.sources.vendors.proxies import proxy_for, proxy_secrets
from historical_etl_tests.sources.vendors.loopback import VENDORS

WANTED = FetchRequest(("SPLT",), date(2013, 1, 2), date(2013, 1, 4))
BY_ADDRESS = [name for name in VENDORS if name != "yfinance"]


class Proxy:
    """Takes down what it is asked, and refuses it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.asked.append(connection.recv(65536).decode("latin-1"))
                connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    found = Proxy()
    yield found
    found.close()


def ask(vendor: str, **settings: Any) -> str:
    """What a fetch ends with."""
    keys = {"key_id": SecretStr("a-key-of-ours"), "secret_key": SecretStr("a-key-of-ours")}
    given = {"attempts": 1, **settings, **(keys if vendor == "alpaca" else {"api_key": SecretStr("a-key-of-ours")})}
    group = getattr(load_settings(), vendor).model_copy(update=given)
    source = SOURCES[vendor](load_settings().model_copy(update={vendor: group}))
    try:
        result = source.fetch(WANTED)
    except ProviderError as error:
        return str(error)
    return str(result.details)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("vendor", BY_ADDRESS)
def test_a_request_goes_through_the_proxy(monkeypatch, proxy, vendor, variable):
    monkeypatch.setenv(variable, proxy.url)
    ask(vendor, base_url="https://127.0.0.1:9")
    assert proxy.asked
    assert all(asked.startswith("CONNECT 127.0.0.1:9 ") for asked in proxy.asked)
    assert "a-key-of-ours" not in "".join(proxy.asked)


@pytest.mark.parametrize("vendor", BY_ADDRESS)
def test_a_request_goes_around_the_proxy(monkeypatch, proxy, vendor):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ask(vendor, base_url="https://127.0.0.1:9")
    assert not proxy.asked


@pytest.mark.parametrize("vendor", BY_ADDRESS)
def test_the_password_of_the_proxy_is_sent_to_it_and_shown_to_nobody(monkeypatch, proxy, caplog, vendor):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//me:pass-word@"))
    reported = ask(vendor, base_url="https://127.0.0.1:9")
    assert "pass-word" not in reported + caplog.text
    assert "proxy-authorization: basic bwu6cgfzcy13b3jk" in proxy.asked[0].lower()


def test_yahoo_goes_through_the_proxy(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    ask("yfinance")
    assert proxy.asked
    assert all("yahoo.com:443" in asked.partition("\r\n")[0] for asked in proxy.asked)


def test_what_is_no_proxy_is_refused_by_its_variable(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:pass-word@host:1")
    with pytest.raises(ConfigurationError) as caught:
        proxy_for("https://api.example")
    assert caught.value.where == "HTTPS_PROXY"
    assert "pass-word" not in str(caught.value)
    assert "pass-word" in proxy_secrets()
    monkeypatch.setenv("HTTPS_PROXY", "host:3128")
    assert proxy_for("https://api.example") == "http://host:3128"
    assert proxy_for("http://api.example") is None
