"""Stamps: when each version was committed, by a clock that may jump.

A stamp is later than those of all versions before it, so that the version of a time stays the version of that time.
Where the clock said something else, the manifest records that, too: it gives the age of a version. Nothing here reads
or writes.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Final

from historical_etl.models import SyncManifest

__all__ = ["ages", "clock_trouble", "current_since", "stamp_after"]

_STEP: Final = timedelta(microseconds=1)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
#: Clocks that agree by this much are right; two machines' may differ so.
_TOLERANCE: Final = timedelta(minutes=5)


def stamp_after(newest: datetime | None, now: datetime) -> datetime:
    """The stamp of the next version: what the clock says, or as little later as it must be."""
    if newest is None or now > newest:
        return now
    return newest + min(_STEP, _LAST - newest)


def current_since(versions: Iterable[SyncManifest]) -> dict[int, datetime]:
    """Since when each of some versions was current, given in ascending order.

    Earlier releases took the clock as it was. A version of theirs was not current before the one before it.
    """
    found = list(versions)
    return dict(zip((v.version for v in found), accumulate((v.sync_timestamp for v in found), max), strict=True))


def ages(versions: Sequence[SyncManifest], now: datetime, step: timedelta) -> Mapping[int, timedelta]:
    """For how long each version but the last has been replaced, given in ascending order.

    From one commit to the next the clock counts for at most `step`, ahead or back: it may have been set meanwhile.
    """
    said = [*(v.clock_timestamp or v.sync_timestamp for v in versions), now]
    steps = [max(-step, min(step, later - earlier)) for earlier, later in pairwise(said)]
    since = list(accumulate(reversed(steps)))[::-1]
    return {older.version: age for older, age in zip(versions, since[1:], strict=False)}


def clock_trouble(newest: datetime | None, now: datetime) -> str | None:
    """The warning where the clock is behind the stamp of the newest version; None where it is not, by much."""
    if newest is None or newest - now <= _TOLERANCE:
        return None
    return (
        f"the clock says {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, and the newest version was committed at "
        f"{newest:%Y-%m-%d %H:%M:%S} UTC: it is behind now, or was ahead then. Until it has passed that time, new "
        "versions are stamped just after it, and `as_of` cannot separate them by the hour"
    )
