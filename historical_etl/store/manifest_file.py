"""One manifest as a file: checksummed JSON, whichever release wrote it."""

import errno
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from historical_etl.errors import ManifestCorruptError, ManifestTooNewError
from historical_etl.models import SCHEMA_VERSION, SyncManifest, major_version
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import add_checksum, read_checksummed, reason_of
from historical_etl.store.misplaced import no_file
from historical_etl.store.newer_release import MANIFEST_CHECKSUM_FIELD, MANIFEST_FIELDS

__all__ = ["parse_manifest", "read_manifest", "render_manifest"]

_TODO: Final = "run `historical-etl repair`: it restores the newest good version, and sets aside what is damaged"


def render_manifest(manifest: SyncManifest) -> bytes:
    """A manifest as the JSON bytes of its file, with a checksum over all of its own fields."""
    return add_checksum(manifest.model_dump(mode="json"), MANIFEST_CHECKSUM_FIELD)


def read_manifest(path: Path) -> SyncManifest:
    """Read a manifest file.

    Raises:
        FileNotFoundError: there is nothing in its place.
        ManifestTooNewError, ManifestCorruptError: as `parse_manifest`; also where what is in its place is no file.
    """
    try:
        return parse_manifest(read_regular(path), path)
    except OSError as error:
        fault = error.strerror if error.errno == errno.EFBIG else no_file(path)
        if not fault:
            raise
        raise ManifestCorruptError(f"The manifest is damaged: {fault}", where=path, todo=_TODO) from error


@lru_cache(maxsize=16)
def parse_manifest(content: bytes, path: Path) -> SyncManifest:
    """Read the bytes of a manifest file; the last ones are remembered, since a run reads its base many times.

    Raises:
        ManifestTooNewError: its `schema_version` is newer than this release.
        ManifestCorruptError: anything else that is wrong with it.
    """
    try:
        fields = read_checksummed(
            content,
            MANIFEST_FIELDS,
            MANIFEST_CHECKSUM_FIELD,
            lambda unproven: _refuse_newer(unproven, path, proven=False),
        )
        _refuse_newer(fields, path, proven=True)
        return SyncManifest.model_validate(fields)
    except ValueError as error:
        raise ManifestCorruptError(
            f"The manifest is damaged: {reason_of(error)}",
            where=path,
            todo=_TODO,
        ) from error


def _refuse_newer(fields: Mapping[str, object], path: Path, *, proven: bool) -> None:
    """Refuse what a newer release may have checksummed in its own way; one flipped bit makes no newer release."""
    version = major_version(fields.get("schema_version"))
    if isinstance(version, int) and version > SCHEMA_VERSION and (proven or not _one_bit_apart(version)):
        raise ManifestTooNewError(
            f"The store has schema version {version}; this release reads up to {SCHEMA_VERSION}. It was left alone",
            where=path,
            todo="upgrade historical-etl, or point HISTORICAL_ETL_DATA_DIR to another store",
        )


def _one_bit_apart(version: int) -> bool:
    text, own = str(version), str(SCHEMA_VERSION)
    differing = [ord(one) ^ ord(other) for one, other in zip(text, own, strict=False) if one != other]
    return len(text) == len(own) and len(differing) == 1 and differing[0].bit_count() == 1
