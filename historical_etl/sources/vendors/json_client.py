"""Plain HTTP for vendors without a client worth having: one GET, checked before it is parsed.

The key is put on below httpx: httpx logs the address of every request, and its exceptions carry the request.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from historical_etl.sources.vendors.optional_clients import require
from historical_etl.sources.vendors.proxies import proxy_for
from historical_etl.sources.vendors.refusals import Reader
from historical_etl.sources.vendors.response_limits import GZIP, Bounds, bounded_httpx
from historical_etl.sources.vendors.throttle import Throttle

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["JsonClient"]


class JsonClient:
    """GET requests to one vendor: in turn, within a time limit, checked, and again where that may help.

    Args:
        base_url: without a slash at its end.
        extra: the extra that brings httpx, for the message where it is missing.
        reader: reads the answers.
        throttle: lets requests through.
        timeout: seconds for one request, from connecting to the last byte.
        headers: added to each request, keys included.
        params: added to each query, keys included.
        most_bytes: of one answer, unpacked; default: that of `Bounds`.
    """

    def __init__(
        self,
        base_url: str,
        extra: str,
        reader: Reader,
        throttle: Throttle,
        timeout: float,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        most_bytes: int | None = None,
    ) -> None:
        require("httpx", extra)
        import httpx

        self._throttle = throttle
        self._reader = reader
        self._bounds = Bounds(reader.vendor, timeout, most_bytes)
        self._base_url = base_url
        self._failures: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL)
        self._client: httpx.Client = httpx.Client(
            transport=_keyed_transport(base_url, dict(headers or {}), dict(params or {})),
            timeout=timeout,
            follow_redirects=False,
            headers={"Accept": "application/json", "Accept-Encoding": GZIP, "User-Agent": "historical_etl"},
        )

    def get(self, path: str, params: Mapping[str, str], *, weight: int = 1) -> object:
        """The JSON behind `path`.

        Args:
            path: below the base URL, escaped.
            params: the query.
            weight: how much the vendor counts it as.

        Raises:
            Refusal: it cannot be had, after retries.
            ConfigurationError: the vendor does not accept the key.
        """
        return self._throttle.ask(lambda: self._get(path, params), weight=weight)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, path: str, params: Mapping[str, str]) -> object:
        address = self._base_url + path
        try:
            with self._bounds.request() as limit, self._client.stream("GET", address, params=dict(params)) as response:
                body = limit.body(response.iter_raw(), response.headers.get("content-encoding"))
        except self._failures as error:
            kind = type(error).__name__
            raise self._reader.broken(f"did not answer in full ({kind})", str(error)) from None
        text = body.decode("utf-8", errors="replace")
        return self._reader.parse(response.status_code, response.headers, text, self._throttle.pace.clock())


@lru_cache(maxsize=1)
def _certificates() -> "ssl.SSLContext":
    """Those that are trusted, read once: that takes longer than some requests."""
    import httpx

    return httpx.create_ssl_context()


def _keyed_transport(base_url: str, headers: dict[str, str], params: dict[str, str]) -> "httpx.BaseTransport":
    import httpx

    class Keyed(httpx.BaseTransport):
        """Sends each request with the keys on, and leaves the one that everybody else sees without them."""

        def __init__(self) -> None:
            # httpx reads the proxy variables only for a transport of its own.
            proxy = proxy_for(base_url)
            self._inner = bounded_httpx(httpx.HTTPTransport(verify=_certificates(), retries=0, proxy=proxy))

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return self._inner.handle_request(
                httpx.Request(
                    request.method,
                    request.url.copy_merge_params(params) if params else request.url,
                    headers=[
                        *request.headers.raw,
                        *((name.encode(), value.encode()) for name, value in headers.items()),
                    ],
                    stream=request.stream,
                    extensions=request.extensions,
                )
            )

        def close(self) -> None:
            self._inner.close()

    return Keyed()
