"""What is known of a store without reading any data: one look at its small files.

Fast: no DuckDB, and Polars only where the ledgers have something to tell.
Nothing is written and no lock is taken; a damaged file is reported, not moved. Whether the data is as committed is
`store.verify`'s question, and how many sessions are missing is the calendar's.
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from historical_etl.calendar_corrections import corrections_text, digest_of
from historical_etl.calendar_record import NEAR_THE_END, CalendarRecord, installed_release
from historical_etl.clock import Clock
from historical_etl.errors import ChecksumMismatchError, ConfigurationError, DiskSpaceError, StorageError
from historical_etl.models import ETLProgressManifest, Partition, SyncManifest
from historical_etl.regular_files import read_regular
from historical_etl.store.catalog_version import is_of, read_catalog_pointer
from historical_etl.store.commit_times import clock_trouble
from historical_etl.store.failed_runs import read_notes
from historical_etl.store.layout import Layout
from historical_etl.store.lock import Holder, live_holder
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import parse_progress
from historical_etl.store.quarantine import Quarantine
from historical_etl.strict_json import object_of

if TYPE_CHECKING:
    from historical_etl.settings import Settings

__all__ = ["FailedRun", "HeldSymbol", "QuarantineSummary", "Restated", "StoreStatus", "UnfinishedRun", "read_status"]

_NEWEST = 3


class UnfinishedRun(BaseModel):
    """A backfill that has not committed all its years."""

    years_completed: tuple[int, ...]
    years_remaining: tuple[int, ...]
    status: str
    since: datetime


class QuarantineSummary(BaseModel):
    """One entry of `quarantine/`, and why it is there."""

    entry: str
    reason: str
    quarantined_at: str = ""


class HeldSymbol(BaseModel):
    """A symbol that is held, the rule's code, the session that is suspicious, and the version that began it."""

    symbol: str
    code: str
    session: date | None
    version: int


class Restated(BaseModel):
    """A history that was replaced: new level to old, in which version, and when."""

    symbol: str
    ratio: float | None
    version: int
    committed_at: datetime


class FailedRun(BaseModel):
    """A run that committed nothing because its source or its data failed; `since_then` if a later run went through."""

    command: str
    finished: datetime
    message: str
    since_then: bool


class StoreStatus(BaseModel):
    """What one look at a store tells; `version` None means that nothing was committed yet.

    `current_through` is None where no bar is stored. `symbols` and `lagging` (symbols whose cursor is before
    `current_through`) are None where progress does not belong
    to the current version. `sessions_missing` is filled by whoever asked the calendar and the source, up to
    `available_through`. Of gaps, holds and restatements None tells that their ledgers could not be read; of the
    restatements and failures only the newest are named. `other_bases` counts the symbols that are stored on another
    price basis than `adjustment`. `plan` tells what the account of the configured source is found out not to be given.
    `catalog_reads` is the folder whose files the catalog reads, if it is another store's: this one is a copy of it, or
    has moved since.
    `calendar_notes` tell that its data end soon, or that it has changed since
    the version was committed, `clock_notes` that the clock is behind the version's stamp.
    """

    model_config = ConfigDict(frozen=True)

    data_dir: str
    version: int | None = None
    committed_at: datetime | None = None
    committed_by: str = ""
    source: str = ""
    source_version: str = ""
    adjustment: str = ""
    plan: str = ""
    calendar: str = ""
    calendar_notes: tuple[str, ...] = ()
    clock_notes: tuple[str, ...] = ()
    current_through: date | None = None
    days_ago: int | None = None
    sessions_missing: int | None = None
    available_through: date | None = None
    rows: int = 0
    size_bytes: int = 0
    symbols: int | None = None
    lagging: dict[str, date] | None = None
    years: tuple[Partition, ...] = ()
    versions_kept: int = 0
    catalog_version: int | None = None
    catalog_reads: str = ""
    unfinished: UnfinishedRun | None = None
    writer: Holder | None = None
    other_bases: dict[str, int] = Field(default_factory=dict[str, int])
    gap_sessions: int | None = 0
    gap_symbols: int | None = 0
    holds: tuple[HeldSymbol, ...] | None = ()
    restatements: int | None = 0
    restated_newest: tuple[Restated, ...] = ()
    failed_newest: tuple[FailedRun, ...] = ()
    quarantine_entries: int = 0
    quarantine_newest: tuple[QuarantineSummary, ...] = ()
    disk_level: Literal["ok", "warning", "critical", "full"] = "ok"
    disk_used_share: float = 0.0
    disk_free_bytes: int = 0
    problems: tuple[str, ...] = Field(default=())


