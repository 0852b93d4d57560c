"""The folders that `daily` points to, one for each version that changed a year: made, put in place, cleared away.

All are in `.daily/`, named after the version that they were made for. What is not ours in them moves on with `daily`.
"""

import errno
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from historical_etl.durable import TEMP_SUFFIX, fsync_folder, make_folder, temp_name
from historical_etl.folders import entries_of
from historical_etl.store.layout import Layout
from historical_etl.store.misplaced import no_folder

__all__ = [
    "IMPOSSIBLE",
    "YEARS",
    "copies",
    "is_replaceable",
    "left_over",
    "new_folder",
    "obstacles",
    "put_in_place",
    "remove",
    "shown_folder",
    "tidy",
]

#: The files in `daily/` that are named like a year.
YEARS: Final = "[0-9][0-9][0-9][0-9].parquet"

#: What a file system says that has no such links, or too many of one file, or will not rename a folder in use.
IMPOSSIBLE: Final = {
    *(errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP),
    *(errno.EMLINK, errno.EXDEV, errno.EBUSY),
}
_FOLDER: Final = re.compile(r"[0-9]{8,}(-[0-9]+)?")
_OURS: Final = re.compile(rf"[0-9]{{4}}\.parquet|\..*{re.escape(TEMP_SUFFIX)}")
_FORMER: Final = 0


def shown_folder(layout: Layout) -> Path | None:
    """The folder that `daily` points to; None if it is no link, or one of somebody else's."""
    try:
        target = layout.daily.readlink()
    except OSError:
        return None
    return layout.storage / target if target.parts[:-1] == (layout.daily_folders.name,) else None


def is_replaceable(layout: Layout) -> bool:
    """Whether `daily` may be replaced: a link of somebody else's, to another volume perhaps, is left where it is."""
    return shown_folder(layout) is not None or not layout.daily.is_symlink() or bool(_astray(layout))


def obstacles(layout: Layout) -> Iterator[tuple[Path, str]]:
    """What lies in the place of `daily` or of its folders and can be neither, with what is wrong with it.

    A link of somebody else's leads elsewhere. One into the store's own folders, or in a circle, is wrong for certain.
    """
    if layout.daily.is_symlink():
        if shown_folder(layout) is None and (fault := _astray(layout)):
            yield layout.daily, fault
    elif fault := no_folder(layout.daily):
        yield layout.daily, fault
    if fault := no_folder(layout.daily_folders):
        yield layout.daily_folders, fault
    elif layout.daily_folders.exists():
        for path in sorted(layout.daily_folders.iterdir()):
            if _FOLDER.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
                yield path, no_folder(path) or "it is a link, not a folder"


def _astray(layout: Layout) -> str:
    try:
        layout.daily.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "it is a link in a circle"
    target = Path(os.path.realpath(layout.daily))
    ours = map(os.path.realpath, layout.own_folders())
    whole = map(os.path.realpath, (layout.root, layout.storage))
    inside = str(target) in whole or any(target.is_relative_to(folder) for folder in ours)
    return "it is a link into the store itself" if inside else ""


def new_folder(layout: Layout, version: int, sources: Collection[Path] = ()) -> Path:
    """Make an empty folder for a version; of the others, those that hold one of the sources stay until it is shown."""
    make_folder(layout.daily_folders)
    needed = {path.parent for path in sources}
    _remove_all(layout, [folder for folder in _others(layout) if folder not in needed])  # the syncs below are for this
    folder = _unused(layout, version)
    folder.mkdir()
    return folder


def put_in_place(layout: Layout, folder: Path) -> None:
    """Let `daily` point to a folder, durably, once all that is in it is durable.

    A folder in its place, as earlier releases made it and as copies have it, is moved aside just before: a kill between
    the two leaves no `daily` until the next writer.
    """
    link = temp_name(layout.daily)
    try:
        link.symlink_to(folder.relative_to(layout.storage))
        fsync_folder(folder)
        fsync_folder(layout.daily_folders)
        if layout.daily.is_dir() and not layout.daily.is_symlink():
            layout.daily.rename(_unused(layout, _FORMER))
        link.replace(layout.daily)
        fsync_folder(layout.storage)
    finally:
        link.unlink(missing_ok=True)


def copies(layout: Layout, year: int) -> list[Path]:
    """The files of a year in all of the folders, the one that is shown first."""
    others = (folder / f"{year}.parquet" for folder in reversed(entries_of(layout.daily_folders)))
    return [layout.daily_file(year), *(path for path in others if os.path.lexists(path))]


def tidy(layout: Layout) -> None:
    """Remove all folders but the one that is shown and the one before it."""
    if _remove_all(layout, left_over(layout)):
        fsync_folder(layout.daily_folders)


def left_over(layout: Layout) -> list[Path]:
    """The folders that are neither shown nor the one before that."""
    shown, others = shown_folder(layout), _others(layout)
    temps = [folder for folder in others if folder.name.endswith(TEMP_SUFFIX)]
    if shown is None:  # a copy in which links were followed, perhaps: all go when the next one is made
        return temps
    before = [folder for folder in others if folder not in temps and folder.name < shown.name]
    return [folder for folder in others if folder not in before[-1:]]


def remove(folder: Path) -> None:
    """Remove a folder of ours."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _remove_all(layout: Layout, folders: Collection[Path]) -> bool:
    """Whether any was removed: those with what is not ours stay, where it has no other place."""
    removed = False
    for folder in reversed(_others(layout)):  # of two things with one name the newer one is the one that counts
        if not _carried_over(folder, layout.daily) or folder not in folders:
            continue
        removed = True
        gone = folder
        if not folder.name.endswith(TEMP_SUFFIX):
            gone = folder.rename(temp_name(folder))  # at once: nobody may list a part of it
        remove(gone)
    return removed


def _carried_over(folder: Path, daily: Path) -> bool:
    """Move on what somebody else put beside the years; whether all of it found a place."""
    left = False
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and (path.is_symlink() or not path.is_dir()):
            continue
        if os.path.lexists(daily / path.name) or not daily.is_dir():
            left = True
        else:
            path.rename(daily / path.name)
    return not left


def _others(layout: Layout) -> list[Path]:
    shown, there = shown_folder(layout), layout.daily_folders.is_dir()
    found = sorted(layout.daily_folders.iterdir()) if there else []
    return [path for path in found if path != shown and path.is_dir() and not path.is_symlink()]


def _unused(layout: Layout, version: int) -> Path:
    folder, number = layout.daily_folders / f"{version:08d}", 1
    while os.path.lexists(folder):
        number += 1
        folder = folder.with_name(f"{version:08d}-{number:02d}")
    return folder
