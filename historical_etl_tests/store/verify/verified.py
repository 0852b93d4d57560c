"""A store of a few bars that is in order, what `verify_store` says of it, and ways to make its manifest say else."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from historical_etl import ETLProgressManifest, ManifestManager
from historical_etl.models import combined_checksum
from historical_etl.store.manifest_file import render_manifest
from historical_etl.store.progress import save_progress
from historical_etl.store.verify.store import VerifyReport, verify_store
from historical_etl_tests.store.small import START, Hand, commit, corrections, only, publish

CURSORS = {"AAA": date(2019, 1, 5)}


def progress(version: int, cursors: Mapping[str, date] = CURSORS) -> ETLProgressManifest:
    return ETLProgressManifest(last_updated=START, symbol_last_dates=dict(cursors), data_version=version)


def two_versions(root: Path) -> ManifestManager:
    """Version 1: 2018 and 2019. Version 2: another 2019, and a ledger. All in order but for a catalog."""
    clock = Hand()
    manager = ManifestManager(root, clock=clock)
    commit(manager, {2018: 1, 2019: 1}, {"corrections": corrections(1)})
    clock.later(days=1)
    commit(manager, {2019: 2}, {"corrections": pl.concat([corrections(2)] * 2)})
    save_progress(manager.layout, progress(2))
    manager.layout.catalog.parent.mkdir()
    manager.layout.catalog.write_bytes(b"a catalog")
    publish(manager, 2)
    return manager


def verify(manager: ManifestManager, *, quick: bool = False, cursors: Mapping[str, date] = CURSORS) -> VerifyReport:
    return verify_store(manager, quick=quick, rebuild_cursors=lambda _: cursors)


def reported(manager: ManifestManager, **options: Any) -> list[tuple[str, str, str]]:
    report = verify(manager, **options)
    assert report.ok == all(finding.severity != "error" for finding in report.findings)
    assert all(finding.todo for finding in report.findings)
    return [(finding.severity, finding.field, finding.message) for finding in report.findings]


def path_of(manager: ManifestManager, year: int = 2019, version: int = 2) -> Path:
    return manager.layout.resolve(only(manager.load_version(version), year).path)


def restate(manager: ManifestManager, **changes: Any) -> None:
    """Let the current manifest and its copy say something else, and be good in themselves."""
    manifest = manager.load_version(2).model_copy(update=changes)
    manifest = manifest.model_copy(update={"checksum": combined_checksum(p.checksum for p in manifest.partitions)})
    for path in (manager.layout.manifest_file(), manager.layout.history_file(2)):
        path.write_bytes(render_manifest(manifest))


def restate_year(manager: ManifestManager, **changes: Any) -> None:
    """Let it say something else of 2019, with totals that fit."""
    old = manager.load_version(2)
    partitions = tuple(p.model_copy(update=changes) if p.year == 2019 else p for p in old.partitions)
    restate(
        manager,
        partitions=partitions,
        row_count=sum(p.rows for p in partitions),
        file_paths=tuple(p.path for p in partitions),
        start_date=min(p.first_session for p in partitions),
        end_date=max(p.last_session for p in partitions),
    )
