"""Which version the catalog file shows: the record that is written beside it once it is published."""

from contextlib import suppress

from historical_etl.models import DATASET_ID, CatalogPointer
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import parse_checksummed
from historical_etl.store.layout import Layout

__all__ = ["is_of", "read_catalog_pointer"]


def read_catalog_pointer(layout: Layout, dataset: str = DATASET_ID) -> CatalogPointer | None:
    """What the catalog file shows, None if that is not known."""
    try:
        return parse_checksummed(read_regular(layout.catalog_pointer(dataset)), CatalogPointer)
    except (OSError, ValueError):
        return None


def is_of(pointer: CatalogPointer, layout: Layout) -> bool:
    """Whether a catalog reads the objects of this store, not of one that it is a copy of, or was before it moved."""
    if pointer.objects == str(layout.objects):
        return True
    with suppress(OSError):
        return layout.objects.samefile(pointer.objects)
    return False
