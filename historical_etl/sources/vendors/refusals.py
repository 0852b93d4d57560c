"""What an answer that is no data means: one classification for all vendors and all clients. No network here.

A `Refusal` says what to record for the symbols that were asked for, and whether asking again may help. It stays
inside this package: `collect` turns it into outcomes, or into one of our errors where nothing was fetched at all.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from historical_etl.errors import ConfigurationError
from historical_etl.masking import masked
from historical_etl.models import Outcome
from historical_etl.strict_json import CrowdedError, answer_of

__all__ = ["Meaning", "Reader", "Refusal", "clock_offset", "retry_after"]

_SNIPPET: Final = 200
#: So much of an answer is looked at for what it means.
_HEAD: Final = 1000
#: So much of it is made a line of a message.
_LOOKED_AT: Final = 10 * _HEAD
_OK, _TOO_MANY = 200, 429
#: No vendor means more seconds than a year has; a moment beyond the calendar could not be printed.
_LONGEST: Final = 365 * 86400.0
_SERVER_ERROR: Final = 500
#: Answers below 500 that may be another one next time: a timeout, and a request that was too early.
_PASSING: Final = frozenset({408, 425})


class Meaning(StrEnum):
    """What a refusal means."""

    KEY = "key"  # nothing can be asked with this key
    DENIED = "denied"  # the key is wrong, or its plan does not give this: another request tells
    NOT_COVERED = "not_covered"  # its plan does not give this
    NOT_PUBLISHED = "not_published"
    NOT_FOUND = "not_found"
    LIMITED = "limited"
    NO_FURTHER = "no_further"  # too many different symbols: those that were asked for before go on coming


#: What a status means where the vendor's words do not say more.
_BY_STATUS: Final = {
    401: Meaning.KEY,
    402: Meaning.LIMITED,
    403: Meaning.DENIED,
    404: Meaning.NOT_FOUND,
    423: Meaning.NOT_COVERED,
    _TOO_MANY: Meaning.LIMITED,
}
_LIMITS: Final = (Meaning.LIMITED, Meaning.NO_FURTHER)
_OUTCOMES: Final = {
    Meaning.DENIED: Outcome.NOT_COVERED,
    Meaning.NOT_COVERED: Outcome.NOT_COVERED,
    Meaning.NOT_PUBLISHED: Outcome.NOT_PUBLISHED,
    Meaning.NOT_FOUND: Outcome.NOT_FOUND,
    Meaning.LIMITED: Outcome.RATE_LIMITED,
    Meaning.NO_FURTHER: Outcome.RATE_LIMITED,
}
_WORDS: Final = {
    Meaning.DENIED: "does not accept the key, or does not give this to it",
    Meaning.NOT_COVERED: "does not give this to the plan of the account",
    Meaning.NOT_PUBLISHED: "has not published this yet",
    Meaning.NOT_FOUND: "does not know it",
    Meaning.LIMITED: "says that too much was asked",
    Meaning.NO_FURTHER: "gives no further symbols",
}


class Refusal(Exception):  # noqa: N818 - an answer, not an error: it never leaves this package
    """A request that brought no data.

    Args:
        outcome: what to record for its symbols.
        what: what happened, without any secret.
        again: whether the same request may succeed at once or soon.
        wait: seconds that the vendor asks to wait before the next request.
        status: of the answer, where there was one.
        body: the text of the answer, without any secret.
        denied: whether the key itself may be the reason.
        alone: whether it says nothing of other symbols, though it is a limit.
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
        denied: bool = False,
        alone: bool = False,
    ) -> None:
        self.outcome = outcome
        self.what = what
        self.again = again
        self.wait = wait
        self.status = status
        self.body = body
        self.denied = denied
        self.alone = alone
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
        says: what the vendor's words mean, in small letters, whatever the status; with status 200 they can only mean
            that too much was asked, or too many symbols.
        resets: how many seconds the vendor means where no Retry-After comes with it, by headers and text; the status
            is the header `:status`, as HTTP/2 has it.

    Attributes:
        clock_offset: how far the vendor's clock is before ours, by the Date header of its last answer; None until one
            has come.
    """

    def __init__(
        self,
        vendor: str,
        variables: tuple[str, ...],
        secrets: tuple[str, ...],
        says: Mapping[str, Meaning] | None = None,
        resets: Callable[[Mapping[str, str], str, datetime], float | None] | None = None,
    ) -> None:
        self.vendor = vendor
        self._variables = variables
        self._secrets = tuple(secret for secret in secrets if secret)
        self._hidden = self._secrets
        self._says = says or {}
        self._resets = resets
        self.clock_offset: timedelta | None = None

    @property
    def account(self) -> str:
        """What tells accounts apart: a secret."""
        return " ".join(self._secrets)

    def hide(self, *secrets: str) -> None:
        """Keep more out of all messages than the keys."""
        self._hidden = (*self._hidden, *secrets)

    def clean(self, text: str) -> str:
        """`text` on one line, short, and without keys."""
        shown = masked(text[:_LOOKED_AT], self._hidden)
        if len(text) > _LOOKED_AT:
            shown = shown[:-_HEAD]  # it may end with a part of a key
        line = " ".join(shown.split())
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
            return answer_of(text)
        except CrowdedError as error:
            raise self.broken(f"answered with JSON that cannot be real: {error}", again=False) from None
        except (ValueError, RecursionError):
            # What is cut in two is masked before.
            end = masked(text[-_HEAD:], self._hidden)[-_SNIPPET:]
            raise self.broken("answered with JSON that is cut off or damaged", end) from None

    def broken(self, what: str, text: str = "", *, again: bool = True) -> Refusal:
        """The vendor answered, or began to, with something that cannot be used."""
        shown = self.clean(text)
        return Refusal(Outcome.ERROR, f"{self.vendor} {self.clean(what)}{f': {shown}' if shown else ''}", again=again)

    def drifted(self, what: str) -> Refusal:
        """The JSON has another shape than it should; asking again will not change that."""
        return self.broken(f"answered in another form than it should: {what}", again=False)

    def no_access(self, what: str) -> tuple[str, str, str]:
        """What to tell of a key that is not accepted: what happened, where, and what to do."""
        if not self._variables:
            return what, self.vendor, "the vendor refuses this machine; wait, or use another source"
        names = " and ".join(self._variables)
        return what, names, f"set {names} to a key that is valid, and whose plan covers what is asked"

    def _check_status(self, status: int, headers: Mapping[str, str], text: str, now: datetime) -> None:
        shown = self.clean(text)
        said = f" (HTTP {status}){f': {shown}' if shown else ''}"
        found = {name.lower(): value for name, value in headers.items()} | {":status": str(status)}
        wait = retry_after(found.get("retry-after"), now)
        meaning = self._meaning(status, text[:_HEAD].lower())
        if meaning is Meaning.KEY:
            what, where, todo = self.no_access(f"{self.vendor} does not accept the key{said}")
            raise ConfigurationError(what, where=where, todo=todo)
        if meaning is not None:
            is_limit = meaning is Meaning.LIMITED
            if meaning in _LIMITS and wait is None and self._resets is not None:
                wait = self._resets(found, text, now)
            raise Refusal(
                _OUTCOMES[meaning],
                f"{self.vendor} {_WORDS[meaning]}{said}",
                again=is_limit and (status == _TOO_MANY or wait is not None),
                wait=wait,
                status=status,
                body=shown,
                denied=meaning is Meaning.DENIED,
                alone=meaning is Meaning.NO_FURTHER,
            )
        if status == _OK:
            return
        raise Refusal(
            Outcome.ERROR,
            f"{self.vendor} answered with HTTP {status}{f': {shown}' if shown else ''}",
            again=status >= _SERVER_ERROR or status in _PASSING,
            wait=wait,
            status=status,
            body=shown,
        )

    def _meaning(self, status: int, text: str) -> Meaning | None:
        said = next((meaning for words, meaning in self._says.items() if words in text), None)
        if status == _OK:
            return said if said in _LIMITS else None
        return said or _BY_STATUS.get(status)
