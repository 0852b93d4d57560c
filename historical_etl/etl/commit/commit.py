"""The part of a run that holds the writer lock: merge → gate → objects → ledgers → manifest → daily/ → progress."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from historical_etl.errors import ChecksumMismatchError
from historical_etl.etl.commit import ledger_rows
from historical_etl.etl.completeness import (
    Completeness,
    FetchAttempt,
    GapPolicy,
    load_actions,
    stored_keys,
    update_completeness,
)
from historical_etl.etl.merge import (
    WITHHELD_SCHEMA,
    Gate,
    GrowingYear,
    MergedYear,
    StoredYears,
    merge_years,
    without_adj_close,
)
from historical_etl.etl.reconcile import Reconciled, StoredLevels
from historical_etl.models import Partition, SyncManifest
from historical_etl.one_behind import one_behind
from historical_etl.schema import ORDER, years_in
from historical_etl.sessions import SessionCalendar
from historical_etl.store.failed_runs import RunRecord, drop_notes, read_notes
from historical_etl.store.ledgers import LedgerChanges, read_undamaged
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.parquet import Block
from historical_etl.store.transaction import CopiedYear, Provenance, Transaction
from historical_etl.store.verified_files import verified_path
from historical_etl.store.volume import required_for_merge

__all__ = ["Commit", "Draft", "Prepared"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A batch that is merged: all that its version will hold. Nothing of it is current yet.

    Attributes:
        completeness: of the version.
        ledgers: the rows that it adds to the ledgers, and the tables that it replaces.
        additions: the sessions that it adds.
        withheld: the cells that the source did not give.
        rows: how many rows the batch stores, those included that are stored already.
        provenance: the source of the rows.
        disk_warning: what is to be said of the space on the disk; may be empty.
        rebuilt: a warning for each damaged year that is replaced as a whole.
    """

    completeness: Completeness
    ledgers: LedgerChanges
    additions: pl.DataFrame
    withheld: pl.DataFrame
    rows: int
    provenance: Provenance
    disk_warning: str
    rebuilt: Sequence[str]


@dataclass(frozen=True)
class Draft:
    """What is to be committed: the manifest, the base's own where nothing changed; and the notes that are in it."""

    manifest: SyncManifest | None
    notes: list[RunRecord]


