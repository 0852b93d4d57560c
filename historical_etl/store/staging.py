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

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from historical_etl.durable import fsync_folder, storage_errors, sync_stream, temporary_beside, write_atomic
from historical_etl.models import Outcome
from historical_etl.store.layout import Layout
from historical_etl.store.sealed import sealed, unsealed

__all__ = ["StagedUnit", "Staging", "damaged_units"]


class StagedUnit(BaseModel):
    """The record of a unit: its symbols, what became of each, and the SHA-256 of its files.

    `named` says whether the source names actions: then `actions` is the SHA-256 of their file.
    """

    model_config = ConfigDict(frozen=True)

    symbols: tuple[str, ...]
    outcomes: dict[str, Outcome]
    details: dict[str, str] = Field(default_factory=dict[str, str])
    rows: str
    actions: str | None = None


def damaged_units(layout: Layout) -> list[Path]:
    """The records of all requests whose files are not what they say, and those that cannot be read."""
    damaged: list[Path] = []
    for folder in sorted(layout.staging.glob("*/")):
        staging = Staging(layout, folder.name)
        sound = {unit.symbols for unit in staging.units()}
        damaged += [path for path in sorted(folder.glob("*.json")) if not _is_of(path, sound)]
    return damaged


def _is_of(path: Path, units: Collection[tuple[str, ...]]) -> bool:
    try:
        return unsealed(path.read_bytes(), StagedUnit).symbols in units
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
                unit = unsealed(path.read_bytes(), StagedUnit)
                if not set(unit.symbols) <= set(unit.outcomes):
                    continue
                wanted = {"rows": unit.rows, "actions": unit.actions}
                if all(checksum is None or self._sum(unit, kind) == checksum for kind, checksum in wanted.items()):
                    found.append(unit)
            except (OSError, ValueError):
                continue
        return found

    def put(
        self,
        rows: pl.DataFrame,
        outcomes: Mapping[str, Outcome],
        details: Mapping[str, str],
        actions: pl.DataFrame | None,
    ) -> StagedUnit:
        """Stage a unit, durably; `outcomes` are of all its symbols.

        Raises:
            DiskSpaceError, StorageError: the unit does not count.
        """
        contents = {"rows": _encoded(rows), **({"actions": _encoded(actions)} if actions is not None else {})}
        sums = {name: sha256(content).hexdigest() for name, content in contents.items()}
        unit = StagedUnit(
            symbols=tuple(sorted(outcomes)),
            outcomes=dict(outcomes),
            details=dict(details),
            rows=sums["rows"],
            actions=sums.get("actions"),
        )
        with storage_errors("staging what was fetched", self.folder, "what was staged before stands"):
            for name, content in contents.items():
                with temporary_beside(self._file(unit, name)) as (temp, stream):
                    stream.write(content)
                    sync_stream(stream)
                    temp.replace(self._file(unit, name))  # durable with the record, in the same folder
            write_atomic(self._file(unit, "record"), sealed(unit))
        return unit

    def rows(self, units: Iterable[StagedUnit], low: date, high: date) -> pl.LazyFrame | None:
        """The rows of some units between two dates, both included; None if there is no unit."""
        return self._between([self._file(unit, "rows") for unit in units], low, high)

    def actions(self, units: Iterable[StagedUnit], low: date, high: date) -> pl.LazyFrame | None:
        """The splits and dividends of some units; None where the source names none."""
        named = [self._file(unit, "actions") for unit in units if unit.actions is not None]
        return self._between(named, low, high)

    def clear(self) -> None:
        """Remove the request's units."""
        if self.folder.is_dir():
            with storage_errors("clearing staging", self.folder, "what was committed stands"):
                shutil.rmtree(self.folder)
                fsync_folder(self.folder.parent)

    def _between(self, paths: list[Path], low: date, high: date) -> pl.LazyFrame | None:
        if not paths:
            return None
        return pl.scan_parquet(paths, glob=False).filter(pl.col("date").is_between(low, high))

    def _sum(self, unit: StagedUnit, kind: str) -> str:
        return sha256(self._file(unit, kind).read_bytes()).hexdigest()

    def _file(self, unit: StagedUnit, kind: str) -> Path:
        name = sha256(",".join(unit.symbols).encode()).hexdigest()[:16]
        return self.folder / {"rows": f"{name}.parquet", "actions": f"{name}.actions", "record": f"{name}.json"}[kind]


def _encoded(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="lz4")
    return buffer.getvalue()
