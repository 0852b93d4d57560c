"""Publish: make the catalog file show what is committed."""

import logging

from historical_etl.errors import CatalogError, HistoricalETLError
from historical_etl.etl.context import StoreContext, is_untouched, nothing_stored
from historical_etl.models import SyncManifest
from historical_etl.store.transaction import recover

__all__ = ["publish_catalog", "publish_if_behind"]

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
