"""The merge against a dict: new wins, untouched keys keep their very bits, and `ret` is what loops compute."""

import struct
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from pathlib import Path
from time import sleep

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from historical_etl import DataQualityError, DataValidator, ManifestManager
from historical_etl.etl.merge.merge import GrowingYear, merge_years
from historical_etl.etl.merge.stored_years import StoredYears
from historical_etl.store.transaction import CopiedYear, Provenance, Transaction
from historical_etl_tests.scenario import COLUMNS, KEYS, LAST, as_rows, at, sessions, with_naive_returns
from historical_etl_tests.shares import examples

#: Both sides of two year ends and of a month's end, so that most predecessors lie elsewhere.
DAYS = [
    *sessions(date(2010, 12, 29), date(2011, 1, 4)),
    *sessions(date(2011, 2, 25), date(2011, 3, 2)),
    *sessions(date(2011, 12, 29), date(2012, 1, 4)),
]
SYMBOLS = ["A", "B.C", "Z"]
VALIDATOR = DataValidator()

bar = st.tuples(
    st.sampled_from([1.0, 2.5, 10.0, 0.1 + 0.2]),  # close
    st.sampled_from([0.0, 7.0]),  # volume
    st.sampled_from([None, 1.0, 3.0]),  # adj_close
)
Model = dict[tuple[date, str], tuple[float, float, float | None]]
batch = st.dictionaries(st.tuples(st.sampled_from(DAYS), st.sampled_from(SYMBOLS)), bar, min_size=1, max_size=12)


def taken(model: Model, rows: Model) -> Model:
    """Of new rows what a merge takes: a value wins over a null, and an adj_close stays only beside its close."""
    after: Model = {}
    for key, (close, volume, adj) in rows.items():
        known = model.get(key)
        if adj is not None or known is None or known[2] is None:
            after[key] = (close, volume, adj)
        elif abs(close / known[0] - 1) <= 1e-4:
            after[key] = (close, volume, known[2])
        else:
            after[key] = known
    return after


def frame_of(rows) -> pl.DataFrame:
    table = [
        {"date": day, "symbol": symbol, "open": close, "close": close, "volume": volume, "adj_close": adj}
        for (day, symbol), (close, volume, adj) in rows.items()
    ]
    return pl.DataFrame(table, schema=COLUMNS).sort("symbol", "date")


def commit(manager: ManifestManager, rows: pl.DataFrame):
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token)
        years = StoredYears(transaction.base, manager.layout, transaction.stored_blocks)
        nothing = rows.clear()
        begun: list[GrowingYear] = []
        merged = list(
            merge_years(rows, nothing, nothing.select("symbol", "date"), years, VALIDATOR.gate, begin=begun.append)
        )
        assert [growing.year for growing in begun] == [year.year for year in merged if year.is_begun]
        for growing in begun:
            assert list(growing.blocks()) == growing.merged.result().blocks, "what was begun is what it becomes"
        for year in merged:
            transaction.write_year(year.year, year.blocks, year.symbols)
        return transaction.commit(Provenance()), merged


def bits(frame: pl.DataFrame) -> dict[tuple[date, str], bytes]:
    """Each row as the bytes of its prices and volume."""
    return {
        key: b"".join(b"-" if value is None else struct.pack("<d", value) for value in values)
        for key, values in as_rows(frame.drop("ret").with_columns(ret=pl.lit(None, pl.Float64))).items()
    }


@given(st.lists(batch, min_size=1, max_size=5))
@settings(max_examples=examples(25))
def test_merging_batches_equals_updating_a_dict(batches):
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        manager = ManifestManager(root, clock=at(LAST))
        model: Model = {}
        for fetched in batches:
            stored = {p.year: p for p in manifest.partitions} if (manifest := manager.load_manifest()) else {}
            before = bits(read(manager, stored.values()))
            manifest, merged = commit(manager, frame_of(fetched))
            assert manifest is not None
            rows = taken(model, fetched)
            silent = {key for key in fetched if key in model and fetched[key][2] is None and model[key][2] is not None}
            assert {
                (day, symbol)
                for year in merged
                if year.differences.withheld is not None
                for day, symbol in year.differences.withheld.filter(pl.col("stored").is_not_null())
                .select("date", "symbol")
                .iter_rows()
            } == silent
            changed = {
                key
                for key, value in rows.items()
                if key in model
                for old, new in zip(model[key], value, strict=True)
                if old != new
            }
            reported = {
                (day, symbol)
                for year in merged
                for symbol, day in year.differences.changed.select("symbol", "date").iter_rows()
            }
            assert reported == changed
            added = {(day, symbol) for year in merged for symbol, day in year.differences.added.iter_rows()}
            assert added == rows.keys() - model.keys()
            model |= rows
            now = read(manager, manifest.partitions)
            assert_frame_equal(now.sort(KEYS), with_naive_returns(frame_of(model)), check_exact=True)
            after = bits(now)
            assert {key: after[key] for key in before if key not in rows} == {
                key: data for key, data in before.items() if key not in rows
            }
            for partition in manifest.partitions:
                keys = [key for key in model if key[0].year == partition.year]
                assert partition.rows == len(keys)
                assert partition.symbols == len({symbol for _, symbol in keys})
                assert partition.first_session == min(day for day, _ in keys)
                assert partition.last_session == max(day for day, _ in keys)
            assert {p.year for p in manifest.partitions} == {day.year for day, _ in model}