@dataclass(frozen=True)
class Commit:
    """Writes a reconciled batch.

    Attributes:
        transaction: opened under the lock.
        manifests: the store's manifest manager.
        calendar: the exchange's sessions.
        gap_policy: how long to ask for what does not come.
        gate: judges each changed month.
        split_adjusted: whether the source's close is adjusted for splits already.
        provenance: the source of the rows.
    """

    transaction: Transaction
    manifests: ManifestManager
    calendar: SessionCalendar
    gap_policy: GapPolicy
    gate: Gate
    split_adjusted: bool
    provenance: Provenance

    def prepare(
        self,
        reconciled: Reconciled,
        completeness: Completeness,
        attempt: FetchAttempt,
        left: pl.DataFrame,
        place: Callable[[CopiedYear], None],
    ) -> Prepared:
        """Merge rows into the stored years, and write those that change into files.

        Args:
            reconciled: what may be stored, held against the version that this builds on.
            completeness: of that version.
            attempt: what was asked for.
            left: (symbol, date) of stored rows on days that have left the calendar: they are removed, too.
            place: takes each year that is copied, for `Transaction.place_year`, which must be over before `save`.

        Raises:
            DataQualityError, DiskSpaceError, StorageError: nothing was committed.
        """
        rows = reconciled.batch.rows
        lead_in = reconciled.batch.context
        stored, rebuilt = self._stored_years(rows, completeness)
        disk_warning = _disk_warning(self.manifests, stored, rows)
        dropped = (
            pl.concat([reconciled.dropped, left.select(reconciled.dropped.columns)]).unique()
            if left.height
            else reconciled.dropped
        )
        years: list[MergedYear] = []
        off = years_in(left)
        with one_behind(partial(self._write_year, place=place)) as write_year:
            for year in merge_years(
                rows,
                lead_in,
                dropped,
                stored,
                self.gate,
                reconciled.overwritten,
                may_be_emptied=off,
                begin=write_year,
            ):
                if year.changes and not year.is_begun:
                    write_year(GrowingYear.after(year))
                years.append(year)
            after, filled = update_completeness(completeness, attempt, self.calendar, self.gap_policy, self._traded)
            after = after.stamped(attempt.version, attempt.at)
            withheld = self._withheld(reconciled, years, completeness)
            ledgers = self._ledgers(reconciled, years, attempt, after, filled, left, withheld)
        bases: list[str] = after.symbols.get_column("adjustment").unique().drop_nulls().sort().to_list()
        provenance = replace(self.provenance, adjustment="; or ".join(bases) or self.provenance.adjustment)
        return Prepared(
            completeness=after,
            ledgers=ledgers,
            additions=ledger_rows.additions(years, attempt),
            withheld=withheld,
            rows=reconciled.batch.rows.height,
            provenance=provenance,
            disk_warning=disk_warning,
            rebuilt=rebuilt,
        )

    def _stored_years(self, rows: pl.DataFrame, completeness: Completeness) -> tuple[StoredYears, list[str]]:
        """The base of the merge without damaged years of which the new rows have every bar, and a warning for each."""
        transaction, base, rebuilt = self.transaction, self.transaction.base, list[str]()
        for year in years_in(rows):
            partition = base.partition(year) if base else None
            if base is None or partition is None:
                continue
            try:
                transaction.stored_blocks(year)
            except ChecksumMismatchError as damage:
                if not self._replaces(partition, rows, completeness):
                    raise
                rebuilt.append(
                    f"{damage.what}: {year} was rebuilt from bars that were fetched anew, and what has changed of "
                    "them is in no ledger"
                )
                _log.warning("%s", rebuilt[-1])
                base = base.model_copy(update={"partitions": tuple(p for p in base.partitions if p != partition)})
        present = {partition.year for partition in base.partitions} if base else set[int]()

        def blocks(year: int) -> list[Block]:
            return transaction.stored_blocks(year) if year in present else []

        return StoredYears(base, self.manifests.layout, blocks), rebuilt

    def _replaces(self, partition: Partition, rows: pl.DataFrame, completeness: Completeness) -> bool:
        """Whether new rows have every bar of a year that cannot be read."""
        stored = stored_keys(completeness, self.calendar, partition.year)
        if stored.height == partition.rows:
            return stored.join(rows, on=ORDER, how="anti").is_empty()
        # The ledgers that say which bars it has are damaged as well: all that is known is how many.
        span = pl.col("date").is_between(partition.first_session, partition.last_session)
        new = rows.filter(span)
        return new.height >= partition.rows and new.get_column("symbol").n_unique() >= partition.symbols

    def _write_year(self, year: GrowingYear, place: Callable[[CopiedYear], object]) -> None:
        merged = year.merged.result
        if not year.kept and not merged().blocks:
            self.transaction.empty_year(year.year)
            return
        copied = self.transaction.copy_year(year.year, year.blocks(), lambda: merged().symbols)
        with ExitStack() as unless_taken:
            unless_taken.enter_context(copied.opened)
            place(copied)
            unless_taken.pop_all()
        merged().blocks.clear()  # a run may touch thirty years

    def draft(self, prepared: Prepared, run: RunRecord) -> Draft:
        """The version as it is to be, with the record of the run in its ledgers. All years are copied by then.

        Raises:
            StorageError: nothing was committed.
        """
        notes = read_notes(self.manifests.layout)
        accompanying = {"additions": prepared.additions, "runs": ledger_rows.run_rows([*notes, run])}
        return Draft(self.transaction.draft(prepared.provenance, prepared.ledgers, accompanying), notes)

    def save(self, draft: Draft) -> SyncManifest | None:
        """Commit all years and ledgers at once; gives the version that is current then.

        Raises:
            DiskSpaceError, StorageError: nothing was committed.
        """
        manifest = self.transaction.save(draft.manifest)
        if manifest is not self.transaction.base:
            drop_notes(self.manifests.layout, draft.notes)
        return manifest

    def _ledgers(
        self,
        reconciled: Reconciled,
        years: Sequence[MergedYear],
        attempt: FetchAttempt,
        after: Completeness,
        filled: pl.DataFrame,
        left: pl.DataFrame,
        withheld: pl.DataFrame,
    ) -> LedgerChanges:
        layout, base = self.manifests.layout, self.transaction.base
        holds = ledger_rows.holds(read_undamaged(layout, base, "open_holds"), reconciled, attempt)
        known = read_undamaged(layout, base, "rejected_rows") if reconciled.batch.rejected.height else None
        return {
            "corrections": ledger_rows.corrections(years, reconciled.restated, attempt),
            "restatements": ledger_rows.restatements(reconciled, years, attempt),
            "replaced_rows": ledger_rows.replaced_rows(years, reconciled, attempt, left, self.calendar),
            "stale_bars": ledger_rows.stale_bars(reconciled, attempt),
            "rejected_rows": ledger_rows.rejected_rows(reconciled.batch.rejected, known, attempt),
            "flagged_rows": ledger_rows.flagged_rows(reconciled.batch.flagged, years, attempt),
            "withheld": ledger_rows.withheld(
                withheld, read_undamaged(layout, base, "withheld") if withheld.height else None, attempt
            ),
            "closed_gaps": filled,
            "closed_holds": holds.closed,
            "symbols": after.symbols,
            "open_gaps": after.gaps,
            "open_holds": holds.open,
            "actions": ledger_rows.actions(
                load_actions(layout, base), reconciled, years, split_adjusted=self.split_adjusted
            ),
        }

    def _withheld(
        self, reconciled: Reconciled, years: Sequence[MergedYear], completeness: Completeness
    ) -> pl.DataFrame:
        """The cells that the source did not give though they are stored, or though their series has them."""
        parts = [year.differences.withheld for year in years if year.differences.withheld is not None]
        added = [year.differences.added for year in years if year.differences.added.height]
        if added and reconciled.batch.rows.get_column("adj_close").null_count():
            symbols = completeness.symbols.filter(~pl.col("symbol").is_in(list(reconciled.overwritten)))
            layout, base = self.manifests.layout, self.transaction.base
            stored, reported = StoredLevels(layout, base), read_undamaged(layout, base, "withheld")
            parts.append(without_adj_close(reconciled.batch.rows, pl.concat(added), symbols, stored.after, reported))
        cells = pl.concat([pl.DataFrame(schema=WITHHELD_SCHEMA), *parts])
        if cells.is_empty():
            return cells
        cells = cells.unique(maintain_order=True)
        # What the row rules made null is reported in `flagged_rows`.
        flagged = cells.filter(pl.col("column") != "adj_close", pl.col("stored").is_null(), pl.col("came").is_null())
        flagged = flagged.join(reconciled.batch.flagged, on=ORDER, how="semi")
        return cells.join(flagged, on=cells.columns, how="anti", nulls_equal=True, maintain_order="left")

    def _traded(self, sessions: pl.Series) -> pl.Series:
        """Of some sessions, those on which any stored symbol has a bar."""
        base = self.transaction.base
        found = [sessions.clear()]
        for partition in base.partitions if base else ():
            days = sessions.filter(sessions.dt.year() == partition.year)
            if days.len():
                try:
                    rows = pl.scan_parquet(verified_path(self.manifests.layout, partition), glob=False)
                except ChecksumMismatchError as damage:
                    _log.warning("%s Whether others traded then is not known", damage)
                    continue
                here = rows.filter(pl.col("date").is_in(days.implode())).select(pl.col("date").unique()).collect()
                found.append(here.get_column("date"))
        return pl.concat(found)


def _disk_warning(manifests: ManifestManager, stored: StoredYears, rows: pl.DataFrame) -> str:
    partitions = [stored.partition(year) for year in years_in(rows)]
    merged_rows = rows.height + sum(partition.rows for partition in partitions if partition)
    bytes_per_row = rows.estimated_size() / max(1, rows.height)
    status = manifests.check_disk_space(required_for_merge(int(merged_rows * bytes_per_row)))
    return "" if status.level == "ok" else str(status)
