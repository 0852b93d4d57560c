"""Whether a folder holds a store at all; a reader who mistyped its name is told of the nearest one. No Polars here."""

import difflib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError
from historical_etl.store.layout import Layout

__all__ = ["is_untouched", "nothing_stored"]

_FOLDERS: Final = 200


def nothing_stored(layout: Layout) -> ConfigurationError:
    """The error of a read where nothing was ever committed; it names the nearest store."""
    near = next(iter(_stores_near(layout.root)), None)
    todo = "run `historical-etl backfill` first"
    if near is not None:
        todo = f"the nearest store is {near}: name it as data folder (--data-dir, HISTORICAL_ETL_DATA_DIR); or {todo}"
    what = "Nothing was committed yet: there is no store"
    return ConfigurationError(what, where=layout.root, todo=todo)


def is_untouched(layout: Layout) -> bool:
    """Whether no run has ever left anything in the folder."""
    ours = (layout.manifests, layout.storage, layout.progress_folder, layout.quarantine, layout.staging)
    return not any(folder.exists() for folder in ours)


def _stores_near(root: Path) -> Iterator[Path]:
    """Folders near to one that hold a store, the likeliest first."""
    siblings = {path.name: path for path in _folders(root.parent) if path != root}
    alike = difflib.get_close_matches(root.name, siblings, n=len(siblings) or 1, cutoff=0.0)
    places = [*_folders(root), root.parent, *(siblings[name] for name in alike), Path("data").absolute()]
    yield from (place for place in dict.fromkeys(places) if place != root and _is_store(place))


def _folders(parent: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in islice(parent.iterdir(), _FOLDERS) if path.is_dir())
    return []


def _is_store(folder: Path) -> bool:
    with suppress(OSError):
        return Layout(folder).manifest_file().is_file()
    return False
