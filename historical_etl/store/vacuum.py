"""Vacuum: remove versions that nothing keeps any more, and the files that only they name.

A version is kept by the retention policy, by a pin, by the catalog that shows it, or by a reader that has it open.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from historical_etl.durable import fsync_folder, storage_errors
from historical_etl.errors import ManifestCorruptError
from historical_etl.folders import entries_of
from historical_etl.models import SyncManifest
from historical_etl.retention import Retention
from historical_etl.store.catalog_version import read_catalog_pointer
from historical_etl.store.commit_times import ages
from historical_etl.store.layout import Layout
from historical_etl.store.leases import unleased
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.misplaced import no_file
from historical_etl.store.pins import read_pins

__all__ = ["Retention", "VacuumReport", "quarantine_unreferenced", "vacuum"]

_OBJECT: Final = re.compile(r"[0-9]{4}-[0-9a-f]{16}\.parquet")
_LEDGER: Final = re.compile(r"[a-z_]+-[0-9a-f]{16}\.parquet")


class VacuumReport(BaseModel):
    """What a vacuum removed, or would: versions, and files with their size. `kept` says why each other one stays."""

    model_config = ConfigDict(frozen=True)

    removed: tuple[int, ...] = ()
    kept: dict[int, str] = {}
    files: int = 0
    size_bytes: int = 0


def vacuum(
    manager: ManifestManager, current: SyncManifest | None, retention: Retention, *, dry_run: bool = False
) -> VacuumReport:
    """Remove the manifests of versions that nothing keeps, then the files that no kept version names.

    Call it with the writer lock held.

    Args:
        manager: of the store.
        current: the current version; without one, every object is a leftover of a first commit that failed.
        retention: the policy.
        dry_run: only report.

    Raises:
        ManifestCorruptError: a kept manifest is damaged: what it needs is unknown, and nothing was removed.
        StorageError: the file system refused; what is left is removed the next time.
    """
    layout = manager.layout
    versions = manager.list_versions()
    reasons = _reasons(manager, current, retention) if current else dict[int, str]()
    spare = [version for version in versions if version not in reasons]
    with (
        unleased(layout, spare) as free,
        storage_errors("removing old versions", layout.objects, "every version that is to be kept is unchanged"),
    ):
        reasons |= {version: "open in a reader" for version in spare if version not in free}
        retained = [*([current] if current else []), *(manager.load_version(v) for v in versions if v in reasons)]
        leftovers = list(_unnamed(layout, retained))
        report = VacuumReport(
            removed=tuple(version for version in versions if version not in reasons),
            kept={version: reasons[version] for version in versions if version in reasons},
            files=len(leftovers),
            size_bytes=sum(path.stat().st_size for path in leftovers),
        )
        if not dry_run:
            for version in report.removed:
                layout.history_file(version).unlink()
            if report.removed and leftovers:
                fsync_folder(layout.history_folder())  # no version may come back without its files
            for path in leftovers:
                path.unlink()
    return report


def quarantine_unreferenced(manager: ManifestManager, current: SyncManifest) -> None:
    """Quarantine what no kept version names, after the manifest that may have named it was lost.

    Raises:
        StorageError: the file system refused.
    """
    with suppress(ManifestCorruptError):  # what a damaged version names stays where it is
        older = [manager.load_version(v) for v in manager.list_versions() if v != current.version]
        for path in _unnamed(manager.layout, [current, *older]):
            manager.quarantine_data(path, "only a manifest that is damaged can have named it")


def _reasons(manager: ManifestManager, current: SyncManifest, retention: Retention) -> dict[int, str]:
    """Why each version is kept, in a few words; those that are not named are not kept."""
    older = [version for version in manager.list_versions() if version < current.version]
    reasons = dict.fromkeys(older[_beyond(older, retention) :], f"one of the last {retention.versions}")
    manifests = [*(manager.load_version(version) for version in older), current]
    for version, age in ages(manifests, manager.clock(), retention.step).items():
        if version not in reasons and retention.keeps(age):
            reasons[version] = f"replaced in the last {retention.days} days"
    if pointer := read_catalog_pointer(manager.layout):
        reasons[pointer.version] = "shown by the catalog"
    reasons |= {pin.version: f"pinned as {pin.name}" for pin in read_pins(manager.layout).values()}
    return {**reasons, current.version: "the current version"}


def _beyond(older: Sequence[int], retention: Retention) -> int:
    return max(0, len(older) - retention.versions + 1)


def _unnamed(layout: Layout, retained: Sequence[SyncManifest]) -> Iterator[Path]:
    named = {path.rpartition("/")[2] for manifest in retained for path in manifest.named_paths()}
    for folder, pattern in ((layout.objects, _OBJECT), (layout.ledgers, _LEDGER)):
        for path in entries_of(folder, "*.parquet"):
            if path.name not in named and pattern.fullmatch(path.name) and not no_file(path):
                yield path
