"""Repack: write all years in today's layout at once; else each is rewritten when its rows next change."""

from historical_etl.etl.commit import run_of, run_rows
from historical_etl.etl.context import VersionState, nothing_stored
from historical_etl.etl.runs import RunProgress
from historical_etl.models import SyncManifest
from historical_etl.store.newer_release import refuse_unknown_fields
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Provenance, Transaction

__all__ = ["repack"]


def repack(state: VersionState) -> SyncManifest:
    """Commit the current rows in the layout, and by the Polars, of this release; of the ledgers only `runs` changes.

    Returns the current version: the one before, if every year has today's layout already.

    Raises:
        ChecksumMismatchError: a year is damaged; nothing was changed.
        LockTimeoutError, StorageError: nothing was committed.
    """
    store = state.context
    with store.lock() as token:
        refuse_unknown_fields(store.layout)
        transaction = Transaction(store.manifests, token, store.retention)
        base = transaction.base
        if base is None:
            raise nothing_stored(store.layout)
        rewritten: list[int] = []
        for partition in base.partitions:
            blocks = transaction.stored_blocks(partition.year)
            if not all(block.current for block in blocks):
                transaction.write_year(partition.year, blocks, partition.symbols)
                rewritten.append(partition.year)
        current = base
        if rewritten:
            run = run_of(transaction, "repack", store.writer_id, base, f"{len(rewritten)} year(s) in today's layout")
            current = transaction.commit(Provenance.of(base), {}, {"runs": run_rows([run])}) or base
        saved = store.progress()
        if saved is None or saved.data_version != current.version:  # also where a run was broken off before that
            progress = RunProgress(store).after(current, state.completeness_of(current))
            save_progress(store.layout, progress, fetched=False)
    return current
