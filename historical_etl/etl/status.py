"""What is known of a store without reading any data: one look at its small files. Fast: no Polars, no DuckDB.

Nothing is written and no lock is taken; a damaged file is told of, not moved. Whether the data is as committed is
`store.verify`'s question, and how many sessions are missing is the calendar's.
"""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from historical_etl.clock import Clock
from historical_etl.errors import DiskSpaceError
from historical_etl.models import ETLProgressManifest, Partition, SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.lock import Holder, live_holder
from historical_etl.store.manifest import ManifestManager, read_catalog_pointer
from historical_etl.store.quarantine import Quarantine

__all__ = ["QuarantineEntry", "StoreStatus", "UnfinishedRun", "read_status"]

_NEWEST = 3


class UnfinishedRun(BaseModel):
    """A backfill that has not committed all its years."""

    years_completed: tuple[int, ...]
    years_remaining: tuple[int, ...]
    status: str
    since: datetime


class QuarantineEntry(BaseModel):
    """One entry of `quarantine/`, and why it is there."""

    entry: str
    reason: str
    quarantined_at: str = ""


class StoreStatus(BaseModel):
    """What one look at a store tells; `version` None means that nothing was committed yet.

    `symbols` and `lagging` (symbols whose cursor is before `current_through`) are None where progress does not belong
    to the current version. `sessions_missing` is filled by whoever asked the calendar and the source, up to
    `available_through`.
    """

    model_config = ConfigDict(frozen=True)

    data_dir: str
    version: int | None = None
    committed_at: datetime | None = None
    committed_by: str = ""
    source: str = ""
    source_version: str = ""
    adjustment: str = ""
    current_through: date | None = None
    days_ago: int | None = None
    sessions_missing: int | None = None
    available_through: date | None = None
    rows: int = 0
    size_bytes: int = 0
    symbols: int | None = None
    lagging: dict[str, date] | None = None
    years: tuple[Partition, ...] = ()
    versions_kept: int = 0
    catalog_version: int | None = None
    unfinished: UnfinishedRun | None = None
    writer: Holder | None = None
    quarantine_entries: int = 0
    quarantine_newest: tuple[QuarantineEntry, ...] = ()
    disk_level: Literal["ok", "warning", "critical", "full"] = "ok"
    disk_used_share: float = 0.0
    disk_free_bytes: int = 0
    problems: tuple[str, ...] = Field(default=())


def read_status(layout: Layout, clock: Clock) -> StoreStatus:
    """Look at the store once.

    Raises:
        ManifestCorruptError: there is data, but no usable manifest.
        StorageError: the folder cannot be read.
    """
    manifests = ManifestManager(layout, clock=clock)
    manifest = manifests.load_manifest()
    progress, problem = _progress(layout)
    facts = _committed(manifest, clock) | _reached(manifest, progress) | _disk(manifests) | _quarantine(layout, clock)
    pointer = read_catalog_pointer(layout)
    return StoreStatus.model_validate(
        facts
        | {
            "data_dir": str(layout.root),
            "versions_kept": len(manifests.list_versions()),
            "catalog_version": pointer.version if pointer and layout.catalog.is_file() else None,
            "writer": live_holder(layout.lock_file()),
            "problems": [problem] if problem else [],
        }
    )


def _committed(manifest: SyncManifest | None, clock: Clock) -> dict[str, object]:
    if manifest is None:
        return {}
    return {
        "version": manifest.version,
        "committed_at": manifest.sync_timestamp,
        "committed_by": manifest.writer_id,
        "source": manifest.provider,
        "source_version": manifest.provider_version,
        "adjustment": manifest.adjustment,
        "current_through": manifest.end_date,
        "days_ago": (clock().astimezone(UTC).date() - manifest.end_date).days,
        "rows": manifest.row_count,
        "size_bytes": sum(partition.size_bytes for partition in manifest.partitions),
        "years": manifest.partitions,
    }


def _progress(layout: Layout) -> tuple[ETLProgressManifest | None, str | None]:
    try:
        return ETLProgressManifest.model_validate_json(layout.progress_file().read_bytes()), None
    except FileNotFoundError:
        return None, None
    except (OSError, ValidationError):
        return None, "The progress file is damaged; the next run rebuilds it from the data"


def _reached(manifest: SyncManifest | None, progress: ETLProgressManifest | None) -> dict[str, object]:
    if progress is None or manifest is None or progress.data_version > manifest.version:
        return {}
    facts: dict[str, object] = {}
    if progress.data_version == manifest.version:
        cursors = progress.symbol_last_dates
        facts["symbols"] = len(cursors)
        facts["lagging"] = {symbol: day for symbol, day in cursors.items() if day < manifest.end_date}
    if progress.status != "completed" and progress.years_remaining:
        facts["unfinished"] = UnfinishedRun(
            years_completed=tuple(progress.years_completed),
            years_remaining=tuple(progress.years_remaining),
            status=progress.status,
            since=progress.last_updated,
        )
    return facts


def _disk(manifests: ManifestManager) -> dict[str, object]:
    try:
        disk = manifests.check_disk_space(0)
    except DiskSpaceError:
        return {"disk_level": "full"}
    return {"disk_level": disk.level, "disk_used_share": disk.used_share, "disk_free_bytes": disk.free_bytes}


def _quarantine(layout: Layout, clock: Clock) -> dict[str, object]:
    entries = Quarantine(layout, clock).entries()
    newest = tuple(_entry(path) for path in reversed(entries[-_NEWEST:]))
    return {"quarantine_entries": len(entries), "quarantine_newest": newest}


def _entry(path: Path) -> QuarantineEntry:
    try:
        record: object = json.loads((path / "reason.json").read_bytes())
    except (OSError, ValueError):
        record = None
    facts = cast("dict[str, object]", record) if isinstance(record, dict) else {}
    return QuarantineEntry(
        entry=path.name,
        reason=str(facts.get("reason", "no reason is recorded")),
        quarantined_at=str(facts.get("quarantined_at", "")),
    )
