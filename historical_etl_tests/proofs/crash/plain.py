"""`daily/` as it is for a reader that knows nothing of the store: it lists a folder and reads what is there."""

import os
from collections.abc import Iterable
from hashlib import sha256

from historical_etl import ManifestManager, SyncManifest
from historical_etl.store.daily_folders import is_replaceable
from historical_etl.store.layout import Layout

__all__ = ["kept_versions", "plain_fault", "plain_sums", "sums_of"]


def plain_fault(layout: Layout, committed: Iterable[SyncManifest], *, least: int = 0) -> str:
    """What is wrong with it before anything is repaired; "" if it is one version that was committed.

    Args:
        layout: of the store.
        committed: the versions that it may be.
        least: with 0, it need not be there.
    """
    if not is_replaceable(layout):
        return ""  # a link of somebody else's: its files are replaced one by one
    if not os.path.lexists(layout.daily) and not least:
        return ""
    try:
        found = plain_sums(layout)
    except FileNotFoundError:
        return "daily/ is not there, or leads nowhere"
    if any(found == sums_of(manifest) for manifest in committed):
        return ""
    return f"daily/ is no version that was committed: {found}"


def plain_sums(layout: Layout) -> dict[str, str]:
    """The SHA-256 of each file, by its name."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in layout.daily.iterdir()}


def sums_of(manifest: SyncManifest) -> dict[str, str]:
    """What they are in a version."""
    return {f"{partition.year}.parquet": partition.checksum for partition in manifest.partitions}


def kept_versions(layout: Layout) -> list[SyncManifest]:
    """The versions in the history."""
    manager = ManifestManager(layout)
    return [manager.load_version(version) for version in manager.list_versions()]
