"""StoreVersions: the versions of a store, listed, compared, cited, pinned and vacuumed."""

from typing import Final

import polars as pl

from historical_etl.arguments import typed_arguments
from historical_etl.errors import ChecksumMismatchError
from historical_etl.etl.context import Citation, VersionState
from historical_etl.etl.reader.version_diff import changed_years, version_diff
from historical_etl.models import SyncManifest
from historical_etl.retention import Retention
from historical_etl.store.ledgers import read_ledger
from historical_etl.store.pins import Pin, drop_pin, read_pins, write_pin
from historical_etl.store.recovery import recover_without_vacuum
from historical_etl.store.vacuum import VacuumReport, vacuum

__all__ = ["VERSIONS", "StoreVersions"]

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


@typed_arguments
class StoreVersions:
    """The versions that a store keeps: each can be read, cited, and pinned."""

    def __init__(self, state: VersionState) -> None:
        self._context = state.context

    def table(self) -> pl.DataFrame:
        """The versions that are kept, oldest first: when, who, what changed, how large; columns `VERSIONS`.

        See `HistoricalETL.versions`.
        """
        current = self._context.require_manifest()
        others = [
            self._context.manifests.load_version(n)
            for n in self._context.manifests.list_versions()
            if n < current.version
        ]
        others.append(current)
        runs = {run["version"]: run for run in self._runs(current)}
        pins = self.pins()
        shown = self._context.catalog.shown_version()
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

        See `HistoricalETL.cite`.
        """
        return str(Citation.of(self._context.require_manifest(version)))

    def pins(self) -> dict[str, Pin]:
        """The versions that are kept under a name, by name. See `HistoricalETL.pins`."""
        return read_pins(self._context.layout)

    def pin(self, name: str, version: int | str | None = None) -> Pin:
        """Keep a version, the current one by default, under a name until it is unpinned. See `HistoricalETL.pin`."""
        self._context.require_store()
        with self._context.lock():
            manifest = self._context.require_manifest(version)
            pin = Pin(
                name=name,
                version=manifest.version,
                checksum=manifest.checksum,
                by=self._context.writer_id,
                at=max(self._context.clock(), manifest.sync_timestamp),
            )
            write_pin(self._context.layout, pin)
        return pin

    def unpin(self, name: str) -> Pin:
        """Remove a pin; the version goes with the next vacuum, unless something else keeps it.

        See `HistoricalETL.unpin`.
        """
        self._context.require_store()
        with self._context.lock():
            return drop_pin(self._context.layout, name)

    def diff(self, old: int | str, new: int | str | None = None) -> pl.DataFrame:
        """Every bar that is not the same in two versions, sorted by (symbol, date). See `HistoricalETL.diff`."""
        with self._context.lease(old) as before, self._context.lease(new) as after:
            return version_diff(self._context.layout, before, after)

    def vacuum(
        self, *, dry_run: bool = False, keep_versions: int | None = None, keep_days: int | None = None
    ) -> VacuumReport:
        """Remove versions that nothing keeps, and the files that only they name; every commit does so, too.

        See `HistoricalETL.vacuum`.
        """
        self._context.require_store()
        policy = Retention(
            self._context.settings.keep_versions if keep_versions is None else keep_versions,
            self._context.settings.keep_days if keep_days is None else keep_days,
        )
        with self._context.lock() as token:
            current = (
                self._context.manifests.load_manifest()
                if dry_run
                else recover_without_vacuum(self._context.manifests, token)
            )
            return vacuum(self._context.manifests, current, policy, dry_run=dry_run)

    def _runs(self, current: SyncManifest | None) -> list[dict[str, object]]:
        try:
            return read_ledger(self._context.layout, current, "runs").to_dicts()
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
