"""The manifest: which files are the dataset. Replacing its one file is the commit.

Owns `manifests/`: the current manifest, its history, and the lock. Knows nothing of what is in a partition.
"""

import errno
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from historical_etl.clock import Clock, system_clock, with_zone
from historical_etl.durable import fsync_folder, storage_errors, write_atomic
from historical_etl.errors import LockNotHeldError, ManifestCorruptError, ManifestTooNewError
from historical_etl.folders import entries_of
from historical_etl.fork_guard import refuse_lost_threads
from historical_etl.models import DATASET_ID, SyncManifest
from historical_etl.store import lock
from historical_etl.store.commit_times import stamp_after
from historical_etl.store.committed_versions import last_committed
from historical_etl.store.layout import Layout
from historical_etl.store.lock import LockToken
from historical_etl.store.manifest_file import read_manifest, render_manifest
from historical_etl.store.misplaced import no_file, no_folder
from historical_etl.store.newer_release import refuse_unknown_fields
from historical_etl.store.quarantine import Quarantine
from historical_etl.store.volume import DiskProbe, DiskStatus, check_disk_space, system_disk_usage

__all__ = ["ManifestManager"]

_log = logging.getLogger(__name__)
#: What is said of a file below a file, or below links in a circle.
_NO_FOLDER = {errno.ENOTDIR, errno.ELOOP}
_LOST: Final = "restore `manifests/` from a backup; where nothing was stored yet, `historical-etl repair` clears it"


