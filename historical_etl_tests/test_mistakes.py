"""One test for each of the fifteen mistakes of CONTRACTS.md, each seen in an implementation of this design."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import (
    ChecksumMismatchError,
    DataQualityError,
    LockTimeoutError,
    ManifestManager,
    Outcome,
    SchemaDriftError,
    StorageError,
)
from historical_etl.durable import fsync_folder, sha256_of
from historical_etl_tests.scenario import (
    FIRST,
    LAST,
    SHORT,
    SYMBOLS,
    Ask,
    ScriptedFetcher,
    adding,
    as_rows,
    changing,
    current_manifest,
    daily_bytes,
    doubling,
    evening,
    in_turn,
    losing,
    store,
    stored,
    tree,
)
from historical_etl_tests.store.test_lock import held_elsewhere

MIDWAY, LATER = date(2013, 1, 15), date(2013, 2, 15)


@pytest.fixture
def etl(root):
    """A store with everything until MIDWAY: versions 1 and 2, years 2012 and 2013."""
    etl = store(root, ScriptedFetcher(SHORT), MIDWAY)
    etl.run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    return etl


def again(etl, today: date = LATER, **options):
    """The same store, opened anew; returns it and its fetcher."""
    fetcher = ScriptedFetcher(SHORT, **options)
    return store(etl.layout.root, fetcher, today), fetcher


def test_mistake_01_fewer_symbols_or_half_a_year_drop_no_rows(etl):
    """A full run with two symbols, one with half a year, one with other symbols: every row that was there is there."""
    before = as_rows(stored(etl))
    files = daily_bytes(etl)
    etl.run_full_etl(SYMBOLS[:2], SHORT.first, MIDWAY, resume=False)
    etl.run_full_etl(SYMBOLS, date(2012, 11, 1), date(2012, 11, 30))
    etl.run_year(2012, ["HALT"])
    assert as_rows(stored(etl)) == before
    assert daily_bytes(etl) == files
    more, _ = again(etl, MIDWAY, alter=adding(date=date(2013, 1, 4), symbol="NEW"))
    more.run_year(2013, ["NEW"])
    after = as_rows(stored(more))
    assert {key: after[key] for key in before} == before
    assert after.keys() - before.keys() == {(date(2013, 1, 4), "NEW")}


def test_mistake_02_resume_skips_no_year_minds_the_arguments_and_keeps_earlier_files(root, market):
    class Stop(BaseException):
        pass

    def stop(ask: Ask) -> None:
        if ask.end.year == 2011:
            raise Stop

    fetcher = ScriptedFetcher(market, before=stop)
    etl = store(root, fetcher)
    with pytest.raises(Stop):
        etl.run_full_etl(SYMBOLS, FIRST, LAST)
    fetcher.before = None
    fetcher.asked.clear()
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2011, 2012, 2013], "each missing year, not every second one"
    assert [p.year for p in current_manifest(etl).partitions] == [2010, 2011, 2012, 2013]
    assert_frame_equal(stored(etl), market.expected(), check_exact=True)

    fetcher.before, other = stop, store(root / "other", fetcher)
    with pytest.raises(Stop):
        other.run_full_etl(SYMBOLS[:3], FIRST, LAST)
    fetcher.before = None
    fetcher.asked.clear()
    other.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2010, 2011, 2012, 2013]
    assert set(stored(other)["symbol"]) == set(SYMBOLS)


def test_mistake_03_failed_validation_leaves_the_good_file_and_drift_is_not_corruption(etl):
    files, objects = daily_bytes(etl), tree(etl.layout.objects)
    bad, fetcher = again(etl, alter=lambda bars: bars.with_columns(pl.lit(-1.0).alias("close")))
    with pytest.raises(DataQualityError) as refused:
        bad.run_incremental_etl()
    assert not isinstance(refused.value, ChecksumMismatchError | SchemaDriftError)
    fetcher.alter = lambda bars: bars.rename({"close": "last"})
    with pytest.raises(SchemaDriftError, match="close"):
        bad.run_incremental_etl()
    assert daily_bytes(bad) == files
    assert tree(bad.layout.objects) == objects
    for entry in bad.manifests.quarantine.entries():
        names = {path.name for path in entry.iterdir()}
        assert not names & {path.name for path in bad.layout.objects.iterdir()}
        assert all("rows" in name or name == "reason.json" for name in names), "refused rows, no stored file"


def test_mistake_04_a_cursor_moves_only_over_sessions_that_arrived(etl):
    spoilt = in_turn(losing("HALT"), losing("SPLT", date(2013, 1, 22)))
    later, fetcher = again(etl, alter=spoilt)
    result = later.run_incremental_etl()
    assert result.outcomes["HALT"] == Outcome.EMPTY
    cursors = later.cursors()
    assert cursors["HALT"] == MIDWAY, "not today: nothing arrived"
    assert cursors["SPLT"] == date(2013, 1, 18), "not the maximum date: 22 January is missing"
    assert cursors["BRK.B"] == LATER
    later.layout.progress_file().unlink()
    assert store(etl.layout.root, fetcher, LATER).cursors() == cursors, "rebuilt from the data alone, they are the same"


def test_mistake_05_a_full_run_leaves_cursors(root):
    fetcher = ScriptedFetcher(SHORT)
    etl = store(root, fetcher, MIDWAY)
    etl.run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    saved = json.loads(etl.layout.progress_file().read_bytes())["symbol_last_dates"]
    assert saved == {**dict.fromkeys(SYMBOLS, "2013-01-15"), "GONE": "2012-11-30"}
    fetcher.asked.clear()
    store(root, fetcher, date(2013, 1, 16)).run_incremental_etl()
    assert {ask.start for ask in fetcher.asked} == {date(2013, 1, 9), date(2012, 11, 26)}, "and increments start there"


def test_mistake_06_no_row_is_picked_by_chance(root):
    """Two different rows for one key: in whatever order they come, the symbol's batch is refused."""
    day = date(2013, 1, 10)
    outcomes = set()
    for seed in range(8):
        fetcher = ScriptedFetcher(
            SHORT,
            alter=in_turn(
                doubling("HALT", day, close=11.0, low=1.0, high=900.0),
                lambda bars, seed=seed: bars.sample(fraction=1, shuffle=True, seed=seed),
            ),
        )
        etl = store(root / str(seed), fetcher, MIDWAY)
        result = etl.run_year(2013, ["HALT", "BRK.B"])
        outcomes.add((result.outcomes["HALT"], result.outcomes["BRK.B"], result.manifest_checksum))
        assert set(stored(etl)["symbol"]) == {"BRK.B"}
        kept = pl.read_parquet(next(Path(result.quarantine_paths[0]).glob("*.parquet")))
        assert kept.filter(date=day).height == 2, "both are kept aside"
    ((halt, other, _),) = outcomes
    assert (halt, other) == (Outcome.REFUSED, Outcome.OK)


