"""The doctor's check of the calendar: how far it knows, how it was corrected, and whether it is the store's."""

from collections.abc import Iterator

from historical_etl.calendar_corrections import Correction, packaged_text, parse_corrections
from historical_etl.calendar_record import installed_release
from historical_etl.clock import Clock
from historical_etl.errors import ChecksumMismatchError, StorageError
from historical_etl.etl.context import StoreContext, VersionState
from historical_etl.etl.health.check import Check, CheckStatus
from historical_etl.sessions import SessionCalendar, calendar_of
from historical_etl.settings import Settings
from historical_etl.store.manifest import ManifestManager

__all__ = ["calendar"]

_SHOWN = 3
_CHANGED = "nothing: the next update or backfill moves such rows to replaced_rows, and asks for such sessions"


def calendar(settings: Settings, manager: ManifestManager, clock: Clock) -> Iterator[Check]:
    """The release, its first and last day, the corrections, and what a change of it means to what is stored."""
    found = calendar_of(settings)
    now = clock()
    what = f"{installed_release()}: {found.name} from {found.known_from} to {found.known_through}"
    shipped = sum(correction.exchange == found.name for correction in _packaged())
    if shipped:
        what = f"{what}; {shipped:,} day(s) corrected by historical-etl"
    what += _own(found, settings)
    facts: dict[str, object] = {
        "release": installed_release(),
        "known_from": found.known_from,
        "known_through": found.known_through,
        "corrections": len(found.corrections),
        "corrections_file": settings.calendar_corrections,
    }
    state = VersionState(StoreContext(manager.layout, settings, clock, "doctor", manager))
    try:
        refused, notes = state.calendar_error(), state.calendar_notes()
    except (ChecksumMismatchError, StorageError):
        refused, notes = None, []  # the check of the store tells of the damage
    if refused is not None:
        yield Check("calendar", CheckStatus.PROBLEM, f"{what}. {refused.what}", refused.todo, facts)
    elif found.has_ended(now) or found.ends_soon(now):
        words, _, todo = found.end_in_words().partition("; ")
        verdict = CheckStatus.PROBLEM if found.has_ended(now) else CheckStatus.WARNING
        yield Check("calendar", verdict, f"{what}; {words}", todo, facts)
    elif notes:
        yield Check(
            "calendar", CheckStatus.WARNING, f"{what}; {'; '.join(notes)}", _CHANGED, facts | {"changed": notes}
        )
    else:
        yield Check("calendar", CheckStatus.OK, what, facts=facts)


def _own(found: SessionCalendar, settings: Settings) -> str:
    if settings.calendar_corrections is None:
        return ""
    named = [f"{c.day} {c.change}: {c.reason}" for c in found.corrections[:_SHOWN]]
    more = f", and {len(found.corrections) - _SHOWN:,} more" if len(found.corrections) > _SHOWN else ""
    listed = f" ({', '.join(named)}{more})" if named else ""
    return f"; {len(found.corrections):,} day(s) corrected by {settings.calendar_corrections}{listed}"


def _packaged() -> tuple[Correction, ...]:
    return parse_corrections(packaged_text(), "calendar_corrections.csv")
