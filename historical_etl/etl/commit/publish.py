"""Publish: make the catalog file show what is committed."""

import logging
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from historical_etl.catalog.catalog import BuiltCatalog, Catalog
from historical_etl.errors import CatalogError, HistoricalETLError
from historical_etl.etl.context import StoreContext, is_untouched, nothing_stored
from historical_etl.models import SyncManifest
from historical_etl.store.recovery import recover

__all__ = ["Publication", "publication", "publish_catalog", "publish_if_behind"]

_log = logging.getLogger(__name__)


def publish_catalog(store: StoreContext) -> SyncManifest:
    """Make the catalog file show the current version. See `HistoricalETL.publish_catalog`."""
    if is_untouched(store.layout):
        missing = nothing_stored(store.layout)
        raise CatalogError(missing.what, where=missing.where, todo=missing.todo)
    with store.lock() as token:
        manifest = recover(store.manifests, token, store.retention)
        if manifest is None:
            raise CatalogError(
                "Nothing was committed yet", where=store.layout.root, todo="run `historical-etl backfill` first"
            )
        store.catalog.publish(manifest)
    return manifest


def publish_if_behind(store: StoreContext) -> str | None:
    """As `publish_catalog`, after a commit, which a catalog that cannot be published does not undo.

    Returns why it could not be published; None if it shows the current version.
    """
    manifest = store.manifest()
    if manifest is None or store.catalog.shown_version() == manifest.version:
        return None
    try:
        with store.lock():  # the commit has recovered what a crash left
            store.catalog.publish(store.manifest() or manifest)
    except HistoricalETLError as error:
        _log.error("The data is committed, the catalog is not up to date: %s", error)
        return str(error)
    return None


class Publication:
    """The catalog of a version, built by a thread while that is committed."""

    def __init__(self, catalog: Catalog, pool: ThreadPoolExecutor, built: ExitStack) -> None:
        self._catalog = catalog
        self._pool = pool
        self._built = built
        self._building: Future[BuiltCatalog] | None = None

    def begin(self, draft: SyncManifest) -> None:
        """Build the catalog of a version that is to be committed."""
        self._building = self._pool.submit(self._built.enter_context, self._catalog.built(draft))

    def finish(self, committed: SyncManifest) -> None:
        """Show it once the version is committed. What fails here is left to `publish_if_behind`, which tells of it."""
        if self._building is None:
            return
        try:
            built = self._building.result()
            if built.version == committed.version:
                self._catalog.show(built)
        except HistoricalETLError as error:
            _log.info("The catalog was not published with its commit: %s", error)


@contextmanager
def publication(store: StoreContext) -> Generator[Publication]:
    """For a commit under the writer lock; nothing is left of a catalog that is not shown when the block ends."""
    with ExitStack() as built, ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog") as pool:
        yield Publication(store.catalog, pool, built)
