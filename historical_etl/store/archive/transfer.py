"""Backup and move: one version out of a store as a whole store of its own, and into an empty one.

What leaves and what comes is proven file by file against the manifest, whose bytes stay as they are: the version keeps
its number and its checksum. What is written appears whole or not at all.
"""

import os
import shutil
import stat
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl

from historical_etl.durable import (
    fsync_folder,
    place_new,
    storage_errors,
    sync_stream,
    temp_name,
    temporary_beside,
    write_atomic,
)
from historical_etl.errors import ConfigurationError, DataQualityError
from historical_etl.models import DATASET_ID, SyncManifest
from historical_etl.store.archive.read import (
    Archive,
    archived_files,
    daily_name,
    manifest_bytes,
    manifest_names,
    opened_archive,
)
from historical_etl.store.layout import Layout
from historical_etl.store.lock import LockToken
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.recovery import recover
from historical_etl.store.verify import content_faults
from historical_etl.store.volume import check_disk_space

__all__ = ["export_version", "import_version"]

_TAR: Final = ".tar"
_BLOCK: Final = 1024
_READ_ONLY: Final = 0o444
_TODO: Final = "run `historical-etl verify`, which says how to repair it, or export another version with --version"
_UNCHANGED: Final = "nothing was imported"


def export_version(layout: Layout, manifest: SyncManifest, target: Path) -> Path:
    """Write one version as a store of its own, verified; returns where it is.

    Args:
        layout: of the store.
        manifest: the version.
        target: a folder that does not exist or is empty, or a file ending in `.tar` that does not exist.

    Raises:
        ConfigurationError: the target cannot be one.
        ChecksumMismatchError: a file of the version is damaged; nothing was exported.
        ManifestCorruptError: the manifest names files outside the store.
        DiskSpaceError, StorageError: the file system refused; what is at the target, if anything, is whole.
    """
    target = _target(target, layout)
    files = archived_files(manifest, layout, layout.root)
    content = manifest_bytes(layout, manifest)
    version = Archive(layout.root, content, manifest, files, lambda name: layout.resolve(name).open("rb"), _TODO)
    check_disk_space(sum(file.size + _BLOCK for file in files) + 2 * len(version.content), target.parent)
    with storage_errors("exporting a version", target, "what is at the target, if anything, is whole"):
        if target.suffix == _TAR:
            with temporary_beside(target) as (temp, stream):
                _write_tar(version, layout, stream)
                sync_stream(stream)
                _read_back(temp, version, layout)
                place_new(temp, target)
            return target
        temp = temp_name(target)
        try:
            _write_folder(version, _beside(layout, temp))
            _read_back(temp, version, layout)
            temp.rename(target)
            fsync_folder(target.parent)
        finally:
            shutil.rmtree(temp, ignore_errors=True)
    return target


def import_version(source: Path, manager: ManifestManager, token: LockToken) -> SyncManifest:
    """Take the version of an exported or any other store, folder or tar, into a store without data.

    The steps are those of a commit: objects and ledgers, durable and verified; the history; the current manifest, which
    makes it count; `daily/`. What an earlier life of the folder left as progress goes to quarantine. A version that
    is current already counts as imported: an import that was interrupted can be run again.

    Args:
        source: the folder, of which the current version is taken, or the tar.
        manager: of the store.
        token: from `manager.acquire_lock`.

    Raises:
        ConfigurationError: the store has data, or the source is not a store.
        ChecksumMismatchError, DataQualityError, ManifestCorruptError: the source is damaged; nothing was imported.
        DiskSpaceError, StorageError: the file system refused; nothing was imported.
    """
    layout = manager.layout
    manager.check_token(token)
    existing = recover(manager, token)
    with opened_archive(source, layout) as archive:
        if existing is not None:
            if existing == archive.manifest:
                return existing
            raise ConfigurationError(
                f"There is data in this store, version {existing.version}: an import needs an empty one",
                where=layout.root,
                todo="choose an empty folder with --data-dir; rows for a store that has data are taken in by "
                "`historical-etl adopt`",
            )
        manager.check_disk_space(sum(file.size + _BLOCK for file in archive.files) + 2 * len(archive.content))
        _take(archive, layout)
    manifest = archive.manifest
    with storage_errors("importing a version", layout.root, _UNCHANGED):
        progress = layout.progress_file()
        if progress.exists():
            manager.quarantine.keep_file(progress, "progress of a store that has no data any more", DATASET_ID)
        write_atomic(layout.history_file(manifest.version), archive.content)
    state = "`historical-etl status` shows the current version"
    with storage_errors("replacing the current manifest", layout.manifest_file(), state):
        write_atomic(layout.manifest_file(), archive.content)  # the commit
    recover(manager, token)
    return manifest


# ── out ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _target(target: Path, layout: Layout) -> Path:
    target = target.expanduser().absolute()
    if target.is_dir():
        target = target.resolve()
    problem = ""
    if target.resolve().is_relative_to(layout.root.resolve()):
        problem = "lies inside the data folder"
    elif not target.parent.is_dir():
        problem = "is in no folder"
    elif target.is_mount():
        problem = "is a volume of its own; name a new folder on it"
    elif target.is_dir() and (target.suffix == _TAR or any(target.iterdir())):
        problem = "is a folder" if target.suffix == _TAR else "is a folder that is not empty"
    elif os.path.lexists(target) and not target.is_dir():
        problem = "exists already, and nothing is overwritten"
    elif target.name.lower().endswith((".tar.gz", ".tgz", ".tar.zst", ".zip")):
        problem = "would be compressed; the data is so already"
    if problem:
        raise ConfigurationError(
            f"The target {problem}", where=target, todo="name a new folder, or a new file ending in .tar"
        )
    return target


