"""What lies in quarantine: telling of entries, putting a file back, and purging, which is the only thing that deletes.

Records and names are read with suspicion, since people put files into this folder too: what is damaged or foreign is
listed as such, and no record leads out of the root.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from historical_etl.durable import fsync_folder, place_new, sha256_of, storage_errors, sync_stream, temporary_beside
from historical_etl.errors import ChecksumMismatchError, ConfigurationError
from historical_etl.models import Sha256, UtcDatetime
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import read_checksummed, reason_of
from historical_etl.store.layout import Layout

__all__ = ["QuarantineEntry", "find_entry", "older_than", "purge_entries", "read_entries", "restore_entry"]

_STAMP: Final = re.compile(r"(\d{8}T\d{6}\.\d{6})Z(?:-\d+)?_")
_RECORD: Final = "reason.json"
_CHUNK: Final = 1 << 20


class _Record(BaseModel):
    """What `Quarantine` writes; all else in it are facts."""

    model_config = ConfigDict(frozen=True, extra="allow")

    dataset: str
    file: str | None
    reason: str
    sha256: Sha256 | None
    size_bytes: NonNegativeInt | None = None
    quarantined_at: UtcDatetime
    moved_from: str | None = None


@dataclass(frozen=True)
class QuarantineEntry:
    """One entry of the quarantine.

    Attributes:
        name: of the entry; it begins with the moment.
        path: the entry itself.
        file: the name of what is kept in it; None for a mere note, or where that is not known.
        reason: why it is here.
        when: the moment, UTC; None if it is not known.
        size: bytes of all that lies in it.
        sha256: of the file when it was quarantined.
        size_bytes: likewise; None where that is not recorded.
        moved_from: where it was, relative to the root; None for copies, rows and notes.
        facts: what else was noted, by name.
        fault: what is wrong with the entry; empty if nothing is.
    """

    name: str
    path: Path
    file: str | None = None
    reason: str = ""
    when: datetime | None = None
    size: int = 0
    sha256: str | None = None
    size_bytes: int | None = None
    moved_from: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    fault: str = ""

    @property
    def content(self) -> Path | None:
        """The file that is kept, None for a note."""
        return self.path / self.file if self.file is not None else None

    def is_intact(self) -> bool:
        """Whether the file that is kept is still what was quarantined; reads all of it, if it has its size.

        Raises:
            StorageError: it cannot be read.
        """
        if self.fault or self.content is None:
            return not self.fault
        with storage_errors("reading a quarantined file", self.content, "nothing was changed"):
            return _has_size(self.content, self.size_bytes) and sha256_of(self.content) == self.sha256


def read_entries(layout: Layout) -> list[QuarantineEntry]:
    """Everything in the quarantine folder, oldest first; what is damaged or foreign has its `fault`.

    Raises:
        StorageError: the folder cannot be read.
    """
    with storage_errors("reading the quarantine", layout.quarantine, "nothing was changed"):
        if not layout.quarantine.is_dir():
            return []
        # Temp names are writes under way, or what a crash left of them.
        return [_read(path) for path in sorted(layout.quarantine.iterdir()) if not path.name.startswith(".")]


def find_entry(layout: Layout, name: str) -> QuarantineEntry:
    """The entry of that name, or the only one whose name begins so.

    Raises:
        ConfigurationError: there is none, or more than one.
        StorageError: as `read_entries`.
    """
    entries = read_entries(layout)
    exact = [entry for entry in entries if entry.name == name]
    found = exact or [entry for entry in entries if name and entry.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    some = ", ".join(entry.name for entry in (found or entries)[:5])
    raise ConfigurationError(
        f"{len(found) or 'No'} quarantined entries are called {name!r}",
        where=layout.quarantine,
        todo=f"name one of those that `quarantine list` shows, such as {some}" if some else "nothing is in quarantine",
    )


def restore_entry(entry: QuarantineEntry, layout: Layout, to: Path | None = None) -> Path:
    """Copy a quarantined file to where it was, or to `to`; returns where that is. The entry stays.

    Hold the writer lock if that lies in the store.

    Raises:
        ConfigurationError: there is no file in the entry, something lies there already, or it is not known where the
            file was.
        ChecksumMismatchError: the file is not the one that was quarantined; nothing was put back.
        StorageError: the file system refused.
    """
    source = entry.content
    if entry.fault or source is None:
        raise ConfigurationError(
            f"Nothing can be restored from {entry.name}: {entry.fault or 'it is a note, and no file was kept'}",
            where=entry.path,
            todo="copy what you need by hand" if entry.fault else "read its reason with `quarantine show`",
        )
    target = _origin(entry, layout) if to is None else to.expanduser().absolute()
    if os.path.lexists(target):
        raise ConfigurationError(
            "There is something in the place of the file already; it was left alone",
            where=target,
            todo="give another place with --to, or move away what is there",
        )
    with storage_errors("restoring a file from quarantine", target, "nothing was restored"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as original, temporary_beside(target) as (temp, stream):
            digest, is_as_large = sha256(), _has_size(source, entry.size_bytes)
            while is_as_large and (chunk := original.read(_CHUNK)):
                digest.update(chunk)
                stream.write(chunk)
            if not is_as_large or digest.hexdigest() != entry.sha256:
                raise ChecksumMismatchError(
                    f"The file in {entry.name} is not the one that was quarantined; nothing was restored",
                    where=source,
                    todo=f"look at it there; its SHA-256 was {entry.sha256}",
                )
            sync_stream(stream)
            temp.chmod(stat.S_IMODE(source.stat().st_mode))
            place_new(temp, target)
    return target


def older_than(entries: Iterable[QuarantineEntry], days: float, now: datetime) -> list[QuarantineEntry]:
    """The entries that were made more than `days` days before `now`; not those whose time nobody knows."""
    horizon = now - timedelta(days=days)
    return [entry for entry in entries if entry.when is not None and entry.when < horizon]


def purge_entries(entries: Iterable[QuarantineEntry]) -> None:
    """Delete entries, for good. A link in the folder is removed, never what it leads to.

    Raises:
        StorageError: the file system refused; entries before that one are gone.
    """
    for entry in entries:
        with storage_errors("purging the quarantine", entry.path, "entries before this one are gone"):
            if entry.path.is_dir() and not entry.path.is_symlink():
                shutil.rmtree(entry.path)
            else:
                entry.path.unlink(missing_ok=True)
            fsync_folder(entry.path.parent)


def _read(path: Path) -> QuarantineEntry:
    stamp = _moment(path.name)
    if path.is_symlink() or not path.is_dir():
        size = path.lstat().st_size
        return QuarantineEntry(path.name, path, when=stamp, size=size, fault="foreign: not a folder with a record")
    size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    plain = QuarantineEntry(path.name, path, when=stamp, size=size)
    try:
        record = _Record.model_validate(read_checksummed(read_regular(path / _RECORD), None))
    except FileNotFoundError:
        kind = "damaged" if stamp else "foreign"
        return _faulty(plain, f"{kind}: it has no {_RECORD}, so it is not known why it is here")
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else reason_of(error)
        return _faulty(plain, f"damaged: its {_RECORD} cannot be read ({reason})")
    return QuarantineEntry(
        path.name,
        path,
        file=record.file,
        reason=record.reason,
        when=record.quarantined_at,
        size=size,
        sha256=record.sha256,
        size_bytes=record.size_bytes,
        moved_from=record.moved_from,
        facts={"dataset": record.dataset, **(record.model_extra or {})},
        fault=_fault_of(path, record),
    )


def _faulty(entry: QuarantineEntry, fault: str) -> QuarantineEntry:
    return QuarantineEntry(entry.name, entry.path, when=entry.when, size=entry.size, fault=fault)


def _fault_of(path: Path, record: _Record) -> str:
    if record.file is None:
        return ""
    if record.file in ("", ".", "..") or "/" in record.file or "\0" in record.file:
        return f"damaged: its record names a file outside of it, {record.file!r}"
    stored_file = path / record.file
    if stored_file.is_symlink() or not stored_file.is_file():
        return f"damaged: the file {record.file!r} is missing"
    return ""


def _has_size(content: Path, size: int | None) -> bool:
    """Whether the bytes of a file are worth a look: one with a hole may have more than anybody waits for."""
    return size is None or content.stat().st_size == size


def _moment(name: str) -> datetime | None:
    match = _STAMP.match(name)
    try:
        return datetime.strptime(match.group(1), "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def _origin(entry: QuarantineEntry, layout: Layout) -> Path:
    origin = PurePosixPath(entry.moved_from or "")
    if origin.parts and not origin.is_absolute() and ".." not in origin.parts and "\0" not in str(origin):
        return layout.root / origin
    raise ConfigurationError(
        f"It is not known where the file of {entry.name} was",
        where=entry.path,
        todo="say where it shall go with --to FILE",
    )
