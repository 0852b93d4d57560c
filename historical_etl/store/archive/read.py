"""Where an archive is read from: the folder of a store, or a tar file, for which nobody vouches.

Of a tar, only the names are read that its manifest lets expect, and only plain files: links, devices, and headers that
change the meaning of others end the reading before any of them is followed.
"""

import re
import tarfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Self

from historical_etl.durable import storage_errors
from historical_etl.errors import ChecksumMismatchError, ConfigurationError, ManifestCorruptError
from historical_etl.models import DATASET_ID, SyncManifest
from historical_etl.regular_files import read_regular
from historical_etl.store.layout import Layout
from historical_etl.store.leases import leased
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.manifest_file import parse_manifest, render_manifest

__all__ = [
    "_CHUNK",
    "Archive",
    "ArchivedFile",
    "archived_files",
    "daily_name",
    "manifest_bytes",
    "manifest_names",
    "opened_archive",
]

_CHUNK: Final = 1 << 20
#: No manifest is as large; one that claims to be is not read into memory.
_MOST_MANIFEST: Final = 64 << 20
_MOST_VERSION: Final = 10**8 - 1
_LEDGER: Final = re.compile(r"[a-z_]{1,64}")
_FIRST_YEAR, _LAST_YEAR = 1000, 9999
_PLAIN: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE})


@dataclass(frozen=True)
class ArchivedFile:
    """A file of a version: its name relative to the root, what it must be, and what it is in words."""

    name: str
    checksum: str
    size: int
    what: str


@dataclass(frozen=True)
class Archive:
    """One version, open for reading.

    Attributes:
        path: of the folder or tar.
        content: the bytes of its manifest.
        manifest: what they say.
        files: what it consists of.
        todo: what to do where one of them is damaged.
    """

    path: Path
    content: bytes
    manifest: SyncManifest
    files: tuple[ArchivedFile, ...]
    _open: Callable[[str], BinaryIO]
    todo: str = "take another copy, or export it again from a store that `historical-etl verify` finds sound"

    def chunks(self, file: ArchivedFile) -> Iterator[bytes]:
        """The bytes of a file; the last of them come only once all are proven.

        Raises:
            ChecksumMismatchError: it is missing, cut off, or not what was committed.
        """
        digest, left, held = sha256(), file.size, b""
        try:
            with self._open(file.name) as stream:
                while left >= 0 and (chunk := stream.read(min(_CHUNK, left + 1))):
                    digest.update(chunk)
                    left -= len(chunk)
                    if held:
                        yield held
                    held = chunk
        except (FileNotFoundError, KeyError):
            raise self._damaged(file, "is missing") from None
        except tarfile.TarError:
            raise self._damaged(file, "is cut off") from None
        if left or digest.hexdigest() != file.checksum:
            raise self._damaged(file, "is not what was committed (SHA-256)")
        yield held

    def prove(self) -> None:
        """Read every byte.

        Raises:
            ChecksumMismatchError: as `chunks`.
        """
        for file in self.files:
            for _ in self.chunks(file):
                pass

    def _damaged(self, file: ArchivedFile, what: str) -> ChecksumMismatchError:
        return ChecksumMismatchError(
            f"{file.what} in version {self.manifest.version} {what}",
            where=self.path / file.name,
            todo=self.todo,
        )


@contextmanager
def opened_archive(path: Path, layout: Layout) -> Generator[Archive]:
    """Open the current version of a store's folder, or a tar file, to be read into or for the places of `layout`.

    Raises:
        ConfigurationError: it is neither, or holds what does not belong there.
        ChecksumMismatchError: the tar is damaged.
        ManifestCorruptError: its manifest is.
        StorageError: it cannot be read.
    """
    with storage_errors("reading the archive", path, "nothing was changed"):
        if path.is_dir():
            archive, theirs = _folder(path, layout), Layout(path)
            # A store that is written may vacuum a version; one that never was, such as an export, is left untouched.
            with leased(theirs, archive.manifest.version) if theirs.lock_file().exists() else nullcontext():
                yield archive
        elif path.is_file():
            with path.open("rb") as stream:
                yield _tar(path, stream, layout)
        else:
            raise ConfigurationError(
                "There is no such folder or file", where=path, todo="name what `historical-etl export` wrote"
            )


def archived_files(manifest: SyncManifest, layout: Layout, where: Path) -> tuple[ArchivedFile, ...]:
    """The files of a version; their names are the places that `layout` has for them, and nothing else.

    Raises:
        ManifestCorruptError: the manifest contradicts itself or names other places.
    """
    if fault := next(_faults(manifest, layout), ""):
        raise ManifestCorruptError(
            f"The manifest {fault}",
            where=where,
            todo="take what `historical-etl export` wrote; a store with another storage path needs the same one here",
        )
    years = [
        ArchivedFile(p.path, p.checksum, p.size_bytes, f"The file of the year {p.year}") for p in manifest.partitions
    ]
    ledgers = [
        ArchivedFile(file.path, file.checksum, file.size_bytes, f"A file of the ledger {name!r}")
        for name, files in sorted(manifest.ledgers.items())
        for file in files
    ]
    return (*years, *ledgers)


def manifest_names(layout: Layout, version: int) -> tuple[str, str]:
    """Where the current manifest and its copy in the history lie, relative to the root."""
    return layout.relative(layout.manifest_file()), layout.relative(layout.history_file(version))


def daily_name(layout: Layout, year: int) -> str:
    """Where the plain file of a year lies, relative to the root."""
    return layout.relative(layout.daily_file(year))


