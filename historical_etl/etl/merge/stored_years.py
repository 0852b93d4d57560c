"""The committed version that a merge builds on."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from historical_etl.models import Partition, SyncManifest
from historical_etl.schema import empty_frame
from historical_etl.store.layout import Layout
from historical_etl.store.parquet import Block
from historical_etl.store.verified_files import verified_path

__all__ = ["StoredYears"]


@dataclass(frozen=True)
class StoredYears:
    """The committed version that a merge builds on.

    `blocks` gives the verified month blocks of a year, as `Transaction.stored_blocks` does.
    """

    manifest: SyncManifest | None
    layout: Layout
    blocks: Callable[[int], list[Block]]

    def years(self) -> list[int]:
        """The committed years, ascending."""
        return [partition.year for partition in self.manifest.partitions] if self.manifest else []

    def partition(self, year: int) -> Partition | None:
        """What the manifest says of a year; None if it is not stored."""
        return self.manifest.partition(year) if self.manifest else None

    def scan(self, year: int) -> pl.LazyFrame:
        """The rows of a year; none if it is not stored."""
        partition = self.partition(year)
        if partition is None:
            return empty_frame().lazy()
        return pl.scan_parquet(verified_path(self.layout, partition), glob=False)
