"""SIGKILL at random moments of backfills and updates: nothing committed is lost, and no help is needed after.

The writers are real processes. They come from a fork server that has imported everything but run nothing (Polars
must not be forked once its threads run), so that a kill lands in the work and not in the imports.
"""

import hashlib
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import polars as pl
import pytest

from historical_etl.store.manifest import ManifestManager
from historical_etl.store.verify.store import verify_store
from historical_etl_tests.proofs.crash.process import TIMEOUT_SECONDS
from historical_etl_tests.proofs.crash.worker import LAST_DAY, store_at, write_everything, write_until_killed
from historical_etl_tests.shares import number_of

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["historical_etl_tests.proofs.crash.worker", "exchange_calendars", "duckdb"])


def daily_bytes(root: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "historical" / "daily").glob("*.parquet"))
    }


def kill_a_writer(root: Path, seed: int, after: float) -> None:
    mine, theirs = _FORKS.Pipe()
    writer = _FORKS.Process(target=write_until_killed, args=(root, seed, theirs), daemon=True)
    writer.start()
    assert mine.poll(TIMEOUT_SECONDS)
    mine.recv()
    time.sleep(after)
    assert writer.pid is not None
    assert writer.is_alive(), "the writer must be ended by us, not by an error of its own"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert writer.exitcode == -signal.SIGKILL


def assert_committed_state_is_intact(root: Path) -> int:
    """Every partition that the manifest names is there, byte for byte, and reads, and `verify` agrees."""
    manifest = ManifestManager(root).load_manifest()
    if manifest is None:
        return 0
    for partition in manifest.partitions:
        path = root / partition.path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == partition.checksum
        rows = pl.read_parquet(path)
        assert rows.height == partition.rows
        assert rows.select(pl.struct("date", "symbol").is_duplicated().any()).item() is False
    report = verify_store(ManifestManager(root))
    assert report.ok, report.findings
    for path in (root / "historical" / "daily").glob("*"):
        assert pl.read_parquet(path).height > 0, "daily/ never shows a file that cannot be read"
    return manifest.version


@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_kill_at_random_moments_loses_nothing(tmp_path: Path, kills: int) -> None:
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "store"
    write_everything(undisturbed)
    began = time.perf_counter()
    write_everything(tmp_path / "again")
    some_commits = time.perf_counter() - began  # on this machine, as busy as it is
    dice = random.Random(number_of("kills"))
    versions = [0]
    for seed in range(kills):
        kill_a_writer(root, seed, after=dice.uniform(0, some_commits))
        versions.append(assert_committed_state_is_intact(root))
        assert versions[-1] >= versions[-2], "a committed version never goes back"
    assert versions[-1] > 1, "the kills must have hit a store that was being written"

    etl = store_at(root, LAST_DAY)
    etl.run_full_etl(("AAPL", "GOOG", "IBM", "MSFT"), "2004-01-01", LAST_DAY)

    assert daily_bytes(root) == daily_bytes(undisturbed)
    assert etl.cursors() == store_at(undisturbed, LAST_DAY).cursors()
    named = {
        Path(p.path).name
        for v in ManifestManager(root).list_versions()
        for p in ManifestManager(root).load_version(v).partitions
    }
    assert {path.name for path in (root / "historical" / "objects").iterdir()} == named
    assert etl.query_sql("SELECT count(*) FROM daily_prices").item() == etl.scan().collect().height