def manifest_bytes(layout: Layout, manifest: SyncManifest) -> bytes:
    """A version's manifest as it was written; rendered anew where its files are lost."""
    for path in (layout.history_file(manifest.version), layout.manifest_file()):
        try:
            content = read_regular(path)
            if parse_manifest(content, path) == manifest:
                return content
        except (OSError, ManifestCorruptError):
            continue
    return render_manifest(manifest)


def _faults(manifest: SyncManifest, layout: Layout) -> Iterator[str]:
    """What is wrong with a manifest, in words."""
    m = manifest
    if m.dataset != DATASET_ID or not 0 < m.version <= _MOST_VERSION:
        yield f"is not one of {DATASET_ID}"
        return
    if m.file_paths != tuple(p.path for p in m.partitions) or m.row_count != sum(p.rows for p in m.partitions):
        yield "names other files or rows than its partitions"
    sessions = [day for p in m.partitions for day in (p.first_session, p.last_session)]
    span = min(sessions, default=None), max(sessions, default=None)
    if span != (m.start_date, m.end_date):
        yield "has other dates than its partitions"
    for p in m.partitions:
        place = layout.relative(layout.object_file(p.year, p.checksum))
        if not _FIRST_YEAR <= p.year <= _LAST_YEAR or p.path != place:
            yield f"has the year {p.year} at {p.path!r}, not at {place!r}"
    for name, files in m.ledgers.items():
        for file in files:
            place = layout.relative(layout.ledger_file(name, file.checksum))
            if not _LEDGER.fullmatch(name) or file.path != place:
                yield f"has a file of the ledger {name!r} at {file.path!r}"
    if len(set(m.named_paths())) != len(m.named_paths()):
        yield "names a file twice"


# ── a folder ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _folder(path: Path, layout: Layout) -> Archive:
    theirs = Layout(path)
    manifest = ManifestManager(theirs).load_manifest()
    if manifest is None:
        raise ConfigurationError(
            "This folder is no store: it has no committed version",
            where=path,
            todo="name a data folder; files of prices that are no store are taken in by `historical-etl adopt`",
        )
    files = archived_files(manifest, layout, path)
    return Archive(path, manifest_bytes(theirs, manifest), manifest, files, lambda name: _regular(path / name))


def _regular(path: Path) -> BinaryIO:
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(path)
    return path.open("rb")


# ── a tar ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Member(tarfile.TarInfo):
    """A header; any but of a plain file, a folder or a hard link ends the reading, before it has any effect."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type not in _PLAIN or member.size < 0:
            raise _foreign(member.name, "is no plain file")
        return member


def _tar(path: Path, stream: BinaryIO, layout: Layout) -> Archive:
    try:
        tar = _opened_tar(path, stream)
        members = iter(tar)
        content = _leading_manifest(tar, next(members, None), layout)
        manifest = parse_manifest(content, path)
        files = archived_files(manifest, layout, path)
        found = _expected_members(members, manifest, files, layout)
    except tarfile.TarError:
        raise ChecksumMismatchError(
            "The archive is damaged or cut off", where=path, todo="copy it again, or export it again"
        ) from None
    except ConfigurationError as error:
        error.where = error.where or str(path)
        raise

    def open_member(name: str) -> BinaryIO:
        member = tar.extractfile(found[name])
        assert member is not None  # noqa: S101 - it is a plain file
        return member  # pyright: ignore[reportReturnType] - an IO[bytes] that can be read and closed

    _, history = manifest_names(layout, manifest.version)
    if history not in found or _read(tar, found[history]) != content:
        raise ConfigurationError("The archive's history does not hold its manifest", where=path, todo="export it again")
    return Archive(path, content, manifest, files, open_member)


def _opened_tar(path: Path, stream: BinaryIO) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r:", tarinfo=_Member)
    except tarfile.TarError:
        raise ConfigurationError(
            "This file is no tar archive",
            where=path,
            todo="name a folder, or a .tar that `historical-etl export` wrote; unpack one that is compressed",
        ) from None


def _leading_manifest(tar: tarfile.TarFile, first: tarfile.TarInfo | None, layout: Layout) -> bytes:
    name = layout.relative(layout.manifest_file())
    if first is None or first.name != name or not first.isreg():
        raise _foreign(first.name if first else "", f"is not {name}, which comes first in an exported store")
    return _read(tar, first)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MOST_MANIFEST:
        raise _foreign(member.name, f"has {member.size:,} bytes, more than any manifest")
    stream = tar.extractfile(member)
    return stream.read() if stream else b""


def _expected_members(
    members: Iterator[tarfile.TarInfo], manifest: SyncManifest, files: tuple[ArchivedFile, ...], layout: Layout
) -> dict[str, tarfile.TarInfo]:
    """The plain files by name, once every member has proven to be one that belongs there."""
    current, history = manifest_names(layout, manifest.version)
    sizes = {file.name: file.size for file in files}
    links = {daily_name(layout, p.year): p.path for p in manifest.partitions}
    names = {current, history, *sizes, *links}
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    found: dict[str, tarfile.TarInfo] = {}
    seen = {current}
    for member in members:
        name = member.name
        if name in seen:
            raise _foreign(name, "comes twice")
        seen.add(name)
        if member.isdir() and name in folders:
            continue
        if member.islnk() and links.get(name, "") == member.linkname:
            continue
        if not member.isreg() or name not in {history, *sizes}:
            raise _foreign(name, "does not belong to the version that its manifest names")
        if member.size != sizes.get(name, member.size):
            raise _foreign(name, f"has {member.size:,} bytes, {sizes[name]:,} were committed")
        found[name] = member
    return found


def _foreign(name: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The archive is not one that `historical-etl export` wrote: {name!r} {what}",
        todo="nothing was taken from it; if you trust it, unpack it and import the folder",
    )