def read_status(layout: Layout, clock: Clock, settings: "Settings | None" = None) -> StoreStatus:
    """Look at the store once.

    Args:
        layout: of the store.
        clock: the time.
        settings: say which calendar counts; without them nothing is said of it.

    Raises:
        ManifestCorruptError: there is data, but no usable manifest.
        StorageError: the folder cannot be read.
    """
    manifests = ManifestManager(layout, clock=clock)
    manifest = manifests.load_manifest()
    progress, problem = _progress(layout)
    facts = _committed(manifest, clock) | _reached(manifest, progress) | _disk(manifests) | _quarantine(layout, clock)
    recorded, unread = _recorded(layout, manifest, progress)
    pointer = read_catalog_pointer(layout)
    calendar, unknown = _calendar(manifests, manifest, clock, settings)
    return StoreStatus.model_validate(
        facts
        | recorded
        | {
            "data_dir": str(layout.root),
            "versions_kept": len(manifests.list_versions()),
            "catalog_version": pointer.version if pointer and layout.catalog.is_file() else None,
            "catalog_reads": "" if pointer is None or is_of(pointer, layout) else pointer.objects,
            "writer": live_holder(layout.lock_file()),
            "calendar_notes": calendar,
            "clock_notes": [note] if (note := clock_trouble(manifests.newest_stamp(), clock())) else [],
            "plan": _plan(settings, clock) if settings is not None else "",
            "problems": [text for text in (problem, unread, unknown) if text],
        }
    )


def _committed(manifest: SyncManifest | None, clock: Clock) -> dict[str, object]:
    if manifest is None:
        return {}
    return {
        "version": manifest.version,
        "committed_at": manifest.sync_timestamp,
        "committed_by": manifest.writer_id,
        "source": manifest.provider,
        "source_version": manifest.provider_version,
        "adjustment": manifest.adjustment,
        "calendar": manifest.calendar,
        "current_through": manifest.end_date,
        "days_ago": (clock().astimezone(UTC).date() - manifest.end_date).days if manifest.end_date else None,
        "rows": manifest.row_count,
        "size_bytes": sum(partition.size_bytes for partition in manifest.partitions),
        "years": manifest.partitions,
    }


def _plan(settings: "Settings", clock: Clock) -> str:
    from historical_etl.sources.vendors.subscription import book_of

    book = book_of(settings, clock)
    return book.known.in_words(book.today) if book and book.known else ""


def _calendar(
    manifests: ManifestManager, manifest: SyncManifest | None, clock: Clock, settings: "Settings | None"
) -> tuple[list[str], str | None]:
    """What is to be said of the calendar; and what went wrong in looking. It is loaded only where there is a doubt."""
    if manifest is None or settings is None or _is_sure(manifest, clock, settings):
        return [], None
    from historical_etl.etl.context import StoreContext, VersionState

    context = StoreContext(manifests.layout, settings, clock, "status", manifests)
    state = VersionState(context)
    try:
        refused = state.calendar_error()
        notes = [str(refused)] if refused else state.calendar_notes()
        if context.calendar.ends_soon(clock()):
            notes.append(context.calendar.end_in_words())
    except (ChecksumMismatchError, StorageError, ConfigurationError) as error:
        return [], str(error)
    return notes, None


def _is_sure(manifest: SyncManifest, clock: Clock, settings: "Settings") -> bool:
    """Whether the calendar of the manifest is surely the one that counts, and far from its end."""
    recorded = CalendarRecord.parse(manifest.calendar)
    if recorded is None or clock().date() >= recorded.last - NEAR_THE_END:
        return False
    try:
        own = digest_of(corrections_text(settings.calendar_corrections)) if settings.calendar_corrections else ""
    except ConfigurationError:
        return False
    now = (installed_release(), settings.exchange, own)
    return (recorded.release, recorded.exchange, recorded.own) == now


def _progress(layout: Layout) -> tuple[ETLProgressManifest | None, str | None]:
    try:
        return parse_progress(read_regular(layout.progress_file())), None
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError):
        return None, "The progress file is damaged; the next run rebuilds it from the data"


def _reached(manifest: SyncManifest | None, progress: ETLProgressManifest | None) -> dict[str, object]:
    if progress is None or manifest is None or progress.data_version > manifest.version:
        return {}
    facts: dict[str, object] = {}
    if progress.data_version == manifest.version:
        cursors = progress.symbol_last_dates
        facts["symbols"] = len(cursors)
        last = manifest.end_date or date.min
        facts["lagging"] = {symbol: day for symbol, day in cursors.items() if day < last}
    if progress.status != "completed" and progress.years_remaining:
        facts["unfinished"] = UnfinishedRun(
            years_completed=tuple(progress.years_completed),
            years_remaining=tuple(progress.years_remaining),
            status=progress.status,
            since=progress.last_updated,
        )
    return facts


