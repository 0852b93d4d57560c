"""Time comes in through one door, so that tests and replays can choose it."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import cast

from historical_etl.arguments import is_no_moment
from historical_etl.errors import ConfigurationError

__all__ = ["Clock", "as_date", "system_clock", "with_zone"]

#: A callable that returns an aware UTC datetime.
Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """The machine's time, aware, in UTC."""
    return datetime.now(UTC)


def with_zone(clock: Clock) -> Clock:
    """A clock of a caller's, which raises ConfigurationError when it tells no moment, or one without a zone."""

    def checked() -> datetime:
        now = cast("object", clock())  # of a caller who may not check types
        if not isinstance(now, datetime) or is_no_moment(now) or now.utcoffset() is None:
            raise ConfigurationError(
                f"The clock tells {now!r}, which is no moment in a time zone",
                where="clock",
                todo="let it return an aware datetime, as datetime.now(UTC) does",
            )
        return now

    return clock if clock is system_clock else checked


def as_date(value: date | datetime | str, name: str) -> date:
    """A calendar date from a `date`, a `datetime` (its own date) or an ISO string.

    Raises:
        ConfigurationError: `value` is none of these; the message names the argument `name`.
    """
    if isinstance(value, date) and not is_no_moment(value):
        return value.date() if isinstance(value, datetime) else value
    try:
        return date.fromisoformat(cast("str", value))
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{name}={value!r} is not a date", where=name, todo="write it as YYYY-MM-DD, e.g. 2012-05-18"
        ) from None
