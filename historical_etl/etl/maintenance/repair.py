"""Repair what can be repaired with certainty, and say of the rest which years and symbols to fetch again.

Repaired are manifests from their history, files from equal bytes elsewhere, `daily/`, pins, ledgers that follow from
the data, progress, the catalog. Nothing is deleted: what is replaced goes to quarantine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import BaseModel, ConfigDict

from historical_etl.durable import storage_errors
from historical_etl.errors import ChecksumMismatchError, HistoricalETLError, ManifestCorruptError
from historical_etl.etl.commit import publish_catalog, run_of, run_rows
from historical_etl.etl.completeness import load_actions, load_completeness, rebuild_completeness
from historical_etl.etl.context import StoreContext
from historical_etl.models import ETLProgressManifest, ETLResult, LedgerFile, Partition, SyncManifest
from historical_etl.regular_files import read_regular
from historical_etl.schema import earliest
from historical_etl.store.ledger_schemas import STATES, empty_ledger
from historical_etl.store.ledgers import LedgerChanges, read_ledger
from historical_etl.store.pins import read_pins
from historical_etl.store.progress import parse_progress, save_progress
from historical_etl.store.quarantine import read_entries
from historical_etl.store.transaction import Provenance, Transaction
from historical_etl.store.verified_files import verified_path
from historical_etl.store.verify import (
    Damage,
    VerifyReport,
    catalog_findings,
    repair_daily,
    repair_files,
    repair_history,
    repair_misplaced,
    repair_pins,
    spare_years,
    unlinked_years,
)

__all__ = ["Refetch", "RepairReport", "ToFetch", "repair"]

#: How a year is fetched again.
Refetch = Callable[[int, list[str]], ETLResult]
_REBUILDABLE: Final = ("symbols", "open_gaps", "actions")


class ToFetch(BaseModel):
    """A year whose file is damaged and has no equal bytes anywhere, and the symbols that were in it.

    `older` is the newest kept version whose file of that year is sound, if there is one.
    """

    model_config = ConfigDict(frozen=True)

    year: int
    symbols: tuple[str, ...]
    older: int | None = None


class RepairReport(BaseModel):
    """What a repair did.

    `mended` and `lost` say it in words; `to_fetch` are the years that must be fetched again; `check` is what `verify`
    found afterwards.
    """

    model_config = ConfigDict(frozen=True)

    version: int | None = None
    mended: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    to_fetch: tuple[ToFetch, ...] = ()
    fetched: tuple[int, ...] = ()
    check: VerifyReport = VerifyReport()

    @property
    def ok(self) -> bool:
        """True if nothing is damaged any more."""
        return not self.to_fetch and self.check.ok


@dataclass
class _Repair:
    store: StoreContext
    mended: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])


def repair(store: StoreContext, verify: Callable[[], VerifyReport], refetch: Refetch | None = None) -> RepairReport:
    """Repair a store; see the page of this module.

    Args:
        store: to be repaired.
        verify: checks all of it, at the end.
        refetch: fetches years that are lost; None only tells of them.

    Raises:
        ConfigurationError: no run has ever left anything here.
        ManifestCorruptError: no manifest is left that could be used: restore one from a backup.
        LockTimeoutError, StorageError: what was repaired until then is unchanged.
    """
    store.require_store()
    with storage_errors("repairing the store", store.layout.root, "what was repaired until then is unchanged"):
        work = _Repair(store)
        current, damage = _repair_files(work)
        to_fetch = _to_fetch(store, damage, current)
        fetched = _fetch(work, to_fetch, refetch)
        to_fetch = [year for year in to_fetch if year.year not in fetched]
        if not to_fetch:
            _repair_derived(work)
        elif broken := [file.path for file, _ in damage.values() if isinstance(file, LedgerFile)]:
            work.lost.append(f"{len(broken)} file(s) of ledgers are damaged: repair again once the years are fetched")
        final = store.manifest()
        return RepairReport(
            version=final.version if final else None,
            mended=tuple(work.mended),
            lost=tuple(work.lost),
            to_fetch=tuple(to_fetch),
            fetched=tuple(fetched),
            check=verify(),
        )


def _repair_files(work: _Repair) -> tuple[SyncManifest | None, Damage]:
    """Repair manifests, files and pins; returns the current version, and what is damaged still of its files."""
    store = work.store
    with store.lock() as token:
        work.mended += repair_misplaced(store.manifests)
        was, unlinked, spare = _bytes(store.layout.manifest_file()), *_unlinked(store)
        before = set(store.manifests.quarantine.entries())
        current = Transaction(store.manifests, token, store.retention).base
        quarantined = [entry for entry in read_entries(store.layout) if entry.path not in before]
        for entry in quarantined:
            name = entry.moved_from or entry.file or entry.name
            work.mended.append(f"{name} was quarantined: {entry.reason}; it is now in {entry.path}")
        if current is not None and was != _bytes(store.layout.manifest_file()):
            work.mended.append(f"the current manifest is restored: version {current.version}")
        work.lost += repair_history(store.manifests, current)
        work.mended += repair_pins(store.manifests)
        if current is None:
            return None, {}
        restored, damage = repair_files(store.manifests, _versions(store, current))
        work.mended += restored
        _give_up_older(work, current, damage)
        work.mended += repair_daily(store.manifests, current)
        linked = sorted(unlinked - unlinked_years(store.layout, current))
        work.mended += [f"daily/{year}.parquet is linked to its object again" for year in linked]
        gone = spare - spare_years(store.layout, current) - {str(Path(e.moved_from or "").name) for e in quarantined}
        work.mended += [
            f"daily/{name} is not of version {current.version}, and is shown no more" for name in sorted(gone)
        ]
    return current, {path: found for path, found in damage.items() if current.version in found[1]}


def _repair_derived(work: _Repair) -> None:
    """Once all years are sound: ledgers, progress and the catalog, which follow from them."""
    store = work.store
    with store.lock() as token:
        transaction = Transaction(store.manifests, token, store.retention)
        if transaction.base is None:
            return
        _, damage = repair_files(store.manifests, [transaction.base])
        current = _repair_ledgers(work, transaction, damage)
        work.mended += repair_daily(store.manifests, current)
    _repair_progress(work)
    _repair_catalog(work)


def _versions(store: StoreContext, current: SyncManifest) -> list[SyncManifest]:
    """The kept versions, newest first."""
    older = [v for v in store.manifests.list_versions() if v < current.version]
    return [current, *(store.manifests.load_version(v) for v in reversed(older))]


def _give_up_older(work: _Repair, current: SyncManifest, damage: Damage) -> None:
    """Quarantine older versions that lack a year for good, unless they are pinned.

    A year that the current version lacks too may come back by fetching it; a ledger's file is not worth a version.
    """
    store = work.store
    pinned = {pin.version: name for name, pin in read_pins(store.layout).items()}
    broken: dict[int, list[Path]] = {}
    for path, (file, needed_by) in damage.items():
        for version in needed_by if isinstance(file, Partition) and current.version not in needed_by else ():
            broken.setdefault(version, []).append(store.layout.resolve(path))
    for version, paths in sorted(broken.items()):
        lacks = f"version {version} lacks {', '.join(path.name for path in paths)}"
        if version in pinned:
            work.lost.append(f"{lacks}; it stays, since {pinned[version]} pins it: restore the file from a backup")
            continue
        for path in paths:
            if path.exists():
                store.manifests.quarantine_data(path, "its SHA-256 is not the committed one")
        quarantined = store.manifests.quarantine_data(store.layout.history_file(version), lacks)
        work.lost.append(f"{lacks}, and is not offered any more; its manifest is in {quarantined}")


# ── ledgers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _repair_ledgers(work: _Repair, transaction: Transaction, damage: Damage) -> SyncManifest:
    """Commit a version without the damaged ledger files: what follows from the data is rebuilt, the rest is lost."""
    current = transaction.base
    assert current is not None  # noqa: S101 - the caller's condition
    broken = {
        name: [file for file in files if file.path in damage]
        for name, files in current.ledgers.items()
        if any(file.path in damage for file in files)
    }
    if not broken:
        return current
    changes = _rebuilt(work.store, current, broken)
    _quarantine(work.store, broken)  # what is rebuilt may have the very name
    for name, files in broken.items():
        rows = sum(file.rows for file in files)
        if name == "actions" and (first := _first_named(work.store, current)) is not None:
            work.lost.append(
                "the splits and dividends that the source had named are lost, but for what adj_close implies: "
                f"`historical-etl backfill --rebuild --from {first.year}` asks for them, and prices by `adjust` may be "
                "wrong until then"
            )
        elif name in _REBUILDABLE:
            work.mended.append(f"the ledger {name} is rebuilt from the data")
        elif name == "aliases":
            work.lost.append("the ledger aliases is lost: tell the renames again, `historical-etl rename`")
        elif name in STATES:
            work.lost.append(f"the ledger {name} is lost: the next update finds again what is suspicious")
        else:
            work.lost.append(f"{rows:,} row(s) of the ledger {name} are lost; no price is affected")
    transaction.forget([file.path for files in broken.values() for file in files])
    message = f"ledgers repaired: {', '.join(sorted(broken))}"
    run = run_of(transaction, "repair", work.store.writer_id, current, message)
    committed = transaction.commit(Provenance.of(current), changes, {"runs": run_rows([run])})
    assert committed is not None  # noqa: S101 - there is a version
    return committed


def _first_named(store: StoreContext, current: SyncManifest) -> date | None:
    """The first stored session of the symbols whose source names events; None if there are none."""
    symbols = load_completeness(store.layout, current, store.calendar).symbols
    return earliest(symbols.filter(pl.col("names_events").fill_null(value=False)).get_column("first_session"))


def _rebuilt(store: StoreContext, current: SyncManifest, broken: Mapping[str, list[LedgerFile]]) -> LedgerChanges:
    completeness = rebuild_completeness(store.layout, current, store.calendar)
    rebuilt = {
        "symbols": completeness.symbols,
        "open_gaps": completeness.gaps,
        "actions": load_actions(store.layout, current),
        "open_holds": empty_ledger("open_holds"),
    }
    of_completeness = {"symbols", "open_gaps"}
    wanted = {*broken, *(of_completeness if of_completeness & set(broken) else ())}
    return {name: rows for name, rows in rebuilt.items() if name in wanted}


def _quarantine(store: StoreContext, broken: Mapping[str, list[LedgerFile]]) -> None:
    for files in broken.values():
        for file in files:
            path = store.layout.resolve(file.path)
            if path.exists():
                store.manifests.quarantine_data(path, f"its SHA-256 was not {file.checksum}")


# ── years ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _to_fetch(store: StoreContext, damage: Damage, current: SyncManifest | None) -> list[ToFetch]:
    years = sorted(file.year for file, _ in damage.values() if isinstance(file, Partition))
    if not years or current is None:
        return []
    known = _known_symbols(store, current)
    return [
        ToFetch(
            year=year,
            symbols=tuple(symbol for symbol, first, last in known if first.year <= year <= last.year),
            older=_intact_elsewhere(store, current, year),
        )
        for year in years
    ]


def _known_symbols(store: StoreContext, current: SyncManifest) -> list[tuple[str, date, date]]:
    """Symbols with their first and last stored session: by the ledger, or where it is damaged by the sound years."""
    try:
        symbols = read_ledger(store.layout, current, "symbols")
    except ChecksumMismatchError:
        symbols = rebuild_completeness(store.layout, current, store.calendar, tolerant=True).symbols
    rows = symbols.select("symbol", "first_session", "last_session").drop_nulls().sort("symbol")
    return list(rows.iter_rows())


def _intact_elsewhere(store: StoreContext, current: SyncManifest, year: int) -> int | None:
    for version in reversed(store.manifests.list_versions()):
        if version >= current.version:
            continue
        partition = store.manifests.load_version(version).partition(year)
        if partition is not None:
            try:
                verified_path(store.layout, partition)
            except ChecksumMismatchError:
                continue
            return version
    return None


def _fetch(work: _Repair, years: list[ToFetch], refetch: Refetch | None) -> list[int]:
    fetched: list[int] = []
    for lost in years if refetch else ():
        assert refetch is not None  # noqa: S101 - the loop's condition
        try:
            refetch(lost.year, list(lost.symbols))
        except HistoricalETLError as error:
            work.lost.append(f"{lost.year} could not be fetched again: {error}")
            continue
        work.mended.append(f"{lost.year} is fetched again: {len(lost.symbols)} symbol(s)")
        fetched.append(lost.year)
    return fetched


# ── what follows from the data ───────────────────────────────────────────────────────────────────────────────────────


def _repair_progress(work: _Repair) -> None:
    store = work.store
    with store.lock():
        manifest = store.manifest()
        if manifest is None:
            return
        try:
            cursors = rebuild_completeness(store.layout, manifest, store.calendar).cursors()
        except ChecksumMismatchError as error:
            work.lost.append(f"progress is not rebuilt: {error.what}")
            return
        path = store.layout.progress_file()
        damaged = path.exists() and _parsed(path) is None
        saved = store.progress()  # moves a damaged file aside
        if saved is not None and (saved.data_version, saved.symbol_last_dates) == (manifest.version, cursors):
            return
        if path.exists():
            store.manifests.quarantine.copy_bytes(
                path.name, read_regular(path), "its cursors were not those of the data", manifest.dataset
            )
        base = saved or ETLProgressManifest(last_updated=store.clock(), status="completed")
        changes = {"last_updated": store.clock(), "symbol_last_dates": cursors, "data_version": manifest.version}
        save_progress(store.layout, base.model_copy(update=changes), fetched=False)
        work.mended.append(f"progress is rebuilt from the data{', since it was damaged' if damaged else ''}")


def _repair_catalog(work: _Repair) -> None:
    store = work.store
    manifest = store.manifest()
    if manifest is None:
        return
    found = list(catalog_findings(store.layout, manifest, store.catalog.version_in_file, quick=False))
    if not found:
        return
    if any(finding.severity == "error" for finding in found) and store.catalog.path.is_file():
        store.manifests.quarantine_data(store.catalog.path, found[0].message)
    publish_catalog(store)
    work.mended.append(f"the catalog is published: version {manifest.version}")


def _unlinked(store: StoreContext) -> tuple[set[int], set[str]]:
    """The years that daily/ does not show as it should, and the files of none; asked before they are repaired."""
    try:
        manifest = store.manifests.load_manifest()
    except ManifestCorruptError:
        return set(), set()
    if manifest is None:
        return set(), set()
    return unlinked_years(store.layout, manifest), spare_years(store.layout, manifest)


def _bytes(path: Path) -> bytes | None:
    try:
        return read_regular(path)
    except OSError:
        return None


def _parsed(path: Path) -> ETLProgressManifest | None:
    try:
        return parse_progress(read_regular(path))
    except (OSError, ValueError):
        return None
