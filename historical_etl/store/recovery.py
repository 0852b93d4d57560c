"""What follows from a commit, and what a crash left of one: `daily/`, old versions, temp files.

Called with the writer lock held, by each commit and before the next one. Nothing that a kept version names is removed.
"""

import logging
from collections.abc import Collection
from pathlib import Path

from historical_etl.durable import TEMP_SUFFIX, storage_errors
from historical_etl.errors import ManifestCorruptError
from historical_etl.folders import entries_of
from historical_etl.models import SyncManifest
from historical_etl.store.checkout import check_out
from historical_etl.store.layout import Layout
from historical_etl.store.lock import LockToken
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.vacuum import Retention, quarantine_unreferenced, vacuum

__all__ = ["recover", "recover_without_vacuum", "show", "vacuum_if_intact"]

_log = logging.getLogger(__name__)


def recover(manager: ManifestManager, token: LockToken, retention: Retention | None = None) -> SyncManifest | None:
    """Finish or undo what a crash left, and return the current version (None: nothing was ever committed).

    Undoes everything before the commit point: temp files, objects that no kept manifest names, manifests newer
    than the current one. Finishes everything after it: `daily/`. Where all is well it costs a few stats a year.

    Raises:
        ManifestCorruptError: no usable manifest is left.
        StorageError: the file system refused.
    """
    manifest = recover_without_vacuum(manager, token)
    vacuum_if_intact(manager, manifest, retention or Retention())
    return manifest


def recover_without_vacuum(manager: ManifestManager, token: LockToken) -> SyncManifest | None:
    """As `recover`, but for old versions and files that no version names: those are left to a vacuum."""
    fell_back = manager.is_astray()
    manifest = manager.restore_manifest(token)
    with storage_errors("recovering the store", manager.layout.root):
        _sweep_temps(manager.layout)
    if manifest is not None:
        show(manager, manifest)
        if fell_back:  # only now, while the object behind a link in daily/ was known
            with storage_errors("recovering the store", manager.layout.root):
                quarantine_unreferenced(manager, manifest)
    return manifest


def show(manager: ManifestManager, manifest: SyncManifest, proven: Collection[int] = ()) -> None:
    """Let `daily/` show a version that is committed; `proven` as `check_out` has it.

    Raises:
        StorageError: the file system refused; the next write finishes it.
    """
    state = f"version {manifest.version} is committed, and the next write finishes this"
    with storage_errors("linking daily/ to the committed version", manager.layout.daily, state):
        check_out(manager, manifest, proven=proven)


def vacuum_if_intact(manager: ManifestManager, manifest: SyncManifest | None, retention: Retention) -> None:
    """Remove what no kept version needs, unless one of them is damaged.

    Raises:
        StorageError: the file system refused.
    """
    try:
        vacuum(manager, manifest, retention)
    except ManifestCorruptError as error:
        # What a damaged version needs is unknown: nothing is removed until that is repaired.
        _log.warning("Old versions were not vacuumed: %s", error)


def _sweep_temps(layout: Layout) -> None:
    # Whatever temp is there belongs to a writer that is dead.
    for folder in _written_under_the_lock(layout):
        for temp in entries_of(folder, f".*{TEMP_SUFFIX}"):
            temp.unlink(missing_ok=True)


def _written_under_the_lock(layout: Layout) -> tuple[Path, ...]:
    return (
        layout.objects,
        layout.ledgers,
        layout.storage,
        layout.daily,
        layout.manifests,
        layout.history_folder(),
        layout.progress_folder,
    )
