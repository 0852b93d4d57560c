"""Is what lies on disk what was committed? Every promise of the store, checked; nothing is written, no lock is taken.

A writer may be at work meanwhile. What it may move under the check is judged only once the store holds still: the
current manifest and the lock's record must be the same before and after, else that part is done again.

The store knows no cursors and no DuckDB, so checks that need them come in as callables.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import date
from itertools import chain
from typing import Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from historical_etl.durable import TEMP_SUFFIX, sha256_of, storage_errors
from historical_etl.errors import HistoricalETLError, ManifestCorruptError, ManifestTooNewError
from historical_etl.fork_guard import refuse_lost_threads
from historical_etl.models import ETLProgressManifest, Partition, SyncManifest
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import reason_of
from historical_etl.store.daily_folders import left_over
from historical_etl.store.leases import leased
from historical_etl.store.lock import current_holder, live_holder
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.manifest_file import read_manifest
from historical_etl.store.progress import parse_progress
from historical_etl.store.verify.beside import catalog_findings, pin_findings, quarantine_findings, staging_findings
from historical_etl.store.verify.daily import daily_findings
from historical_etl.store.verify.findings import StoreFinding
from historical_etl.store.verify.findings import error as _error
from historical_etl.store.verify.findings import warning as _warning
from historical_etl.store.verify.ledgers import ledger_findings
from historical_etl.store.verify.year_file import content_faults

__all__ = ["VerifyReport", "verify_store"]

#: How often the moving part is looked at before a store that never holds still is reported as such.
_ATTEMPTS: Final = 20
_PAUSE_SECONDS: Final = 0.1
_OBJECT: Final = re.compile(r"[0-9]{4}-[0-9a-f]{16}\.parquet")
_REPAIR: Final = "run `historical-etl repair`"
_NEXT_WRITE: Final = "nothing: the next write clears it"


class VerifyReport(BaseModel):
    """What a check of the store found; `version` None means that nothing was ever committed."""

    model_config = ConfigDict(frozen=True)

    version: int | None = None
    years: int = 0
    rows: int = 0
    objects: int = 0
    mode: Literal["full", "quick"] = "full"
    findings: tuple[StoreFinding, ...] = ()

    @property
    def ok(self) -> bool:
        """True unless something is damaged."""
        return all(finding.severity != "error" for finding in self.findings)


def verify_store(
    manager: ManifestManager,
    *,
    quick: bool = False,
    rebuild_cursors: Callable[[SyncManifest], Mapping[str, date]] | None = None,
    catalog_version: Callable[[], int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check the whole store.

    Args:
        manager: of the store.
        quick: only what the file system shows: sizes and links; no file of data is opened.
        rebuild_cursors: computes every symbol's cursor from the data of a version.
        catalog_version: the version that the catalog file itself shows; raises `CatalogError` if that is not known.
        progress: called with how many of how many files are checked.

    Raises:
        ManifestTooNewError: a newer release wrote the store; it was not looked at.
        StorageError: the folder cannot be read at all.
        ConfigurationError: this process was forked from one in which Polars had threads.
    """
    refuse_lost_threads()
    check = _Check(manager, quick=quick, rebuild=rebuild_cursors, catalog_version=catalog_version, progress=progress)
    with storage_errors("verifying the store", manager.layout.root):
        return check.run()


