"""One limit of time and one of size for a whole request, from connecting to its last byte, whichever client makes it.

A client's own time limit is for each wait: a server that sends a byte now and then never reaches it. Here each wait for
bytes, of headers too, lasts as long as is left of the request. httpcore (below httpx), urllib3 (below requests) and
curl are each given a class of ours where they make connections.

No answer is unpacked to more than a part at once. What httpx and urllib3 bring is unpacked here, and only gzip is asked
for; curl unpacks by parts itself, and asks for what a browser does. What is packed more than once is refused.
"""

import io
import ssl
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import partial
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, Final, cast

from historical_etl.errors import HistoricalETLError
from historical_etl.models import Outcome
from historical_etl.sources.vendors.refusals import Refusal

if TYPE_CHECKING:
    import httpx
    from urllib3 import PoolManager

__all__ = ["GZIP", "MOST_RESPONSE_BYTES", "Bounds", "bounded_httpx", "bounded_session", "bounded_urllib3"]

#: Of one answer, unpacked: some times that of the largest one, a whole market's day.
MOST_RESPONSE_BYTES: Final = 1 << 25
#: The packing that is asked for.
GZIP: Final = "gzip"
#: So much of an answer is unpacked at once.
_PART: Final = 1 << 16
_SHOWN: Final = 80
#: Headers of the bytes on the wire, which do not hold for what was read and unpacked.
_OF_THE_WIRE: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Bounds:
    """What each request to a vendor may take.

    Args:
        vendor: its name, for messages.
        seconds: from connecting to the last byte.
        most_bytes: of its answer, unpacked; default: `MOST_RESPONSE_BYTES`.
    """

    def __init__(self, vendor: str, seconds: float, most_bytes: int | None = None) -> None:
        self.seconds = seconds
        self.most_bytes = most_bytes or MOST_RESPONSE_BYTES
        self._vendor = vendor

    @contextmanager
    def request(self) -> "Generator[Limit]":
        """Bound the one request that is made within, in this thread.

        Raises:
            Refusal: it took too long, or its answer is too large; instead of what the client says of that.
        """
        limit = Limit(self)
        token = _running.set(limit)
        try:
            yield limit
        except HistoricalETLError:
            raise
        except Exception as error:
            is_known = isinstance(error, Refusal) and (error.status is not None or not error.again)
            if is_known or not limit.is_over:
                raise
            raise self.too_slow() from None
        finally:
            _running.reset(token)

    def too_slow(self) -> Refusal:
        """What is reported of a request that took too long."""
        return Refusal(Outcome.ERROR, f"{self._vendor} took over {self.seconds:g} s", again=True)

    def too_large(self) -> Refusal:
        """What is reported of an answer that is too large."""
        return Refusal(Outcome.ERROR, f"{self._vendor} answered with more than {self.most_bytes:,} bytes")

    def odd_packing(self, packing: str) -> Refusal:
        """What is reported of an answer that is packed in a way that nobody asked for, or more than once."""
        return Refusal(Outcome.ERROR, f"{self._vendor} answered with the packing {packing[:_SHOWN]!a}")

    def badly_packed(self) -> Refusal:
        """What is reported of an answer that cannot be unpacked to its end."""
        return Refusal(Outcome.ERROR, f"{self._vendor} did not answer in full (it is badly packed)", again=True)


class Limit:
    """What is left to the running request.

    Attributes:
        refusal: why curl was stopped.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._deadline = time.monotonic() + bounds.seconds
        self._packings = 0
        self.refusal: Refusal | None = None

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() >= self._deadline

    @property
    def left(self) -> float:
        """The seconds that are left.

        Raises:
            TimeoutError: none are.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def body(self, parts: Iterable[bytes], packing: str | None = None) -> bytes:
        """An answer from its bytes, packed as its Content-Encoding says.

        Raises:
            Refusal: it is too large, arrived too slowly, or cannot be unpacked.
        """
        how = (packing or "").strip().lower()
        if how not in _PACKINGS:
            raise self._bounds.odd_packing(how)
        whole = bytearray()
        try:
            for part in _unpacked(parts) if _PACKINGS[how] else parts:
                self.take(whole, part)
        except (zlib.error, EOFError):
            raise self._bounds.badly_packed() from None
        return bytes(whole)

    def header(self, lines: io.BytesIO, line: bytes) -> None:
        """Add a line to the headers of an answer that curl unpacks.

        Raises:
            Refusal: it is packed more than once.
        """
        lines.write(line)
        if line[:5].upper() == b"HTTP/":
            self._packings = 0
        elif line.partition(b":")[0].strip().lower() == b"content-encoding":
            self._packings += 1 + line.count(b",")
            if self._packings > 1:
                raise self._bounds.odd_packing(line.partition(b":")[2].decode("latin-1").strip())

    def take(self, whole: bytearray, part: bytes) -> None:
        """Add a part to an answer. Raises as `body` does."""
        whole += part
        if len(whole) > self._bounds.most_bytes:
            raise self._bounds.too_large()
        if self.is_over:
            raise self._bounds.too_slow()


#: What a Content-Encoding may say, and whether that is a packing.
_PACKINGS: Final = {"": False, "identity": False, GZIP: True, "x-gzip": True}


def _unpacked(parts: Iterable[bytes]) -> Iterator[bytes]:
    """What gzip packed, one member or some, by parts; an empty one where nothing was fetched of what was read."""
    member = None
    for part in parts:
        left = part
        while left:
            if member is None or member.eof:
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            yield member.decompress(left, _PART)
            left = member.unconsumed_tail or member.unused_data
    if member is not None and not member.eof:  # an error may have no text at all
        raise EOFError


