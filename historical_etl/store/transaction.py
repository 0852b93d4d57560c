"""A commit over any number of years: objects first, then the manifest, then what follows from it.

The order is what makes it safe. Until the manifest is replaced, a crash leaves objects that nothing names;
after it, `recovery` finishes the rest. Whether rows are right is not judged here.
"""

import logging
import stat
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import polars as pl

from historical_etl.durable import (
    fsync_folder,
    sha256_of,
    storage_errors,
    sync_stream,
    temporary_beside,
)
from historical_etl.errors import ChecksumMismatchError, DiskSpaceError, StorageError
from historical_etl.models import DATASET_ID, Partition, SyncManifest, combined_checksum
from historical_etl.store.commit_times import stamp_after
from historical_etl.store.ledgers import EncodedLedgers, LedgerChanges, Ledgers, encode_ledgers, write_ledgers
from historical_etl.store.lock import LockToken
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.parquet import Block, WriteReport, read_blocks, write_year
from historical_etl.store.recovery import recover, show, vacuum_if_intact
from historical_etl.store.vacuum import Retention
from historical_etl.store.verified_files import hashed_as_written, require_verified, verified_path

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["CopiedYear", "Provenance", "Transaction"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provenance:
    """The source of the rows of a commit; becomes part of its manifest. Holds no secrets."""

    provider: str = ""
    provider_version: str = ""
    adjustment: str = ""
    calendar: str = ""
    query_hash: str = ""

    @classmethod
    def of(cls, manifest: SyncManifest | None) -> Self:
        """That of a version, for a commit that brings no rows."""
        if manifest is None:
            return cls()
        m = manifest
        return cls(m.provider, m.provider_version, m.adjustment, m.calendar, m.query_hash)


@dataclass(frozen=True)
class CopiedYear:
    """A year's bytes in a temp file.

    Attributes:
        partition: what its version will say of it.
        target: where it is to be.
        temp: where it is.
        stream: open to it.
        opened: closes the stream, and removes the temp file if that is still there.
    """

    partition: Partition
    target: Path
    temp: Path
    stream: BinaryIO
    opened: ExitStack


class Transaction:
    """Years written under one lock, that become visible together or not at all.

    Args:
        manager: the store's manifest manager.
        token: from `manager.acquire_lock`.
        retention: what stays of older versions after the commit.

    `base` is the version it builds on, after `recover`; `version` the number it will make if anything changes, `at`
    the stamp that it and its records bear: later than that of every version before it, whatever the clock says.
    """

    def __init__(self, manager: ManifestManager, token: LockToken, retention: Retention | None = None) -> None:
        self._manager = manager
        self.layout = manager.layout
        self._token = token
        self._retention = retention or Retention()
        self.base = recover(manager, token, self._retention)
        self.version = manager.next_version(self.base, token)
        self._said = manager.clock()
        self.at: datetime = stamp_after(manager.newest_stamp(current=self.base), self._said)
        self._written: dict[int, Partition] = {}
        self._emptied: set[int] = set()
        self._verified: dict[int, list[Block]] = {}
        self._forgotten: set[str] = set()
        self._ledgers: list[EncodedLedgers] = []
        self._placed = False

    def stored_blocks(self, year: int) -> list[Block]:
        """The month blocks of a committed year, proven to be the bytes that were committed; none if it has none.

        Raises:
            ChecksumMismatchError: they are not. A copy is in quarantine; the store is as it was.
        """
        partition = self.base.partition(year) if self.base else None
        if partition is None:
            return []
        if year not in self._verified:
            self._verified[year] = read_blocks(self._proven(partition))
        return self._verified[year]

    def _proven(self, partition: Partition, *, anew: bool = False) -> Path:
        """The path of a committed year; of one that is damaged a copy is kept as evidence."""
        try:
            return verified_path(self.layout, partition, anew=anew)
        except ChecksumMismatchError as damage:
            path = self.layout.resolve(partition.path)
            if path.is_file():
                reason = f"its SHA-256 is not {partition.checksum}, which version {self._version} names"
                copied = self._manager.quarantine.copy_bytes(path.name, path.read_bytes(), reason, DATASET_ID)
                damage.add_note(f"A copy of it is in {copied}.")
            raise

    def write_year(self, year: int, blocks: Sequence[Block], symbols: int) -> Partition:
        """Write one year's object, durable and verified, but not yet committed.

        Args:
            year: the year of the blocks.
            blocks: its month blocks in order, new or kept from `stored_blocks`.
            symbols: the number of distinct symbols in them.

        Raises:
            DiskSpaceError: the volume is full; the temp file is gone and `quarantine/` has a note on it.
            StorageError: the file system refused.
            ChecksumMismatchError: what was read back is not what was written.
        """
        copied = self.copy_year(year, blocks, lambda: symbols)
        self.place_year(copied)
        return copied.partition

    def copy_year(self, year: int, blocks: Iterable[Block], symbols: Callable[[], int]) -> CopiedYear:
        """The first half of `write_year`: its bytes, hashed, in a temp file that is neither synced nor in its place.

        Blocks are written as they come, and `symbols` is asked for after them. Whatever happens, hand what this gives
        to `place_year`, or close it.

        Raises: as `write_year`, and what `blocks` raises; nothing is left then.
        """
        unchanged = self.base.partition(year) if self.base else None
        aside = self.layout.object_file(year, "0" * 64)
        with self._writing(year, aside), ExitStack() as opened:
            temp, stream = opened.enter_context(temporary_beside(aside))
            report = self._copied(blocks, stream, unchanged if year in self._verified else None)
            if report.first is None or report.last is None:
                raise ValueError(f"No block of {year} was given: a year without rows is no file")
            target = self.layout.object_file(year, report.sha256)
            partition = Partition(
                year=year,
                path=self.layout.relative(target),
                rows=report.rows,
                symbols=symbols(),
                first_session=report.first,
                last_session=report.last,
                checksum=report.sha256,
                size_bytes=report.size,
                writer=f"polars {pl.__version__}",
            )
            self._written[year] = partition
            return CopiedYear(partition, target, temp, stream, opened.pop_all())

    def place_year(self, copied: CopiedYear) -> None:
        """The second half of `write_year`: sync the bytes, put the object in its place and read it back.

        Raises: as `write_year`.
        """
        year, target, checksum = copied.partition.year, copied.target, copied.partition.checksum
        before = self.base.partition(year) if self.base else None
        with self._writing(year, target), copied.opened:
            if before is None or before.checksum != checksum or not _holds(target, checksum):
                sync_stream(copied.stream)
                copied.temp.chmod(stat.S_IMODE(copied.temp.stat().st_mode) & ~0o222)
                copied.temp.replace(target)  # durable once the manifest is saved
                self._placed = True
                _verify(target, copied.partition.rows, copied.partition.size_bytes)
                hashed_as_written(target, checksum)

    @contextmanager
    def _writing(self, year: int, target: Path) -> Generator[None]:
        try:
            with storage_errors(f"writing {year}", target):
                yield
        except DiskSpaceError as error:
            self._note_full_disk(year, error)
            raise

    def _copied(self, blocks: Iterable[Block], out: BinaryIO, base: Partition | None) -> WriteReport:
        """Write blocks of which some are copied; the file that they come from is proven meanwhile: rot gets no name."""
        if base is None:
            return write_year(blocks, out)
        try:
            return write_year(blocks, out, (self.layout.resolve(base.path), base.checksum))
        except ChecksumMismatchError:
            self._proven(base, anew=True)
            raise

    def empty_year(self, year: int) -> None:
        """Leave a year out of the version that is committed next: none of its rows is left."""
        self._emptied.add(year)

    def commit(
        self, provenance: Provenance, ledgers: LedgerChanges | None = None, accompanying: LedgerChanges | None = None
    ) -> SyncManifest | None:
        """Commit all written years and ledgers at once, then link `daily/` and drop what no kept version names.

        Args:
            provenance: the source of the rows.
            ledgers: rows for logs and new states, by ledger.
            accompanying: what is recorded too if anything changes, and makes no version by itself.

        Returns the current manifest: the base itself if nothing changed, None if there is nothing at all.

        Raises:
            LockNotHeldError: the lock was lost.
            StorageError: the manifest could not be replaced; nothing was committed.
        """
        return self.save(self.draft(provenance, ledgers, accompanying))

    def draft(
        self, provenance: Provenance, ledgers: LedgerChanges | None = None, accompanying: LedgerChanges | None = None
    ) -> SyncManifest | None:
        """The first half of `commit`: the manifest to save, with its ledgers in memory. All years are copied by then.

        Returns the base itself if nothing changed, None if there is nothing at all.

        Raises:
            StorageError: a ledger cannot be read; nothing was committed.
        """
        before = {p.year: p for p in self.base.partitions} if self.base else {}
        changed = {year: p for year, p in self._written.items() if year not in before or _differ(before[year], p)}
        partitions = tuple(p for year, p in sorted((before | changed).items()) if year not in self._emptied)
        known = self.base.ledgers if self.base else {}
        recorded = known
        if partitions or self.base is not None or _asks_a_person(ledgers or {}):
            recorded = self._encoded(self._without_forgotten(known), ledgers or {})
        if not changed and not self._emptied and recorded == known:
            return self.base
        recorded = self._encoded(recorded, accompanying or {})
        return SyncManifest(
            version=self.version,
            sync_timestamp=self.at,
            clock_timestamp=self._said,
            start_date=min((p.first_session for p in partitions), default=None),
            end_date=max((p.last_session for p in partitions), default=None),
            row_count=sum(p.rows for p in partitions),
            checksum=combined_checksum(p.checksum for p in partitions),
            query_hash=provenance.query_hash,
            file_paths=tuple(p.path for p in partitions),
            provider=provenance.provider,
            provider_version=provenance.provider_version,
            adjustment=provenance.adjustment,
            calendar=provenance.calendar,
            writer_id=self._token.writer_id,
            partitions=partitions,
            ledgers=dict(recorded),
        )

    def save(self, draft: SyncManifest | None) -> SyncManifest | None:
        """The second half of `commit`, once all years are in their places.

        Raises: as `commit`.
        """
        if draft is None or draft is self.base:
            if self._placed:  # a damaged object was made good, and no manifest is saved after it
                with storage_errors("making the new files durable", self.layout.objects):
                    fsync_folder(self.layout.objects)
            if self.base is not None:
                show(self._manager, self.base)
            return self.base
        for encoded in self._ledgers:
            encoded.write()
        saved = self._manager.save_manifest(draft, self._token)
        show(self._manager, saved, self._written)
        vacuum_if_intact(self._manager, saved, self._retention)
        return saved

    def forget(self, paths: Collection[str]) -> None:
        """Leave damaged ledger files out of the version that is committed next."""
        self._forgotten |= set(paths)

    def restore(self, version: SyncManifest, ledgers: LedgerChanges) -> SyncManifest:
        """Commit an older version's files as a new version, so that its content is current again.

        Args:
            version: the manifest of a kept version.
            ledgers: rows for logs, which go on from the current version's; all others are the older version's.

        Raises:
            ChecksumMismatchError: a file of it is damaged; nothing was changed.
            StorageError: the manifest could not be replaced; nothing was committed.
        """
        require_verified(self.layout, [*version.partitions, *(f for files in version.ledgers.values() for f in files)])
        known = self.base.ledgers if self.base else {}
        going_on = write_ledgers(self.layout, {name: known.get(name, ()) for name in ledgers}, ledgers)
        manifest = version.model_copy(
            update={
                "sync_timestamp": self.at,
                "clock_timestamp": self._said,
                "writer_id": self._token.writer_id,
                "ledgers": {**version.ledgers, **{name: files for name, files in going_on.items() if files}},
            }
        )
        saved = self._manager.save_manifest(manifest, self._token)
        show(self._manager, saved, {partition.year for partition in saved.partitions})
        vacuum_if_intact(self._manager, saved, self._retention)
        return saved

    def _encoded(self, known: Ledgers, changes: LedgerChanges) -> Ledgers:
        self._ledgers.append(encode_ledgers(self.layout, known, changes))
        return self._ledgers[-1].files

    def _without_forgotten(self, ledgers: Ledgers) -> Ledgers:
        remaining = {name: tuple(f for f in files if f.path not in self._forgotten) for name, files in ledgers.items()}
        return {name: files for name, files in remaining.items() if files}

    @property
    def _version(self) -> int:
        return self.base.version if self.base else 0

    def _note_full_disk(self, year: int, error: DiskSpaceError) -> None:
        # A torn file is worth nothing and its room is needed: only the fact is kept, if even that has room.
        try:
            self._manager.quarantine.note(f"{year}.parquet", str(error), DATASET_ID, {"year": year})
        except StorageError:
            _log.warning("The disk is too full even to note in quarantine/ that %d was not written", year)


def _asks_a_person(ledgers: LedgerChanges) -> bool:
    """Whether something is held: with no bar stored, that alone makes a version, so that it can be accepted."""
    holds = ledgers.get("open_holds")
    return holds is not None and not holds.is_empty()


def _verify(path: Path, count: int, size: int) -> None:
    """Let a reader that knows nothing of blocks open the file where all readers will find it."""
    try:
        rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        rows = -1
    if rows != count or path.stat().st_size != size:
        path.unlink()
        raise ChecksumMismatchError(
            "What was read back is not what was written; it was removed and nothing was committed",
            where=path,
            todo="check this volume (dmesg), then run the same command again",
        )


def _holds(path: Path, checksum: str) -> bool:
    return path.is_file() and sha256_of(path) == checksum


def _differ(stored: Partition, written: Partition) -> bool:
    return stored.checksum != written.checksum or stored.path != written.path
