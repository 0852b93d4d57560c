"""What lies beside the versions: pins, and what was fetched and is not committed yet."""

from collections.abc import Collection, Iterator

from historical_etl.store.findings import StoreFinding, error, warning
from historical_etl.store.layout import Layout
from historical_etl.store.pins import read_pins
from historical_etl.store.staging import damaged_units

__all__ = ["pin_findings", "staging_findings"]


def pin_findings(layout: Layout, kept: Collection[int]) -> Iterator[StoreFinding]:
    """Pins whose version is not kept, or whose record is damaged.

    Args:
        layout: where they lie.
        kept: the versions whose manifests are sound.
    """
    for pin in read_pins(layout).values():
        field = f"pin {pin.name}"
        if pin.version not in kept:
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