#: Without one no request is made: nothing then says how long it may take.
_running: Final[ContextVar[Limit]] = ContextVar("running")


def bounded_httpx(transport: "httpx.HTTPTransport") -> "httpx.HTTPTransport":
    """`transport`, whose connections keep to the running request's limit of time; `Limit.body` bounds the answer."""
    import httpcore

    class Stream(httpcore.NetworkStream):
        def __init__(self, inner: httpcore.NetworkStream) -> None:
            self._inner = inner

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            del timeout
            return self._inner.read(max_bytes, _running.get().left)

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            del timeout
            self._inner.write(buffer, _running.get().left)

        def close(self) -> None:
            self._inner.close()

        def start_tls(
            self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
        ) -> httpcore.NetworkStream:
            del timeout
            return Stream(self._inner.start_tls(ssl_context, server_hostname, _running.get().left))

        def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore has it
            return self._inner.get_extra_info(info)

    class Backend(httpcore.SyncBackend):
        def connect_tcp(self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any) -> Stream:  # noqa: ANN401 - as httpcore has it
            del timeout
            return Stream(super().connect_tcp(host, port, _running.get().left, *args, **kwargs))

    # httpx has no other way to give it one.
    cast("Any", transport)._pool._network_backend = Backend()  # noqa: SLF001
    return transport


def bounded_urllib3(manager: "PoolManager") -> "PoolManager":
    """`manager`, whose connections keep to the running request's limits. Their answers are read before anybody asks."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

    class Plain(HTTPConnectionPool):
        ConnectionCls = _bounded_connection(HTTPConnectionPool.ConnectionCls)

    class Secure(HTTPSConnectionPool):
        ConnectionCls = _bounded_connection(HTTPSConnectionPool.ConnectionCls)

    manager.pool_classes_by_scheme = dict[str, Any](http=Plain, https=Secure)
    return manager


def _bounded_connection(kind: type[Any]) -> type[Any]:
    from urllib3 import HTTPHeaderDict
    from urllib3 import HTTPResponse as Response

    class Bounded(kind):  # pyright: ignore[reportUntypedBaseClass]
        response_class = _Timed

        def _new_conn(self) -> Any:  # noqa: ANN401 - a socket, or one that wraps another
            self.timeout = _running.get().left
            inner: Any = super()
            made = inner._new_conn()  # noqa: SLF001 - its own
            made.settimeout(_running.get().left)  # for the handshake
            return made

        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as urllib3 has it
            inner: Any = super()
            headers = HTTPHeaderDict(kwargs.get("headers") or {})
            headers["Accept-Encoding"] = GZIP
            inner.request(method, url, *args, **(kwargs | {"headers": headers, "preload_content": False}))

        def getresponse(self) -> Response:
            inner: Any = super()
            response = inner.getresponse()
            with closing(response):
                packing = response.headers.get("content-encoding")
                body = _running.get().body(response.stream(_PART, decode_content=False), packing)
            pairs = [(name, value) for name, value in response.headers.items() if name.lower() not in _OF_THE_WIRE]
            return Response(
                io.BytesIO(body),
                headers=HTTPHeaderDict(pairs),
                status=response.status,
                version=response.version,
                version_string=response.version_string,
                reason=response.reason,
                preload_content=False,
                decode_content=False,
                # By this one it is seen that the connection is free.
                original_response=response._original_response,  # noqa: SLF001
            )

    return Bounded


class _Timed(HTTPResponse):
    """An answer each of whose reads, from the status line on, may last as long as is left."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as http.client has it
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timely(self.fp.detach(), sock))


class _Timely(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:  # noqa: ANN401
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401
        self._sock.settimeout(_running.get().left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def bounded_session(session: type[Any]) -> type[Any]:
    """A session class of curl_cffi whose answers keep to the running request's limit of size.

    The time limit of curl is one for the whole transfer. One thread at a time may use such a session.
    """
    from curl_cffi import Curl, CurlOpt
    from curl_cffi.curl import CURL_WRITEFUNC_ERROR

    def guarded(limit: Limit, take: Callable[[bytes], None]) -> Callable[[bytes], int]:
        def call(part: bytes) -> int:
            try:
                take(part)
            except Refusal as refusal:
                limit.refusal = refusal
                return CURL_WRITEFUNC_ERROR
            return len(part)

        return call

    class Watched(Curl):
        """Shows each line of the headers, before the body is unpacked."""

        def setopt(self, option: CurlOpt, value: Any) -> int:  # noqa: ANN401 - as curl_cffi has it
            if option != CurlOpt.HEADERDATA:
                return super().setopt(option, value)
            limit = _running.get()
            return super().setopt(CurlOpt.HEADERFUNCTION, guarded(limit, partial(limit.header, value)))

    class Bounded(session):  # pyright: ignore[reportUntypedBaseClass]
        def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - likewise
            inner: Any = super()
            inner.__init__(curl=Watched(), use_thread_local_curl=False, **kwargs)

        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - likewise
            inner: Any = super()
            limit, whole = _running.get(), bytearray()
            kwargs |= {"content_callback": guarded(limit, partial(limit.take, whole)), "timeout": limit.left}
            try:
                response = inner.request(method, url, *args, **kwargs)
            except Exception:
                if limit.refusal:
                    raise limit.refusal from None
                raise
            response.content = bytes(whole)
            return response

    return Bounded
