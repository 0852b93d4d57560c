"""What must hold of a store after a fault, and what it must come to in the end."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final

import duckdb

from historical_etl import CatalogError, HistoricalETLError, SyncManifest
from historical_etl.etl.completeness.load import rebuild_completeness
from historical_etl.sessions import get_calendar
from historical_etl.store.daily_folders import is_replaceable
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.verify.store import StoreFinding, VerifyReport, verify_store
from historical_etl_tests.proofs.crash.commands import DAMAGED, store_on
from historical_etl_tests.proofs.crash.plain import kept_versions, plain_fault

__all__ = [
    "Outcome",
    "assert_committed",
    "assert_refused_or_right",
    "copy_store",
    "garbage",
    "left",
    "outcome_of",
    "shown",
    "verified",
]

_ROWS: Final = "SELECT * FROM daily_prices ORDER BY date, symbol"


@dataclass(frozen=True)
class Outcome:
    """All of a store that must not depend on what disturbed it."""

    version: int
    daily: Mapping[str, str]
    objects: tuple[str, ...]
    cursors: Mapping[str, date]
    pins: Mapping[str, int]
    rows: bytes
    shown: int


def outcome_of(root: Path, day: date) -> Outcome:
    """What the store of a folder has come to, by its files and by its own answers."""
    etl = store_on(root, day)
    manifest = etl.manifest()
    assert manifest is not None
    rows = etl.query_sql(_ROWS)
    assert rows.height == manifest.row_count
    return Outcome(
        manifest.version,
        {path.name: _sum(path) for path in sorted(etl.layout.daily.iterdir())},
        tuple(f"{path} {_sum(root / path)}" for path in manifest.file_paths),
        etl.cursors(),
        {name: pin.version for name, pin in etl.pins().items()},
        rows.serialize(),
        shown(etl.layout),
    )


def assert_committed(root: Path, *, least: int, most: int, migrates: bool = False) -> int:
    """The store is a version that was committed, not older than the last that was acknowledged, and undamaged.

    While a plain folder makes place for a link to one, `daily` may not be there.
    """
    manifest = ManifestManager(root).load_manifest()
    version = manifest.version if manifest else 0
    assert least <= version <= most, f"version {version} stands, {least} was acknowledged"
    for partition in manifest.partitions if manifest else ():
        assert _sum(root / partition.path) == partition.checksum
    layout = Layout(root)
    assert plain_fault(layout, kept_versions(layout), least=0 if migrates else least) == ""
    damage = [found for found in verified(root).findings if found.severity == "error"]
    if not is_replaceable(layout):  # there a kill may leave a mixture, and `verify` says so
        damage = [found for found in damage if not (found.field == "daily/" and "mixes versions" in found.message)]
    assert damage == []
    return version


def assert_refused_or_right(root: Path, day: date, rows: bytes) -> None:
    """A store that is damaged still gives no answer but the right one."""
    try:
        found = store_on(root, day).query_sql(_ROWS)
    except HistoricalETLError:
        return
    assert found.serialize() == rows


def left(root: Path) -> list[StoreFinding]:
    """What `verify` finds, but for what a kill or fault leaves behind for good reason.

    A command that found all done has written nothing, so that a temp file may wait for the next write. And an entry in
    quarantine that was not made to its end stays: nothing there is ever deleted.
    """
    left_behind = {"temp files", "quarantine/"}
    return [found for found in verified(root).findings if found.field not in left_behind or found.severity == "error"]


def garbage(root: Path) -> set[bytes]:
    """What was put in the place of files to damage them, wherever it now is."""
    contents = (path.read_bytes() for path in root.rglob("*") if path.is_file())
    return {content for content in contents if content.startswith(DAMAGED)}


def verified(root: Path) -> VerifyReport:
    """What `verify` says, with the cursors computed anew and the catalog opened."""
    layout = Layout(root)

    def cursors(manifest: SyncManifest) -> Mapping[str, date]:
        return rebuild_completeness(layout, manifest, get_calendar("XNYS")).cursors()

    return verify_store(ManifestManager(root), rebuild_cursors=cursors, catalog_version=lambda: shown(layout))


def shown(layout: Layout) -> int:
    """The version that the catalog file itself shows; it reads the files of that version."""
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"ATTACH '{layout.catalog}' AS catalog (READ_ONLY)")
            row = connection.execute("SELECT max(version) FROM catalog.partitions").fetchone()
    except duckdb.Error as error:
        raise CatalogError(str(error)[:200], where=layout.catalog) from error
    assert row is not None
    return row[0]


def copy_store(source: Path, target: Path) -> None:
    """Make `target` the same as `source`: with its hard links, times and rights."""
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def _sum(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
