"""When a file is proven, and when it is used: what `scan` promises until its frame is collected, and what not."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ChecksumMismatchError, HistoricalETL
from historical_etl.store import verified_files
from historical_etl.store.parquet import row_groups
from historical_etl_tests.etl.conftest import CORRECTED, opened
from historical_etl_tests.scenario import KEYS, SHORT, ScriptedFetcher, changing, current_manifest, stored, tree

IN_OCTOBER = 300  # a byte of the first pages of 2012


def object_of(etl: HistoricalETL, year: int) -> Path:
    partition = current_manifest(etl).partition(year)
    assert partition is not None
    return etl.layout.resolve(partition.path)


def in_place(path: Path, content: bytes) -> None:
    """Other bytes in the same file, as rot leaves them."""
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.write(content)
        stream.truncate()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    in_place(path, bytes(content))


def restate(etl: HistoricalETL) -> None:
    symbol, day = CORRECTED
    source = ScriptedFetcher(SHORT, alter=changing(symbol, day, volume=1.0))
    opened(etl.layout.root, source, keep_versions=1, keep_days=0).run_full_etl([symbol], "2012-12-01", "2012-12-31")


def go_back(etl: HistoricalETL) -> None:
    opened(etl.layout.root, keep_versions=1, keep_days=0).rollback(1)


def vacuum(etl: HistoricalETL) -> None:
    restate(etl)
    opened(etl.layout.root).vacuum(keep_versions=1, keep_days=0)


def spoil_and_repair(etl: HistoricalETL) -> None:
    """The object is put aside and comes again from its copy in quarantine."""
    path = object_of(etl, 2012)
    etl.manifests.quarantine.copy_bytes(path.name, path.read_bytes(), "a copy", "historical_daily")
    flip(path, IN_OCTOBER)
    assert opened(etl.layout.root).repair().ok


def replace_by_a_copy(etl: HistoricalETL) -> None:
    """A restore from a backup: another inode, equal bytes."""
    path = object_of(etl, 2012)
    copy = path.with_suffix(".copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def unlink_daily(etl: HistoricalETL) -> None:
    for path in etl.layout.daily.iterdir():
        path.unlink()
    opened(etl.layout.root).repair()


@pytest.mark.parametrize(
    "meanwhile", [restate, go_back, vacuum, spoil_and_repair, replace_by_a_copy, unlink_daily], ids=lambda f: f.__name__
)
def test_whatever_the_store_does_between_scan_and_collect_the_rows_are_those_of_the_call(
    etl: HistoricalETL, meanwhile: Callable[[HistoricalETL], None]
):
    true = stored(etl)
    frames = [etl.scan(), etl.scan(version=3), etl.scan(start=date(2012, 10, 1), end=date(2012, 12, 31))]
    meanwhile(etl)
    for frame, rows in zip(frames, [true, true, true.filter(pl.col("date") < date(2013, 1, 1))], strict=True):
        assert_frame_equal(frame.collect().sort(KEYS), rows)


def test_rot_in_place_between_scan_and_collect_is_found_by_the_next_call_not_by_this_one(etl: HistoricalETL):
    """The file is proven at the call. What becomes of it in place after that, collect does not ask: so the docs say."""
    frame, path = etl.scan(end=date(2012, 12, 31)), object_of(etl, 2012)
    flip(path, IN_OCTOBER)
    with suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException):
        assert frame.collect().height > 0
    for read in (
        lambda: etl.scan(end=date(2012, 12, 31)),
        lambda: etl.query_sql("SELECT max(close) FROM daily_prices WHERE date < DATE '2013-01-01'"),
        lambda: opened(etl.layout.root).scan(),
    ):
        with pytest.raises(ChecksumMismatchError):
            read()
    assert not etl.verify().ok


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rot below the file system: no inode, size or time tells of it."""
    monkeypatch.setattr(verified_files, "_state", lambda path: (hash(path),))
    monkeypatch.setattr(row_groups, "_state", lambda path: (hash(path), 0, 0))


def test_rot_that_leaves_the_times_alone_is_found_by_verify_and_by_the_next_process(etl, silent, monkeypatch):
    stored(etl)
    flip(object_of(etl, 2012), IN_OCTOBER)
    etl.scan(end=date(2012, 12, 31))  # proven in this process, and nothing tells of a change
    assert not etl.verify().ok
    monkeypatch.setattr(verified_files, "_checked", {})  # as a new process has it
    with pytest.raises(ChecksumMismatchError):
        etl.scan(end=date(2012, 12, 31))


@pytest.mark.parametrize(
    ("symbol", "first", "last"),
    [(CORRECTED[0], "2012-12-01", "2012-12-31"), ("IPOX", "2012-10-01", "2012-11-30")],
    ids=["blocks that are copied", "a block that is merged"],
)
def test_rot_is_not_committed_again_under_a_new_checksum(etl: HistoricalETL, silent, symbol, first, last):
    """The unchanged months of a year are copied from the file as it was proven, perhaps hours ago."""
    path, version = object_of(etl, 2012), current_manifest(etl).version
    stored(etl)
    flip(path, IN_OCTOBER)
    objects = set(tree(etl.layout.objects))
    day = CORRECTED[1] if symbol == CORRECTED[0] else date(2012, 11, 20)
    source = ScriptedFetcher(SHORT, alter=changing(symbol, day, volume=1.0))
    with pytest.raises(ChecksumMismatchError):
        opened(etl.layout.root, source).run_full_etl([symbol], first, last)
    assert current_manifest(etl).version == version
    assert set(tree(etl.layout.objects)) == objects
    assert any(path.name in entry for entry in tree(etl.layout.quarantine)), "a copy is kept as evidence"
