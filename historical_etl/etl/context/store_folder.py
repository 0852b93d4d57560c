"""Whether a folder holds a store at all; the error names the nearest one. No Polars here."""

import difflib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError
from historical_etl.masking import display_path
from historical_etl.store.layout import Layout

__all__ = ["is_untouched", "nothing_stored"]

_FOLDERS: Final = 200
_LEVELS: Final = 3


def nothing_stored(layout: Layout) -> ConfigurationError:
    """The error of a read where nothing was ever committed; it names the nearest store."""
    near = next(iter(_stores_near(layout.root)), None)
    todo = "run `historical-etl backfill` first"
    if near is not None:
        todo = f"the nearest store is {near}: name it as data folder (--data-dir, HISTORICAL_ETL_DATA_DIR); or {todo}"
    return ConfigurationError(
        f"Nothing was committed yet: there is no store, {_what_is_there(layout)}",
        where=display_path(layout.root, "the data folder"),
        todo=todo,
    )


def is_untouched(layout: Layout) -> bool:
    """Whether no run has ever left anything in the folder."""
    ours = (layout.manifests, layout.storage, layout.progress_folder, layout.quarantine, layout.staging)
    return not any(folder.exists() for folder in ours)


def _what_is_there(layout: Layout) -> str:
    root = layout.root
    if not root.exists():
        return "since the link leads nowhere" if root.is_symlink() else "since the folder does not exist"
    if not root.is_dir():
        return "since this is a file and no folder"
    return "though the folder exists" if is_untouched(layout) else "though a run has left something here"


def _stores_near(root: Path) -> Iterator[Path]:
    """Folders near to one that hold a store, the likeliest first."""
    inside = _folders(root)
    below = [*inside, *(deeper for folder in inside for deeper in _folders(folder))]
    above = list(root.parents)[:_LEVELS]
    places = [*below[:_FOLDERS], *above, *_alike(root), Path("data").absolute()]
    yield from (place for place in dict.fromkeys(places) if place != root and _is_store(place))


def _alike(root: Path) -> Iterator[Path]:
    """The same place below a folder beside one of its folders, the one with the likeliest name first."""
    at = next((folder for folder in (root, *root.parents) if folder.parent.is_dir()), root)
    beside = {path.name: path for path in _folders(at.parent) if path != at}
    for name in difflib.get_close_matches(at.name, beside, n=len(beside) or 1, cutoff=0.0):
        yield beside[name] / root.relative_to(at)
        yield beside[name]


def _folders(parent: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in islice(parent.iterdir(), _FOLDERS) if path.is_dir())
    return []


def _is_store(folder: Path) -> bool:
    with suppress(OSError):
        return Layout(folder).manifest_file().is_file()
    return False
