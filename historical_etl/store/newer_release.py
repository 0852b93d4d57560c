"""Records that hold more than this release knows: a newer one of the same schema version wrote them.

They are read, since what is known of them means what it meant. They are not replaced: what is not known would be lost,
or would stay beside data that it is not true of. So nothing is written to such a store.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

from historical_etl.durable import storage_errors
from historical_etl.errors import ManifestTooNewError
from historical_etl.folders import entries_of
from historical_etl.models import (
    DATASET_ID,
    SCHEMA_VERSION,
    CatalogPointer,
    ETLProgressManifest,
    LedgerFile,
    Partition,
    SyncManifest,
    major_version,
)
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import CHECKSUM_FIELD, read_checksummed
from historical_etl.store.layout import Layout
from historical_etl.store.pins import Pin

__all__ = ["MANIFEST_CHECKSUM_FIELD", "MANIFEST_FIELDS", "fields_of", "refuse_unknown_fields", "unknown_fields"]

MANIFEST_CHECKSUM_FIELD: Final = "manifest_sha256"
MANIFEST_FIELDS: Final = frozenset({*SyncManifest.model_fields, "wrds_query_hash"})
_FIELDS: Final[Mapping[str, Collection[str]]] = {
    "progress": frozenset(ETLProgressManifest.model_fields),
    "catalog": frozenset(CatalogPointer.model_fields),
    "pin": frozenset(Pin.model_fields),
}
_YEAR: Final = frozenset(Partition.model_fields)
_FILE: Final = frozenset(LedgerFile.model_fields)
_SHOWN: Final = 5
#: Records of which the fields are remembered; progress may name ten thousand symbols.
_REMEMBERED: Final = 16


def refuse_unknown_fields(layout: Layout, dataset: str = DATASET_ID, *, versions: Iterable[int] = ()) -> None:
    """Refuse to write to a store one of whose records holds what this release would drop.

    Args:
        layout: of the store.
        dataset: of the manifest.
        versions: older ones that are built upon, too.

    Raises:
        ManifestTooNewError: there is such a record.
        StorageError: a folder of records cannot be listed.
    """
    for path, names in unknown_fields(layout, dataset, versions=versions):
        raise ManifestTooNewError(
            f"A newer release wrote {', '.join(names[:_SHOWN])} into a record, which this one would drop: nothing is"
            " written",
            where=path,
            todo="upgrade historical-etl; reading goes on",
        )


def unknown_fields(
    layout: Layout, dataset: str = DATASET_ID, *, versions: Iterable[int] = ()
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The records of a store that hold fields of which this release does not know, and those fields."""
    with storage_errors("listing the records of the store", layout.manifests):
        newest = entries_of(layout.history_folder(dataset), "*.json")[-1:]  # it replaces a damaged manifest
        pins = entries_of(layout.pins, "*.json")
    history = [layout.history_file(version, dataset) for version in versions]
    records = [(path, "manifest") for path in (layout.manifest_file(dataset), *newest, *history)]
    records += [(layout.progress_file(dataset), "progress"), (layout.catalog_pointer(dataset), "catalog")]
    records += [(path, "pin") for path in pins]
    for path, kind in records:
        try:
            names = _unknown(read_regular(path), kind)
        except (OSError, ValueError):
            continue  # whoever needs it reports it
        if names:
            yield path, names


@lru_cache(maxsize=_REMEMBERED)
def fields_of(content: bytes, kind: str) -> Mapping[str, object]:
    """The fields of a checksummed record of a kind: progress, catalog or pin; the last ones are remembered.

    Raises:
        ValueError: as `read_checksummed`.
    """
    return read_checksummed(content, _FIELDS[kind], CHECKSUM_FIELD)


@lru_cache(maxsize=_REMEMBERED)
def _unknown(content: bytes, kind: str) -> tuple[str, ...]:
    if kind != "manifest":
        return tuple(sorted(fields_of(content, kind).keys() - _FIELDS[kind]))
    fields = read_checksummed(content, MANIFEST_FIELDS, MANIFEST_CHECKSUM_FIELD)
    schema = major_version(fields.get("schema_version"))
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        return ()  # not to be read at all
    names = fields.keys() - MANIFEST_FIELDS
    names |= {f"partitions.{name}" for item in _items(fields.get("partitions")) for name in item if name not in _YEAR}
    ledgers = fields.get("ledgers")
    for files in cast("dict[str, object]", ledgers).values() if isinstance(ledgers, dict) else ():
        names |= {f"ledgers.{name}" for item in _items(files) for name in item if name not in _FILE}
    return tuple(sorted(names))


def _items(value: object) -> list[dict[str, object]]:
    found = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, object]", item) for item in found if isinstance(item, dict)]
