"""The catalog and queries: what they show, what they open, what they refuse, and that nobody is locked out."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import CatalogError, ChecksumMismatchError, ConfigurationError
from historical_etl_tests.scenario import (
    COLUMNS,
    KEYS,
    SHORT,
    SYMBOLS,
    Market,
    ScriptedFetcher,
    current_manifest,
    filled,
    store,
    stored,
    tree,
)

MIDWAY, LATER = date(2013, 1, 15), date(2013, 2, 15)
COUNT = "SELECT count(*) FROM daily_prices"


@pytest.fixture(scope="module")
def small() -> Market:
    """Three years that are quickly filled."""
    return Market(first=date(2011, 12, 1), last=date(2013, 1, 15))


@pytest.fixture
def etl(root):
    return filled(root, SHORT, MIDWAY)


def grow(etl):
    """The same store a month later, with a new version."""
    later = store(etl.layout.root, ScriptedFetcher(SHORT), LATER)
    later.run_incremental_etl()
    return later


LEDGERS = (
    *("actions", "additions", "aliases", "corrections", "gaps", "holds"),
    *("flagged_rows", "rejected_rows", "replaced_rows", "restatements", "runs", "stale_bars", "symbols", "withheld"),
)


def read(catalog, sql: str):
    """As any DuckDB client would, which knows nothing of us."""
    with duckdb.connect(str(catalog), read_only=True) as connection:
        return connection.sql(sql).fetchall()


def test_duckdb_catalog_reflects_all_tables(root, small):
    """The file has every view; they show exactly the current version, with the schema's types."""
    etl = store(root, ScriptedFetcher(small), small.last)
    etl.run_full_etl(SYMBOLS, small.first, small.last)
    path = root / "duckdb" / "historical_catalog.duckdb"
    assert [name for (name,) in read(path, "SELECT table_name FROM information_schema.tables ORDER BY 1")] == sorted(
        ["daily_prices", "partitions", *LEDGERS]
    )
    assert [row[:2] for row in read(path, "DESCRIBE daily_prices")] == [
        ("date", "DATE"),
        ("symbol", "VARCHAR"),
        *((name, "DOUBLE") for name in ("open", "high", "low", "close", "volume", "ret", "adj_close")),
    ]
    rows = pl.DataFrame(read(path, "SELECT * FROM daily_prices"), schema=COLUMNS, orient="row").sort(KEYS)
    assert_frame_equal(rows, small.expected(), check_exact=True)
    manifest = current_manifest(etl)
    assert read(
        path, "SELECT year, rows, symbols, first_session, last_session, checksum, version FROM partitions ORDER BY 1"
    ) == [
        (p.year, p.rows, p.symbols, p.first_session, p.last_session, p.checksum, manifest.version)
        for p in manifest.partitions
    ]


def test_a_new_version_is_shown_by_the_file_and_by_queries(etl):
    later = grow(etl)
    expected = SHORT.expected(end=LATER).height
    assert read(etl.layout.catalog, COUNT) == [(expected,)]
    assert later.query_sql(COUNT).item() == expected
    assert read(etl.layout.catalog, "SELECT DISTINCT version FROM partitions") == [(current_manifest(later).version,)]


def test_queries_are_never_behind_even_if_the_file_is(etl):
    later = store(etl.layout.root, ScriptedFetcher(SHORT), LATER)
    later.run_incremental_etl(publish=False)
    assert later.query_sql(COUNT).item() == SHORT.expected(end=LATER).height
    assert read(etl.layout.catalog, COUNT) == [(SHORT.expected(end=MIDWAY).height,)]


