"""The part of a run that holds the writer lock: merge → gate → objects → manifest → daily/ → progress."""

import logging
from typing import Protocol

import polars as pl

from historical_etl.errors import ChecksumMismatchError
from historical_etl.etl.merge import Gate, StoredYears, merge_years
from historical_etl.etl.tally import Tally
from historical_etl.models import ETLProgressManifest, SyncManifest
from historical_etl.store.disk import required_for_merge
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Provenance, Transaction

__all__ = ["ProgressUpdate", "commit_rows"]

_log = logging.getLogger(__name__)


class ProgressUpdate(Protocol):
    """Makes the progress to save after a commit."""

    def __call__(
        self, before: SyncManifest | None, after: SyncManifest | None, touched: pl.DataFrame
    ) -> ETLProgressManifest:
        """The progress to save.

        Args:
            before: the version the commit built on.
            after: the version that now stands.
            touched: (symbol, date) of every row in the months that new rows fell into.
        """
        ...


def commit_rows(
    transaction: Transaction,
    manifests: ManifestManager,
    rows: pl.DataFrame,
    lead_in: pl.DataFrame,
    *,
    gate: Gate,
    provenance: Provenance,
    update_progress: ProgressUpdate,
    tally: Tally,
) -> SyncManifest | None:
    """Merge rows into the stored years and commit them all at once; returns the version that then stands.

    Args:
        transaction: opened under the lock.
        manifests: the store's manifest manager.
        rows: accepted rows, sorted by (symbol, date).
        lead_in: rows before them, for `ret`.
        gate: judges each changed month.
        provenance: where the rows came from.
        update_progress: called after the commit.
        tally: counts what happened.

    Raises:
        DataQualityError, DiskSpaceError, StorageError: nothing was committed.
        ETLProgressError: the commit stands, but progress was not saved.
    """
    stored = _stored_years(transaction, manifests.layout, rows)
    _check_disk(manifests, stored, rows, tally)
    touched = [rows.clear().select("symbol", "date")]
    for year in merge_years(rows, lead_in, stored, gate):
        transaction.write_year(year.year, year.blocks, year.symbols, year.first, year.last)
        touched.append(year.touched)
        tally.corrections += year.corrections
    before = transaction.base
    manifest = transaction.commit(provenance)
    if manifest is not None:
        old = {p.year: p.checksum for p in before.partitions} if before else {}
        tally.years |= {p.year for p in manifest.partitions if old.get(p.year) != p.checksum}
    tally.rows += rows.height
    save_progress(manifests.layout, update_progress(before, manifest, pl.concat(touched)))
    return manifest


def _stored_years(transaction: Transaction, layout: Layout, rows: pl.DataFrame) -> StoredYears:
    """The base of the merge, without damaged years that the new rows replace as a whole."""
    base = transaction.base
    for year in _years(rows):
        partition = base.partition(year) if base else None
        if base is None or partition is None:
            continue
        try:
            transaction.stored_blocks(year)
        except ChecksumMismatchError as damage:
            new = rows.filter(pl.col("date").dt.year() == year)
            if new.height < partition.rows or new.get_column("symbol").n_unique() < partition.symbols:
                raise
            _log.warning("%s It is rebuilt from the %d rows that were fetched", damage, new.height)
            base = base.model_copy(update={"partitions": tuple(p for p in base.partitions if p != partition)})
    present = {partition.year for partition in base.partitions} if base else set[int]()
    return StoredYears(base, layout, lambda year: transaction.stored_blocks(year) if year in present else [])


def _check_disk(manifests: ManifestManager, stored: StoredYears, rows: pl.DataFrame, tally: Tally) -> None:
    partitions = [stored.partition(year) for year in _years(rows)]
    merged_rows = rows.height + sum(partition.rows for partition in partitions if partition)
    bytes_per_row = rows.estimated_size() / max(1, rows.height)
    status = manifests.check_disk_space(required_for_merge(int(merged_rows * bytes_per_row)))
    if status.level != "ok":
        tally.disk_warnings.append(str(status))


def _years(rows: pl.DataFrame) -> list[int]:
    return rows.get_column("date").dt.year().unique().sort().to_list()
