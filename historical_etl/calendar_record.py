"""What a manifest says of the calendar that its version was judged by. No Polars here: `status` must start fast."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import version
from typing import Final, Self

__all__ = ["NEAR_THE_END", "CalendarRecord", "installed_release"]

#: So long before the last day that a calendar knows, it is reported.
NEAR_THE_END: Final = timedelta(days=90)
_PACKAGE: Final = "exchange_calendars"
_WRITTEN: Final = re.compile(
    rf"(?P<release>{_PACKAGE} \S+); (?P<exchange>\S+) (?P<first>\d{{4}}-\d\d-\d\d) to (?P<last>\d{{4}}-\d\d-\d\d); "
    r"sessions (?P<sessions>[0-9a-f]{16})(?:; own corrections (?P<own>[0-9a-f]{16}))?"
)


def installed_release() -> str:
    """The package that calendars come from, and its release."""
    return f"{_PACKAGE} {version(_PACKAGE)}"


@dataclass(frozen=True)
class CalendarRecord:
    """A calendar in words that another process can compare with its own.

    Attributes:
        release: the package and its version.
        exchange: whose sessions.
        first: the first day that the calendar knows of.
        last: the last one.
        sessions: a digest of all sessions.
        own: a digest of the corrections from a file of the user; empty if there are none.
    """

    release: str
    exchange: str
    first: date
    last: date
    sessions: str
    own: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` gives; None for anything else, such as what earlier releases wrote."""
        match = _WRITTEN.fullmatch(text)
        if match is None:
            return None
        found = match.groupdict(default="")
        try:
            days = date.fromisoformat(found["first"]), date.fromisoformat(found["last"])
        except ValueError:
            return None
        return cls(found["release"], found["exchange"], *days, found["sessions"], found["own"])

    def __str__(self) -> str:
        own = f"; own corrections {self.own}" if self.own else ""
        return f"{self.release}; {self.exchange} {self.first} to {self.last}; sessions {self.sessions}{own}"
