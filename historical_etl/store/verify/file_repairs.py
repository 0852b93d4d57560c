"""Repairs of a store's files: each is restored from bytes that are proven to be its own.

Nothing is deleted: what is replaced goes to quarantine. Cursors and the catalog are not the store's; see
`maintenance.repair`.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from historical_etl.durable import replace_file, sha256_of, storage_errors, sync_stream, temporary_beside
from historical_etl.errors import ManifestCorruptError
from historical_etl.models import DATASET_ID, LedgerFile, Partition, SyncManifest
from historical_etl.store.checkout import check_out, is_known, quarantine_obstacles
from historical_etl.store.daily_folders import YEARS, copies, is_replaceable
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.manifest_file import read_manifest
from historical_etl.store.misplaced import no_file
from historical_etl.store.pins import read_pins, write_pin
from historical_etl.store.quarantine import QuarantineEntry, read_entries

__all__ = [
    "Damage",
    "repair_daily",
    "repair_files",
    "repair_history",
    "repair_misplaced",
    "repair_pins",
    "spare_years",
    "unlinked_years",
]

#: Files that cannot be repaired, and the versions that name them, newest first.
Damage = Mapping[str, tuple[Partition | LedgerFile, list[int]]]
_CHUNK: Final = 1 << 20


def repair_history(manager: ManifestManager, current: SyncManifest | None) -> Iterator[str]:
    """Quarantine damaged manifests of older versions: what they named is unknown, and each vacuum would stop there."""
    layout = manager.layout
    for version in manager.list_versions():
        path = layout.history_file(version)
        if current is not None and version >= current.version:
            continue  # restored with the current manifest
        try:
            damaged = read_manifest(path).version != version
        except ManifestCorruptError:
            damaged = True
        if damaged:
            quarantined = manager.quarantine_data(path, f"the manifest of version {version} is damaged")
            yield f"version {version} is lost: its manifest is damaged, and is now in {quarantined}"


def repair_files(manager: ManifestManager, versions: list[SyncManifest]) -> tuple[list[str], Damage]:
    """Restore every file of some versions whose bytes are found elsewhere: in `daily/`, or in quarantine.

    Args:
        manager: of the store; call it with the writer lock held.
        versions: newest first.

    Returns:
        What was restored, in words; and what is damaged still.
    """
    named: dict[str, tuple[Partition | LedgerFile, list[int]]] = {}
    for manifest in versions:
        ledgers = [file for files in manifest.ledgers.values() for file in files]
        for file in (*manifest.partitions, *ledgers):
            named.setdefault(file.path, (file, []))[1].append(manifest.version)
    entries = read_entries(manager.layout)
    restored: list[str] = []
    damaged: dict[str, tuple[Partition | LedgerFile, list[int]]] = {}
    for path, (file, needed_by) in named.items():
        if _is_intact(manager.layout.resolve(path), file.checksum):
            continue
        source = _same_bytes(manager.layout, file, entries)
        if source is None or not _restore(manager, file, source):
            damaged[path] = file, needed_by
        else:
            restored.append(f"{Path(path).name} is restored from {source}")
    return restored, damaged


def unlinked_years(layout: Layout, manifest: SyncManifest) -> set[int]:
    """The years whose file in `daily/` is not the object itself."""
    unlinked: set[int] = set()
    for partition in manifest.partitions:
        target, wanted = layout.daily_file(partition.year), layout.resolve(partition.path)
        if not (target.exists() and wanted.exists() and target.samefile(wanted)):
            unlinked.add(partition.year)
    return unlinked


def repair_daily(manager: ManifestManager, manifest: SyncManifest) -> Iterator[str]:
    """Let `daily/` show the version: linked to its objects where that is possible, and without anything else.

    What somebody else's link leads to is theirs, but for files in the place of a year of the version. And what a kept
    version names is never moved, wherever `daily` leads.
    """
    layout = manager.layout
    for path, fault, quarantined in quarantine_obstacles(manager):
        yield f"{path.name} was not ours: {fault}; it is now in {quarantined}"
    unlinked = unlinked_years(layout, manifest)
    for partition in manifest.partitions:
        target, wanted = layout.daily_file(partition.year), layout.resolve(partition.path)
        if partition.year in unlinked and wanted.is_file() and os.path.lexists(target) and not is_known(target, layout):
            quarantined = manager.quarantine_data(target, "a file in daily/ that no commit put there")
            yield f"daily/{target.name} was not a committed file; it is now in {quarantined}"
    ours = {f"{partition.year}.parquet" for partition in manifest.partitions} | _named(manager)
    for path in sorted(layout.daily.glob("*.parquet")) if is_replaceable(layout) else ():
        if path.name not in ours:
            quarantined = manager.quarantine_data(path, f"version {manifest.version} has no such file")
            yield f"daily/{path.name} is not of version {manifest.version}; it is now in {quarantined}"
    check_out(manager, manifest, relink=True)


def spare_years(layout: Layout, manifest: SyncManifest) -> set[str]:
    """The files in `daily/` that are named like a year and are of none of the version."""
    years = {f"{partition.year}.parquet" for partition in manifest.partitions}
    return {path.name for path in layout.daily.glob(YEARS)} - years


def repair_misplaced(manager: ManifestManager) -> Iterator[str]:
    """Quarantine what is in the place of a file and is none: each file is then missing, and repaired as such.

    Manifests are not among them: what is in their place is reported with the version.
    """
    layout = manager.layout
    places = (
        *(layout.catalog_pointer(), layout.progress_file(), layout.catalog),
        *(*layout.pins.glob("*.json"), *layout.objects.glob("*.parquet"), *layout.ledgers.glob("*.parquet")),
        *layout.daily_folders.glob(f"*/{YEARS}"),
    )
    for path in places:
        if fault := no_file(path):
            quarantined = manager.quarantine_data(path, f"{fault}, in the place of a file of the store")
            yield f"{path.name} was no file: {fault}; it is now in {quarantined}"


def repair_pins(manager: ManifestManager) -> Iterator[str]:
    """Write pins anew whose record is damaged: the name and the version are in the name of their file."""
    available = manager.list_versions()
    for pin in read_pins(manager.layout).values():
        if pin.checksum is None and pin.version in available:
            checksum = manager.load_version(pin.version).checksum
            write_pin(manager.layout, pin.model_copy(update={"checksum": checksum, "at": manager.clock()}))
            yield f"the record of the pin {pin.name} is written again"


def _named(manager: ManifestManager) -> set[str]:
    """The names of the files of all versions whose manifests are sound."""
    named = set[str]()
    for version in manager.list_versions():
        with suppress(ManifestCorruptError):
            named |= {Path(path).name for path in manager.load_version(version).named_paths()}
    return named


def _is_intact(path: Path, checksum: str) -> bool:
    # Not `verified_path`: what this process has read before is hashed again.
    # And one that the volume does not give just now is not damaged for all that is known: that raises.
    return path.is_file() and sha256_of(path) == checksum


def _same_bytes(layout: Layout, file: Partition | LedgerFile, entries: list[QuarantineEntry]) -> Path | None:
    places = copies(layout, file.year) if isinstance(file, Partition) else []
    places += [entry.content for entry in entries if entry.sha256 == file.checksum and entry.content is not None]
    return next((place for place in places if _is_intact(place, file.checksum)), None)


def _restore(manager: ManifestManager, file: Partition | LedgerFile, source: Path) -> bool:
    """Put the bytes of a source in the place of a file; False if they are no longer those that were found there."""
    target, digest = manager.layout.resolve(file.path), sha256()
    with (
        storage_errors(f"restoring {target.name}", target, "the source of it is untouched"),
        temporary_beside(target) as (temp, stream),
        source.open("rb") as intact,
    ):
        while chunk := intact.read(_CHUNK):
            digest.update(chunk)
            stream.write(chunk)
        if digest.hexdigest() != file.checksum:
            return False
        sync_stream(stream)
        temp.chmod(stat.S_IMODE(temp.stat().st_mode) & ~0o222)
        if target.exists():
            manager.quarantine.keep_file(target, f"its SHA-256 was not {file.checksum}", DATASET_ID)
        replace_file(temp, target)
    return True
