"""Verification of a store: its files, and beside them what no damage explains: its calendar, its clock, open holds."""

from collections.abc import Callable
from datetime import date
from typing import Final

from historical_etl.errors import ChecksumMismatchError, ManifestCorruptError, StorageError
from historical_etl.etl.completeness import rebuild_completeness
from historical_etl.etl.context import VersionState, nothing_stored
from historical_etl.etl.health import HOLDS, LAST_RUN, update_blockers
from historical_etl.etl.runs import clock_notes
from historical_etl.models import SyncManifest
from historical_etl.store.verify import StoreFinding, VerifyReport, verify_store, warning

__all__ = ["CALENDAR", "NO_DAMAGE", "Verification"]

#: What findings about the calendar are called.
CALENDAR: Final = "calendar"
#: What findings about the clock are called.
CLOCK: Final = "clock"
#: Findings of what is undamaged, and not all good either.
NO_DAMAGE: Final = (CALENDAR, CLOCK, HOLDS, LAST_RUN)


class Verification:
    """Checks whether what lies on disk is what was committed."""

    def __init__(self, state: VersionState) -> None:
        self._state = state
        self._context = state.context

    def verify(self, *, quick: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check that what lies on disk is what was committed: every byte, every row, every cursor. Writes nothing.

        See `HistoricalETL.verify`.
        """
        report = self.check(quick=quick, progress=progress)
        if report.version is None and report.ok:
            raise nothing_stored(self._context.layout)
        blockers = update_blockers(
            self._context.layout, self._context.manifests.load_manifest() if report.version else None
        )
        todo = "set the clock if it is wrong; `historical-etl vacuum --keep-days 0` frees what the wrong stamps keep"
        newest = self._context.manifests.newest_stamp()
        blockers += [warning(CLOCK, note, todo) for note in clock_notes(newest, self._context.clock())]
        return report.model_copy(update={"findings": (*report.findings, *blockers)})

    def check(self, *, quick: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """As `verify`, also of a place without a store: there nothing is found. See `HistoricalETL.check`."""
        notes = self._calendar_findings()
        report = verify_store(
            self._context.manifests,
            quick=quick,
            # By another calendar the data have other cursors, until a commit counts them anew.
            rebuild_cursors=None if notes else self._rebuilt_cursors,
            catalog_version=self._context.catalog.version_in_file,
            progress=progress,
        )
        return report.model_copy(update={"findings": (*report.findings, *notes)})

    def _rebuilt_cursors(self, manifest: SyncManifest) -> dict[str, date]:
        return rebuild_completeness(self._context.layout, manifest, self._context.calendar).cursors()

    def _calendar_findings(self) -> list[StoreFinding]:
        """What no byte is damaged by: the calendar is another one than the version was judged by.

        See `HistoricalETL._calendar_findings`.
        """
        try:
            if (trouble := self._state.calendar_error()) is not None:
                return [warning(CALENDAR, trouble.what, trouble.todo)]
            todo = "nothing: the next update or backfill moves such rows to replaced_rows, and asks for such sessions"
            return [warning(CALENDAR, note, todo) for note in self._state.calendar_notes()]
        except (ManifestCorruptError, ChecksumMismatchError, StorageError):
            return []  # the check itself tells of it
