"""Backup and move, for a store as a whole: `store.archive`, and what must follow an import."""

from pathlib import Path

from historical_etl.etl.context import StoreContext, VersionState
from historical_etl.etl.runs import RunProgress
from historical_etl.models import SyncManifest
from historical_etl.store.archive import export_version, import_version
from historical_etl.store.progress import save_progress

__all__ = ["export_store", "import_store"]


def export_store(store: StoreContext, target: str | Path, version: int | str | None = None) -> Path:
    """Write one version of a store as a store of its own, self-contained and verified; returns where it is.

    It keeps its version number and checksum, and `HistoricalETL.open` takes the folder as it is.

    Args:
        store: what to export from.
        target: a folder that does not exist or is empty, or a file ending in `.tar` that does not exist.
        version: a number or the name of a pin; None takes the current one.

    Raises:
        ManifestCorruptError: the version's manifest is damaged.
        ConfigurationError: nothing was committed yet, the version is not kept, or the target cannot be one.
        ChecksumMismatchError: a file of the version is damaged; nothing was exported.
        DiskSpaceError, StorageError: the file system refused; what is at the target, if anything, is whole.
    """
    with store.lease(version) as manifest:  # else a commit might vacuum it meanwhile
        return export_version(store.layout, manifest, Path(target))


def import_store(state: VersionState, source: str | Path) -> SyncManifest:
    """Take what was exported, or the current version of any store's folder, into a store without data.

    The version keeps its number and its checksum. Progress and the catalog are made for it.

    Args:
        state: of the empty one.
        source: a folder or a tar file.

    Raises:
        ConfigurationError: the store has data, or the source is not a store.
        ChecksumMismatchError, DataQualityError, ManifestCorruptError: the source is damaged; nothing was imported.
        LockTimeoutError, DiskSpaceError, StorageError: nothing was imported.
        ETLProgressError, CatalogError: the version is imported; the next run makes good what failed after it.
    """
    store = state.context
    with store.lock() as token:
        manifest = import_version(Path(source).expanduser().absolute(), store.manifests, token)
        progress = RunProgress(store).after(manifest, state.completeness_of(manifest))
        save_progress(store.layout, progress, fetched=False)
        store.catalog.publish(manifest)
    return manifest
