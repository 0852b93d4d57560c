"""SQL is read-only and sees the files of its version alone, however it is written."""

import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historical_etl import CatalogError, HistoricalETL
from historical_etl_tests.proofs.hostile.mutations import fuzz
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, at, current_manifest, store, stored, tree

MIDWAY = date(2013, 1, 15)


@pytest.fixture(scope="module")
def etl(tmp_path_factory) -> HistoricalETL:
    """Two versions, so that there are files of the store that the newer one does not name."""
    root = tmp_path_factory.mktemp("sandbox") / "data"
    store(root, ScriptedFetcher(SHORT), MIDWAY).run_full_etl(["BRK.B", "HALT"], SHORT.first, MIDWAY)
    etl = store(root, ScriptedFetcher(SHORT), date(2013, 2, 1))
    etl.run_incremental_etl()
    return etl


def place(etl: HistoricalETL, sql: str, tmp: Path) -> str:
    manifest = current_manifest(etl)
    now = {str(etl.layout.resolve(path)) for path in manifest.named_paths()}
    old = next(str(path) for path in sorted(etl.layout.objects.iterdir()) if str(path) not in now)
    places = {
        "current": str(etl.layout.resolve(manifest.partitions[0].path)),
        "old": old,
        "daily": str(etl.layout.daily_file(2013)),
        "manifest": str(etl.layout.manifest_file()),
        "catalog": str(etl.layout.catalog),
        "root": str(etl.layout.root),
        "tmp": str(tmp),
    }
    return re.sub(r"\{(\w+)\}", lambda found: places[found[1]], sql)


#: Each would read, write or load what is not of this version.
REFUSED = (
    "COPY daily_prices TO '{tmp}/out'",
    "COPY daily_prices TO '{current}'",
    "COPY daily_prices TO '{old}' (FORMAT parquet)",
    "COPY partitions FROM '{current}'",
    "EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{current}'",
    "explain\nanalyze\ncopy (SELECT 1 AS x) TO '{current}'",
    "EXPLAIN /* */ ANALYZE COPY (SELECT 1 AS x) TO '{current}'",
    "EXPLAIN --\nANALYZE COPY (SELECT 1 AS x) TO '{current}'",
    "-- x\nEXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{current}'",
    "/* a */ EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1 AS x) TO '{current}'",
    "EXPLAIN (FORMAT json /* ) */, ANALYZE) COPY (SELECT 1 AS x) TO '{current}'",
    ";EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{current}'",
    "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{current}'",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "EXPORT DATABASE '{tmp}/x'",
    "IMPORT DATABASE '{tmp}/x'",
    "ATTACH '{catalog}'",
    "ATTACH ':memory:' AS other",
    "ATTACH 'https://example.org/x.duckdb'",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM 'https://example.org'",
    "LOAD httpfs",
    "LOAD '{tmp}/x.duckdb_extension'",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "PRAGMA threads=64",
    "SET memory_limit = '1TB'",
    "SET threads = 64",
    "SET GLOBAL lock_configuration = false",
    "SET VARIABLE x = 1",
    "RESET allowed_paths",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "CREATE SEQUENCE s",
    "INSERT INTO partitions VALUES (1)",
    "UPDATE daily_prices SET close = 1",
    "DELETE FROM daily_prices",
    "MERGE INTO daily_prices USING partitions ON true WHEN MATCHED THEN DELETE",
    "ALTER VIEW daily_prices RENAME TO x",
    "DROP VIEW daily_prices",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
    "ROLLBACK",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "CALL duckdb_settings()",
    "CALL pragma_version()",
    "WITH x AS (INSERT INTO partitions VALUES (1) RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM daily_prices RETURNING *) SELECT * FROM x",
    "SELECT 1; SELECT 2",
    "SELECT 1;; DROP VIEW daily_prices",
    "SELECT 1 /* ; */; COPY (SELECT 1) TO '{tmp}/out'",
    "SELECT 1 --\n; COPY (SELECT 1) TO '{tmp}/out'",
    "SELECT ';'; COPY (SELECT 1) TO '{tmp}/out'",
    "SELECT $$ ; $$; COPY (SELECT 1) TO '{tmp}/out'",
    "",
    ";",
    "-- nothing",
    "/* nothing */",
    "SELECT",
    "SELECT * FROM '/etc/passwd'",
    "FROM '/etc/passwd'",
    'FROM "/etc/passwd"',
    "SELECT * FROM read_csv('/etc/passwd', sep = ':')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('file:///etc/passwd')",
    "SELECT * FROM read_text(['{current}', '/etc/passwd'])",
    "SELECT * FROM read_json('{manifest}')",
    "SELECT * FROM read_json_auto('{manifest}')",
    "SELECT * FROM read_text('{manifest}')",
    "SELECT * FROM read_parquet('{old}')",
    "SELECT * FROM '{old}'",
    "SELECT * FROM read_parquet('{daily}')",
    "SELECT * FROM read_parquet('{root}/historical/objects/*.parquet')",
    "SELECT * FROM read_parquet('{current}/../*.parquet')",
    "SELECT * FROM read_parquet(['{current}', '{old}'])",
    "SELECT * FROM parquet_metadata('{old}')",
    "SELECT * FROM parquet_schema('{old}')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM glob('{root}/**')",
    "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM read_csv('/dev/stdin')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{tmp}/out''')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM read_duckdb('{catalog}')",
    "SELECT * FROM sqlite_scan('{tmp}/x', 't')",
    "SELECT * FROM postgres_scan('', 'public', 't')",
    "SELECT * FROM json_execute_serialized_sql('{}')",
    "SELECT pragma_does_not_exist()",
    "FROM PLAN",
    "SELECT nextval('s')",
    "SELECT * FROM frame",  # a variable of ours is no table
    "SELECT * FROM paths",
    "SELECT * FROM manifest",
    "SELECT * FROM statements",
)


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_a_question_about_this_version_is_refused(etl, sql, tmp_path):
    before = tree(etl.layout.root)
    with pytest.raises(CatalogError) as caught:
        etl.query_sql(place(etl, sql, tmp_path))
    assert caught.value.todo
    assert tree(etl.layout.root) == before
    assert list(tmp_path.iterdir()) == []


