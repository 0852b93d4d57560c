"""What an answer that is no data means: one classification for all vendors and all clients. No network here.

A `Refusal` says what to record for the symbols that were asked for, and whether asking again may help. It stays
inside this package: `collect` turns it into outcomes, or into one of our errors where nothing came at all.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from historical_etl.errors import ConfigurationError
from historical_etl.models import Outcome

__all__ = ["Reader", "Refusal", "clock_offset", "retry_after"]

_SNIPPET: Final = 200
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 400, 401, 403, 404, 429
_OK: Final = 200
#: No vendor means more seconds than a year has; a moment beyond the calendar could not be told.
_LONGEST: Final = 365 * 86400.0
_SERVER_ERROR: Final = 500
#: Answers below 500 that may be another one next time: a timeout, and a request that came too early.
_PASSING: Final = frozenset({408, 425})


class Refusal(Exception):  # noqa: N818 - an answer, not an error: it never leaves this package
    """A request that brought no data.

    Args:
        outcome: what to record for its symbols.
        what: what happened, without any secret.
        again: whether the same request may succeed at once or soon.
        wait: seconds that the vendor asks to wait before the next request.
        status: of the answer, where there was one.
        body: the text of the answer, without any secret.
    """

    def __init__(
        self,
        outcome: Outcome,
        what: str,
        *,
        again: bool = False,
        wait: float | None = None,
        status: int | None = None,
        body: str = "",
    ) -> None:
        self.outcome = outcome
        self.what = what
        self.again = again
        self.wait = wait
        self.status = status
        self.body = body
        super().__init__(what)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None if it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST)
    try:
        moment = parsedate_to_datetime(text)
        return min(max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()), _LONGEST)
    except (ValueError, OverflowError):
        return None


def clock_offset(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How far the clock of who answered is before `now`, by the headers Date and Age; None where they say nothing."""
    found = {name.lower(): value for name, value in headers.items()}
    try:
        moment = parsedate_to_datetime(found.get("date", ""))
        # A cache hands on the date of the answer that it holds, and says how old that is.
        age = timedelta(seconds=int(found.get("age", "0")))
        return moment.replace(tzinfo=moment.tzinfo or UTC) + age - now
    except (ValueError, OverflowError):
        return None


class Reader:
    """Reads a vendor's answers: status, content type, then JSON; whatever is wrong becomes a `Refusal`.

    Args:
        vendor: its name, for messages.
        variables: the environment variables of its keys, for messages.
        secrets: the keys themselves: no message holds them.
        limited: texts by which the vendor says, with any status, that too much was asked.

    Attributes:
        clock_offset: how far the vendor's clock is before ours, by the Date header of its last answer; None until one
            has come.
    """

    def __init__(
        self, vendor: str, variables: tuple[str, ...], secrets: tuple[str, ...], limited: tuple[str, ...] = ()
    ) -> None:
        self.vendor = vendor
        self._variables = variables
        self._secrets = tuple(secret for secret in secrets if secret)
        self._limited = tuple(text.lower() for text in limited)
        self.clock_offset: timedelta | None = None

    def clean(self, text: str) -> str:
        """`text` on one line, short, and without keys."""
        for secret in self._secrets:
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
        line = " ".join(text.split())
        return line if len(line) <= _SNIPPET else f"{line[:_SNIPPET]}…"

    def check(self, status: int, headers: Mapping[str, str], text: str, now: datetime) -> None:
        """Raise unless the answer is a JSON one with status 200.

        Raises:
            ConfigurationError: the vendor does not accept the key.
            Refusal: anything else.
        """
        offset = clock_offset(headers, now)
        self.clock_offset = self.clock_offset if offset is None else offset
        self._check_status(status, headers, text, now)
        kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
        if "json" not in kind.lower():
            raise self.broken(f"answered with {kind.partition(';')[0] or 'no content type'}, not JSON", text)

    def parse(self, status: int, headers: Mapping[str, str], text: str, now: datetime) -> object:
        """The JSON of an answer that `check` lets pass. Raises as `check` does."""
        self.check(status, headers, text, now)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise self.broken("answered with JSON that is cut off or damaged", text[-_SNIPPET:]) from None

    def broken(self, what: str, text: str = "", *, again: bool = True) -> Refusal:
        """The vendor answered, or began to, with something that cannot be used."""
        shown = self.clean(text)
        return Refusal(Outcome.ERROR, f"{self.vendor} {self.clean(what)}{f': {shown}' if shown else ''}", again=again)

    def drifted(self, what: str) -> Refusal:
        """The JSON has another shape than it should; asking again will not change that."""
        return self.broken(f"answered in another form than it should: {what}", again=False)

    def _check_status(self, status: int, headers: Mapping[str, str], text: str, now: datetime) -> None:
        shown = self.clean(text)
        said = f": {shown}" if shown else ""
        wait = retry_after(next((value for name, value in headers.items() if name.lower() == "retry-after"), None), now)
        if status == _TOO_MANY or any(marker in text[:1000].lower() for marker in self._limited):
            raise Refusal(
                Outcome.RATE_LIMITED,
                f"{self.vendor} says that too much was asked (HTTP {status}){said}",
                again=status == _TOO_MANY,
                wait=wait,
                status=status,
                body=shown,
            )
        if status == _OK:
            return
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            names = " and ".join(self._variables) or "no key"
            raise ConfigurationError(
                f"{self.vendor} does not accept the key, or not for this data (HTTP {status}){said}",
                where=names,
                todo=f"set {names} to a key that is valid, and whose plan covers what is asked"
                if self._variables
                else "the vendor refuses this machine; wait, or use another source",
            )
        if status == _NOT_FOUND:
            raise Refusal(Outcome.NOT_FOUND, f"{self.vendor} does not know it{said}", status=status, body=shown)
        raise Refusal(
            Outcome.ERROR,
            f"{self.vendor} answered with HTTP {status}{said}",
            again=status >= _SERVER_ERROR or status in _PASSING,
            wait=wait,
            status=status,
            body=shown,
        )
