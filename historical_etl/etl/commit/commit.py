"""The part of a run that holds the writer lock: merge → gate → objects → ledgers → manifest → daily/ → progress."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from historical_etl.errors import ChecksumMismatchError, StorageError
from historical_etl.etl.commit import ledger_rows
from historical_etl.etl.completeness.attempt import Patience, Visit
from historical_etl.etl.completeness.completeness import Account, settle
from historical_etl.etl.completeness.load import load_actions
from historical_etl.etl.merge.merge import Gate, MergedYear, StoredYears, merge_years
from historical_etl.etl.merge.row_changes import COMPARED
from historical_etl.etl.merge.withheld_cells import CELLS, without_adj_close
from historical_etl.etl.reconcile.result import Reconciled
from historical_etl.etl.run_stats import Tally
from historical_etl.models import ETLProgressManifest, SyncManifest
from historical_etl.schema import ORDER, ordered, years_in
from historical_etl.sessions import SessionCalendar
from historical_etl.store.failed_runs import RunRecord, drop_notes, read_notes
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import LedgerChanges, read_sound
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Provenance, Transaction
from historical_etl.store.verified_files import sound_path
from historical_etl.store.volume.free_space import required_for_merge

__all__ = ["Commit", "ProgressUpdate"]

_log = logging.getLogger(__name__)

#: Makes the progress to save after a commit: from the version that now stands, and its account.
ProgressUpdate = Callable[[SyncManifest | None, Account], ETLProgressManifest]


@dataclass(frozen=True)
class Commit:
    """Writes reconciled batches of one run.

    Attributes:
        transaction: opened under the lock.
        manifests: the store's manifest manager.
        calendar: the exchange's sessions.
        patience: how long to ask for what does not come.
        gate: judges each changed month.
        split_adjusted: whether the source's close is adjusted for splits already.
        provenance: where the rows came from.
        update_progress: called after the commit.
    """

    transaction: Transaction
    manifests: ManifestManager
    calendar: SessionCalendar
    patience: Patience
    gate: Gate
    split_adjusted: bool
    provenance: Provenance
    update_progress: ProgressUpdate

    def write(
        self,
        came: Reconciled,
        account: Account,
        visit: Visit,
        tally: Tally,
        run: Callable[[str, int], RunRecord],
        left: pl.DataFrame,
    ) -> SyncManifest | None:
        """Merge rows into the stored years and commit them all at once; returns the version that then stands.

        Args:
            came: what may be stored, held against the version that this builds on.
            account: of that version.
            visit: what was asked for.
            tally: counts what happened.
            run: makes the run's own record, from how it ended and the version.
            left: (symbol, date) of stored rows on days that have left the calendar: they are removed, too.

        Raises:
            DataQualityError, DiskSpaceError, StorageError: nothing was committed.
            ETLProgressError: the commit stands, but progress was not saved.
        """
        rows = self._without_unchanged(came.batch.rows)
        lead_in = came.batch.context
        stored = _stored_years(self.transaction, self.manifests.layout, rows)
        _check_disk(self.manifests, stored, rows, tally)
        dropped = pl.concat([came.dropped, left.select(came.dropped.columns)]).unique() if left.height else came.dropped
        years: list[MergedYear] = []
        off = years_in(left)
        for year in merge_years(rows, lead_in, dropped, stored, self.gate, came.as_came, may_be_emptied=off):
            if year.blocks:
                self.transaction.write_year(year.year, year.blocks, year.symbols, year.first, year.last)
            else:
                self.transaction.empty_year(year.year)
            year.blocks.clear()  # a run may touch thirty years
            years.append(year)
        after, filled = settle(account, visit, self.calendar, self.patience, self._traded)
        after = after.stamped(visit.version, visit.at)
        base = self.transaction.base
        withheld = _withheld(came, years, account)
        ledgers = self._ledgers(came, years, visit, after, filled, left, withheld)
        tally.add_withheld(withheld)
        tally.corrections += ledgers["corrections"].height
        tally.restated |= set(ledgers["restatements"].get_column("symbol"))
        tally.add_flagged(ledgers["flagged_rows"])
        tally.rows += came.batch.rows.height
        notes = read_notes(self.manifests.layout)
        accompanying = {
            "additions": ledger_rows.additions(years, visit),
            "runs": ledger_rows.runs([*notes, run("committed", visit.version)]),
        }
        bases: list[str] = after.symbols.get_column("adjustment").unique().drop_nulls().sort().to_list()
        provenance = replace(self.provenance, adjustment="; or ".join(bases) or self.provenance.adjustment)
        manifest = self.transaction.commit(provenance, ledgers, accompanying)
        if manifest is not base:
            drop_notes(self.manifests.layout, notes)
        if manifest is not None:
            old = {p.year: p.checksum for p in base.partitions} if base else {}
            tally.years |= {p.year for p in manifest.partitions if old.get(p.year) != p.checksum}
        tally.sessions_missing = after.missing()
        tally.ended = after.ended() & set(tally.outcomes)
        save_progress(self.manifests.layout, self.update_progress(manifest, after))
        return manifest

    def _ledgers(
        self,
        came: Reconciled,
        years: Sequence[MergedYear],
        visit: Visit,
        after: Account,
        filled: pl.DataFrame,
        left: pl.DataFrame,
        withheld: pl.DataFrame,
    ) -> LedgerChanges:
        layout, base = self.manifests.layout, self.transaction.base
        holds = ledger_rows.holds(read_sound(layout, base, "open_holds"), came, visit)
        known = read_sound(layout, base, "rejected_rows") if came.batch.rejected.height else None
        return {
            "corrections": ledger_rows.corrections(years, came.restated, visit),
            "restatements": ledger_rows.restatements(came, years, visit),
            "replaced_rows": ledger_rows.replaced_rows(years, came, visit, left, self.calendar),
            "stale_bars": ledger_rows.stale_bars(came, visit),
            "rejected_rows": ledger_rows.rejected_rows(came.batch.rejected, known, visit),
            "flagged_rows": ledger_rows.flagged_rows(came.batch.flagged, years, visit),
            "withheld": ledger_rows.withheld(
                withheld, read_sound(layout, base, "withheld") if withheld.height else None, visit
            ),
            "closed_gaps": filled,
            "closed_holds": holds.closed,
            "symbols": after.symbols,
            "open_gaps": after.gaps,
            "open_holds": holds.open,
            "actions": ledger_rows.actions(load_actions(layout, base), came, years, split_adjusted=self.split_adjusted),
        }

    def _without_unchanged(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without those of earlier years that are stored as they are: such a year need not be merged.

        So the overlap in January, or a look for what an ended symbol may still bring, rewrites no closed year.
        """
        years = years_in(rows)
        if len(years) <= 1:
            return rows
        year_of_row = rows.get_column("date").dt.year()
        parts = [self._changed(year, rows.filter(year_of_row == year)) for year in years[:-1]]
        return ordered(pl.concat([*parts, rows.filter(year_of_row == years[-1])]))

    def _changed(self, year: int, rows: pl.DataFrame) -> pl.DataFrame:
        partition = self.transaction.base.partition(year) if self.transaction.base else None
        if partition is None:
            return rows
        try:
            stored = pl.scan_parquet(sound_path(self.manifests.layout, partition), glob=False)
            known = stored.join(rows.lazy().select(ORDER), on=ORDER, how="semi").collect()
        except (ChecksumMismatchError, StorageError):
            return rows  # the merge tells of the damage
        return rows.join(known, on=[*ORDER, *COMPARED], how="anti", nulls_equal=True, maintain_order="left")

    def _traded(self, sessions: pl.Series) -> pl.Series:
        """Of some sessions, those on which any stored symbol has a bar."""
        base = self.transaction.base
        found = [sessions.clear()]
        for partition in base.partitions if base else ():
            days = sessions.filter(sessions.dt.year() == partition.year)
            if days.len():
                try:
                    rows = pl.scan_parquet(sound_path(self.manifests.layout, partition), glob=False)
                except ChecksumMismatchError as damage:
                    _log.warning("%s Whether others traded then is not known", damage)
                    continue
                here = rows.filter(pl.col("date").is_in(days.implode())).select(pl.col("date").unique()).collect()
                found.append(here.get_column("date"))
        return pl.concat(found)


