"""What the machine of stores looks at beside rows, and how it damages a file."""

import random
from collections.abc import Sequence
from pathlib import Path

from historical_etl import HistoricalETL, SyncManifest
from historical_etl.durable import sha256_of
from historical_etl.store import leases
from historical_etl_tests.proofs.property.store_model import State

__all__ = ["assert_daily", "difference", "end_leases", "flip", "is_changed"]


def end_leases() -> None:
    """Let go of what this process has scanned: else it is kept until four others were."""
    for staying in leases._staying.values():
        for stack in staying.values():
            stack.close()
    leases._staying.clear()


def assert_daily(store: HistoricalETL, manifest: SyncManifest) -> None:
    """What any tool finds in `daily/` is the current version and nothing else."""
    there = {path.name: sha256_of(path) for path in store.layout.daily.iterdir()}
    assert there == {f"{partition.year}.parquet": partition.checksum for partition in manifest.partitions}


def is_changed(committed: Path) -> bool:
    """Whether a committed file, whose name ends in its checksum, is not there any more as it was."""
    return not committed.is_file() or not sha256_of(committed).startswith(committed.stem.rpartition("-")[2])


def flip(path: Path, which: random.Random) -> None:
    """One bit of a file is another one."""
    content = bytearray(path.read_bytes())
    content[which.randrange(len(content))] ^= 1 << which.randrange(8)
    rights = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(content)  # in place: what is linked to it rots with it
    path.chmod(rights)


def difference(found: State, steps: Sequence[State]) -> str:
    """In what the rows that were found differ from the last that were expected, in words."""
    wanted = steps[-1]
    keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return "; ".join(f"{key}: {found.get(key)} for {wanted.get(key)}" for key in keys[:5])