def test_reader_cache_invalidation_sees_new_data(etl):
    """A connection that stays open keeps DuckDB's cached instance of the file; our queries and new clients see anew."""
    before, after = SHORT.expected(end=MIDWAY).height, SHORT.expected(end=LATER).height
    path = str(etl.layout.catalog)
    with duckdb.connect(path, read_only=True) as dashboard:
        assert dashboard.sql(COUNT).fetchall() == [(before,)]
        assert etl.query_sql(COUNT).item() == before
        grow(etl)
        assert dashboard.sql(COUNT).fetchall() == [(before,)], "it opened the old file, which is whole"
        assert etl.query_sql(COUNT).item() == after, "the very object that answered before"
        with duckdb.connect() as fresh:
            fresh.execute(f"ATTACH '{path}' AS c (READ_ONLY)")
            assert fresh.sql("SELECT count(*) FROM c.daily_prices").fetchall() == [(after,)]
        program = f"import duckdb; print(duckdb.connect({path!r}, read_only=True).sql({COUNT!r}).fetchall()[0][0])"
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert other.stdout.strip() == str(after)
    assert read(path, COUNT) == [(after,)]


READER = """
import json, sys
import duckdb
path, known = sys.argv[1], {int(k): v for k, v in json.loads(sys.argv[2]).items()}
seen = {version: 0 for version in known}
print("ready", flush=True)
import threading
stopped = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
while not stopped.is_set():
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        version = connection.sql("SELECT max(version) FROM partitions").fetchall()[0][0]
        rows = connection.sql("SELECT count(*), count(close) FROM daily_prices").fetchall()[0]
    assert rows == (known[version], known[version]), (version, rows)
    seen[version] += 1
print(json.dumps(list(seen.values())))
"""


def test_duckdb_view_hot_swap_no_missing_view_errors(etl):
    """A reader in another process opens the file over and over during 200 swaps: never an error, never a mixture."""
    old = current_manifest(etl)
    new = current_manifest(grow(etl))
    known = json.dumps({old.version: old.row_count, new.version: new.row_count})
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(etl.layout.catalog), known],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for swap in range(200):
            etl.catalog.publish(new if swap % 2 else old)
            assert reader.poll() is None, "the reader failed"
        output, errors = reader.communicate("", timeout=60)
    assert reader.returncode == 0, errors
    seen = json.loads(output)
    assert min(seen) >= 3, f"it saw both versions: {seen}"
    assert [path.name for path in etl.layout.catalog.parent.iterdir()] == [etl.layout.catalog.name]


QUERY = """
import sys
import duckdb
from historical_etl.settings import Settings
from historical_etl import HistoricalETL
root, sql = sys.argv[1:]
etl = HistoricalETL.open(root, object(), settings=Settings(_env_file=None))
print("BEGIN", flush=True)
print(etl.query_sql(sql).item())
print(duckdb.connect(str(etl.layout.catalog), read_only=True).sql(sql).fetchall()[0][0])
"""


def opened_by(root, sql: str, trace) -> tuple[list[str], set[str]]:
    """What a query answers, through us and through the file, and the year files that its process opened."""
    command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(trace)]
    run = subprocess.run(
        [*command, sys.executable, "-c", QUERY, str(root), sql], capture_output=True, text=True, check=True
    )
    answers = run.stdout.split("BEGIN\n")[1].split()
    return answers, set(re.findall(r"(\d{4})-[0-9a-f]{16}\.parquet\"", trace.read_text()))


def files_read(etl, sql: str) -> set[str]:
    """The year files that DuckDB says it read."""
    (plan,) = etl.query_sql(f"EXPLAIN ANALYZE {sql}")["explain_value"]
    shown = re.findall(r"(\d{4})-[0-9a-f]{16}\.parquet", plan)
    assert sum(map(int, re.findall(r"Total Files Read: (\d+)", plan))) == len(shown), "every file that it read, by name"
    return set(shown)


ONE_YEAR = pytest.mark.parametrize(
    "where",
    [
        "date BETWEEN DATE '2012-01-01' AND DATE '2012-12-31'",
        "date >= '2012-02-01' AND date < '2012-04-01' AND symbol = 'BRK.B'",
        "date = '2012-12-31'",
        "year(date) = 2012",
    ],
)