def _withheld(came: Reconciled, years: Sequence[MergedYear], account: Account) -> pl.DataFrame:
    """The cells that the source did not give though they are stored, or though their series has them."""
    parts = [year.differences.withheld for year in years if year.differences.withheld is not None]
    added = [year.differences.added for year in years if year.differences.added.height]
    if added and came.batch.rows.get_column("adj_close").null_count():
        symbols = account.symbols.filter(~pl.col("symbol").is_in(list(came.as_came)))
        parts.append(without_adj_close(came.batch.rows, pl.concat(added), symbols))
    cells = pl.concat([pl.DataFrame(schema=CELLS), *parts])
    if cells.is_empty():
        return cells
    cells = cells.unique(maintain_order=True)
    # What the row rules made null is told in `flagged_rows`.
    flagged = cells.filter(pl.col("column") != "adj_close", pl.col("stored").is_null(), pl.col("came").is_null())
    flagged = flagged.join(came.batch.flagged, on=ORDER, how="semi")
    return cells.join(flagged, on=cells.columns, how="anti", nulls_equal=True, maintain_order="left")


def _stored_years(transaction: Transaction, layout: Layout, rows: pl.DataFrame) -> StoredYears:
    """The base of the merge, without damaged years that the new rows replace as a whole."""
    base = transaction.base
    for year in years_in(rows):
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
    partitions = [stored.partition(year) for year in years_in(rows)]
    merged_rows = rows.height + sum(partition.rows for partition in partitions if partition)
    bytes_per_row = rows.estimated_size() / max(1, rows.height)
    status = manifests.check_disk_space(required_for_merge(int(merged_rows * bytes_per_row)))
    if status.level != "ok":
        tally.disk_warnings.append(str(status))
