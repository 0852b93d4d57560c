"""Corrections of a calendar: sessions that are added to it and sessions that are removed, each with a reason.

Some come with the package, since they are certain and `exchange_calendars` lacks them (see `data/README.md`). Others
are the user's: a CSV file with the columns exchange, date, change (added or removed), reason, and, where a session that
is added has an unusual one, its close as local time.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, cast

from historical_etl.errors import ConfigurationError
from historical_etl.masking import display_path
from historical_etl.regular_files import read_text

__all__ = [
    "CORRECTIONS_SETTING",
    "Correction",
    "corrections_text",
    "digest_of",
    "packaged_text",
    "parse_corrections",
]

CORRECTIONS_SETTING: Final = "HISTORICAL_ETL_CALENDAR_CORRECTIONS"
_COLUMNS: Final = ("exchange", "date", "change", "reason", "close")
_REQUIRED: Final = frozenset(_COLUMNS) - {"close"}
_CHANGES: Final = ("added", "removed")
_FORM: Final = (
    f"write a CSV with the columns {', '.join(_COLUMNS)}, e.g. XBOM,2024-03-02,added,special Saturday session,12:30; "
    "close may be left out"
)


@dataclass(frozen=True)
class Correction:
    """One day on which a calendar is corrected; `close` is local time, None the usual one."""

    exchange: str
    day: date
    change: Literal["added", "removed"]
    reason: str
    close: time | None = None


def corrections_text(path: Path) -> str:
    """The content of a file of corrections.

    Raises:
        ConfigurationError: it cannot be read as text.
    """
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8"
        raise ConfigurationError(
            f"The calendar corrections cannot be read: {reason}",
            where=display_path(path, CORRECTIONS_SETTING),
            todo=f"correct {CORRECTIONS_SETTING}, or unset it to use the calendar as it is",
        ) from None


def packaged_text() -> str:
    """The corrections that come with the package, as such a file."""
    return (files("historical_etl") / "data" / "calendar_corrections.csv").read_text("utf-8")


def digest_of(text: str) -> str:
    """A digest of the content of such a file."""
    return sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=8)
def parse_corrections(text: str, where: str) -> tuple[Correction, ...]:
    """The corrections in a file, in its order. Blank lines, and lines that begin with #, are passed over.

    Args:
        text: its content.
        where: its path, for errors.

    Raises:
        ConfigurationError: a line is malformed, or speaks of a day that another one speaks of.
    """
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not lines:
        raise _refused("it has no header", where, 1)
    header = [name.strip().lower() for name in next(csv.reader([lines[0][1]]))]
    if len(set(header)) < len(header) or not _REQUIRED <= set(header) <= set(_COLUMNS):
        raise _refused(f"its columns are {', '.join(header)}", where, lines[0][0])
    seen: dict[tuple[str, date], int] = {}
    found: list[Correction] = []
    for number, correction in _parsed(lines[1:], header, where):
        key = correction.exchange, correction.day
        if key in seen:
            raise _refused(f"{correction.exchange} {correction.day} was corrected in line {seen[key]}", where, number)
        seen[key] = number
        found.append(correction)
    return tuple(found)


def _parsed(lines: list[tuple[int, str]], header: list[str], where: str) -> Iterator[tuple[int, Correction]]:
    for number, line in lines:
        values = [value.strip() for value in next(csv.reader([line]))]
        if len(values) not in (len(header), len(header) - (header[-1] == "close")):
            raise _refused(f"it has {len(values)} value(s), the header has {len(header)}", where, number)
        row = dict(zip(header, values, strict=False))
        if missing := [name for name in _REQUIRED if not row[name]]:
            raise _refused(f"{' and '.join(sorted(missing))} is blank", where, number)
        if row["change"].lower() not in _CHANGES:
            raise _refused(f"change is {row['change']!r}, not added or removed", where, number)
        change = cast('Literal["added", "removed"]', row["change"].lower())
        close = row.get("close", "")
        if close and change == "removed":
            raise _refused("a session that is removed has no close", where, number)
        try:
            day = date.fromisoformat(row["date"])
        except ValueError:
            raise _refused(f"{row['date']!r} is not a date such as 2024-03-02", where, number) from None
        try:
            at = time.fromisoformat(close) if close else None
        except ValueError:
            raise _refused(f"{close!r} is not a time such as 12:30", where, number) from None
        if at is not None and at.tzinfo is not None:
            raise _refused(f"{close!r} has a time zone; the close is local time", where, number)
        yield number, Correction(row["exchange"], day, change, row["reason"], at)


def _refused(why: str, where: str, line: int) -> ConfigurationError:
    return ConfigurationError(
        f"The calendar corrections cannot be used: line {line}: {why}", where=f"{where}:{line}", todo=_FORM
    )