class ManifestManager:
    """Manifests, their lock and history, disk space and quarantine of one store.

    Args:
        root: the data folder, or a `Layout`.
        clock: the time for holder records and quarantine names.
        disk_usage: asks how full a volume is; injected by tests.

    Safe to share between threads and to make anew in each process: all state is on disk but for the tokens
    this object has given out, and what it has read of manifests that never change.
    """

    def __init__(
        self,
        root: str | Path | Layout = "data",
        *,
        clock: Clock = system_clock,
        disk_usage: DiskProbe = system_disk_usage,
    ) -> None:
        self.layout = root if isinstance(root, Layout) else Layout(root)
        self.clock = with_zone(clock)
        self.quarantine = Quarantine(self.layout, self.clock)
        self._disk_usage = disk_usage
        self._held: dict[str, LockToken] = {}
        self._read: dict[Path, tuple[tuple[int, int, int], SyncManifest]] = {}

    @contextmanager
    def acquire_lock(
        self, dataset: str = DATASET_ID, writer_id: str = "historical_etl", timeout_seconds: float = 30
    ) -> Generator[LockToken]:
        """Hold the writer lock of `dataset` for the block; yields the fencing token that saving asks for.

        Raises:
            LockTimeoutError: another writer kept it; the message names it.
            ManifestTooNewError: a record of the store holds what this release does not know, and would drop.
            StorageError: the lock file cannot be written.
            ConfigurationError: this process was forked from one in which Polars had threads.
        """
        refuse_lost_threads()
        committed = partial(self._last_committed, dataset)
        path = self.layout.lock_file(dataset)
        with lock.acquire(path, dataset, writer_id, timeout_seconds, self.clock, committed) as token:
            self._held[dataset] = token
            try:
                refuse_unknown_fields(self.layout, dataset)
                if not token.settled:
                    self._sync_folders()
                yield token
            finally:
                del self._held[dataset]

    def _sync_folders(self) -> None:
        """Sync to disk what a writer that was killed, or failed, may have written and not synced.

        Else a power cut could take away a version that the next one is built on.
        """
        with storage_errors("making durable what the last writer left", self.layout.root):
            for folder in self.layout.found_folders():
                with suppress(FileNotFoundError, PermissionError):  # one above the store may not be ours to read
                    if not no_folder(folder):
                        fsync_folder(folder)

    def check_token(self, token: LockToken, dataset: str = DATASET_ID) -> None:
        """Raise `LockNotHeldError` unless `token` is the one that holds `dataset` now."""
        holder = lock.current_holder(self.layout.lock_file(dataset))
        if self._held.get(dataset) != token or holder is None or holder.token != token.number:
            raise LockNotHeldError(
                f"Token {token} does not hold the lock of {dataset!r}",
                where=self.layout.lock_file(dataset),
                todo="write inside `with manager.acquire_lock(dataset, writer_id) as token:`, with that token",
            )

    def save_manifest(self, manifest: SyncManifest, token: LockToken) -> SyncManifest:
        """Make `manifest` the current one, as the next version: this is the commit.

        Returns the manifest as saved, with `version` and `previous_checksum` filled in, and a `sync_timestamp` that is
        later than that of every version before it. A number that was ever committed is not used again.

        Raises:
            LockNotHeldError: `token` does not hold the lock of the manifest's dataset.
            ManifestCorruptError: a listed file is missing or empty; nothing was changed.
            StorageError: the folder cannot be written; the old manifest is current.
        """
        dataset = manifest.dataset
        self.check_token(token, dataset)
        paths = [self.layout.resolve(recorded) for recorded in manifest.named_paths()]
        for path in paths:
            if not path.is_file() or path.stat().st_size == 0:
                raise ManifestCorruptError(
                    "The manifest lists a file that is missing or empty; it was not saved",
                    where=path,
                    todo="run `historical-etl repair`, or write the file before the manifest that names it",
                )
        with storage_errors("making the new files durable", self.layout.storage):
            for folder in sorted({path.parent for path in paths}):
                fsync_folder(folder)
        current = self.restore_manifest(token, dataset)
        at = stamp_after(self.newest_stamp(dataset, current), manifest.sync_timestamp)
        said = manifest.clock_timestamp or manifest.sync_timestamp
        saved = manifest.model_copy(
            update={
                "version": self.next_version(current, token),
                "previous_checksum": current.checksum if current else None,
                "sync_timestamp": at,
                "clock_timestamp": None if said == at else said,
            }
        )
        content = render_manifest(saved)
        with storage_errors("saving the manifest", self.layout.manifests):
            write_atomic(self.layout.history_file(saved.version, dataset), content)
        # The commit itself. If the folder cannot be synced after the rename, the new version may still be current.
        state = "`historical-etl status` shows the current version"
        with storage_errors("replacing the current manifest", self.layout.manifest_file(dataset), state):
            write_atomic(self.layout.manifest_file(dataset), content)
        return saved

    def next_version(self, current: SyncManifest | None, token: LockToken) -> int:
        """The number of the version that is saved after `current`."""
        return max(current.version if current else 0, token.committed) + 1

    def load_manifest(self, dataset: str = DATASET_ID) -> SyncManifest | None:
        """The current manifest, or None if nothing was ever committed. Takes no lock and changes nothing.

        A current manifest that is missing, does not parse or fails its own checksum is passed over for the
        newest good one in the history; `recover` then puts that in its place.

        Raises:
            ManifestCorruptError: there is one, but neither it nor any in the history can be used.
            ManifestTooNewError: it was written by a newer release.
        """
        path = self.layout.manifest_file(dataset)
        try:
            return read_manifest(path)
        except FileNotFoundError:
            return self._newest_in_history(dataset)
        except ManifestTooNewError:
            raise
        except ManifestCorruptError as error:
            _log.warning("%s Using the newest good version instead", error)
            fallback = self._newest_in_history(dataset)
            if fallback is None:
                raise ManifestCorruptError(error.what, where=error.where, todo=_LOST) from error
            return fallback
        except OSError as error:
            root = self.layout.root
            if error.errno in _NO_FOLDER and os.path.lexists(root) and not root.is_dir():
                return None
            with storage_errors("reading the manifest", path):
                raise

    def load_version(self, version: int, dataset: str = DATASET_ID) -> SyncManifest:
        """The manifest of a version that is kept.

        Raises:
            ManifestCorruptError: the version is not kept, or its manifest is damaged.
            StorageError: it cannot be read.
        """
        path = self.layout.history_file(version, dataset)
        try:
            return self._parsed(path)
        except FileNotFoundError:
            available = self.list_versions(dataset)
            raise ManifestCorruptError(
                f"Version {version} is not kept",
                where=path,
                todo=f"use one of {available}"
                if available
                else "nothing was committed yet; run `historical-etl backfill`",
            ) from None
        except OSError:
            with storage_errors("reading a version", path, "nothing was changed"):
                raise

    def list_versions(self, dataset: str = DATASET_ID) -> list[int]:
        """The versions that are kept, ascending."""
        folder = self.layout.history_folder(dataset)
        with storage_errors("listing the versions", folder, "nothing was changed"):
            names = [path.stem for path in entries_of(folder, "*.json")]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def newest_stamp(self, dataset: str = DATASET_ID, current: SyncManifest | None = None) -> datetime | None:
        """The latest stamp of the versions that are kept and can be read; None if there is none.

        Args:
            dataset: whose.
            current: the current version, where it is known.
        """
        found: list[datetime] = []
        with suppress(ManifestCorruptError):
            known = current or self.load_manifest(dataset)
            found += [known.sync_timestamp] if known else []
        for version in self.list_versions(dataset):
            if (manifest := self._good(self.layout.history_file(version, dataset), self._parsed)) is not None:
                found.append(manifest.sync_timestamp)
        return max(found, default=None)

    def is_astray(self, dataset: str = DATASET_ID) -> bool:
        """Whether there is a current manifest that cannot be used, or is older than what was committed."""
        path = self.layout.manifest_file(dataset)
        if not os.path.lexists(path) or not (current := self._good(path)):
            return os.path.lexists(path)
        return self.committed_after(current, dataset) > current.version

    def committed_after(self, current: SyncManifest, dataset: str = DATASET_ID) -> int:
        """The newest version in the history that was certainly committed, if it is newer than `current`; else its own.

        Then an older file lies in the place of the current manifest.
        """
        history = self.list_versions(dataset)
        if not any(version > current.version for version in history):
            return current.version
        last = last_committed(self.layout, current.version, history, dataset)
        return max(version for version in (current.version, *history) if version <= last)

    def restore_manifest(self, token: LockToken, dataset: str = DATASET_ID) -> SyncManifest | None:
        """Make the current manifest good again and drop what a crashed commit left in the history.

        A bad current manifest goes to quarantine and the newest good version takes its place; likewise one that is
        older than what was committed. Returns the manifest that is now current, None for a store without data.

        Raises:
            ManifestCorruptError: no manifest is good, and there is data that it must have named.
            ManifestTooNewError: it was written by a newer release.
        """
        self.check_token(token, dataset)
        path = self.layout.manifest_file(dataset)
        try:
            current = self.load_manifest(dataset)
        except ManifestTooNewError:
            raise
        except ManifestCorruptError:
            with storage_errors("looking for data", self.layout.objects, "nothing was changed"):
                has_data = bool(entries_of(self.layout.objects, "*.parquet"))
            if has_data:
                raise
            self.quarantine.keep_file(path, "the manifest was damaged, and there was no data yet", dataset)
            current = None
        if current is None:
            return None
        with storage_errors("restoring the manifest", path):
            fault = "" if self._good(path) else "the current manifest was unreadable or damaged"
            last = current.version if fault else self.committed_after(current, dataset)
            committed = bool(fault) or last > current.version
            newest = self._newest_in_history(dataset, up_to=last) if last > current.version else None
            if newest is not None and newest.version > current.version:
                fault = f"it was version {current.version}, though {last} was committed: an older file in its place"
                current = newest
            if fault:
                if os.path.lexists(path):
                    self.quarantine.keep_file(path, fault, dataset)
                write_atomic(path, render_manifest(current))
                _log.warning("Manifest of %s restored from version %d", dataset, current.version)
            self._drop_newer(current, dataset, committed=committed)
            copy = self.layout.history_file(current.version, dataset)
            if not self._good(copy):
                if no_file(copy):
                    self.quarantine.keep_file(copy, "in the place of a manifest", dataset)
                write_atomic(copy, render_manifest(current))
        return current

    def _drop_newer(self, current: SyncManifest, dataset: str, *, committed: bool) -> None:
        """Clear the history of versions after `current`: evidence is kept of those that may have been committed."""
        leftovers = [version for version in self.list_versions(dataset) if version > current.version]
        for version in leftovers:
            path = self.layout.history_file(version, dataset)
            if committed or no_file(path):
                self.quarantine.keep_file(path, f"version {version} is damaged, lacks files, or may not count", dataset)
            else:
                path.unlink()
        if leftovers:
            fsync_folder(self.layout.history_folder(dataset))

    def check_disk_space(self, required_bytes: int, path: Path | None = None) -> DiskStatus:
        """See `store.volume.free_space.check_disk_space`; `path` defaults to the folder that holds the data."""
        return check_disk_space(required_bytes, path or self.layout.storage, self._disk_usage)

    def quarantine_data(self, source_path: str | Path, reason: str, dataset: str = DATASET_ID) -> Path:
        """Move a file to quarantine; returns the folder that holds it and its `reason.json`."""
        return self.quarantine.keep_file(Path(source_path), reason, dataset)

    def _parsed(self, path: Path) -> SyncManifest:
        """A manifest of the history. They never change, so one that was read is remembered as long as its file is."""
        try:
            state = path.stat()
        except OSError:
            return read_manifest(path)
        key = (state.st_ino, state.st_size, state.st_mtime_ns)
        read = self._read.get(path)
        if read is None or read[0] != key:
            read = key, read_manifest(path)
            self._read = {cached: other for cached, other in self._read.items() if cached.exists()} | {path: read}
        return read[1]

    def _good(self, path: Path, read: Callable[[Path], SyncManifest] = read_manifest) -> SyncManifest | None:
        """A manifest, None where it is missing or damaged. Else an unreadable one raises."""
        try:
            return read(path)
        except (FileNotFoundError, NotADirectoryError, ManifestCorruptError):
            return None
        except OSError:
            with storage_errors("reading a manifest", path, "nothing was changed"):
                raise

    def _last_committed(self, dataset: str) -> int:
        """The highest version that was certainly committed, or may have been where the current manifest is damaged."""
        path, history = self.layout.manifest_file(dataset), self.list_versions(dataset)
        known = max(history, default=0) if os.path.lexists(path) else 0
        current = self._good(path)
        return last_committed(self.layout, current.version if current else known, history, dataset)

    def _newest_in_history(self, dataset: str, *, up_to: int | None = None) -> SyncManifest | None:
        for version in reversed(self.list_versions(dataset)):
            if up_to is not None and version > up_to:
                continue
            path = self.layout.history_file(version, dataset)
            try:
                manifest = read_manifest(path)
            except ManifestTooNewError:
                raise
            except (FileNotFoundError, ManifestCorruptError):
                continue
            except OSError:  # it may be the newest version, and is not damaged for all that is known
                with storage_errors("reading a version", path, "nothing was changed"):
                    raise
            if all(self.layout.resolve(recorded).is_file() for recorded in manifest.named_paths()):
                return manifest
        return None
