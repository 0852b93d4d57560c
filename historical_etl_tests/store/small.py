"""A store that is small and quick: some bars of a year, committed as the core commits them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from historical_etl.models import CatalogPointer, Partition, SyncManifest
from historical_etl.schema import SCHEMA
from historical_etl.store.checksummed_json import render_checksummed
from historical_etl.store.ledgers import LedgerChanges
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.parquet.month_blocks import encode_block
from historical_etl.store.transaction import Provenance, Transaction
from historical_etl.store.vacuum import Retention

START = datetime(2020, 1, 1, tzinfo=UTC)
KEEP_ALL = Retention(versions=100, days=0)


@dataclass
class Hand:
    """A clock that is set by hand."""

    now: datetime = field(default=START)

    def __call__(self) -> datetime:
        return self.now

    def later(self, **by: float) -> None:
        self.now += timedelta(**by)


def bars(year: int, close: float = 10.0, symbol: str = "AAA") -> pl.DataFrame:
    """Two bars in January."""
    days = [date(year, 1, 4), date(year, 1, 5)]
    values = {name: [close, close + 1] for name in SCHEMA if name not in ("date", "symbol")}
    return pl.DataFrame({"date": days, "symbol": [symbol] * 2, **values}, schema=SCHEMA)


def corrections(close: float) -> pl.DataFrame:
    """A row for the ledger of this name."""
    return pl.DataFrame(
        {"date": [date(2019, 1, 4)], "symbol": ["AAA"], "column": ["close"], "old": [close * 1.0], "new": [close + 1.0]}
    ).with_columns(version=pl.lit(1, pl.Int64), committed_at=pl.lit(START).cast(pl.Datetime("us", "UTC")))


def commit(
    manager: ManifestManager,
    years: Mapping[int, float],
    ledgers: LedgerChanges | None = None,
    retention: Retention = KEEP_ALL,
) -> SyncManifest:
    """Commit years, each with bars of one price; all older versions stay unless it is said otherwise."""
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token, retention)
        for year, close in years.items():
            frame = bars(year, close)
            transaction.write_year(year, [encode_block(frame)], 1)
        made = transaction.commit(Provenance("vendor", "1", "splits", "XNYS", "hash"), ledgers)
    assert made is not None
    return made


def only(manifest: SyncManifest, year: int = 2019) -> Partition:
    """The partition of a year that the test knows to be there."""
    partition = manifest.partition(year)
    assert partition is not None
    return partition


def publish(manager: ManifestManager, version: int) -> None:
    """What the catalog leaves beside the manifests when it shows a version."""
    pointer = CatalogPointer(version=version, objects=str(manager.layout.objects))
    manager.layout.catalog_pointer().write_bytes(render_checksummed(pointer))


def replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of one, whatever other names that has."""
    path.unlink()
    path.write_bytes(content)


def spoil(path: Path) -> bytes:
    """Turn one bit in the middle of a file; returns what it held before."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.chmod(0o644)
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    return content