class _Check:
    def __init__(
        self,
        manager: ManifestManager,
        *,
        quick: bool,
        rebuild: Callable[[SyncManifest], Mapping[str, date]] | None,
        catalog_version: Callable[[], int] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.layout = manager.layout
        self.manager = manager
        self.quick = quick
        self.rebuild = rebuild
        self.catalog_version = catalog_version
        self.progress = progress
        # Objects never change, so one that was found good stays good when the rest is looked at again.
        self.good: set[tuple[str, str, bool]] = set()
        self.leased = False

    def run(self) -> VerifyReport:
        report = VerifyReport()
        for _ in range(_ATTEMPTS):
            before = self._state()
            report = self._once()
            busy = live_holder(self.layout.lock_file()) is not None
            if self._state() == before:
                # What looks unfinished while a writer is at work is simply not finished yet.
                left = [f for f in report.findings if f.severity == "error" or not busy]
                return report.model_copy(update={"findings": tuple(left)})
            time.sleep(_PAUSE_SECONDS)
        restless = _warning(
            "store", "it was being written all the time; only files of committed versions were judged", "verify again"
        )
        certain = [finding for finding in report.findings if self.leased and finding.field.startswith("object ")]
        return report.model_copy(update={"findings": (*certain, restless)})

    def _state(self) -> tuple[bytes | None, object]:
        content: bytes | None = None
        with suppress(OSError):  # reported where it is read
            content = read_regular(self.layout.manifest_file())
        return content, current_holder(self.layout.lock_file())

    def _once(self) -> VerifyReport:
        with ExitStack() as leases:  # else a vacuum might take what is being looked at
            manifest, findings = self._pointer()
            leased_versions = [v for v in self.manager.list_versions() if leases.enter_context(leased(self.layout, v))]
            self.leased = manifest is None or manifest.version in leased_versions
            return self._judged(manifest, findings)

    def _judged(self, manifest: SyncManifest | None, findings: list[StoreFinding]) -> VerifyReport:
        history, more = self._history(manifest)
        findings += more
        finished = self._finished(manifest)  # before daily/, which a writer puts in order first
        busy = live_holder(self.layout.lock_file()) is not None
        findings += self._objects(manifest, history)
        findings += daily_findings(self.layout, manifest, history, quick=self.quick, finished=finished, busy=busy)
        findings += ledger_findings(self.layout, manifest, history, quick=self.quick)
        findings += chain(self._leftovers(manifest, history), self._progress(manifest))
        findings += catalog_findings(self.layout, manifest, self.catalog_version, quick=self.quick)
        findings += pin_findings(self.layout, {*history, *([manifest.version] if manifest else [])})
        findings += staging_findings(self.layout, quick=self.quick)
        findings += quarantine_findings(self.layout, quick=self.quick)
        return VerifyReport(
            version=manifest.version if manifest else None,
            years=len(manifest.partitions) if manifest else 0,
            rows=manifest.row_count if manifest else 0,
            objects=len({p.path for m in (*history.values(), *([manifest] if manifest else [])) for p in m.partitions}),
            mode="quick" if self.quick else "full",
            findings=tuple(findings),
        )

    # ── manifests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _pointer(self) -> tuple[SyncManifest | None, list[StoreFinding]]:
        """The current manifest, or the version that replaces it."""
        path = self.layout.manifest_file()
        try:
            manifest = read_manifest(path)
        except ManifestTooNewError:
            raise
        except FileNotFoundError:
            fallback = self._fallback()
            if fallback is None and not self.manager.list_versions():
                return None, []
            if fallback is not None and (fallback.version == 1 or not any(self.layout.daily.glob("*.parquet"))):
                # An import begins with any version, and no commit has reached daily/ yet.
                message = f"the first commit was interrupted; its version {fallback.version} is complete and counts"
                return fallback, [_warning(path.name, message, _NEXT_WRITE)]
            what = "The current manifest is missing"
        except ManifestCorruptError as error:
            fallback, what = self._fallback(), error.what
        else:
            return manifest, [*self._totals(manifest), *self._older(manifest)]
        substitute = f"version {fallback.version} replaces it" if fallback else "no kept version can be used"
        todo = f"{_REPAIR}: it restores the manifest" if fallback else "restore it from a backup"
        return fallback, [_error(path.name, f"{what}; {substitute}", todo)]

    def _totals(self, manifest: SyncManifest) -> Iterator[StoreFinding]:
        sums = (
            sum(p.rows for p in manifest.partitions),
            tuple(p.path for p in manifest.partitions),
            min((p.first_session for p in manifest.partitions), default=None),
            max((p.last_session for p in manifest.partitions), default=None),
        )
        if sums != (manifest.row_count, manifest.file_paths, manifest.start_date, manifest.end_date):
            message = "its rows, dates or files are not those of its partitions"
            name = self.layout.manifest_file().name
            yield _error(name, message, "restore it from `manifests/history/`")

    def _older(self, manifest: SyncManifest) -> Iterator[StoreFinding]:
        committed = self.manager.committed_after(manifest)
        if committed > manifest.version:
            message = (
                f"the current manifest is version {manifest.version}, though {committed} was committed: "
                "an older file was put in its place"
            )
            yield _error(self.layout.manifest_file().name, message, _REPAIR)

    def _fallback(self) -> SyncManifest | None:
        try:
            return self.manager.load_manifest()
        except ManifestTooNewError:
            raise
        except ManifestCorruptError:
            return None

    def _history(self, current: SyncManifest | None) -> tuple[dict[int, SyncManifest], list[StoreFinding]]:
        intact: dict[int, SyncManifest] = {}
        findings: list[StoreFinding] = []
        newest = current.version if current else 0
        committed = self.manager.committed_after(current) if current else 0
        for version in self.manager.list_versions():
            path = self.layout.history_file(version)
            try:
                manifest = read_manifest(path)
            except FileNotFoundError:
                continue  # vacuumed a moment ago
            except ManifestCorruptError as error:
                todo = f"{_REPAIR}: only version {version} is lost" if version != newest else _REPAIR
                findings.append(_error(f"history {version}", error.what, todo))
                continue
            if manifest.version != version:
                message = f"it holds version {manifest.version}"
                findings.append(_error(f"history {version}", message, f"move {path} away"))
            elif version > max(newest, committed):
                message = "a commit was interrupted before it counted; its manifest was left behind"
                findings.append(_warning(f"history {version}", message, _NEXT_WRITE))
            elif version == newest and manifest != current:
                message = "it is not the current manifest's copy, though it has the same version"
                findings.append(
                    _error(f"history {version}", message, f"move {path} away, then `historical-etl update`")
                )
            else:
                intact[version] = manifest
        if current and not self.layout.history_file(newest).exists():
            message = "the history lacks the current version"
            findings.append(_error(f"history {newest}", message, "run `historical-etl update`: it is written again"))
        return intact, findings

    # ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _objects(self, current: SyncManifest | None, history: Mapping[int, SyncManifest]) -> Iterator[StoreFinding]:
        """The current version's files through and through; those of older versions as bytes."""
        wanted = {p.path: (p, None) for p in current.partitions} if current else {}
        for version, manifest in sorted(history.items(), reverse=True):
            wanted |= {p.path: (p, version) for p in manifest.partitions if p.path not in wanted}
        for done, (partition, version) in enumerate(wanted.values()):
            if self.progress:
                self.progress(done, len(wanted))
            key = (partition.path, partition.checksum, version is None)
            if key in self.good:
                continue
            faults = list(self._file(partition, version))
            if not faults:
                self.good.add(key)
            yield from faults
        if self.progress:
            self.progress(len(wanted), len(wanted))

    def _file(self, partition: Partition, version: int | None) -> Iterator[StoreFinding]:
        path = self.layout.resolve(partition.path)
        year = partition.year
        field = f"object {path.name}"
        todo = (
            f"run `historical-etl repair`: it restores {year} from equal bytes, or says what to fetch again"
            if version is None
            else f"only version {version}, which is not the current one, needs it; run `historical-etl repair`"
        )
        try:
            size = path.stat().st_size
            if size != partition.size_bytes:
                yield _error(field, f"it has {size:,} bytes, {partition.size_bytes:,} were committed", todo)
            elif not self.quick and sha256_of(path) != partition.checksum:
                yield _error(field, "its bytes are not those that were committed (SHA-256)", todo)
            elif version is None and not self.quick:
                yield from (_error(field, message, todo) for message in content_faults(path, partition))
        except FileNotFoundError:
            yield _error(field, f"the file of {year} is missing", todo)
        except OSError as error:
            yield _error(field, f"it cannot be read: {error.strerror}", "check its permissions and this volume (dmesg)")

    def _finished(self, current: SyncManifest | None) -> bool:
        """Whether the run that made the current version got as far as saving progress, thus behind daily/."""
        progress = self._read_progress()
        return isinstance(progress, ETLProgressManifest) and progress.data_version == (
            current.version if current else 0
        )

    def _leftovers(self, current: SyncManifest | None, history: Mapping[int, SyncManifest]) -> Iterator[StoreFinding]:
        layout = self.layout
        folders = (
            *(layout.objects, layout.ledgers, layout.storage, layout.daily, layout.manifests),
            *(layout.history_folder(), layout.progress_folder, layout.catalog.parent),
        )
        temps = sorted(temp for folder in folders for temp in folder.glob(f".*{TEMP_SUFFIX}*"))
        temps += left_over(layout)
        if temps:
            yield _warning("temp files", "an interrupted run left them", _NEXT_WRITE, temps)
        newest = current.version if current else 0
        committed = self.manager.committed_after(current) if current else 0
        versions = [v for v in self.manager.list_versions() if v not in history]
        damaged = [v for v in versions if not current or (v != newest and v <= committed)]
        if damaged or (not current and layout.manifest_file().exists()):
            return  # what a damaged version needs is unknown
        manifests = [*history.values(), *([current] if current else [])]
        named = {layout.resolve(path) for manifest in manifests for path in manifest.named_paths()}
        if lost := [path for path in sorted(layout.ledgers.glob("*.parquet")) if path not in named]:
            yield _warning("ledgers/", "files that no kept version names", _NEXT_WRITE, lost)
        orphans = [path for path in sorted(layout.objects.glob("*.parquet")) if path not in named]
        ours = [path for path in orphans if _OBJECT.fullmatch(path.name) and path.is_file()]
        if ours:
            yield _warning("orphans", "files in objects/ that no kept version names", _NEXT_WRITE, ours)
        if foreign := [path for path in orphans if path not in ours]:
            yield _warning("objects/", "files that no commit wrote", "move them elsewhere", foreign)

    # ── what follows from the manifest ─────────────────────────────────────────────────────────────────────────────

    def _read_progress(self) -> ETLProgressManifest | str | None:
        """The saved progress, or what is wrong with it. Not `load_progress`, which moves a damaged file aside."""
        try:
            return parse_progress(read_regular(self.layout.progress_file()))
        except FileNotFoundError:
            return None
        except OSError as error:
            return error.strerror
        except ValueError as error:
            return reason_of(error)

    def _progress(self, current: SyncManifest | None) -> Iterator[StoreFinding]:
        progress = self._read_progress()
        field, again = "progress", f"{_REPAIR}: cursors are rebuilt from the data"
        if isinstance(progress, str):
            yield _error(field, f"it is damaged: {progress}", again)
            return
        if current is None:
            return
        if progress is None or progress.data_version < current.version:
            yield _warning(field, f"it is behind version {current.version}: a run was interrupted", again)
            return
        if progress.data_version > current.version:
            message = f"it describes version {progress.data_version}, ahead of the data's {current.version}"
            yield _error(field, message, again)
            return
        cursors = progress.symbol_last_dates
        ahead = [f"{symbol} {day}" for symbol, day in cursors.items() if not current.reaches(day)]
        if ahead:
            yield _error(field, f"cursors are ahead of the data's last session {current.end_date}", again, ahead)
        elif self.rebuild and not self.quick:
            yield from self._cursors(current, cursors)

    def _cursors(self, current: SyncManifest, cursors: Mapping[str, date]) -> Iterator[StoreFinding]:
        assert self.rebuild is not None  # noqa: S101 - the caller's condition
        try:
            true = self.rebuild(current)
        except (HistoricalETLError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return  # a file that cannot be read is reported already
        wrong = sorted(symbol for symbol in true.keys() | cursors.keys() if true.get(symbol) != cursors.get(symbol))
        if wrong:
            lines = [f"{symbol} at {cursors.get(symbol)}, by the data {true.get(symbol)}" for symbol in wrong]
            ahead = any(cursors.get(s, date.min) > true.get(s, date.min) for s in wrong)
            level, todo = (_error if ahead else _warning), f"{_REPAIR}: it is rebuilt from the data"
            yield level("progress", "cursors are not those that follow from the data", todo, lines)