@ONE_YEAR
@pytest.mark.strace
def test_partition_pruning_by_the_system_calls(root, tmp_path, small, where):
    etl = filled(root, small)
    sql = f"SELECT count(*) AS n FROM daily_prices WHERE {where}"
    rows = etl.query_sql(sql).item()
    assert rows > 0
    assert opened_by(root, sql, tmp_path / "trace") == ([str(rows)] * 2, {"2012"})


@ONE_YEAR
def test_partition_pruning_in_queries(root, small, where):
    """A query for one year opens that year's file and no other, by DuckDB's own account."""
    etl = filled(root, small)
    sql = f"SELECT count(*) AS n FROM daily_prices WHERE {where}"
    assert etl.query_sql(sql).item() > 0
    assert files_read(etl, sql) == {"2012"}
    assert files_read(etl, "SELECT count(close) AS n FROM daily_prices") == {"2011", "2012", "2013"}


def test_scan_opens_only_the_years_it_needs(root, small):
    """The other years' files are not there any more, and it does not notice."""
    etl = filled(root, small)
    for year in (2011, 2013):
        next(etl.layout.objects.glob(f"{year}-*")).unlink()
    rows = etl.scan("brk.b, halt", "2012-03-05", date(2012, 3, 9)).collect().sort(KEYS)
    assert_frame_equal(rows, small.expected(["BRK.B", "HALT"], date(2012, 3, 5), date(2012, 3, 9)), check_exact=True)
    with pytest.raises(ChecksumMismatchError, match="2011 is missing"):
        etl.scan(start=date(2011, 12, 30))


def test_scan_of_nothing_is_zero_rows_in_the_schema(etl):
    frame = etl.scan(start=date(2014, 1, 1)).collect()
    assert frame.is_empty()
    assert dict(frame.schema) == COLUMNS
    with pytest.raises(ConfigurationError, match="start"):
        etl.scan(start="yesterday")
    with pytest.raises(ConfigurationError, match="'A B'"):
        etl.scan(symbols=["A B"])


def test_scan_takes_both_ends_included_and_no_bounds(etl):
    assert etl.scan().collect().height == SHORT.expected(end=MIDWAY).height
    days = etl.scan("BRK.B", "2013-01-02", "2013-01-04").collect()["date"].sort().to_list()
    assert days == [date(2013, 1, 2), date(2013, 1, 3), date(2013, 1, 4)]


@pytest.mark.parametrize(
    "name", ["it's here", "two words", "a[b]c", "what*", 'say "hi"', "ümläut", "a;b--c", "{x}", "100%"]
)
def test_paths_may_hold_what_file_names_may_hold(root, name):
    etl = store(root / name, ScriptedFetcher(SHORT), MIDWAY)
    etl.run_full_etl(["BRK.B", "HALT"], date(2012, 12, 3), MIDWAY)
    expected = SHORT.expected(["BRK.B", "HALT"], date(2012, 12, 3), MIDWAY).height
    assert etl.query_sql(COUNT).item() == expected
    assert stored(etl).height == expected
    assert read(etl.layout.catalog, COUNT) == [(expected,)]
    assert etl.run_incremental_etl().changed is False


def test_a_path_that_duckdb_cannot_attach_costs_the_catalog_and_nothing_else(root):
    """DuckDB takes what follows a question mark for parameters."""
    etl = store(root / "what?", ScriptedFetcher(SHORT), MIDWAY)
    result = etl.run_full_etl(["BRK.B"], date(2012, 12, 3), MIDWAY)
    assert result.catalog_error is not None
    assert etl.query_sql(COUNT).item() == stored(etl).height > 0