def test_mistake_07_an_error_after_the_rename_loses_neither_version(etl, monkeypatch):
    """The folder of the manifest cannot be synced after the new one was renamed into it."""
    before = current_manifest(etl)
    progress = etl.layout.progress_file().read_bytes()

    def fail(folder: Path) -> None:
        if folder == etl.layout.manifests:
            raise OSError(5, "Input/output error")
        fsync_folder(folder)

    later, _ = again(etl)
    monkeypatch.setattr("historical_etl.durable.fsync_folder", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        later.run_incremental_etl()
    monkeypatch.undo()

    for version in later.manifests.list_versions():
        for partition in later.manifests.load_version(version).partitions:
            assert sha256_of(later.layout.resolve(partition.path)) == partition.checksum
    assert current_manifest(later).version in (before.version, before.version + 1)
    assert stored(later).height in (SHORT.expected(end=MIDWAY).height, SHORT.expected(end=LATER).height)
    assert later.layout.progress_file().read_bytes() == progress
    later.run_incremental_etl()
    assert stored(later).equals(SHORT.expected(end=LATER))
    backup = later.layout.progress_file().with_name("historical_daily_progress.json.backup")
    assert backup.read_bytes() == progress


def test_mistake_08_a_live_lock_holds_however_old_and_a_new_one_is_not_stolen(root):
    """By its record the holder is from 2001, its file was last touched in 1970, and the second one's is empty."""
    manager = ManifestManager(root)
    with held_elsewhere(root):
        os.utime(manager.layout.lock_file(), (0, 0))
        with pytest.raises(LockTimeoutError, match="2001"), manager.acquire_lock(timeout_seconds=0):
            pass
    with held_elsewhere(root, "bare"):
        assert manager.layout.lock_file().read_bytes() == b""
        with pytest.raises(LockTimeoutError), manager.acquire_lock(timeout_seconds=0):
            pass
    # Two waiters for the lock of a holder that dies: one after the other, never both.
    with held_elsewhere(root):
        (root / "count").write_text("0")
        program = [sys.executable, "-m", "historical_etl_tests.store.holder", "count", str(root)]
        waiters = [subprocess.Popen(program) for _ in range(2)]
    for waiter in waiters:
        assert waiter.wait(60) == 0
    assert (root / "count").read_text() == "50"


def test_mistake_09_a_corrupt_manifest_blocks_nothing_and_data_roll_back_with_it(etl):
    later, _ = again(etl)
    later.run_incremental_etl()
    lost = current_manifest(later).version
    later.layout.manifest_file().write_bytes(b"{ torn")
    later.layout.history_file(lost).write_bytes(b"{ torn")
    assert current_manifest(later).version == lost - 1
    midway, _ = again(etl, MIDWAY)
    midway.publish_catalog()
    assert pl.read_parquet(midway.layout.daily / "*.parquet").height == SHORT.expected(end=MIDWAY).height
    assert {name: sha256_of(midway.layout.daily / name) for name in daily_bytes(midway)} == {
        f"{p.year}.parquet": p.checksum for p in current_manifest(midway).partitions
    }
    assert midway.query_sql("SELECT max(date) AS d FROM daily_prices").item() == MIDWAY
    for day in (date(2013, 1, 31), LATER):
        assert again(etl, day)[0].run_incremental_etl().changed
    assert stored(midway).equals(SHORT.expected(end=LATER))


def test_mistake_10_impossible_rows_do_not_pass(etl):
    """NaN closes and rows of another year are kept aside; beside a good close what cannot be is null, and flagged."""
    spoilt = in_turn(
        changing("BRK.B", date(2013, 1, 23), close=float("nan")),
        changing("HALT", date(2013, 1, 24), volume=-1.0),
        adding(date=date(2011, 1, 4), symbol="RAWP"),
        adding(date=date(2014, 1, 2), symbol="RAWP"),
        changing("SPLT", date(2013, 1, 25), high=float("inf")),
    )
    later, _ = again(etl, alter=spoilt)
    result = later.run_incremental_etl()
    assert result.rows_rejected >= 3
    assert result.flagged_by_reason == {"impossible_price": 1, "impossible_volume": 1}
    rows = stored(later)
    assert rows.filter(pl.col("close").is_nan() | (pl.col("volume") < 0) | pl.col("high").is_infinite()).is_empty()
    assert set(rows["date"].dt.year()) == {2012, 2013}
    gone = {("BRK.B", date(2013, 1, 23))}
    missing = SHORT.expected(end=LATER).join(rows, on=["date", "symbol"], how="anti")
    assert set(missing.select("symbol", "date").rows()) == gone


def test_mistake_11_lower_case_and_repeated_symbols_are_one_symbol(root):
    """Asked for in any spelling and delivered in any: fetched once, and an increment finds its cursor."""
    fetcher = ScriptedFetcher(SHORT, alter=lambda bars: bars.with_columns(pl.col("symbol").str.to_lowercase()))
    etl = store(root, fetcher, MIDWAY)
    etl.run_full_etl(["brk.b", " BRK.B", "Halt", "halt "], SHORT.first, MIDWAY)
    assert {ask.symbols for ask in fetcher.asked} == {("BRK.B", "HALT")}
    assert_frame_equal(stored(etl), SHORT.expected(["BRK.B", "HALT"], end=MIDWAY), check_exact=True)
    fetcher.asked.clear()
    later = store(root, fetcher, date(2013, 1, 16))
    later.run_incremental_etl(["brk.b", "BRK.B ", "halt"])
    assert fetcher.asked == [Ask(("BRK.B", "HALT"), date(2013, 1, 9), date(2013, 1, 16))]
    assert set(later.cursors()) == {"BRK.B", "HALT"}


def test_mistake_12_the_open_session_is_not_stored_before_its_close(etl):
    """At noon today's bar is half a bar; the run after the close stores the whole one."""
    half = changing("BRK.B", date(2013, 1, 16), close=1.0, low=0.5, volume=1.0)
    noon = evening(date(2013, 1, 16)) - timedelta(hours=6)
    fetcher = ScriptedFetcher(SHORT, alter=half, days_beyond=1)
    store(etl.layout.root, fetcher, clock=lambda: noon).run_incremental_etl()
    assert stored(etl)["date"].max() == MIDWAY
    assert etl.cursors()["BRK.B"] == MIDWAY
    closed, _ = again(etl, date(2013, 1, 16))
    closed.run_incremental_etl()
    assert_frame_equal(stored(closed), SHORT.expected(end=date(2013, 1, 16)), check_exact=True)


DASHBOARD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print(connection.sql("SELECT count(*) FROM daily_prices").fetchall()[0][0], flush=True)
sys.stdin.read()
print(connection.sql("SELECT count(*) FROM daily_prices").fetchall()[0][0], flush=True)
"""


@pytest.mark.parametrize("mode", ["read", "write"])
def test_mistake_13_a_dashboard_that_holds_the_catalog_open_disturbs_nothing(etl, mode):
    """Also one that opened it for writing, as DuckDB does by default: the run succeeds and publishes."""
    command = [sys.executable, "-c", DASHBOARD, str(etl.layout.catalog), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as dashboard:
        assert dashboard.stdout is not None
        seen = int(dashboard.stdout.readline())
        later, _ = again(etl)
        result = later.run_incremental_etl()
        assert result.changed
        assert result.catalog_error is None
        assert later.catalog.shown_version() == result.version
        assert later.query_sql("SELECT count(*) AS n FROM daily_prices").item() > seen
        assert int(dashboard.communicate("")[0]) == seen, "it keeps the version that it opened"
    assert dashboard.returncode == 0


def test_mistake_14_paths_survive_another_working_directory_and_awkward_names(tmp_path, monkeypatch):
    """A relative root is fixed when the store is opened; its name has a quote, a space and a bracket."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(home)
    name = "it's my [data]"
    etl = store(Path(name), ScriptedFetcher(SHORT), MIDWAY)
    etl.run_full_etl(["BRK.B"], SHORT.first, date(2012, 12, 31))
    monkeypatch.chdir(elsewhere)
    etl.run_incremental_etl()
    expected = SHORT.expected(["BRK.B"], end=MIDWAY)
    assert stored(etl).equals(expected)
    assert etl.query_sql("SELECT count(*) AS n FROM daily_prices").item() == expected.height
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in (home / name / "historical" / "daily").iterdir()} == {"2012.parquet", "2013.parquet"}
    assert all(not os.path.isabs(path) for path in current_manifest(etl).file_paths)  # noqa: PTH117
    (home / name).rename(elsewhere / "moved")
    moved = store(Path("moved"), ScriptedFetcher(SHORT), MIDWAY)
    assert stored(moved).equals(expected), "a store may be moved as a whole"


def test_mistake_15_no_temp_matches_a_glob_that_readers_use(etl, watching):
    """Before every change to the file system, a reader's globs show finished files and nothing else."""
    later, _ = again(etl)
    root, seen, temps = etl.layout.root, Counter(), set()

    def look(_: str) -> None:
        temps.update(path.name for path in root.rglob(".*.tmp"))
        for pattern in (
            "historical/daily/*.parquet",
            "historical/**/*.parquet",
            "manifests/**/*.json",
            "duckdb/*.duckdb",
        ):
            for path in root.glob(pattern):
                seen[pattern] += 1
                assert not path.name.startswith("."), path
                assert not path.name.endswith(".tmp"), path
                if path.suffix == ".parquet":
                    assert path.read_bytes()[-4:] == b"PAR1", path
                if path.suffix == ".json":
                    json.loads(path.read_bytes())

    with watching(look):
        later.run_incremental_etl()
    assert min(seen.values()) > 20
    assert len(temps) > 5, "temps were there to be mistaken for data"
