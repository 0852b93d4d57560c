"""What lies beside the versions: the catalog, pins, what was fetched and is not committed, and the quarantine."""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from historical_etl.durable import sha256_of
from historical_etl.errors import CatalogError
from historical_etl.models import CatalogPointer, SyncManifest
from historical_etl.store.catalog_version import is_of, read_catalog_pointer
from historical_etl.store.layout import Layout
from historical_etl.store.pins import read_pins
from historical_etl.store.quarantine import read_entries
from historical_etl.store.staging import damaged_units
from historical_etl.store.verify.findings import StoreFinding, error, warning

__all__ = ["catalog_findings", "pin_findings", "quarantine_findings", "staging_findings"]

_PUBLISH: Final = "run `historical-etl repair` or `update`: each publishes the catalog"
_BUILD: Final = "run `historical-etl repair`: it is built anew"


def catalog_findings(
    layout: Layout, current: SyncManifest | None, catalog_version: Callable[[], int] | None, *, quick: bool
) -> Iterator[StoreFinding]:
    """Whether the catalog file is the one that was published, and of which version.

    Args:
        layout: where it lies.
        current: the current version.
        catalog_version: the version that the file itself shows; raises `CatalogError` if that is not known.
        quick: leave out its SHA-256, and do not open it.
    """
    path, pointer = layout.catalog, read_catalog_pointer(layout)
    field = f"catalog {path.name}"
    if current is None:
        return
    if pointer is None or not path.is_file():
        damaged = pointer is None and layout.catalog_pointer().exists()
        known = error(field, "the record of what it shows is damaged", _BUILD)
        yield known if damaged else warning(field, "it was not published yet", _PUBLISH)
    elif pointer.version > current.version:
        yield error(field, f"it is said to show version {pointer.version}, ahead of {current.version}", _PUBLISH)
    elif not is_of(pointer, layout):
        yield warning(field, f"its data has moved: it reads {pointer.objects}", _PUBLISH)
    elif not (quick or _is_published(layout, pointer) or _is_next(pointer, current, catalog_version)):
        yield error(field, "its bytes are not those that were published (SHA-256)", _BUILD)
    elif pointer.version < current.version:
        yield warning(field, f"it shows version {pointer.version}, the store has {current.version}", _PUBLISH)
    elif catalog_version and not quick and (fault := _fault_inside(pointer, catalog_version)):
        yield error(field, fault, _BUILD)


def _fault_inside(pointer: CatalogPointer, catalog_version: Callable[[], int]) -> str:
    try:
        shown = catalog_version()
    except CatalogError as failure:
        return failure.what
    return "" if shown == pointer.version else f"the file shows version {shown}, not {pointer.version}"


def _is_published(layout: Layout, pointer: CatalogPointer) -> bool:
    published = {pointer.checksum, pointer.following} - {None}
    return not published or sha256_of(layout.catalog) in published


def _is_next(pointer: CatalogPointer, current: SyncManifest, catalog_version: Callable[[], int] | None) -> bool:
    """Whether a publication, of this version or of one before it, was broken off between the file and its record."""
    if pointer.version == current.version:
        return False
    try:
        return catalog_version is None or pointer.version < catalog_version() <= current.version
    except CatalogError:
        return False


def pin_findings(layout: Layout, versions: Collection[int]) -> Iterator[StoreFinding]:
    """Pins whose version is not kept, or whose record is damaged.

    Args:
        layout: where they lie.
        versions: the versions whose manifests are sound.
    """
    for pin in read_pins(layout).values():
        field = f"pin {pin.name}"
        if pin.version not in versions:
            todo = f"restore the manifest from a backup, or `historical-etl unpin {pin.name}`"
            yield error(field, f"version {pin.version}, which it names, is not there or is damaged", todo)
        elif pin.checksum is None:
            yield error(field, "its record is damaged; the version is kept all the same", "run `historical-etl repair`")


def staging_findings(layout: Layout, *, quick: bool) -> Iterator[StoreFinding]:
    """Staged units that do not count; hashing them is left out if `quick`."""
    damaged = [] if quick else damaged_units(layout)
    if damaged:
        message = "what was fetched for a run that is not over is damaged"
        yield warning("staging/", message, "nothing: the run fetches it again", damaged)


def quarantine_findings(layout: Layout, *, quick: bool) -> Iterator[StoreFinding]:
    """Entries of the quarantine that are not what was quarantined; hashing them is left out if `quick`."""
    damaged = [entry.name for entry in read_entries(layout) if entry.fault or not (quick or entry.is_intact())]
    if damaged:
        message = "entries are damaged or foreign; nothing depends on them"
        yield warning("quarantine/", message, "see `historical-etl quarantine list`", damaged)
