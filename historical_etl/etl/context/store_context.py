"""StoreContext: one data folder with its settings, its clock, its manifests and its lock. All else is built on it."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime, timedelta

from historical_etl.catalog.catalog import Catalog
from historical_etl.clock import Clock, with_zone
from historical_etl.errors import ConfigurationError
from historical_etl.etl.context.citation import Citation, version_at, version_named
from historical_etl.etl.context.store_folder import is_untouched, nothing_stored
from historical_etl.fork_guard import refuse_lost_threads
from historical_etl.models import DATASET_ID, ETLProgressManifest, SyncManifest
from historical_etl.retention import Retention
from historical_etl.sessions import SessionCalendar, calendar_of
from historical_etl.settings import Settings
from historical_etl.store.layout import Layout
from historical_etl.store.leases import leased, stay_leased
from historical_etl.store.lock import LockToken
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import load_progress

__all__ = ["StoreContext"]


class StoreContext:
    """A data folder, opened. Reading takes no lock and is never blocked by a writer.

    Attributes:
        layout: where everything lies.
        manifests: of its versions.
        settings: that apply.
        clock: returns the time, an aware UTC datetime.
        writer_id: how the lock and the manifests name this writer.
        expected: the only version that may be read; None allows any.
        catalog: the DuckDB file that shows the current version.
    """

    def __init__(
        self,
        layout: Layout,
        settings: Settings,
        clock: Clock,
        writer_id: str,
        manifests: ManifestManager | None = None,
        expected: Citation | None = None,
    ) -> None:
        self.layout = layout
        self.settings = settings
        self.clock = with_zone(clock)
        self.writer_id = writer_id
        self.manifests = manifests or ManifestManager(layout, clock=clock)
        self.expected = expected
        self.catalog = Catalog(layout)

    @property
    def calendar(self) -> SessionCalendar:
        """The sessions of the configured exchange."""
        return calendar_of(self.settings)

    @property
    def retention(self) -> Retention:
        """What is kept of older versions."""
        return Retention(self.settings.keep_versions, self.settings.keep_days)

    def last_closed_session(self) -> date:
        """The last session that closed at least the settle delay ago, by the clock."""
        return self.calendar.last_closed(self.clock(), timedelta(minutes=self.settings.settle_minutes))

    def require_store(self) -> None:
        """Raises ConfigurationError where no run ever left anything: what changes a store makes none."""
        if is_untouched(self.layout):
            raise nothing_stored(self.layout)

    def manifest(
        self, version: int | str | None = None, as_of: datetime | date | str | None = None
    ) -> SyncManifest | None:
        """The current version, or a kept one; None if nothing was ever committed. See `HistoricalETL.manifest`."""
        if version is not None and as_of is not None:
            raise ConfigurationError("version and as_of exclude each other", where="as_of", todo="give one of them")
        if version is not None:
            manifest = version_named(self.manifests, version)
        elif as_of is not None:
            manifest = version_at(self.manifests, as_of)
        else:
            manifest = self.manifests.load_manifest()
        if self.expected is not None:
            self.expected.require(manifest, self.layout.root)
        return manifest

    def require_manifest(
        self, version: int | str | None = None, as_of: datetime | date | str | None = None
    ) -> SyncManifest:
        """As `manifest`, for a read: where nothing was committed, that is an error.

        Raises: as `manifest`; ConfigurationError also if nothing was committed yet, or if this process was forked from
            one in which Polars had threads.
        """
        refuse_lost_threads()
        manifest = self.manifest(version, as_of)
        if manifest is None:
            raise nothing_stored(self.layout)
        return manifest

    @contextmanager
    def lease(
        self, version: int | str | None = None, as_of: datetime | date | str | None = None
    ) -> Generator[SyncManifest]:
        """Keep a version from being vacuumed for the block. See `HistoricalETL.lease`."""
        while True:
            manifest = self.require_manifest(version, as_of)
            with leased(self.layout, manifest.version) as there:
                # It may have been vacuumed before the lease was there; then there is a newer one.
                if there or manifest == self.manifest(version, as_of):
                    yield manifest
                    return

    def manifest_to_scan(self, version: int | str | None, as_of: datetime | date | str | None) -> SyncManifest:
        """As `require_manifest`; this process keeps a lease on the version until it has scanned others."""
        while True:
            manifest = self.require_manifest(version, as_of)
            if stay_leased(self.layout, manifest.version):
                return manifest
            if manifest == self.manifest(version, as_of):
                return manifest  # the current version, which the history lacks

    def progress(self) -> ETLProgressManifest | None:
        """The saved progress; None if there is none, or if it belongs to a version that is not current."""
        return self.progress_at(self.manifest())

    def progress_at(self, manifest: SyncManifest | None) -> ETLProgressManifest | None:
        """As `progress`, for who has read the current manifest."""
        progress = load_progress(self.layout, self.clock)
        version = manifest.version if manifest else 0
        return None if progress is None or progress.data_version > version else progress

    def lock(self) -> AbstractContextManager[LockToken]:
        """The writer lock, for a `with` block.

        Raises:
            LockTimeoutError: another writer kept it.
            ConfigurationError: the store was opened to read one version only.
        """
        if self.expected is not None:
            raise ConfigurationError(
                f"The store was opened to read {self.expected} and nothing else",
                where="expect",
                todo="open it without `expect` to write",
            )
        return self.manifests.acquire_lock(DATASET_ID, self.writer_id, self.settings.lock_timeout_seconds)
