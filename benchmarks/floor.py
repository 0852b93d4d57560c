"""The floor: what the same work takes in plain Polars, with the least that makes a file durable.

Read the year, concat, unique, sort, `write_parquet` with its defaults, fsync, rename, fsync of the folder, SHA-256.
No lock, no validation, no versions, no returns, nothing read back.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

__all__ = ["FloorStore"]

_KEYS = ["date", "symbol"]


class FloorStore:
    """One Parquet file a year in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, year: int) -> Path:
        return self.folder / f"{year}.parquet"

    def paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def merge(self, year: int, frames: Sequence[pl.DataFrame]) -> str:
        """Merge rows into a year, new ones winning; returns the SHA-256 of its file."""
        path = self.path(year)
        stored = [pl.read_parquet(path)] if path.exists() else []
        columns = stored[0].columns if stored else frames[0].columns
        rows = pl.concat([*stored, *(frame.select(columns) for frame in frames)])
        return self._write(rows.unique(_KEYS, keep="last").sort(_KEYS), path)

    def dump(self, year: int, frames: Sequence[pl.DataFrame]) -> str:
        """Write a year as it came: no unique, no sort. What only the bytes cost."""
        return self._write(pl.concat(frames), self.path(year))

    def scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.paths())

    def _write(self, rows: pl.DataFrame, path: Path) -> str:
        temp = path.with_suffix(".tmp")
        rows.write_parquet(temp)
        _sync(temp, os.O_RDONLY)
        temp.rename(path)
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def by_year(rows: pl.DataFrame) -> Iterable[tuple[int, pl.DataFrame]]:
    """The rows of each year, ascending."""
    years: list[int] = rows.get_column("date").dt.year().unique().sort().to_list()
    for year in years:
        yield year, rows.filter(pl.col("date").dt.year() == year)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
