"""KeptVersions: the versions of a store, listed, compared, cited, kept under a name, and dropped."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import ChecksumMismatchError, ManifestCorruptError, StorageError
from historical_etl.etl.completeness.load import rebuild_completeness
from historical_etl.etl.health.update_blockers import HOLDS, LAST_RUN, update_blockers
from historical_etl.etl.maintenance.archive import export_store
from historical_etl.etl.reader.citation import Citation
from historical_etl.etl.reader.store_folder import is_untouched, nothing_stored
from historical_etl.etl.reader.stored_prices import StoredPrices
from historical_etl.etl.reader.version_diff import changed_years, version_diff
from historical_etl.etl.runs.clock_trust import clock_notes
from historical_etl.models import SyncManifest
from historical_etl.store.ledgers import read_ledger
from historical_etl.store.pins import Pin, drop_pin, read_pins, write_pin
from historical_etl.store.transaction import recover_without_vacuum
from historical_etl.store.vacuum import Retention, VacuumReport, vacuum
from historical_etl.store.verify.findings import StoreFinding, warning
from historical_etl.store.verify.store import VerifyReport, verify_store
from historical_etl.symbols import normalize_symbols

__all__ = ["CALENDAR", "NO_DAMAGE", "VERSIONS", "StoreVersions"]

#: What findings about the calendar are called.
CALENDAR: Final = "calendar"
#: What findings about the clock are called.
CLOCK: Final = "clock"
#: Findings of what is undamaged, and not all good either.
NO_DAMAGE: Final = (CALENDAR, CLOCK, HOLDS, LAST_RUN)

#: Columns of the list of versions. `command` is the run that made it, null where a person decided something;
#: `years_changed` is null where the version before is not kept; `pins` are the names that keep it.
VERSIONS: Final = pl.Schema(
    {
        "version": pl.Int64(),
        "committed_at": pl.Datetime("us", "UTC"),
        "writer": pl.String(),
        "command": pl.String(),
        "rows": pl.Int64(),
        "symbols": pl.Int64(),
        "first_session": pl.Date(),
        "last_session": pl.Date(),
        "years_changed": pl.List(pl.Int64()),
        "corrections": pl.Int64(),
        "restated": pl.List(pl.String()),
        "size_bytes": pl.Int64(),
        "checksum": pl.String(),
        "provider": pl.String(),
        "pins": pl.List(pl.String()),
        "current": pl.Boolean(),
        "in_catalog": pl.Boolean(),
    }
)


class StoreVersions(StoredPrices):
    """A store with its past: every version that is kept can be read, cited and kept for good."""

    def require_store(self) -> None:
        """Raises ConfigurationError where no run ever left anything: what changes a store makes none."""
        if is_untouched(self.layout):
            raise nothing_stored(self.layout)

    def known_name(self, symbol: str) -> str:
        """The stored symbol that a name means today.

        Raises:
            ConfigurationError: there is no store, the symbol is malformed, or the store has never heard of it.
        """
        names = normalize_symbols([symbol])
        self.named(names, self.require_manifest())
        return self.meant(names[0])

    def versions(self) -> pl.DataFrame:
        """The versions that are kept, oldest first: when, who, what changed, how large; columns `VERSIONS`.

        Raises:
            ConfigurationError: nothing was committed yet.
            ManifestCorruptError: one of their manifests is damaged.
        """
        current = self.require_manifest()
        others = [self.manifests.load_version(n) for n in self.manifests.list_versions() if n < current.version]
        others.append(current)
        runs = {run["version"]: run for run in self._runs(current)}
        pins = self.pins()
        shown = self.catalog.shown_version()
        rows: list[dict[str, object]] = []
        for before, manifest in zip([None, *others], others, strict=False):
            run = runs.get(manifest.version, {})
            rows.append(
                {
                    "version": manifest.version,
                    "committed_at": manifest.sync_timestamp,
                    "writer": manifest.writer_id,
                    "command": run.get("command"),
                    "rows": manifest.row_count,
                    "symbols": _symbols(manifest),
                    "first_session": manifest.start_date,
                    "last_session": manifest.end_date,
                    "years_changed": _years_changed(before, manifest),
                    "corrections": run.get("corrections"),
                    "restated": run.get("restated"),
                    "size_bytes": sum(partition.size_bytes for partition in manifest.partitions),
                    "checksum": manifest.checksum,
                    "provider": manifest.provider,
                    "pins": [name for name, pin in pins.items() if pin.version == manifest.version],
                    "current": manifest is current,
                    "in_catalog": manifest.version == shown,
                }
            )
        return pl.DataFrame(rows, schema=VERSIONS)

    def cite(self, version: int | str | None = None) -> str:
        """What names a version in papers and backtests: dataset, version and checksum; `open(expect=…)` takes it.

        Raises: as `manifest`; ConfigurationError also if nothing was committed yet.
        """
        return str(Citation.of(self.require_manifest(version)))

    def pins(self) -> dict[str, Pin]:
        """The versions that are kept under a name, by name."""
        return read_pins(self.layout)

    def pin(self, name: str, version: int | str | None = None) -> Pin:
        """Keep a version, the current one by default, under a name until it is unpinned.

        Raises:
            ConfigurationError: the name is malformed or taken, or the version is not kept.
            LockTimeoutError, StorageError: it is not pinned.
        """
        self.require_store()
        with self.lock():
            manifest = self.require_manifest(version)
            pin = Pin(
                name=name,
                version=manifest.version,
                checksum=manifest.checksum,
                by=self.writer_id,
                at=max(self.clock(), manifest.sync_timestamp),
            )
            write_pin(self.layout, pin)
        return pin

    def unpin(self, name: str) -> Pin:
        """Remove a pin; the version goes with the next vacuum, unless something else keeps it.

        Raises:
            ConfigurationError: there is none of that name.
            LockTimeoutError, StorageError: it stays.
        """
        self.require_store()
        with self.lock():
            return drop_pin(self.layout, name)

    def diff(self, old: int | str, new: int | str | None = None) -> pl.DataFrame:
        """Every bar that is not the same in two versions, sorted by (symbol, date).

        Columns: date, symbol, change (added, removed, changed, renamed), columns (whose values changed), and of each
        value column `…_old` and `…_new`.

        Args:
            old: a number, or the name of a pin.
            new: likewise; None takes the current version.

        Raises:
            ConfigurationError: a version is not kept.
            ChecksumMismatchError: a file of it is damaged.
        """
        with self.lease(old) as before, self.lease(new) as after:
            return version_diff(self.layout, before, after)

    def vacuum(
        self, *, dry_run: bool = False, keep_versions: int | None = None, keep_days: int | None = None
    ) -> VacuumReport:
        """Remove versions that nothing keeps, and the files that only they name; every commit does so, too.

        What the catalog shows, a pin names or a reader has open stays, whatever the policy.

        Args:
            dry_run: only tell what would go.
            keep_versions: keep the last so many; None takes the setting.
            keep_days: keep those that stood within so many days, as `Retention` counts them; None takes the setting.

        Raises:
            ManifestCorruptError: a kept version is damaged; nothing was removed.
            LockTimeoutError, StorageError: what is left goes the next time.
        """
        self.require_store()
        policy = Retention(
            self.settings.keep_versions if keep_versions is None else keep_versions,
            self.settings.keep_days if keep_days is None else keep_days,
        )
        with self.lock() as token:
            current = self.manifests.load_manifest() if dry_run else recover_without_vacuum(self.manifests, token)
            return vacuum(self.manifests, current, policy, dry_run=dry_run)

    def export(self, target: str | Path, version: int | str | None = None) -> Path:
        """Write one version, the current one by default, as a store of its own; see `maintenance.archive`."""
        return export_store(self, target, version)

    def verify(self, *, quick: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check that what lies on disk is what was committed: every byte, every row, every cursor. Writes nothing.

        Open holds and a run that failed last are no damage, and are told of as warnings.

        Args:
            quick: only what the file system tells: sizes, and whether links lead where they should.
            progress: told how many of how many files are checked.

        Raises:
            ConfigurationError: nothing was committed yet, so there is nothing to check.
            ManifestTooNewError: a newer release wrote the store.
            StorageError: the folder cannot be read.
        """
        report = self.check(quick=quick, progress=progress)
        if report.version is None and report.ok:
            raise nothing_stored(self.layout)
        blockers = update_blockers(self.layout, self.manifests.load_manifest() if report.version else None)
        todo = "set the clock if it is wrong; `historical-etl vacuum --keep-days 0` frees what the wrong stamps keep"
        blockers += [warning(CLOCK, note, todo) for note in clock_notes(self.manifests, self.clock())]
        return report.model_copy(update={"findings": (*report.findings, *blockers)})

    def check(self, *, quick: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """As `verify`, also of a place without a store: there nothing is found."""
        notes = self._calendar_findings()
        report = verify_store(
            self.manifests,
            quick=quick,
            # By another calendar the data have other cursors, until a commit counts them anew.
            rebuild_cursors=None if notes else self._rebuilt_cursors,
            catalog_version=self.catalog.version_in_file,
            progress=progress,
        )
        return report.model_copy(update={"findings": (*report.findings, *notes)})

    def _rebuilt_cursors(self, manifest: SyncManifest) -> dict[str, date]:
        return rebuild_completeness(self.layout, manifest, self.calendar).cursors()

    def _calendar_findings(self) -> list[StoreFinding]:
        """What no byte is damaged by: the calendar is another one than the version was judged by."""
        try:
            if (trouble := self.calendar_trouble()) is not None:
                return [warning(CALENDAR, trouble.what, trouble.todo)]
            todo = "nothing: the next update or backfill moves such rows to replaced_rows, and asks for such sessions"
            return [warning(CALENDAR, note, todo) for note in self.calendar_notes()]
        except (ManifestCorruptError, ChecksumMismatchError, StorageError):
            return []  # the check itself tells of it

    def _runs(self, current: SyncManifest | None) -> list[dict[str, object]]:
        try:
            return read_ledger(self.layout, current, "runs").to_dicts()
        except ChecksumMismatchError:
            return []  # what is listed does not depend on it


def _symbols(manifest: SyncManifest) -> int:
    """How many symbols it knows: the ledger `symbols` has one row for each."""
    files = manifest.ledgers.get("symbols", ())
    return files[0].rows if files else max((partition.symbols for partition in manifest.partitions), default=0)


def _years_changed(before: SyncManifest | None, manifest: SyncManifest) -> list[int] | None:
    if manifest.version == 1:
        return [partition.year for partition in manifest.partitions]
    if before is None or before.version != manifest.version - 1:
        return None
    return changed_years(before, manifest)
