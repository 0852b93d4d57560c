"""What `counting` counts, and that it leaves everything as it was."""

import fcntl
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from polars import _plr as native
from polars._plr import PyLazyFrame

from benchmarks.counting import BYTES, COUNTED, counting
from historical_etl.durable import fsync_folder, sha256_of, write_atomic
from historical_etl.etl.runs import run
from historical_etl.schema import SCHEMA
from historical_etl.store.parquet import footer, month_blocks, row_groups

FRAME = pl.DataFrame({"a": [3, 1, 2], "b": ["x", "y", "z"]})


def counted(folder: Path, work: Callable[[], object]) -> dict[str, int]:
    """What is not zero, without bytes, of work that was done once before."""
    work()
    with counting(folder) as counts:
        work()
    return {name: number for name, number in counts.numbers.items() if number and name not in BYTES}


QUERIES: dict[str, tuple[Callable[[], object], int]] = {
    "collected": (lambda: FRAME.lazy().filter(pl.col("a") > 1).collect(), 1),
    "streamed": (lambda: FRAME.lazy().collect(engine="streaming"), 1),
    "in batches": (lambda: list(FRAME.lazy().collect_batches()), 1),
    "several at once": (lambda: pl.collect_all([FRAME.lazy().select("a"), FRAME.lazy().select("b")]), 2),
    "a filter": (lambda: FRAME.filter(pl.col("a") > 1), 1),
    "two methods": (lambda: FRAME.with_columns(c=pl.col("a") + 1).sort("c"), 2),
    "a group": (lambda: FRAME.group_by("b").agg(pl.len()), 1),
    "a join": (lambda: FRAME.join(FRAME, on="a"), 1),
    "no query": (lambda: FRAME.head(2), 0),
    "not collected": (lambda: FRAME.lazy().filter(pl.col("a") > 1), 0),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_what_is_collected(tmp_path: Path, name: str) -> None:
    work, queries = QUERIES[name]
    assert counted(tmp_path, work) == ({"queries": queries} if queries else {})


def test_a_file_that_polars_opens_is_counted_with_its_footer(tmp_path: Path) -> None:
    file, outside = tmp_path / "store" / "a.parquet", tmp_path / "b.parquet"
    file.parent.mkdir()
    FRAME.write_parquet(outside)

    assert counted(file.parent, lambda: FRAME.write_parquet(file)) == {"queries": 1, "files_written": 1}
    assert counted(file.parent, lambda: pl.read_parquet(file)) == {"queries": 1, "files_read": 1, "footers": 1}
    both = pl.scan_parquet([file, outside])
    assert counted(file.parent, lambda: pl.scan_parquet([file, outside])) == {"files_read": 1, "footers": 2}
    assert counted(file.parent, both.collect) == {"queries": 1}


def test_a_file_that_python_opens_is_counted_once_and_a_folder_is_not(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()

    assert counted(store, lambda: (store / "a").write_bytes(b"1")) == {"files_written": 1}
    assert counted(store, (store / "a").read_bytes) == {"files_read": 1}
    assert counted(store, lambda: os.fdopen(os.open(store / "a", os.O_RDONLY)).close()) == {"files_read": 1}
    assert counted(store, lambda: sha256_of(store / "a")) == {"files_read": 1}
    assert counted(store, lambda: write_atomic(store / "a", b"2")) == {"files_written": 1}
    assert counted(store, lambda: fsync_folder(store)) == {}
    assert counted(store, lambda: (tmp_path / "beside").write_bytes(b"1")) == {}
    assert counted(store, lambda: (tmp_path / "store-of-another").write_bytes(b"1")) == {}


def test_a_manifest_that_is_read_is_counted_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "manifests" / "history"
    folder.mkdir(parents=True)
    for name in ("00000001.json", "prices.lock"):
        (folder / name).write_bytes(b"{}")

    assert counted(tmp_path, (folder / "00000001.json").read_bytes) == {"files_read": 1, "manifest_reads": 1}
    assert counted(tmp_path, (folder / "prices.lock").read_bytes) == {"files_read": 1}


def test_a_lock_that_is_taken_is_counted_and_its_release_is_not(tmp_path: Path) -> None:
    def lock_and_unlock() -> None:
        with (tmp_path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)

    assert counted(tmp_path, lock_and_unlock) == {"files_written": 1, "locks": 1}


def test_a_footer_that_we_parse_is_counted(tmp_path: Path) -> None:
    keys = {"date": ["2024-01-02", "2024-02-01"], "symbol": ["A", "A"]}
    rows = pl.DataFrame(keys).with_columns(pl.col("date").str.to_date())
    rows = rows.with_columns(pl.lit(1.0).alias(name) for name in list(SCHEMA)[2:]).cast(SCHEMA)
    blocks = [month_blocks.encode_block(month) for month in rows.partition_by("date")]
    with (tmp_path / "2024.parquet").open("wb") as out:
        month_blocks.write_year(blocks, out)

    assert counted(tmp_path, lambda: month_blocks.read_blocks(tmp_path / "2024.parquet")) == {
        "files_read": 1,
        "footers": 1,
    }


def test_bytes_are_counted_whoever_hashes_reads_or_writes_them(tmp_path: Path) -> None:
    content = os.urandom(1_000_000)
    file = tmp_path / "a"

    with counting(tmp_path) as counts:
        file.write_bytes(content)
        assert sha256_of(file) == hashlib.sha256(content).hexdigest()
        assert run.sha256(content).digest() == hashlib.new("sha256", content).digest()

    assert counts.numbers["bytes_hashed"] == 4_000_000
    assert counts.numbers["bytes_written"] == pytest.approx(1_000_000, rel=0.01)
    assert counts.numbers["bytes_read"] == pytest.approx(1_000_000, rel=0.01)


def test_what_threads_do_is_counted_whole(tmp_path: Path) -> None:
    def work() -> None:
        for _ in range(50):
            FRAME.lazy().select("a").collect()
            hashlib.sha256(b"1234").hexdigest()

    with counting(tmp_path) as counts, ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()

    assert counts.numbers["queries"] == 200
    assert counts.numbers["bytes_hashed"] == 800


def test_everything_is_as_before_once_it_is_over(tmp_path: Path) -> None:
    def what_is_there() -> list[object]:
        names = ("collect", "collect_batches", "sink_parquet", "new_from_parquet")
        functions = [hashlib.new, hashlib.sha256, run.sha256, fcntl.flock, footer.decode, row_groups.decode]
        return [*(vars(PyLazyFrame)[name] for name in names), native.collect_all, *functions]

    before = what_is_there()
    with suppress(ZeroDivisionError), counting(tmp_path) as counts:
        assert all(now is not then for now, then in zip(what_is_there(), before, strict=True))
        raise ZeroDivisionError

    assert all(now is then for now, then in zip(what_is_there(), before, strict=True))
    so_far = dict(counts.numbers)
    (tmp_path / "a").write_bytes(b"1")
    FRAME.lazy().collect()
    assert counts.numbers == so_far
    assert set(so_far) == set(COUNTED)
