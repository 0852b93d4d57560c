"""Staging: units of one request that were fetched and are not committed yet, so that none is asked for twice.

A unit is a Parquet file of its rows and, written after it, a record that makes it count: what a crash leaves without
its record is fetched again. Owns `staging/<request>/`; nothing here is part of a version.
"""

import shutil
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from historical_etl.durable import fsync_folder, storage_errors, sync_stream, temporary_beside, write_atomic
from historical_etl.models import Outcome
from historical_etl.regular_files import STAGED, read_regular
from historical_etl.store.checksummed_json import parse_checksummed, render_checksummed
from historical_etl.store.layout import Layout

__all__ = ["StagedUnit", "Staging", "damaged_units"]


_ENDINGS: Final = {"rows": "parquet", "record": "json"}


class StagedUnit(BaseModel):
    """The record of a unit: its symbols, what became of each, its notes, and the SHA-256 of its files.

    `rows` are its bars, `actions` and `foreign` what the source names, `rejected` rows that cannot be read; None where
    it has none.
    """

    model_config = ConfigDict(frozen=True)

    symbols: tuple[str, ...]
    outcomes: dict[str, Outcome]
    details: dict[str, str] = Field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    rows: str
    actions: str | None = None
    foreign: str | None = None
    rejected: str | None = None

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of each of its files."""
        found = {"rows": self.rows, "actions": self.actions, "foreign": self.foreign, "rejected": self.rejected}
        return {kind: checksum for kind, checksum in found.items() if checksum is not None}


def damaged_units(layout: Layout) -> list[Path]:
    """The records of all requests whose files are not what they say, and those that cannot be read."""
    damaged: list[Path] = []
    for folder in sorted(layout.staging.glob("*/")):
        staging = Staging(layout, folder.name)
        intact = {unit.symbols for unit in staging.units()}
        damaged += [path for path in sorted(folder.glob("*.json")) if not _is_of(path, intact)]
    return damaged


def _is_of(path: Path, units: Collection[tuple[str, ...]]) -> bool:
    try:
        return parse_checksummed(read_regular(path, STAGED), StagedUnit).symbols in units
    except (OSError, ValueError):
        return False


class Staging:
    """The staged units of one request.

    Args:
        layout: of the store.
        request: the hash of the request; another request never sees these units.
    """

    def __init__(self, layout: Layout, request: str) -> None:
        self.folder = layout.staging / request[:16]

    def units(self) -> list[StagedUnit]:
        """The units that count; one whose files are not what its record says is left out, and fetched again."""
        found: list[StagedUnit] = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                unit = parse_checksummed(read_regular(path, STAGED), StagedUnit)
                if not set(unit.symbols) <= set(unit.outcomes):
                    continue
                if all(self._sum(unit, kind) == checksum for kind, checksum in unit.files.items()):
                    found.append(unit)
            except (OSError, ValueError):
                continue
        return found

    def put(
        self,
        frames: Mapping[str, pl.DataFrame | None],
        outcomes: Mapping[str, Outcome],
        details: Mapping[str, str],
        notes: tuple[str, ...] = (),
    ) -> StagedUnit:
        """Stage a unit, durably.

        Args:
            frames: `rows`, and any of the others that a unit may have.
            outcomes: of all its symbols.
            details: why a symbol has another outcome than `ok`.
            notes: of the source.

        Raises:
            DiskSpaceError, StorageError: the unit does not count.
        """
        contents = {name: _encoded(frame) for name, frame in frames.items() if frame is not None}
        sums = {name: sha256(content).hexdigest() for name, content in contents.items()}
        unit = StagedUnit(
            symbols=tuple(sorted(outcomes)),
            outcomes=dict(outcomes),
            details=dict(details),
            notes=notes,
            **sums,
        )
        with storage_errors("staging what was fetched", self.folder, "what was staged before is unchanged"):
            for name, content in contents.items():
                with temporary_beside(self._file(unit, name)) as (temp, stream):
                    stream.write(content)
                    sync_stream(stream)
                    temp.replace(self._file(unit, name))  # durable with the record, in the same folder
            write_atomic(self._file(unit, "record"), render_checksummed(unit))
        return unit

    def rows(self, units: Iterable[StagedUnit], low: date, high: date) -> pl.LazyFrame | None:
        """The rows of some units between two dates, both included; None if there is no unit."""
        return self._between(self._files(units, "rows"), low, high)

    def actions(self, units: Iterable[StagedUnit], low: date, high: date) -> pl.LazyFrame | None:
        """The splits and dividends of some units; None where the source names none."""
        return self._between(self._files(units, "actions"), low, high)

    def foreign(self, units: Iterable[StagedUnit], low: date, high: date) -> pl.LazyFrame | None:
        """Their dividends in other currencies; None where there are none."""
        return self._between(self._files(units, "foreign"), low, high)

    def rejected(self, units: Iterable[StagedUnit], low: date, high: date) -> pl.LazyFrame | None:
        """Their rows that cannot be read, with those without a date; None where there are none."""
        paths = self._files(units, "rejected")
        if not paths:
            return None
        return pl.scan_parquet(paths, glob=False).filter(pl.col("date").is_between(low, high).fill_null(value=True))

    def clear(self) -> None:
        """Remove the request's units."""
        if self.folder.is_dir():
            with storage_errors("clearing staging", self.folder, "what was committed is unchanged"):
                shutil.rmtree(self.folder)
                fsync_folder(self.folder.parent)

    def _files(self, units: Iterable[StagedUnit], kind: str) -> list[Path]:
        return [self._file(unit, kind) for unit in units if kind in unit.files]

    def _between(self, paths: list[Path], low: date, high: date) -> pl.LazyFrame | None:
        if not paths:
            return None
        return pl.scan_parquet(paths, glob=False).filter(pl.col("date").is_between(low, high))

    def _sum(self, unit: StagedUnit, kind: str) -> str:
        return sha256(self._file(unit, kind).read_bytes()).hexdigest()

    def _file(self, unit: StagedUnit, kind: str) -> Path:
        name = sha256(",".join(unit.symbols).encode()).hexdigest()[:16]
        return self.folder / f"{name}.{_ENDINGS.get(kind, kind)}"


def _encoded(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="lz4")
    return buffer.getvalue()
