"""Progress of runs: what to save after each commit, and what an interrupted run has done already."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from historical_etl.etl.completeness import Completeness
from historical_etl.etl.context import StoreContext
from historical_etl.models import ETLProgressManifest, SyncManifest

__all__ = ["RunProgress", "YearProgress"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class YearProgress:
    """How far a run of years is.

    Attributes:
        request: the hash of what it was asked for, by which it can be resumed; empty for a single year's, which ends
            no other.
        years: all that it is to commit.
        completed: those that it has.
        status: of the run.
    """

    request: str
    years: Sequence[int]
    completed: frozenset[int]
    status: Literal["running", "paused", "completed", "failed"]


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

    def is_saved(self, years: YearProgress, manifest: SyncManifest) -> bool:
        """Whether saving it would change nothing but the time of the last update."""
        saved = self._store.progress_at(manifest)
        return saved is not None and saved == self.of_years(years, manifest).model_copy(
            update={"last_updated": saved.last_updated}
        )

    def of_years(self, years: YearProgress, manifest: SyncManifest | None) -> ETLProgressManifest:
        """The saved progress, with the years of a request."""
        saved = self._store.progress_at(manifest) or ETLProgressManifest(last_updated=self._store.clock())
        if not years.request:
            return saved.model_copy(update={"last_updated": self._store.clock()})
        return saved.model_copy(
            update={
                "last_updated": self._store.clock(),
                "request_hash": years.request,
                "years_completed": sorted(years.completed),
                "years_remaining": [year for year in years.years if year not in years.completed],
                "status": years.status,
            }
        )

    def after(
        self, manifest: SyncManifest | None, completeness: Completeness, years: YearProgress | None = None
    ) -> ETLProgressManifest:
        """The progress after a commit: what is saved, or that of years, with the cursors of the current version."""
        store = self._store
        saved = self.of_years(years, manifest) if years is not None else store.progress()
        base = saved or ETLProgressManifest(last_updated=store.clock(), status="completed")
        return base.model_copy(
            update={
                "last_updated": store.clock(),
                "symbol_last_dates": completeness.cursors(),
                "data_version": manifest.version if manifest else 0,
            }
        )
