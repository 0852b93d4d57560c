"""What was refused is kept aside, with its reason: `quarantine/{timestamp}_{file}/` and a `reason.json`.

Nothing here deletes; looking at entries, putting them back and purging them is `quarantined`. The same content refused
again for the same name makes no second entry, so a fault that repeats every day leaves one entry.
"""

import errno
import io
import json
import shutil
import stat
from collections.abc import Mapping
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from historical_etl.clock import Clock
from historical_etl.durable import fsync_folder, make_folder, sha256_of, storage_errors, write_atomic
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import add_checksum, read_checksummed
from historical_etl.store.layout import Layout

if TYPE_CHECKING:
    import polars as pl  # not at run time: `status` must start fast

__all__ = ["Quarantine"]

Facts = Mapping[str, object]


class Quarantine:
    """The quarantine folder of one store."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        self._root = layout.root
        self._folder = layout.quarantine
        self._clock = clock

    def keep_file(self, source: Path, reason: str, dataset: str, facts: Facts | None = None) -> Path:
        """Move a file aside; returns its entry's folder. Its record says where below the root it was.

        A folder, a pipe or a link is moved as it is: the entry is a note, with the thing itself beside it.
        """
        moved_from = {"moved_from": source.relative_to(self._root).as_posix()} if self._holds(source) else {}
        with storage_errors("quarantining a file", source):
            is_file = stat.S_ISREG(source.lstat().st_mode)
            name, checksum = (source.name, sha256_of(source)) if is_file else (None, None)
            entry = self._new_entry(source.name)
            # The record first: a file that has moved is never without its reason.
            file_facts = {"size_bytes": source.stat().st_size} if is_file else {"kept_as_it_is": source.name}
            self._explain(entry, name, reason, dataset, checksum, {**(facts or {}), **file_facts, **moved_from})
            _move(source, entry / source.name)
        return entry

    def copy_bytes(self, name: str, content: bytes, reason: str, dataset: str, facts: Facts | None = None) -> Path:
        """Keep a copy of `content`; returns its entry's folder, an older one if it holds the same bytes."""
        checksum = sha256(content).hexdigest()
        if known := self._find(name, checksum, len(content)):
            return known
        with storage_errors("quarantining data", self._folder):
            entry = self._new_entry(name)
            write_atomic(entry / name, content)
            self._explain(entry, name, reason, dataset, checksum, {**(facts or {}), "size_bytes": len(content)})
        return entry

    def keep_rows(self, name: str, rows: "pl.DataFrame", reason: str, dataset: str, facts: Facts | None = None) -> Path:
        """Keep refused rows as Parquet; `rows` carries a `reasons` column (list of rule names)."""
        buffer = io.BytesIO()
        rows.write_parquet(buffer)
        return self.copy_bytes(name, buffer.getvalue(), reason, dataset, facts)

    def note(self, name: str, reason: str, dataset: str, facts: Facts | None = None) -> Path:
        """An entry that only says what happened, where there is nothing worth keeping."""
        with storage_errors("noting a failure in quarantine", self._folder):
            entry = self._new_entry(name)
            self._explain(entry, None, reason, dataset, None, facts)
        return entry

    def entries(self) -> list[Path]:
        """All entries, oldest first."""
        return sorted(path for path in self._folder.glob("*_*") if path.is_dir()) if self._folder.is_dir() else []

    def _holds(self, source: Path) -> bool:
        return source.is_relative_to(self._root) and ".." not in source.parts

    def _find(self, name: str, checksum: str, size: int) -> Path | None:
        for entry in self._folder.glob(f"*_{_glob_escape(name)}"):
            try:
                recorded = read_checksummed(read_regular(entry / "reason.json"), None).get("sha256")
                # A record comes before a file that is moved, so that alone it proves nothing. The size goes before the
                # bytes: what was put there may have very many.
                if (
                    recorded == checksum
                    and (entry / name).stat().st_size == size
                    and sha256_of(entry / name) == checksum
                ):
                    return entry
            except (OSError, ValueError):
                continue
        return None

    def _new_entry(self, name: str) -> Path:
        stamp = self._clock().astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        make_folder(self._folder)
        for attempt in range(10_000):
            entry = self._folder / (f"{stamp}_{name}" if attempt == 0 else f"{stamp}-{attempt}_{name}")
            try:
                entry.mkdir()
            except FileExistsError:
                continue
            fsync_folder(self._folder)
            return entry
        raise FileExistsError(str(self._folder / f"{stamp}_{name}"))

    def _explain(
        self, entry: Path, name: str | None, reason: str, dataset: str, checksum: str | None, facts: Facts | None
    ) -> None:
        record = {
            "dataset": dataset,
            "file": name,
            "reason": reason,
            "sha256": checksum,
            "quarantined_at": self._clock().astimezone(UTC).isoformat(),
            **(facts or {}),
        }
        plain: dict[str, object] = json.loads(json.dumps(record, default=str))
        write_atomic(entry / "reason.json", add_checksum(plain))


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
        fsync_folder(target.parent)
        fsync_folder(source.parent)  # what takes its place there must not be durable before
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if not stat.S_ISREG(source.lstat().st_mode):
            shutil.move(source, target)
            return
        write_atomic(target, source.read_bytes())  # from another volume
        source.unlink()


def _glob_escape(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