def test_queries_take_parameters_by_position_and_name(etl):
    by_position = etl.query_sql(
        "SELECT count(*) AS n FROM daily_prices WHERE symbol = ? AND date > ?", ["HALT", MIDWAY]
    )
    by_name = etl.query_sql("SELECT DISTINCT symbol FROM daily_prices WHERE symbol = $s", {"s": "HALT"})
    assert by_position.item() == 0
    assert by_name.item() == "HALT"


@pytest.mark.parametrize("in_process", [False, True])
def test_numbers_of_numpy_are_parameters_like_any_others(etl, in_process):
    """As a value of an array or of a column of pandas is."""
    for value, plain in (
        (np.int64(2), 2),
        (np.int32(-2), -2),
        (np.uint8(2), 2),
        (np.bool_(True), True),
        (np.float32(1.5), 1.5),
        (np.str_("x"), "x"),
        (np.datetime64("2012-01-03"), date(2012, 1, 3)),
        (np.datetime64("2012-01-03T04:05:06", "ns"), datetime(2012, 1, 3, 4, 5, 6)),  # noqa: DTZ001 - it has no zone
        ([np.int64(1), np.int64(2)], [1, 2]),
        ({"a": np.int64(1)}, {"a": 1}),
    ):
        assert etl.query_sql("SELECT ? AS x", [value], in_process=in_process).to_dicts() == [{"x": plain}]
        assert etl.query_sql("SELECT $x AS x", {"x": value}, in_process=in_process).to_dicts() == [{"x": plain}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS x",
        "WITH a AS (SELECT 2 AS x) SELECT x FROM a",
        "FROM daily_prices LIMIT 1",
        "DESCRIBE daily_prices",
        "SHOW TABLES",
        "SUMMARIZE partitions",
        "EXPLAIN SELECT * FROM daily_prices",
        "explain (format json) SELECT 1",
        "SELECT 1;",
        "VALUES (1)",
    ],
)
def test_reading_statements_are_answered(etl, sql):
    assert etl.query_sql(sql).height >= 1


@pytest.mark.parametrize(
    "sql",
    [
        "COPY daily_prices TO '{tmp}/out.csv'",
        "COPY (SELECT 1) TO '{object}'",
        "EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{object}' (FORMAT parquet)",
        "EXPLAIN (ANALYZE) COPY (SELECT 1 AS x) TO '{object}' (FORMAT parquet)",
        "/* x */ EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{object}' (FORMAT parquet)",
        "EXPLAIN ANALYZE EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{object}' (FORMAT parquet)",
        "ATTACH '{tmp}/other.duckdb'",
        "ATTACH '{catalog}' AS c",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('{object}/../../../outside.parquet')",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "DROP VIEW daily_prices",
        "INSERT INTO partitions VALUES (1)",
        "DELETE FROM daily_prices",
        "SET enable_external_access = true",
        "RESET enable_external_access",
        "SET allowed_paths = ['/etc/passwd']",
        "PRAGMA database_list; SELECT 1",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXPORT DATABASE '{tmp}/x'",
        "CALL pragma_version()",
        "SELECT 1; SELECT 2",
        "",
        ";",
        "SELEC 1",
        "SELECT * FROM nowhere",
    ],
)
def test_anything_but_one_reading_statement_is_refused(etl, tmp_path, sql):
    """It can neither change the store nor look beyond it, and the refusal is an error of ours that says what to do."""
    (etl.layout.root.parent / "outside.parquet").write_bytes(b"secret")
    before = tree(etl.layout.root.parent)
    partition = current_manifest(etl).partitions[0]
    text = sql.format(tmp=tmp_path, object=etl.layout.resolve(partition.path), catalog=etl.layout.catalog)
    with pytest.raises(CatalogError) as caught:
        etl.query_sql(text)
    assert caught.value.todo
    assert tree(etl.layout.root.parent) == before
    assert list(tmp_path.iterdir()) == []


def test_python_variables_are_not_tables(etl):
    secret = pl.DataFrame({"x": [1]})
    with pytest.raises(CatalogError):
        etl.query_sql("SELECT * FROM secret")
    assert secret.height == 1


