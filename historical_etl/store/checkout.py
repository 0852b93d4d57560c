"""Check-out: `daily/` shows the years of one version as plain files, which any tool may read.

`daily` is a symbolic link to a folder of hard links. The folder is whole and durable before one rename lets `daily`
point to it, so that all that is found there is of one version. The folder before it stays until the next one is made,
for readers that have listed it. Where such links are impossible, `daily/` is a plain folder, and its files are replaced
one by one.
"""

import errno
import logging
import os
import shutil
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from historical_etl.durable import fsync_folder, make_folder, sha256_of, sync_stream, temp_name
from historical_etl.folders import entries_of
from historical_etl.models import Partition, SyncManifest
from historical_etl.store.daily_folders import (
    IMPOSSIBLE,
    YEARS,
    copies,
    is_replaceable,
    new_folder,
    obstacles,
    put_in_place,
    remove,
    shown_folder,
    tidy,
)
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.misplaced import no_file
from historical_etl.store.verified_files import still_proven

__all__ = ["check_out", "is_known", "quarantine_obstacles"]

_SECOND: Final = 10**9
_log = logging.getLogger(__name__)


def check_out(
    manager: ManifestManager, manifest: SyncManifest, *, proven: Collection[int] = (), relink: bool = False
) -> None:
    """Let `daily/` show a version, and nothing else; a file that no commit put there goes to quarantine.

    Where `daily` is somebody else's link, what it leads to is theirs: only files of a year of the version are replaced.

    Args:
        manager: of the store.
        manifest: the version.
        proven: the years whose objects are known to be sound; another one that is damaged is never linked, so that a
            good copy of it in `daily/` stays.
        relink: whether copies of objects are replaced by links to them.
    """
    layout = manager.layout
    quarantine_obstacles(manager)
    if layout.daily.is_symlink() and not is_replaceable(layout) and not layout.daily.is_dir():
        _log.warning("%s is somebody's link that leads nowhere: it shows no version %d", layout.daily, manifest.version)
        return
    sources: dict[Path, Path] = {}
    wrong: list[Path] = []
    for partition in manifest.partitions:
        path, wanted = layout.daily_file(partition.year), layout.resolve(partition.path)
        same = _is_same(path, wanted, links_only=relink)
        source = wanted if same else _source(layout, partition, proven)
        if source is not None:
            sources[path] = source
        if not same and source != path and (source or no_file(path)):
            wrong.append(path)
    years = {layout.daily_file(partition.year) for partition in manifest.partitions}
    spare = [path for path in entries_of(layout.daily, YEARS) if path not in years]
    if not is_replaceable(layout):
        spare = [path for path in spare if is_known(path, layout)]
    if wrong or spare:
        _quarantine_foreign_files(manager, wrong, spare, manifest.version)
        with still_proven(sources.values()):
            if not _swap(layout, manifest.version, sources):
                _replace_each(layout, sources, spare, links_only=relink)
    with still_proven(sources.values()):
        tidy(layout)


def quarantine_obstacles(manager: ManifestManager) -> list[tuple[Path, str, Path]]:
    """Quarantine what lies in the place of `daily` or of its folders; returns each with its fault and its entry."""
    moved: list[tuple[Path, str, Path]] = []
    for path, fault in obstacles(manager.layout):
        quarantined = manager.quarantine_data(path, f"{fault}, in the place of a folder of the store")
        _log.warning("%s is no folder of the store: %s. It is now in %s", path, fault, quarantined)
        moved.append((path, fault, quarantined))
    return moved


def _source(layout: Layout, partition: Partition, proven: Collection[int]) -> Path | None:
    """The file that shows a year: its object, or where that is damaged the copy that is shown, or another intact one.

    A kill may have left the only one in a folder that is not shown. The damage is reported by `verify`, and by the next
    write of the year.
    """
    path, wanted = layout.daily_file(partition.year), layout.resolve(partition.path)
    if wanted.is_file() and (partition.year in proven or sha256_of(wanted) == partition.checksum):
        return wanted
    if path.is_file():
        return path
    found = (copy for copy in copies(layout, partition.year) if copy.is_file())
    return next((copy for copy in found if sha256_of(copy) == partition.checksum), None)


def is_known(target: Path, layout: Layout) -> bool:
    """Whether a file in daily/ is an object, linked or copied, of whatever version."""
    candidates = [path for path in entries_of(layout.objects, f"{target.stem}-*.parquet") if path.is_file()]
    if not candidates or no_file(target):
        return False
    return (
        any(target.samefile(path) for path in candidates)
        or layout.object_file(int(target.stem), sha256_of(target)) in candidates
    )


def _quarantine_foreign_files(
    manager: ManifestManager, wrong: Collection[Path], spare: Collection[Path], version: int
) -> None:
    for path in (*wrong, *spare):
        if not os.path.lexists(path) or is_known(path, manager.layout):
            continue
        if path in spare:
            quarantined = manager.quarantine_data(path, f"version {version}, the current one, has no such year")
            _log.warning("%s belongs to no year of version %d; it is now in %s", path, version, quarantined)
        else:
            quarantined = manager.quarantine_data(path, "a file in daily/ that no commit put there")
            _log.warning("%s was replaced from outside; it is now in %s", path, quarantined)


def _swap(layout: Layout, version: int, sources: Mapping[Path, Path]) -> bool:
    """Show all years at once; False, with nothing changed, where that is impossible."""
    if not is_replaceable(layout):
        return False
    folder = new_folder(layout, version, sources.values())
    try:
        for path, source in sources.items():
            os.link(source, folder / path.name)
        put_in_place(layout, folder)
    except OSError as error:
        if shown_folder(layout) == folder:  # what failed is the sync after it
            raise
        remove(folder)
        if error.errno in IMPOSSIBLE:
            return False
        raise
    return True


def _replace_each(layout: Layout, sources: Mapping[Path, Path], spare: Collection[Path], *, links_only: bool) -> None:
    """Show the years in the folder that is there, one after the other."""
    make_folder(layout.daily)
    for path, source in sources.items():
        if path != source and not _is_same(path, source, links_only=links_only):
            _link(source, path)
    for path in spare:
        path.unlink(missing_ok=True)
    fsync_folder(layout.daily)


def _link(source: Path, target: Path) -> None:
    temp = temp_name(target)
    try:
        try:
            os.link(source, temp)
        except OSError:
            # No hard links here (some network and FAT mounts), or too many: a copy serves readers as well.
            if _is_same(target, source, links_only=False):
                return
            with source.open("rb") as original, temp.open("xb") as copy:
                shutil.copyfileobj(original, copy, 1 << 20)
                copy.flush()  # before the times are set: by them it is known as a copy, and not made again
                shutil.copystat(source, temp)
                sync_stream(copy)
        temp.replace(target)
    finally:
        temp.unlink(missing_ok=True)


def _is_same(target: Path, wanted: Path, *, links_only: bool) -> bool:
    """Whether `target` is linked to `wanted`, or is a copy of it as `_link` or a backup tool makes them."""
    try:
        there, should = target.stat(), wanted.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return False
        raise
    if not stat.S_ISREG(there.st_mode):
        return False
    if (there.st_dev, there.st_ino) == (should.st_dev, should.st_ino):
        return True
    if links_only or (there.st_size, there.st_mtime_ns) != (should.st_size, should.st_mtime_ns):
        return False
    # Where times are kept to the second (FAT, exFAT), two versions of a year may have the same.
    return bool(there.st_mtime_ns % _SECOND) or sha256_of(target) == sha256_of(wanted)
