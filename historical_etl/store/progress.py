"""Progress: cursors and resume. It may lag behind the data and is rebuilt from it; it never runs ahead.

Owns `sync_progress/`. It is apart from the manifest on purpose: losing it costs time, never data.
"""

import logging
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from historical_etl.clock import Clock
from historical_etl.durable import replace_file, storage_errors, temp_name, write_atomic
from historical_etl.errors import ETLProgressError, StorageError
from historical_etl.models import DATASET_ID, ETLProgressManifest
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import reason_of, render_checksummed
from historical_etl.store.commit_times import stamp_after
from historical_etl.store.failed_runs import read_notes
from historical_etl.store.layout import Layout
from historical_etl.store.misplaced import no_file
from historical_etl.store.newer_release import fields_of

__all__ = ["forget_progress", "load_progress", "parse_progress", "save_progress"]

_log = logging.getLogger(__name__)


def load_progress(layout: Layout, clock: Clock, dataset: str = DATASET_ID) -> ETLProgressManifest | None:
    """The saved progress; None means a fresh start, to be rebuilt from the data.

    A file that cannot be parsed is moved aside as `.corrupted.<time>`, with a warning.

    Raises:
        ETLProgressError: it exists but cannot be read, or not be moved aside.
    """
    path = layout.progress_file(dataset)
    try:
        content = read_regular(path)
    except OSError as error:
        if not (fault := no_file(path)) and isinstance(error, FileNotFoundError):
            return None
        if not fault:
            raise ETLProgressError(
                f"Progress cannot be read: {error.strerror}", where=path, todo="check this folder and its permissions"
            ) from error
        _move_aside(path, fault, clock)
        return None
    try:
        return parse_progress(content)
    except ValueError as error:
        _move_aside(path, reason_of(error), clock)
        return None


def parse_progress(content: bytes) -> ETLProgressManifest:
    """Read the bytes of a progress file.

    Raises:
        ValueError: they are not what was saved.
    """
    return ETLProgressManifest.model_validate(fields_of(content, "progress"))


def forget_progress(layout: Layout, dataset: str = DATASET_ID) -> None:
    """Set the progress aside as `.backup`, durably, before the data goes back to where it does not fit.

    Raises:
        StorageError: it could not be moved; nothing was changed.
    """
    path = layout.progress_file(dataset)
    if fault := no_file(path):
        raise StorageError(
            f"Progress cannot be moved to another name: {fault}; nothing was changed",
            where=path,
            todo="run `historical-etl repair`: it moves that to quarantine",
        )
    with storage_errors("setting progress aside", path):
        if path.exists():
            replace_file(path, _backup(path))


def save_progress(layout: Layout, progress: ETLProgressManifest, *, fetched: bool = True) -> None:
    """Replace the progress file durably; the previous one stays beside it as `.backup`.

    Args:
        layout: of the store.
        progress: what to save.
        fetched: a run that asked the source went through. It is then later than the note of every run that failed: by a
            clock that went back, none would have gone through since. Else it is as old as the last such run: what asks
            no source ends no failure.

    Raises:
        ETLProgressError: the folder cannot be written. The data it would have described is committed.
    """
    path = layout.progress_file(progress.dataset)
    failed = [note.finished for note in read_notes(layout)]
    if fetched:
        at = stamp_after(max(failed, default=None), progress.last_updated)
    else:
        at = _last_fetched(path) or min([progress.last_updated, *(end - timedelta.resolution for end in failed)])
    progress = progress.model_copy(update={"last_updated": at})
    try:
        with storage_errors("saving progress", path, "the data is committed"):
            if path.exists():
                backup = temp_name(path)
                shutil.copyfile(path, backup)  # not synced: it is a convenience, and the data knows it all
                backup.replace(_backup(path))
            write_atomic(path, render_checksummed(progress))
    except StorageError as error:
        raise ETLProgressError(
            f"Progress could not be saved: {error.what}, and cursors will be rebuilt from it",
            where=path,
            todo=error.todo,
        ) from error


def _backup(path: Path) -> Path:
    return path.with_name(path.name + ".backup")


def _last_fetched(path: Path) -> datetime | None:
    """The time in the progress file, or in the one before it; None if neither tells."""
    for saved in (path, _backup(path)):
        with suppress(OSError, ValueError):
            return parse_progress(read_regular(saved)).last_updated
    return None


def _move_aside(path: Path, fault: str, clock: Clock) -> None:
    moved_to = path.with_name(f"{path.name}.corrupted.{clock().astimezone(UTC):%Y%m%dT%H%M%S.%fZ}")
    try:
        path.replace(moved_to)
    except OSError as refusal:
        raise ETLProgressError(
            f"Progress is damaged and cannot be moved aside: {refusal.strerror}",
            where=path,
            todo="check the permissions of this folder, or delete the file: it is rebuilt from the data",
        ) from refusal
    _log.warning("Progress was damaged (%s) and moved to %s; cursors are rebuilt from the data", fault, moved_to)
