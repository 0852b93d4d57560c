"""Which versions were certainly committed, whatever the current manifest says.

A commit that is broken off leaves one manifest in the history that does not count, and the next writer drops it before
it makes another. Progress, the catalog's record, the folder behind `daily` and the lock's record name a version only
once it is committed. So where they name one that is newer than the current manifest, or where more than one in the
history is newer, an older file was put in the place of the current manifest.
"""

from collections.abc import Collection, Iterator

from historical_etl.models import DATASET_ID
from historical_etl.regular_files import read_regular
from historical_etl.store.catalog_version import is_of, read_catalog_pointer
from historical_etl.store.daily_folders import shown_folder
from historical_etl.store.layout import Layout
from historical_etl.store.lock import current_holder
from historical_etl.store.newer_release import fields_of

__all__ = ["last_committed"]


def last_committed(layout: Layout, current: int, history: Collection[int], dataset: str = DATASET_ID) -> int:
    """The highest version that was certainly committed; what is damaged is no witness.

    Args:
        layout: of the store.
        current: the version of the current manifest, 0 if there is none.
        history: the versions in the history.
        dataset: of the manifest.
    """
    newer = sorted(version for version in history if version > current)
    return max([current, *newer[:-1], *_recorded_versions(layout, dataset)])


def _recorded_versions(layout: Layout, dataset: str) -> Iterator[int]:
    try:
        version = fields_of(read_regular(layout.progress_file(dataset)), "progress").get("data_version")
    except (OSError, ValueError):
        version = None
    if isinstance(version, int):
        yield version
    pointer = read_catalog_pointer(layout, dataset)
    if pointer is not None and is_of(pointer, layout):
        yield pointer.version
    if (holder := current_holder(layout.lock_file(dataset))) is not None:
        yield holder.committed
    folder = shown_folder(layout) if dataset == DATASET_ID else None
    if folder is not None and folder.is_dir() and (number := folder.name.partition("-")[0]).isdecimal():
        yield int(number)