def _recorded(
    layout: Layout, manifest: SyncManifest | None, progress: ETLProgressManifest | None
) -> tuple[dict[str, object], str | None]:
    """What the ledgers and the notes tell; and what went wrong in reading them."""
    # Each run that goes through saves its progress, and one that changes nothing makes no version.
    through = progress.last_updated if progress else None
    failed: list[dict[str, object]] = [
        {
            "command": note.command,
            "finished": note.finished,
            "message": note.message,
            "since_then": through is not None and through > note.finished,
        }
        for note in read_notes(layout)
        if note.status == "failed"
    ]
    if manifest is None or not _is_listed(manifest):
        return {"failed_newest": _newest_first(failed)}, None
    try:
        facts, earlier = _from_ledgers(layout, manifest)
    except (ChecksumMismatchError, StorageError) as damage:
        unknown = dict.fromkeys(("gap_sessions", "gap_symbols", "holds", "restatements"))
        return {**unknown, "failed_newest": _newest_first(failed)}, str(damage)
    return {**facts, "failed_newest": _newest_first([*earlier, *failed])}, None


def _is_listed(manifest: SyncManifest) -> bool:
    """Whether the ledgers hold anything to tell of: they are Parquet, and Polars costs as much as all else here."""
    rows = {name: sum(file.rows for file in files) for name, files in manifest.ledgers.items()}
    # Each run that commits adds a row to `runs`; more rows than versions are runs that failed or changed nothing. A
    # person's decision makes a version without a run, but leaves a row in another ledger.
    names = ("open_gaps", "closed_gaps", "open_holds", "closed_holds", "restatements")
    return any(rows.get(name) for name in names) or rows.get("runs", 0) > manifest.version


def _from_ledgers(layout: Layout, manifest: SyncManifest) -> tuple[dict[str, object], list[dict[str, object]]]:
    import polars as pl

    from historical_etl.store.ledgers import read_ledger

    is_open = pl.col("status") == "open"
    gaps = read_ledger(layout, manifest, "open_gaps").filter(is_open)
    holds = read_ledger(layout, manifest, "open_holds").filter(is_open).sort("symbol", "version")
    restatements = read_ledger(layout, manifest, "restatements")
    runs = read_ledger(layout, manifest, "runs")
    fetched = runs.filter(pl.col("status") == "committed", pl.col("symbols") > 0)  # others ask no source
    newest = fetched.get_column("finished").max()
    later = pl.lit(newest if isinstance(newest, datetime) else None) > pl.col("finished")
    failed = runs.filter(pl.col("status") == "failed").with_columns(later.fill_null(value=False).alias("since_then"))
    bases = read_ledger(layout, manifest, "symbols").group_by("adjustment").len().drop_nulls()
    facts: dict[str, object] = {
        "other_bases": {basis: count for basis, count in bases.iter_rows() if basis != manifest.adjustment},
        "gap_sessions": gaps.get_column("sessions").sum(),
        "gap_symbols": gaps.get_column("symbol").n_unique(),
        "holds": holds.select("symbol", "code", "session", "version").to_dicts(),
        "restatements": restatements.height,
        "restated_newest": restatements.tail(_NEWEST).reverse().to_dicts(),
    }
    return facts, failed.select("command", "finished", "message", "since_then").tail(_NEWEST).to_dicts()


def _newest_first(failed: list[dict[str, object]]) -> list[dict[str, object]]:
    return failed[-_NEWEST:][::-1]


def _disk(manifests: ManifestManager) -> dict[str, object]:
    try:
        disk = manifests.check_disk_space(0)
    except DiskSpaceError:
        return {"disk_level": "full"}
    return {"disk_level": disk.level, "disk_used_share": disk.used_share, "disk_free_bytes": disk.free_bytes}


def _quarantine(layout: Layout, clock: Clock) -> dict[str, object]:
    entries = Quarantine(layout, clock).entries()
    newest = tuple(_entry(path) for path in reversed(entries[-_NEWEST:]))
    return {"quarantine_entries": len(entries), "quarantine_newest": newest}


def _entry(path: Path) -> QuarantineSummary:
    try:
        record: object = object_of(read_regular(path / "reason.json"))
    except (OSError, ValueError):
        record = None
    facts = cast("dict[str, object]", record) if isinstance(record, dict) else {}
    return QuarantineSummary(
        entry=path.name,
        reason=str(facts.get("reason", "no reason is recorded")),
        quarantined_at=str(facts.get("quarantined_at", "")),
    )