def _beside(layout: Layout, root: Path) -> Layout:
    """The same layout under another root."""
    return Layout(root, storage_path=root / layout.relative(layout.storage))


def _write_folder(version: Archive, copy: Layout) -> None:
    copy.root.mkdir()
    made: set[Path] = {copy.root}
    for file in version.files:
        path = copy.resolve(file.name)
        _make(path.parent, made)
        _write(path, version.chunks(file), _READ_ONLY)
    for partition in version.manifest.partitions:
        link = copy.daily_file(partition.year)
        _make(link.parent, made)
        try:
            link.hardlink_to(copy.resolve(partition.path))
        except OSError:  # no hard links there
            shutil.copy2(copy.resolve(partition.path), link)
            with link.open("rb") as stream:
                os.fsync(stream.fileno())
    for path in (copy.history_file(version.manifest.version), copy.manifest_file()):
        _make(path.parent, made)
        _write(path, [version.content], 0o666)
    for folder in made:
        fsync_folder(folder)


def _make(folder: Path, made: set[Path]) -> None:
    if folder not in made:
        _make(folder.parent, made)
        folder.mkdir()
        made.add(folder)


def _write(path: Path, chunks: Iterable[bytes], mode: int) -> None:
    with path.open("xb") as stream:
        for chunk in chunks:
            stream.write(chunk)
        sync_stream(stream)
    path.chmod(stat.S_IMODE(path.stat().st_mode) & mode)


def _write_tar(version: Archive, layout: Layout, stream: BinaryIO) -> None:
    """The manifest first, by which a reader knows what to expect. The same version gives the same bytes."""
    at = int(version.manifest.sync_timestamp.timestamp())
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in manifest_names(layout, version.manifest.version):
            tar.addfile(_header(name, at, len(version.content), 0o644), BytesIO(version.content))
        for file in version.files:
            tar.addfile(_header(file.name, at, file.size, _READ_ONLY), _Chunked(version.chunks(file)))
        for partition in version.manifest.partitions:
            link = _header(daily_name(layout, partition.year), at, 0, _READ_ONLY)
            link.type, link.linkname = tarfile.LNKTYPE, partition.path
            tar.addfile(link)


def _header(name: str, at: int, size: int, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.mtime, header.size, header.mode = at, size, mode
    return header


def _read_back(path: Path, version: Archive, layout: Layout) -> None:
    """What was written is proven where it lies.

    Raises:
        ChecksumMismatchError: it is not what was to be written.
    """
    with opened_archive(path, layout) as written:
        written.prove()
        if written.content != version.content:
            raise DataQualityError(
                "The manifest that was read back is not the one that was written; nothing was exported",
                where=path,
                todo="check this volume (dmesg), then export again",
            )


# ── in ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _take(archive: Archive, layout: Layout) -> None:
    """Copy all files to their places and judge them there; after a failure none of them is left."""
    taken: list[Path] = []
    try:
        with storage_errors("importing a version", layout.storage, _UNCHANGED):
            for file in archive.files:
                path = layout.resolve(file.name)
                with temporary_beside(path) as (temp, stream):
                    for chunk in archive.chunks(file):
                        stream.write(chunk)
                    sync_stream(stream)
                    temp.chmod(stat.S_IMODE(temp.stat().st_mode) & _READ_ONLY)
                    temp.replace(path)
                    taken.append(path)
            for folder in {path.parent for path in taken}:
                fsync_folder(folder)
        _judge(archive, layout)
    except BaseException:
        for path in taken:
            path.unlink(missing_ok=True)
        raise


def _judge(archive: Archive, layout: Layout) -> None:
    """Refuse what has the right checksums and is no store all the same."""
    faults = [
        f"{partition.year}: {fault}"
        for partition in archive.manifest.partitions
        for fault in content_faults(layout.resolve(partition.path), partition)
    ]
    for name, files in archive.manifest.ledgers.items():
        for file in files:
            try:
                rows = pl.scan_parquet(layout.resolve(file.path), glob=False).select(pl.len()).collect().item()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
                rows = None
            if rows != file.rows:
                faults.append(f"ledger {name}: its rows are not what the manifest says")
    if faults:
        raise DataQualityError(
            f"{len(faults)} file(s) are not what their manifest says: {'; '.join(faults[:3])}. Nothing was imported",
            where=archive.path,
            todo="export it again from a store that `historical-etl verify` finds sound",
        )


class _Chunked:
    """Chunks as a file that can be read, for `tarfile`."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk, self._at = b"", 0

    def read(self, size: int = _BLOCK, /) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self._chunk) - self._at < size and (chunk := next(self._chunks, b"")):
            self._chunk, self._at = self._chunk[self._at :] + chunk, 0
        given = self._chunk[self._at : self._at + size]
        self._at += len(given)
        return given