#: Each tells of the store or of DuckDB only.
ALLOWED = (
    "SELECT count(*) FROM read_parquet('{current}')",
    "SELECT count(*) FROM duckdb_settings()",
    "SELECT count(*) FROM duckdb_views()",
    "SELECT count(*) FROM query('SELECT 1')",
    "SELECT count(*) FROM query_table('partitions')",
    "SELECT current_setting('enable_external_access')",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT max(i) FROM n",
)


@pytest.mark.parametrize("sql", ALLOWED)
def test_what_harms_nobody_is_answered(etl, sql, tmp_path):
    assert etl.query_sql(place(etl, sql, tmp_path)).height == 1


def test_no_door_is_open(etl):
    names = ("enable_external_access", "lock_configuration")
    assert [etl.query_sql(f"SELECT current_setting('{name}')").item() for name in names] == [False, True]


WORDS = (
    *("SELECT", "FROM", "COPY", "TO", "EXPLAIN", "ANALYZE", "(", ")", ";", ",", "*", "--\n", "/*", "*/", "$$", "''"),
    *("'{tmp}/out'", "'{current}'", "'{old}'", "'/etc/passwd'", "daily_prices", "partitions", "1", "AS x", "WITH"),
    *("CREATE", "TABLE", "t", "INSERT INTO", "ATTACH", "SET", "=", "PRAGMA", "read_text(", "query(", "\0", "\ud800"),
)


@fuzz(150)
@given(words=st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=12))
def test_words_in_any_order(etl, words, tmp_path_factory):
    """An answer, or an error of ours; nothing is written, and no line of another file comes back."""
    folder = tmp_path_factory.mktemp("out")
    before = {path: path.stat().st_mtime_ns for path in etl.layout.root.rglob("*")}
    try:
        answer = etl.query_sql(place(etl, " ".join(words), folder))
    except CatalogError as error:
        assert error.todo
    else:
        assert "root:" not in str(answer.rows()[:100])
    assert {path: path.stat().st_mtime_ns for path in etl.layout.root.rglob("*")} == before
    assert list(folder.iterdir()) == []


DEEP = """
import sys
from datetime import date
from historical_etl import CatalogError
from historical_etl_tests.scenario import store
etl = store(sys.argv[1], None)
deep = {
    "parentheses": "SELECT " + "(" * 50_000 + "1" + ")" * 50_000,
    "minus": "SELECT " + "- " * 50_000 + "1",
    "not": "SELECT " + "NOT " * 50_000 + "true",
    "lists": "SELECT " + "[" * 50_000 + "]" * 50_000,
    "cases": "SELECT " + "CASE WHEN true THEN " * 20_000 + "1" + " END" * 20_000,
    "selects": "SELECT * FROM (" * 5_000 + "SELECT 1" + ")" * 5_000,
    "sum": "SELECT " + "1+" * 50_000 + "1",
    "unions": "SELECT 1" + " UNION ALL SELECT 1" * 2_000,
    "explains": "EXPLAIN " * 20_000 + "SELECT 1",
    "json": "SELECT json_valid('" + "[" * 100_000 + "')",
}
try:
    etl.query_sql(deep[sys.argv[2]])
    print("answered")
except CatalogError as error:
    print("refused")
"""


@pytest.mark.parametrize(
    "kind", ["parentheses", "minus", "not", "lists", "cases", "selects", "sum", "unions", "explains", "json"]
)
def test_deep_nesting_ends_in_an_answer_or_an_error(etl, kind):
    """In a process of its own, since a stack that overflows would end this one."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", DEEP, str(etl.layout.root), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 0, f"signal {-done.returncode}: {done.stderr[-2000:]}"
    assert done.stdout.strip() in {"answered", "refused"}


@pytest.mark.parametrize("odd", ["\ud800", "a\0b", "SELECT '\ud800'", "SELECT 1\0; DROP VIEW daily_prices"], ids=ascii)
def test_text_that_is_none(etl, odd):
    with pytest.raises(CatalogError):
        etl.query_sql(odd)


@pytest.mark.parametrize(
    "params",
    [[object()], {"x": object()}, ["\ud800"], [10**400], [1, 2], {"y": 1}],
    ids=["object", "named object", "half", "huge", "too many", "unknown"],
)
def test_parameters_that_do_not_fit(etl, params):
    with pytest.raises(CatalogError):
        etl.query_sql("SELECT $1" if not isinstance(params, dict) else "SELECT $x", params)


def test_afterwards_everything_is_still_there(etl):
    assert etl.query_sql("SELECT count(*) FROM daily_prices").item() == stored(etl).height
    assert at(MIDWAY)
