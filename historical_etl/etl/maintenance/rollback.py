"""Rollback: a new version that equals an older one; data, ledgers and cursors together."""

from historical_etl.etl.commit import run_of, run_rows
from historical_etl.etl.context import VersionState
from historical_etl.models import ETLProgressManifest, SyncManifest
from historical_etl.store.newer_release import refuse_unknown_fields
from historical_etl.store.progress import forget_progress, save_progress
from historical_etl.store.transaction import Transaction

__all__ = ["roll_back"]


def roll_back(state: VersionState, version: int | str, reason: str = "") -> SyncManifest:
    """Commit an older version's content under a new number; later versions stay as long as they are kept.

    Only the ledger `runs` continues that of the version that was current: it records the rollback, too.

    Returns the current version: the one before, if it equals the older one already.

    Raises:
        ConfigurationError: the version is not kept.
        ManifestTooNewError: it holds what this release would drop; nothing was changed.
        ChecksumMismatchError: a file of it is damaged; nothing was changed.
        LockTimeoutError, StorageError: nothing was committed.
        ETLProgressError: it is committed, but progress was not saved.
    """
    store = state.context
    with store.lease(version) as wanted, store.lock() as token:
        refuse_unknown_fields(store.layout, versions=[wanted.version])
        transaction = Transaction(store.manifests, token, store.retention)
        base = transaction.base
        if base is not None and _same(base, wanted):
            restored = base
        else:
            # Its resume speaks of years as they were; without it, cursors are those of the version.
            forget_progress(store.layout)
            message = f"to version {wanted.version}{f': {reason}' if reason else ''}"
            run = run_of(transaction, "rollback", store.writer_id, wanted, message)
            restored = transaction.restore(wanted, {"runs": run_rows([run])})
        _follow(state, restored, transaction)
    return restored


def _follow(state: VersionState, restored: SyncManifest, transaction: Transaction) -> None:
    """Save the progress of what is stored; also where a rollback that was broken off had only that left to do."""
    saved = state.context.progress()
    if saved is not None and saved.data_version == restored.version:
        return
    progress = ETLProgressManifest(
        last_updated=transaction.at,
        symbol_last_dates=state.completeness_of(restored).cursors(),
        status="completed",
        data_version=restored.version,
    )
    save_progress(state.context.layout, progress, fetched=False)


def _same(one: SyncManifest, other: SyncManifest) -> bool:
    """Whether two versions have the same bars and ledgers, but for the runs."""
    ledgers = [{name: files for name, files in version.ledgers.items() if name != "runs"} for version in (one, other)]
    return one.partitions == other.partitions and ledgers[0] == ledgers[1]