def test_before_the_first_commit_there_is_nothing_to_query(root):
    etl = store(root, ScriptedFetcher(SHORT))
    for action, kind in ((lambda: etl.query_sql(COUNT), ConfigurationError), (etl.publish_catalog, CatalogError)):
        with pytest.raises(kind, match="Nothing was committed yet") as caught:
            action()
        assert "backfill" in caught.value.todo


def test_a_catalog_that_cannot_be_published_does_not_undo_the_data(root):
    """The run succeeds, reports it, and the next publication repairs it."""
    (root / "duckdb").parent.mkdir(parents=True)
    (root / "duckdb").write_text("a file where the folder should be")
    etl = store(root, ScriptedFetcher(SHORT), MIDWAY)
    result = etl.run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    assert result.changed
    assert result.catalog_error is not None
    assert "is committed" in result.catalog_error
    assert etl.query_sql(COUNT).item() == SHORT.expected(end=MIDWAY).height
    with pytest.raises(CatalogError):
        etl.publish_catalog()
    (root / "duckdb").unlink()
    again = etl.run_incremental_etl()
    assert (again.changed, again.catalog_error) == (False, None)
    assert read(etl.layout.catalog, COUNT) == [(SHORT.expected(end=MIDWAY).height,)]


def test_leftovers_of_a_killed_publication_are_removed(etl):
    folder = etl.layout.catalog.parent
    (folder / f".{etl.layout.catalog.name}.1.abc.tmp").write_bytes(b"torn")
    (folder / f".{etl.layout.catalog.name}.1.abc.tmp.wal").write_bytes(b"torn")
    etl.publish_catalog()
    assert [path.name for path in folder.iterdir()] == [etl.layout.catalog.name]


def test_a_catalog_that_was_deleted_comes_back_with_the_next_run(etl):
    etl.layout.catalog.unlink()
    assert etl.catalog.shown_version() is None
    assert etl.run_incremental_etl().changed is False
    assert etl.catalog.shown_version() == current_manifest(etl).version


def test_a_store_that_was_moved_publishes_its_catalog_anew(etl):
    """The views name files by absolute path; after a move they would name the old place."""
    moved = etl.layout.root.with_name("moved")
    os.rename(etl.layout.root, moved)  # noqa: PTH104
    again = store(moved, ScriptedFetcher(SHORT), MIDWAY)
    assert stored(again).equals(SHORT.expected(end=MIDWAY))
    assert again.catalog.shown_version() is None
    again.run_incremental_etl()
    assert read(again.layout.catalog, COUNT) == [(SHORT.expected(end=MIDWAY).height,)]


def test_the_file_is_readable_by_clients_of_storage_version_1_4(etl):
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{etl.layout.catalog}' AS c (READ_ONLY)")
        tags = connection.sql("SELECT tags FROM duckdb_databases() WHERE database_name = 'c'").fetchall()
    assert "v1.4" in str(tags) or "v1.2" in str(tags), tags


def test_a_publication_that_duckdb_refuses_midway_is_no_burden_to_the_next_one(etl):
    manifest = current_manifest(etl)
    (first, *others) = manifest.partitions
    refused = manifest.model_copy(update={"partitions": (first.model_copy(update={"rows": "one two"}), *others)})
    with pytest.raises(CatalogError, match="could not be published"):
        etl.catalog.publish(refused)
    etl.publish_catalog()
    assert read(etl.layout.catalog, COUNT) == [(SHORT.expected(end=MIDWAY).height,)]


def test_threads_publish_at_once(tmp_path):
    stores = [filled(tmp_path / str(number), SHORT, MIDWAY) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda etl: [etl.publish_catalog() for _ in range(5)], stores))
    assert {tuple(read(etl.layout.catalog, COUNT)) for etl in stores} == {((SHORT.expected(end=MIDWAY).height,),)}
