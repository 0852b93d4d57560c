"""Maintenance: what is done to a store as a whole. Nothing here asks a source."""

from collections.abc import Callable
from pathlib import Path

from historical_etl.arguments import typed_arguments
from historical_etl.etl.commit import publish_catalog, publish_if_behind
from historical_etl.etl.context import VersionState
from historical_etl.etl.maintenance.archive import export_store
from historical_etl.etl.maintenance.repack import repack
from historical_etl.etl.maintenance.repair import Refetch, RepairReport, repair
from historical_etl.etl.maintenance.rollback import roll_back
from historical_etl.etl.maintenance.verification import Verification
from historical_etl.models import SyncManifest
from historical_etl.store.verify import VerifyReport

__all__ = ["Maintenance"]


@typed_arguments
class Maintenance:
    """Verify, repair, roll back, export and publish a store."""

    def __init__(self, state: VersionState) -> None:
        self._state = state
        self._context = state.context
        self._verification = Verification(state)

    def verify(self, *, quick: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check that what lies on disk is what was committed. See `HistoricalETL.verify`."""
        return self._verification.verify(quick=quick, progress=progress)

    def check(self, *, quick: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """As `verify`, also of a place without a store: there nothing is found."""
        return self._verification.check(quick=quick, progress=progress)

    def repair(self, refetch: Refetch | None = None) -> RepairReport:
        """Repair what can be repaired with certainty; `refetch` fetches a year's symbols again."""
        return repair(self._context, self.check, refetch)

    def rollback(self, version: int | str, *, reason: str = "", publish: bool = True) -> SyncManifest:
        """Make an older version current again, under a new number. See `HistoricalETL.rollback`."""
        self._context.require_store()
        manifest = roll_back(self._state, version, reason)
        if publish:
            publish_if_behind(self._context)
        return manifest

    def repack(self, *, publish: bool = True) -> SyncManifest:
        """Write every year in the layout of this release. See `HistoricalETL.repack`."""
        self._context.require_store()
        manifest = repack(self._state)
        if publish:
            publish_if_behind(self._context)
        return manifest

    def export(self, target: str | Path, version: int | str | None = None) -> Path:
        """Write one version, the current one by default, as a store of its own; see `maintenance.archive`."""
        return export_store(self._context, target, version)

    def publish_catalog(self) -> SyncManifest:
        """Make the catalog file show the current version. See `HistoricalETL.publish_catalog`."""
        return publish_catalog(self._context)
