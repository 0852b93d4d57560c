"""Whether `daily/` shows the current version; else which one it shows, or that it mixes several."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from historical_etl.durable import sha256_of
from historical_etl.models import Partition, SyncManifest
from historical_etl.store.daily_folders import YEARS, is_replaceable, obstacles
from historical_etl.store.layout import Layout
from historical_etl.store.misplaced import no_file
from historical_etl.store.verify.findings import StoreFinding, error, warning

__all__ = ["daily_findings"]

_RELINK: Final = "run `historical-etl repair`, or any write: each puts daily/ in order first"
_AWAY: Final = "mount or make what the link leads to, or remove the link: the next write makes `daily` anew"
_SHOWN: Final = 3


def daily_findings(
    layout: Layout,
    current: SyncManifest | None,
    history: Mapping[int, SyncManifest],
    *,
    quick: bool,
    finished: bool,
    busy: bool,
) -> Iterator[StoreFinding]:
    """What other tools find that is not the current version.

    Args:
        layout: of the store.
        current: the current version.
        history: the kept versions whose manifests are sound.
        quick: a copy is judged by its size.
        finished: whether the run that made the current version has come further than to `daily/`.
        busy: whether a writer is at work, who may be replacing files one by one.
    """
    wrong = dict(obstacles(layout))
    yield from (error(path.relative_to(layout.storage).as_posix(), fault, _RELINK) for path, fault in wrong.items())
    if layout.daily in wrong:
        return
    partitions = {partition.year: partition for partition in current.partitions} if current else {}
    files = {int(path.stem): _File(path, layout, quick=quick) for path in sorted(layout.daily.glob(YEARS))}
    late = error if finished else warning
    if partitions and not files:
        yield late("daily/", "it has none of the years", _RELINK if is_replaceable(layout) else _AWAY)
        partitions = {}
    found: list[StoreFinding] = []
    older: list[int] = []
    for year, partition in partitions.items():
        field = f"daily/{year}.parquet"
        if year not in files:
            found.append(late(field, "it is missing", _RELINK))
        elif fault := files[year].fault:
            found.append(error(field, fault, _RELINK))
        elif not layout.resolve(partition.path).is_file() or files[year].holds(partition):
            continue  # a missing object is reported already
        elif files[year].is_known(history):
            older.append(year)
        else:
            message = "it was edited or replaced from outside; the committed file of the year is intact in objects/"
            found.append(error(field, message, f"{_RELINK}, and keeps this file in quarantine/"))
    whole = next((v for v in sorted(history, reverse=True) if _shows(files, history[v])), None)
    if current and older and whole:
        message = f"it shows version {whole}, all of it, and not version {current.version}, the current one"
        yield late("daily/", message, _RELINK)
        return
    if current and older:
        parts = _parts(files, {**history, current.version: current}, current.version)
        mixed = f"it mixes versions: {', '.join(parts)}; whoever reads daily/ gets all of it"
        message = mixed if len(parts) > 1 else f"it shows {parts[0]}"
        yield (warning if busy and not finished else error)("daily/", message, _RELINK)
    yield from found
    ours = {layout.daily_file(year) for year in partitions}
    todo = "move it out of daily/, where readers take it for data"
    strange = [path for path in sorted(layout.daily.glob("*.parquet")) if path not in ours]
    yield from (error(f"daily/{path.name}", "the current version has no such year", todo) for path in strange)


class _File:
    """A file in `daily/`; it is hashed once, and only if it is linked to nothing that it may be."""

    def __init__(self, path: Path, layout: Layout, *, quick: bool) -> None:
        self._path = path
        self.fault = no_file(path)
        self._layout = layout
        self._quick = quick

    def holds(self, partition: Partition) -> bool:
        """Whether it is the file of a version: linked, or a copy where links are impossible."""
        wanted = self._layout.resolve(partition.path)
        if self.fault:
            return False
        if wanted.exists() and self._path.samefile(wanted):
            return True
        return self._path.stat().st_size == partition.size_bytes and (self._quick or self._sum == partition.checksum)

    def is_known(self, history: Mapping[int, SyncManifest]) -> bool:
        """Whether a commit has made it."""
        known = {p.checksum for manifest in history.values() for p in manifest.partitions}
        objects = self._layout.objects.glob(f"{self._path.stem}-*.parquet")
        return self._sum in known or any(self._path.samefile(path) for path in objects)

    @cached_property
    def _sum(self) -> str:
        return sha256_of(self._path)


def _shows(files: Mapping[int, _File], manifest: SyncManifest) -> bool:
    """Whether all years are those of a version, and there is no other."""
    years = {partition.year: partition for partition in manifest.partitions}
    return years.keys() == files.keys() and all(files[year].holds(partition) for year, partition in years.items())


def _parts(files: Mapping[int, _File], versions: Mapping[int, SyncManifest], current: int) -> list[str]:
    """Which years are as in which version, in words: the current one first, then the newest that fits."""
    left, parts = set(files), list[str]()
    for version in [current, *sorted(versions.keys() - {current}, reverse=True)]:
        years = sorted(
            partition.year
            for partition in versions[version].partitions
            if partition.year in left and files[partition.year].holds(partition)
        )
        if years:
            parts.append(f"{_named(years)} as in version {version}")
            left -= set(years)
    return [*parts, *([f"{_named(sorted(left))} as in none that is kept"] if left else [])]


def _named(years: list[int]) -> str:
    shown = [str(year) for year in years[:_SHOWN]]
    more = [f"{len(years) - _SHOWN} more"] if len(years) > _SHOWN else []
    *others, last = [*shown, *more]
    return f"{', '.join(others)} and {last}" if others else last
