"""Check-out: `daily/` shows the current version's years as plain files, which any tool may read."""

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from historical_etl.durable import fsync_folder, make_folder, sha256_of, sync_stream, temp_name
from historical_etl.models import Partition, SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager

__all__ = ["check_out", "is_known", "withdraw_others"]

_log = logging.getLogger(__name__)


def check_out(manager: ManifestManager, partitions: Iterable[Partition], *, proven: bool = False) -> None:
    """Link each year's object into `daily/`; a file that no commit put there goes to quarantine.

    Args:
        manager: of the store.
        partitions: the years.
        proven: whether the objects are known to be sound; else one that is damaged is never linked, so that a good
            copy of it in `daily/` stays.
    """
    layout = manager.layout
    linked = False
    for partition in partitions:
        target, wanted = layout.daily_file(partition.year), layout.resolve(partition.path)
        if not wanted.exists() or _is_same(target, wanted):
            continue  # a missing object is damage: `verify` and the next write of that year tell of it
        if not proven and sha256_of(wanted) != partition.checksum:
            continue  # likewise
        if target.exists() and not is_known(target, layout):
            kept = manager.quarantine_data(target, "a file in daily/ that no commit put there")
            _log.warning("%s was replaced from outside; it is now in %s", target, kept)
        _link(wanted, target)
        linked = True
    if linked:
        fsync_folder(layout.daily)


def withdraw_others(manager: ManifestManager, manifest: SyncManifest) -> None:
    """After a return to an older version: readers of daily/ must not see years that it does not have.

    The link to an object is removed, any other file goes to quarantine.
    """
    years = {str(partition.year) for partition in manifest.partitions}
    others = [p for p in manager.layout.daily.glob("[0-9][0-9][0-9][0-9].parquet") if p.stem not in years]
    for path in others:
        if is_known(path, manager.layout):
            path.unlink()
            continue
        kept = manager.quarantine_data(path, f"version {manifest.version}, which now stands, has no such year")
        _log.warning("%s belongs to no year of version %d; it is now in %s", path, manifest.version, kept)
    if others:
        fsync_folder(manager.layout.daily)


def is_known(target: Path, layout: Layout) -> bool:
    """Whether a file in daily/ is an object, linked or copied, of whatever version."""
    candidates = list(layout.objects.glob(f"{target.stem}-*.parquet"))
    return (
        any(target.samefile(path) for path in candidates)
        or layout.object_file(int(target.stem), sha256_of(target)) in candidates
    )


def _link(source: Path, target: Path) -> None:
    make_folder(target.parent)
    temp = temp_name(target)
    try:
        try:
            os.link(source, temp)
        except OSError:
            # No hard links here (some network and FAT mounts), or too many: a copy serves readers as well.
            with source.open("rb") as original, temp.open("xb") as copy:
                shutil.copyfileobj(original, copy, 1 << 20)
                copy.flush()  # before the times are set: by them it is known as a copy, and not made again
                shutil.copystat(source, temp)
                sync_stream(copy)
        temp.replace(target)
    finally:
        temp.unlink(missing_ok=True)


def _is_same(target: Path, wanted: Path) -> bool:
    """Whether `target` is linked to `wanted`, or is a copy of it as `_link` or a backup tool makes them."""
    try:
        there, should = target.stat(), wanted.stat()
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (should.st_dev, should.st_ino) or (
        (there.st_size, there.st_mtime_ns) == (should.st_size, should.st_mtime_ns)
    )
