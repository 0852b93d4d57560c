"""Progress of runs: what to save after each commit, and what an interrupted run has done already."""

import logging
from collections.abc import Collection, Sequence
from typing import Literal

from historical_etl.etl.completeness import Completeness
from historical_etl.etl.context import StoreContext
from historical_etl.etl.fetch import Window
from historical_etl.models import ETLProgressManifest, SyncManifest

__all__ = ["RunProgress"]

_log = logging.getLogger(__name__)


class RunProgress:
    """The progress of the runs on one store."""

    def __init__(self, store: StoreContext) -> None:
        self._store = store

    def years_done(self, request: str) -> set[int]:
        """Years that an interrupted run of this very request has committed."""
        manifest = self._store.manifest()
        progress = self._store.progress_at(manifest)
        if progress is None or manifest is None or progress.request_hash != request or progress.status == "completed":
            return set()
        done = set(progress.years_completed) & {partition.year for partition in manifest.partitions}
        if done:
            _log.info("Resuming an interrupted run: %s are committed already", sorted(done))
        return done

    def of_years(
        self,
        request: str,
        windows: Sequence[Window],
        completed: Collection[int],
        status: Literal["running", "paused", "completed", "failed"],
        manifest: SyncManifest | None,
    ) -> ETLProgressManifest:
        """The saved progress, with the years of a request; a blank request is a single year's, which ends no other."""
        saved = self._store.progress_at(manifest) or ETLProgressManifest(last_updated=self._store.clock())
        if not request:
            return saved.model_copy(update={"last_updated": self._store.clock()})
        return saved.model_copy(
            update={
                "last_updated": self._store.clock(),
                "request_hash": request,
                "years_completed": sorted(completed),
                "years_remaining": [window.year for window in windows if window.year not in completed],
                "status": status,
            }
        )

    def is_saved(self, progress: ETLProgressManifest, manifest: SyncManifest) -> bool:
        """Whether saving it would change nothing but the time of the last update."""
        saved = self._store.progress_at(manifest)
        return saved is not None and saved == progress.model_copy(update={"last_updated": saved.last_updated})

    def after(
        self, manifest: SyncManifest | None, completeness: Completeness, base: ETLProgressManifest | None = None
    ) -> ETLProgressManifest:
        """The progress after a commit: `base`, or what is saved, with the cursors of the current version."""
        store = self._store
        saved = base or store.progress() or ETLProgressManifest(last_updated=store.clock(), status="completed")
        return saved.model_copy(
            update={
                "last_updated": store.clock(),
                "symbol_last_dates": completeness.cursors(),
                "data_version": manifest.version if manifest else 0,
            }
        )