@given(st.data(), batch)
@settings(max_examples=examples(10))
def test_a_value_wins_over_a_null_in_any_order(data, rows):
    """One truth, delivered several times with cells left out here and there: the order does not show in the bytes."""
    holes = st.fixed_dictionaries({key: st.booleans() for key in rows})
    deliveries = [
        {key: (close, volume, None if empty[key] else adj) for key, (close, volume, adj) in rows.items()}
        for empty in data.draw(st.lists(holes, min_size=1, max_size=3))
    ]
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        checksums = set[str]()
        for number, order in enumerate((deliveries, deliveries[::-1])):
            manager = ManifestManager(Path(root) / str(number), clock=at(LAST))
            for delivery in order:
                commit(manager, frame_of(delivery))
            manifest = manager.load_manifest()
            assert manifest is not None
            checksums.add(manifest.checksum)
        assert len(checksums) == 1


@given(st.lists(batch, min_size=1, max_size=4))
@settings(max_examples=examples(15))
def test_the_path_does_not_show_in_the_bytes(batches):
    """Merged one after the other, or all of it at once: equal checksums. And the last batch again changes nothing."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        steps = ManifestManager(Path(root) / "steps", clock=at(LAST))
        once = ManifestManager(Path(root) / "once", clock=at(LAST))
        model: Model = {}
        manifest = None
        for rows in batches:
            manifest, _ = commit(steps, frame_of(rows))
            model |= taken(model, rows)
        again, _ = commit(steps, frame_of(batches[-1]))
        whole, _ = commit(once, frame_of(model))
        assert manifest is not None
        assert again == manifest
        assert whole is not None
        assert whole.checksum == manifest.checksum


def read(manager: ManifestManager, partitions) -> pl.DataFrame:
    frames = [pl.read_parquet(manager.layout.resolve(partition.path)) for partition in partitions]
    return pl.concat(frames) if frames else pl.DataFrame(schema=COLUMNS)


def test_the_file_of_a_year_is_begun_before_the_merge_and_dropped_if_that_is_refused(tmp_path):
    manager = ManifestManager(tmp_path, clock=at(LAST))
    january, march = date(2011, 1, 4), date(2011, 3, 1)
    commit(manager, frame_of({(day, "A"): (1.0, 7.0, None) for day in (january, march)}))
    copied: list[Path] = []

    def refuse(rows: pl.DataFrame, year: int) -> None:
        (unfinished,) = manager.layout.objects.glob(".*")
        copied.append(unfinished)
        raise DataQualityError(f"{rows.height} row(s) of {year} are refused", where="2011", todo="nothing")

    with manager.acquire_lock() as token, ThreadPoolExecutor() as pool:
        transaction = Transaction(manager, token)
        writing: list[Future[CopiedYear]] = []

        def begin(year: GrowingYear) -> None:
            writing.append(pool.submit(transaction.copy_year, year.year, year.blocks(), lambda: 1))
            while not list(manager.layout.objects.glob(".*")):
                sleep(0.001)

        years = StoredYears(transaction.base, manager.layout, transaction.stored_blocks)
        later = frame_of({(date(2011, 3, 2), "A"): (2.0, 7.0, None)})
        nothing = later.clear()
        with pytest.raises(DataQualityError, match="are refused"):
            list(merge_years(later, nothing, nothing.select("symbol", "date"), years, refuse, begin=begin))
        with pytest.raises(DataQualityError, match="are refused"):
            writing[0].result()
    assert copied
    assert list(manager.layout.objects.glob(".*")) == []


def test_a_year_of_which_an_early_month_changes_is_not_begun(tmp_path):
    manager = ManifestManager(tmp_path, clock=at(LAST))
    days = [date(2011, 1, 4), date(2011, 2, 25)]
    commit(manager, frame_of({(day, "A"): (1.0, 7.0, None) for day in days}))
    for rows in ({days[0]: 2.0, date(2011, 3, 2): 2.0}, {days[1]: 2.0}, {date(2012, 1, 3): 2.0}):
        _, merged = commit(manager, frame_of({(day, "A"): (close, 7.0, None) for day, close in rows.items()}))
        assert not any(year.is_begun for year in merged), rows
